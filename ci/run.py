"""Execute the chapters whose last run is no longer valid.

    python -m ci.run [--profile quick|checks|full] [--seed N] [--only NAME …] [--device NAME]
                     [--jobs 2] [--limit SECONDS] [--parameters KEY=VALUE …]

`quick` runs the chapters of the book, `full` the same with the values of `chapters/full.yml`,
`checks` every chapter that checks something, without the cells tagged `figure`. `--parameters`
(also with nothing behind it) runs aside from the book and prints the evidence. Papermill executes;
a chapter fails when a cell raises, warns, writes to stderr or is left out, or at the time limit.
"""

import argparse
import ast
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import nbformat
import yaml

from ci.chapters import PROFILES, ROOT, Chapter, ChapterError, cell_lines, plan, read
from ci.console import any_locale
from ci.judge import LINE, REPORT, SEED, code_cells, evidence, judge, place, tail

LIMITS = {
    "quick": 300.0,
    "checks": 300.0,
    "full": 0.0,
}  # seconds, then a chapter hangs; 0: no limit
LONG = 90.0  # seconds that a chapter should not take; said, not judged: a slow machine is no fault
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "ipywidgets", "papermill")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# torch 2.13 compiles its own forward-mode rules with a deprecated function of its own; on Python
# 3.12 and 3.13 tornado 6.6, which starts every kernel, asks asyncio for a loop before there is one
WARNINGS = (
    "error",
    "ignore::DeprecationWarning:torch.jit._script",
    "ignore::DeprecationWarning:tornado.ioloop",
)
TIED = Path(__file__).with_name("tied.py")


# ---- before: notebook, environment ----


def prepare(chapter: Chapter) -> Any:
    """The notebook to execute: no figures in `checks`, one kernelspec for all.

    Each code cell carries the line of the chapter where its code begins.
    """
    notebook = read(chapter.source)
    lines = cell_lines(chapter.source.read_text(encoding="utf-8"))
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    for cell, line in zip(code, lines, strict=True):
        cell.metadata[LINE] = line
    if chapter.profile == "checks":
        notebook.cells = [
            cell for cell in notebook.cells if "figure" not in cell.metadata.get("tags", [])
        ]
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    return notebook


def environment(root: Path, profile: str) -> dict[str, str]:
    """Variables for papermill and its kernels: nothing of the user's Python or Jupyter set-up.

    `quick` and `checks` compute on one thread, so that values do not depend on the machine's
    cores or on what else is running; two chapters of `full` share the cores.
    """
    foreign = ("PYTHON", "JUPYTER", "IPYTHON", "JPY_", "MPL", "PAPERMILL")
    build = root / "build"
    threads = max(1, (os.cpu_count() or 1) // 2) if profile == "full" else 1
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
        **dict.fromkeys(THREADS, str(threads)),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([str(root), str(ROOT)])),  # of zotk, of ci
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "IPYTHONDIR": str(build / "ipython"),
        "MPLCONFIGDIR": str(build / "matplotlib" / version("matplotlib")),
        "JUPYTER_CONFIG_DIR": str(build / "jupyter/config"),
        "JUPYTER_DATA_DIR": str(build / "jupyter/data"),
        "JUPYTER_RUNTIME_DIR": str(build / "jupyter/runtime"),
        "JUPYTER_PATH": str(build / "jupyter/share"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "JPY_PARENT_PID": str(os.getpid()),
    }


def watching(chapter: Chapter, folder: Path) -> dict[str, str]:
    """Variables for the watcher: where its report goes, and the global seed of the run.

    The seed is another one in each profile and under each seed of the book, though nothing may
    depend on it.
    """
    text = f"{chapter.profile}/{chapter.values['seed']}".encode()
    seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
    return {REPORT: str(folder / "watch.json"), SEED: str(seed)}


