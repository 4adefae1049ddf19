"""Open chapters in JupyterLab with headless Chromium, run all their cells, and look.

    python -m ci.lab_look [CHAPTER …]        (without names: `one_step_of_zo_sgd`)

Fatal: a claim or a proof that is no box, a request to another host, a question that nobody asked
for, a cell that fails, an explorer that is not live, a chapter whose file saving changes.
"""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from selenium import webdriver

from ci import browser
from ci.chapters import ROOT, read, written
from ci.console import any_locale
from ci.lab import command

VIEW = browser.Viewport(1400, 1400, False)
START, RUN = 60, 600  # seconds: to open, to run a chapter
USUAL = ("one_step_of_zo_sgd",)  # claims, proofs, an explorer, and half a minute


@contextlib.contextmanager
def lab(root: Path) -> Iterator[str]:
    """The address of a JupyterLab that runs meanwhile; it can be spoken to from its page."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    options = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [
        "--IdentityProvider.token=",
        "--ServerApp.allow_root=True",
        "--expose-app-in-browser",
    ]
    line, env = command(root, options)
    log = root / "build/lab.log"
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(line, env=env, cwd=root, stdout=out, stderr=out)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(lambda: _answers(f"{address}/api"), f"JupyterLab is not there: see {log}")
            yield address
        finally:
            server.terminate()
            server.wait(30)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait(done: Callable[[], Any], trouble: str, seconds: float = START) -> Any:
    limit = time.monotonic() + seconds
    while not (found := done()):
        if time.monotonic() > limit:
            raise TimeoutError(trouble)
        time.sleep(0.5)
    return found


def look(driver: webdriver.Chrome, address: str, root: Path, name: str) -> list[str]:
    """What is wrong with one chapter in Lab."""
    source = root / f"chapters/{name}.md"
    before, cells = source.read_bytes(), read(source).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    boxes = prose.count("{claim} ") + prose.count("{prf:proof}")
    browser.look_through(driver, VIEW)
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    browser.logs(driver)
    driver.get(f"{address}/lab/tree/chapters/{name}.ipynb?reset")
    _wait(lambda: driver.execute_script(OPEN, len(cells)), f"{name}: the notebook does not open")
    faults = [f"it asks: {words!r}" for words in driver.execute_script(QUESTIONS)]
    driver.execute_script(RUN_ALL)
    ran = _wait(lambda: driver.execute_script(RAN), f"{name}: not all cells ran in {RUN} s", RUN)
    faults += ran["faults"]
    drawn = driver.execute_script(BOXES)
    if drawn != boxes:
        faults.append(f"{drawn} boxes of claims and proofs, {boxes} in the chapter")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    if "frame_player(" in code and not driver.execute_script(SLIDERS):
        faults.append("no explorer is live")
    browser.shoot(driver, root / f"build/shots/lab/{name}.png")
    driver.execute_async_script(SAVE)
    if source.read_bytes() != before:
        faults.append("saving changes the chapter")
    asked = (m["params"]["request"]["url"] for m in browser.logs(driver)[0]
             if m["method"] == "Network.requestWillBeSent")  # fmt: skip
    elsewhere = {u for u in asked if u.startswith("http") and not u.startswith(address)}
    return faults + [f"a request to {url}" for url in sorted(elsewhere)]


# In the page, `jupyterapp` is JupyterLab. Argument: how many cells.
OPEN = """const open = [...window.jupyterapp?.shell?.widgets("main") ?? []][0];
if (open) jupyterapp.shell.activateById(open.id);
return open?.context?.isReady && jupyterapp.shell.currentWidget === open
  && open.sessionContext.session?.kernel?.status === "idle"
  && open.content.widgets.length === arguments[0];"""
QUESTIONS = """return [...document.querySelectorAll(".jp-Dialog, .Toastify__toast")]
  .map(box => box.innerText);"""
RUN_ALL = """const notebook = jupyterapp.shell.currentWidget.content;
const failed = () => notebook.widgets.filter(cell => cell.model.type === "code")
  .flatMap(cell => cell.model.outputs.toJSON()).filter(each => each.output_type === "error")
  .map(each => `a cell fails: ${each.ename}: ${each.evalue}`);
window.ran = null;
jupyterapp.commands.execute("notebook:run-all-cells").then(
  () => { window.ran = {faults: failed()}; },
  error => { window.ran = {faults: [...failed(), String(error)]}; });"""
RAN = "return window.ran;"
BOXES = """return jupyterapp.shell.currentWidget.content.widgets.flatMap(
  cell => [...cell.node.querySelectorAll("aside")])
  .filter(box => /^(Theorem|Lemma|Proposition|Corollary|Property|Observation|Proof)/.test(
    box.textContent.trim())).length;"""
SLIDERS = "return document.querySelectorAll('.jp-Notebook .widget-slider').length;"
SAVE = """const done = arguments[0];
jupyterapp.commands.execute("docmanager:save").then(() => done(), error => done(String(error)));"""


def main(names: Sequence[str]) -> int:
    any_locale()
    if unknown := set(names) - set(written(ROOT)):
        raise SystemExit(f"no such chapter: {', '.join(sorted(unknown))}")
    found = 0
    with lab(ROOT) as address, browser.chromium() as driver:
        for name in names or USUAL:
            start, faults = time.monotonic(), look(driver, address, ROOT, name)
            found += len(faults)
            print(f"{name}: {'; '.join(faults) or 'all cells run'}, "
                  f"{time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
