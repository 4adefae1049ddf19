"""Judge mutants of modules by the tests: which tests run a line, and whether one of them fails.

A mutant is written in place into a copy of the repository, and a child of this process, which
has loaded torch, Sphinx and pytest, runs the tests there. Programs that a test starts find the
same copy, by PYTHONPATH. The lines that each test runs come from one run of all tests under
coverage.py; `.cache/mutants/traces` keeps them, by digests.
"""

import contextlib
import importlib
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

from ci.chapters import digest
from ci.mutants.child import Dead, ask
from ci.mutants.operators import Mutant

PRELOADED = (
    *("torch", "torch.func", "scipy.stats", "scipy.integrate"),
    *("scipy.io", "sklearn.datasets", "matplotlib.pyplot", "ipywidgets", "hypothesis"),
    *("nbformat", "jupytext", "papermill", "sphinx.cmd.build", "myst_nb", "sphinx_proof"),
    *("IPython.core.interactiveshell", "matplotlib_inline.backend_inline"),
    *("sphinxcontrib.bibtex", "PIL.Image", "networkx", "pytest"),
)
LEFT = (".git", ".venv", "build", "__pycache__", ".*_cache", ".cache", ".hypothesis", "*.ipynb")
SLOW = 4.0  # times its usual time, and some seconds more: then a mutant hangs
START = 30.0
Killed = str  # the test that failed, "time", "memory"


def preload() -> None:
    """Load what tests load and no mutant changes."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def sources(root: Path) -> list[Path]:
    """The files whose formulas are mutated and traced: all but the judge's own."""
    folders = (root / "zotk", root / "ci", root / "book/_ext")
    found = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return [path for path in found if path.parent.name != "mutants"]


def judges(root: Path) -> list[Path]:
    """The files of tests that judge: all but those of the judge."""
    return [p for p in sorted((root / "tests").rglob("test_*.py")) if p.stem != "test_mutants"]