def install_kernel(root: Path) -> None:
    """A kernel `zotk`: it dies with its papermill, takes a warning for an error, is watched."""
    spec = {
        "display_name": "zotk",
        "language": "python",
        "argv": [
            *(sys.executable, "-P", str(TIED)),
            *("ipykernel_launcher", "-f", "{connection_file}", "--HistoryManager.enabled=False"),
            "--ext=ci.watch",
        ],
        "env": {"PYTHONWARNINGS": ",".join(WARNINGS)},
    }
    folder = root / "build/jupyter/share/kernels/zotk"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def warm_fonts(env: Mapping[str, str], scratch: Path) -> None:
    """Let matplotlib list the fonts once, here: it announces a slow listing on stderr."""
    folder = Path(env["MPLCONFIGDIR"])
    if folder.is_dir():
        return
    command = [sys.executable, "-c", "import matplotlib.font_manager"]
    own = {**env, "MPLCONFIGDIR": str(scratch / "fonts")}
    subprocess.run(command, env=own, check=True, stderr=subprocess.DEVNULL)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (scratch / "fonts").rename(folder)


# ---- after: cleaning and keeping an executed notebook ----


def clean(notebook: Any) -> Any:
    """Remove what differs between two equal runs (ids, times) or names this machine (paths)."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        for key in ("papermill", "execution", LINE):
            cell.metadata.pop(key, None)
    return notebook


def store(chapter: Chapter, notebook: Any, seconds: float, scratch: Path) -> None:
    """Put notebook and record in place, each by one rename, the record last."""
    text = nbformat.writes(clean(notebook))
    record = {
        "key": chapter.key,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "chapter": chapter.name,
        "profile": chapter.profile,
        "seed": chapter.values["seed"],
        "parameters": dict(chapter.injected),
        "seconds": round(seconds, 2),
        "cells": len(code_cells(notebook)),
        "checks": len(evidence(notebook)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in PACKAGES},
    }
    chapter.folder.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (chapter.notebook, text),
        (chapter.record, json.dumps(record, indent=1) + "\n"),
    ):
        ready = scratch / target.name
        ready.write_bytes(content.encode())
        ready.replace(target)


# ---- one chapter, from start to end ----


def _plain(value: Any) -> Any:
    """The value without tuples, which YAML cannot say."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@dataclass
class Outcome:
    """What became of a chapter; `error` is None when it has a valid run."""

    chapter: Chapter
    seconds: float
    executed: bool
    checks: int = 0
    error: str | None = None


@dataclass
class Job:
    """A chapter under papermill, polled by the one loop of `execute`."""

    chapter: Chapter
    folder: Path  # scratch of this job
    limit: float
    process: subprocess.Popen[bytes]
    total: int
    started: float = field(default_factory=time.monotonic)
    done: int = -1  # cells completed; -1 until papermill has written once
    doing: Mapping[str, Any] = field(default_factory=dict)  # the cell that runs
    said: str = ""  # the last line it printed
    _stamp: int = 0

    @classmethod
    def start(cls, chapter: Chapter, root: Path, limit: float) -> "Job":
        folder = root / "build/scratch/run" / chapter.name
        (folder / "work").mkdir(parents=True)
        notebook = prepare(chapter)
        nbformat.write(notebook, folder / "in.ipynb")
        command = [sys.executable, "-P", str(TIED), "papermill"]
        command += [str(folder / "in.ipynb"), str(folder / "out.ipynb")]
        command += ["--kernel", "zotk", "--cwd", str(folder / "work"), "--no-progress-bar"]
        if chapter.injected:
            values = folder / "parameters.yml"
            values.write_text(yaml.safe_dump(_plain(chapter.injected)), encoding="utf-8")
            command += ["--parameters_file", str(values)]
        with (folder / "papermill.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**environment(root, chapter.profile), **watching(chapter, folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the runner, which then stops its jobs
            )
        return cls(chapter, folder, limit, process, len(code_cells(notebook)))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def look(self) -> None:
        """Read papermill's running copy, when it has changed and is whole."""
        out = self.folder / "out.ipynb"
        with contextlib.suppress(OSError, ValueError, KeyError):
            stamp = out.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
            cells = [cell for cell in cells if cell["cell_type"] == "code"]
            states = [cell["metadata"]["papermill"]["status"] for cell in cells]
            self.done, self.total, self._stamp = states.count("completed"), len(states), stamp
            if "running" in states:
                cell = cells[states.index("running")]
                self.doing = cell
                printed = "".join("".join(o["text"]) for o in cell["outputs"] if "text" in o)
                self.said = printed.rstrip().rpartition("\n")[2]

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finished(self) -> Outcome | None:
        """The outcome, once there is one."""
        code = self.process.poll()
        seconds = self.seconds
        if code is None and not (self.limit and seconds > self.limit):
            return None
        self.look()
        if code is None:
            self.stop()
            where = f" at {place(self.chapter.name, self.doing)}" if self.doing else ""
            return self.failed(
                f"stopped at its limit of {self.limit:g} s{self.at()}{where}\n"
                + tail("".join(self.doing.get("source", "")))
            )
        try:
            notebook = nbformat.read(self.folder / "out.ipynb", as_version=4)
        except (OSError, ValueError):
            return self.failed("papermill wrote no notebook\n" + tail(self.log()))
        error = judge(
            self.chapter.name,
            self.chapter.profile,
            notebook,
            self.report(),
            status=code,
            log=self.log(),
            defaults=set(self.chapter.injected) <= {"seed", "device"},
        )
        if error is None and self.chapter.key_now() != self.chapter.key:
            error = "it, zotk or the requirements changed while it ran; run again"
        if error is not None:
            return self.failed(error)
        store(self.chapter, notebook, seconds, self.folder)
        return Outcome(self.chapter, seconds, True, checks=len(evidence(notebook)))

    def at(self) -> str:
        return f", {self.done} of {self.total} cells done" if self.done >= 0 else " while starting"

    def log(self) -> str:
        return (self.folder / "papermill.log").read_text(encoding="utf-8", errors="replace")

    def report(self) -> Any:
        """What the watcher in the kernel left, None if nothing."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / "watch.json").read_text(encoding="utf-8"))
        return None

    def failed(self, error: str) -> Outcome:
        return Outcome(self.chapter, self.seconds, True, error=error)


# ---- all of them ----


class Progress:
    """One line: redrawn on a terminal, else printed anew on a change, at most every 5 s."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.live = stream, stream.isatty()
        self.line, self.printed = "", 0.0

    def show(self, line: str) -> None:
        now = time.monotonic()
        if line == self.line or now - self.printed < (0.2 if self.live else 5.0):
            return
        self.line, self.printed = line, now
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r\x1b[K" + line[:width])
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def clear(self) -> None:
        """Take the drawn line away."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
        self.line = ""

    def say(self, text: str) -> None:
        """Print for good."""
        self.clear()
        self.stream.write(text + "\n")
        self.stream.flush()


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Wait until no other runner or builder works in `build/`; a killed one lets go by itself."""
    (root / "build").mkdir(exist_ok=True)
    with (root / "build/.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run in this folder …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _status(jobs: Sequence[Job], done: int, total: int) -> str:
    parts = [
        f"{job.chapter.name} " + (f"{job.done}/{job.total}" if job.done >= 0 else "starting")
        + f" {job.seconds:.0f} s" + (f" ({job.said})" if job.said else "")
        for job in jobs
    ]  # fmt: skip
    return " · ".join([f"{done} of {total} done", *parts])


def execute(
    chapters: Sequence[Chapter],
    root: Path,
    *,
    jobs: int = 2,
    limit: float = 300.0,
    again: bool = False,
    stream: TextIO | None = None,
) -> list[Outcome]:
    """Bring every chapter's run up to date, `jobs` at a time; `again`: valid ones too.

    Jobs start from this thread alone: on Linux they are tied to the thread that started them.
    They start one after the other, as two kernels that look for free ports at the same moment
    can pick the same.
    """
    progress = Progress(stream or sys.stdout)
    scratch = root / "build/scratch/run"
    shutil.rmtree(scratch, ignore_errors=True)
    outcomes: list[Outcome] = []
    waiting: list[Chapter] = []
    for chapter in chapters:
        record = None if again else chapter.fresh()
        if record is None:
            waiting.append(chapter)
        else:
            outcomes.append(Outcome(chapter, record["seconds"], False, checks=record["checks"]))
    if not waiting:
        return outcomes

    scratch.mkdir(parents=True)
    install_kernel(root)
    warm_fonts(environment(root, waiting[0].profile), scratch)
    total, running = len(waiting), list[Job]()
    done = 0
    try:
        while waiting or running:
            if waiting and len(running) < jobs and all(job.done >= 0 for job in running):
                running.append(Job.start(waiting.pop(0), root, limit))
            time.sleep(0.1)
            for job in list(running):
                job.look()
                outcome = job.finished()
                if outcome is not None:
                    running.remove(job)
                    outcomes.append(outcome)
                    done += 1
                    shutil.rmtree(job.folder)
                    if outcome.error is not None:
                        progress.say(f"{job.chapter.name}: {outcome.error}")
                    else:
                        progress.say(f"{job.chapter.name}: {outcome.seconds:.1f} s")
            progress.show(_status(running, done, total))
    finally:
        progress.clear()
        for job in running:
            job.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    return outcomes


def summary(outcomes: Sequence[Outcome], wall: float) -> str:
    """Seconds per chapter and in all."""
    width = max(len(outcome.chapter.name) for outcome in outcomes)
    lines = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.chapter.name):
        state = "FAILED" if outcome.error else "executed" if outcome.executed else "unchanged"
        lines.append(
            f"  {outcome.chapter.name:{width}} {outcome.seconds:7.1f} s  {state:9}"
            f" {outcome.checks:4d} checks"
        )
    executed = [outcome for outcome in outcomes if outcome.executed]
    lines.append(
        f"  {len(outcomes)} chapters, {sum(outcome.checks for outcome in outcomes)} checks;"
        f" executed {len(executed)} chapters of {sum(o.seconds for o in executed):.1f} s"
        f" in {wall:.1f} s"
    )
    if long := sorted(
        o.chapter.name for o in executed if o.seconds > LONG and o.chapter.profile != "full"
    ):
        lines.append(f"  over {LONG:g} s: {', '.join(long)}")
    return "\n".join(lines)


def card(record: Mapping[str, Any]) -> str:
    """A record in one line."""
    label = " ".join(filter(None, [record["id"], record.get("what")]))
    twins = record.get("twins", [])
    return (
        f"  {'passed' if record['passed'] else 'FAILED'}  {label}:"
        f" measured {record['measured']:.6g}, predicted {record['predicted']:.6g},"
        f" {sum(bool(twin['rejected']) for twin in twins)} of {len(twins)} twins rejected"
    )


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not {text}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _stop(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    any_locale()
    parser = argparse.ArgumentParser(prog="python -m ci.run", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--seed", type=int, default=0, help="seed of the book")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--device", help="where the chapters compute; runs of their own")
    parser.add_argument("--jobs", type=int, default=2, help="chapters at a time")
    parser.add_argument("--limit", type=float, help="seconds a chapter may take (also LIMIT)")
    parser.add_argument("--parameters", nargs="*", type=_assignment, metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    limit = args.limit
    if limit is None:
        limit = float(os.environ.get("LIMIT") or LIMITS[args.profile])
    aside = args.parameters is not None
    started = time.monotonic()
    try:
        with only_one(root):
            chapters = plan(
                root,
                args.profile,
                args.seed,
                only=args.only,
                parameters=dict(args.parameters) if aside else None,
                device=args.device,
            )
            outcomes = execute(chapters, root, jobs=args.jobs, limit=limit, again=aside)
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(summary(outcomes, time.monotonic() - started))
    if aside:
        for outcome in outcomes:
            if outcome.error is None:
                print(f"{outcome.chapter.notebook}")
                for record in evidence(nbformat.read(outcome.chapter.notebook, as_version=4)):
                    print(card(record))
    bad = sorted(outcome.chapter.name for outcome in outcomes if outcome.error is not None)
    if bad:
        print(f"failed: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