def copy(root: Path, place: Path) -> Path:
    """A copy of the repository to plant faults in."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root, place, ignore=shutil.ignore_patterns(*LEFT), symlinks=True)
    assets = root / ".cache/assets"
    if assets.is_dir():
        (place / ".cache").mkdir()
        (place / ".cache/assets").symlink_to(assets)
    return place


def run_tests(place: Path, tests: Sequence[str], *plugins: object, keep: bool = False) -> int:
    """Run tests of a copy in this process, which is of no use afterwards; pytest's status.

    With `keep`, compiled files stay: a mutant's of the same second and size would pass for sound.
    """
    os.chdir(place)
    paths = [str(place), str(place / "book/_ext")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "" if keep else "1"
    sys.dont_write_bytecode = not keep
    for name in list(sys.modules):
        if name.partition(".")[0] in ("ci", "zotk"):
            del sys.modules[name]
    here = str(Path(__file__).parent.parent.parent)
    sys.path[:] = [*paths, *(path for path in sys.path if path not in ("", here))]
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(place)]
    options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    options += ["--basetemp", f"{place}.tmp", "-c", str(place / "pyproject.toml")]
    return int(pytest.main([*options, *tests], list(plugins)))


# ---- which tests run which lines ----


class Tracer:
    """A pytest plugin: lines of the repository that each test and each wider fixture runs."""

    def __init__(self, place: Path) -> None:
        self._ours = {str(path): str(path.relative_to(place)) for path in sources(place)}
        self._coverage = Coverage(data_file=None, config_file=False, include=[*self._ours])
        self._coverage.set_option(
            "run:disable_warnings", ["no-data-collected", "module-not-measured"]
        )
        self._now = ""
        self.seconds: dict[str, float] = defaultdict(float)
        self.fixtures: dict[str, list[str]] = {}
        self.failed: list[str] = []

    def __enter__(self) -> "Tracer":
        self._coverage.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._coverage.stop()

    @contextlib.contextmanager
    def _as(self, name: str) -> Iterator[None]:
        before, self._now = self._now, name
        self._coverage.switch_context(self._now)
        try:
            yield
        finally:
            self._now = before
            self._coverage.switch_context(self._now)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.fixtures[item.nodeid] = list(getattr(item, "fixturenames", []))
        with self._as(item.nodeid):
            yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            yield
        else:  # what it runs counts for every test that uses it
            with self._as(f"[{fixturedef.argname}]"):
                yield

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def found(self) -> dict[str, Any]:
        """For each test its seconds and the lines of each module that it runs."""
        data = self._coverage.get_data()
        ran: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for path in data.measured_files():
            for line, names in data.contexts_by_lineno(path).items():
                for name in names:
                    ran[name].add((self._ours[path], line))
        tests = {}
        for name, fixtures in self.fixtures.items():
            modules: dict[str, list[int]] = defaultdict(list)
            for module, line in sorted(ran[name].union(*(ran[f"[{each}]"] for each in fixtures))):
                modules[module].append(line)
            tests[name] = {"seconds": round(self.seconds[name], 3), "lines": modules}
        return {"tests": tests, "failed": self.failed}


def _trace(place: Path, name: str) -> dict[str, Any]:
    with Tracer(place) as tracer:
        status = run_tests(place, [name], tracer, keep=True)
    return tracer.found() | {"status": status}


def traced(place: Path, kept: Path, test: Path) -> dict[str, Any]:
    """The trace of one file of tests in a copy, from `kept` if all that it ran is as it was."""
    name = test.relative_to(place).as_posix()
    file = kept / f"{test.stem}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if found["key"] == _key(place, test, found["modules"]):
            return found
    found = ask(lambda: _trace(place, name), 900) or {"tests": {}, "failed": [name], "status": -1}
    found["modules"] = sorted({each for ran in found["tests"].values() for each in ran["lines"]})
    found["key"] = _key(place, test, found["modules"])
    kept.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found), encoding="utf-8")
    return found


def _key(place: Path, test: Path, modules: Sequence[str]) -> str:
    """A digest of a file of tests, what tests share, and the modules that it ran."""
    shared = [p for p in (place / "tests").rglob("*.py") if not p.stem.startswith("test_")]
    return digest([*(place / module for module in modules), *shared, test], place)


# ---- a mutant before its tests ----


class FirstFailure:
    """A pytest plugin that keeps the name of the first test to fail."""

    name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.name is None:
            self.name = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self.name is None:
            self.name = report.nodeid


@dataclass
class Judge:
    """Tests as judges of mutants in one copy of the repository."""

    place: Path
    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, set[int]]] = field(default_factory=dict)  # module, test
    killers: dict[str, list[str]] = field(default_factory=dict)  # by function, the last first

    def learn(self, found: dict[str, Any]) -> None:
        for test, entry in found["tests"].items():
            if test in found["failed"]:
                continue
            self.seconds[test] = entry["seconds"]
            for module, lines in entry["lines"].items():
                self.lines.setdefault(module, {})[test] = set(lines)

    def covering(self, module: str, mutant: Mutant) -> list[str]:
        """The tests that run its statement, or any line if it runs on import: fast ones first."""
        by_test = self.lines.get(module, {})
        wanted = set(range(mutant.lines[0], mutant.lines[1] + 1))
        found = [test for test, lines in by_test.items() if lines & wanted]
        if not found and not mutant.scope:
            found = list(by_test)
        spent: dict[str, float] = defaultdict(float)
        for test in found:
            spent[test.partition("::")[0]] += self.seconds[test]
        first = self.killers.get(f"{module} {mutant.scope}", [])
        ready = [test for test in first if test in found]
        rest = [test for test in found if test not in ready]
        rest.sort(key=lambda test: (spent[test.partition("::")[0]], test.partition("::")[0],
                                    self.seconds[test]))  # fmt: skip
        return [*ready, *rest]

    def judge(self, module: str, mutant: Mutant, tests: Sequence[str]) -> Killed | None:
        """What kills a mutant of a module, or None. Raises ValueError if no test can be run."""
        usual = sum(self.seconds.get(test, 5.0) for test in tests)
        with planted(self.place / module, mutant):
            try:
                status, name = ask(lambda: self._first(tests), SLOW * usual + START) or (1, "time")
            except Dead:
                status, name = 1, "memory"
        if status == 0:
            return None
        if status in (4, 5):
            raise ValueError(f"pytest ran none of {', '.join(tests)}")
        if name and "::" in name:
            known = self.killers.setdefault(f"{module} {mutant.scope}", [])
            known[:] = [name, *(other for other in known if other != name)][:3]
        return name or "import"

    def _first(self, tests: Sequence[str]) -> tuple[int, str | None]:
        first = FirstFailure()
        return run_tests(self.place, ["-x", *tests], first), first.name


@contextlib.contextmanager
def planted(path: Path, mutant: Mutant) -> Iterator[None]:
    """A file with a fault in it, the compiled file of the sound one out of the way."""
    sound, times = path.read_text(encoding="utf-8"), path.stat()
    compiled = list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
    for file in compiled:
        file.rename(file.with_suffix(".sound"))
    path.write_text(mutant.plant(sound), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(sound, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        for file in compiled:
            file.with_suffix(".sound").rename(file)
