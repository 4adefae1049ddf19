"""The runner: what it executes, what it refuses, what it keeps, and what a kill leaves."""

import contextlib
import ctypes
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from claims_book import record

from ci import run
from ci.chapters import ROOT, Chapter, ChapterError, in_book, plan
from ci.evidence import MIME
from ci.judge import code_cells, tail

HEAD = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# Title

```{code-cell} ipython3
:tags: [parameters]
seed = 0
device = "auto"
rate = 0.5
```
"""
CLAIM = "\n```{claim} a.b One is one\nIt is.\n```\n"
RECORD = f"display({{{MIME!r}: {record('a.b')!r}, 'text/plain': 'card'}}, raw=True)"
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def cell(source: str, tags: str = "") -> str:
    return f"\n```{{code-cell}} ipython3\n:tags: [{tags}]\n{source}\n```\n"


Write = Callable[[Mapping[str, str]], Path]


def write_book(root: Path, chapters: Mapping[str, str]) -> Path:
    for folder in ("book", "chapters", "zotk"):
        (root / folder).mkdir(exist_ok=True)
    for file in ("requirements.txt", "constraints.txt", "zotk/__init__.py"):
        (root / file).touch()
    listed = "".join(f"  - file: chapters/{name}\n" for name in chapters)
    (root / "book/_toc.yml").write_text(f"root: intro\nchapters:\n{listed}")
    for name, text in chapters.items():
        (root / f"chapters/{name}.md").write_text(HEAD + text)
    return root


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return lambda chapters: write_book(tmp_path, chapters)


def call(root: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and everything printed."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        status = run.main(arguments, root)
    return status, text.getvalue()


def pretend(chapter: Chapter) -> None:
    """Store a run that did not happen."""
    scratch = chapter.root / "build"
    scratch.mkdir(exist_ok=True)
    run.store(chapter, run.prepare(chapter), 1.0, scratch)


def freshness(root: Path, **wanted: object) -> dict[str, bool]:
    return {c.name: c.fresh() is not None for c in plan(root, **wanted)}  # type: ignore[arg-type]


# ---- one real run of good and bad chapters ----

FIGURES = (
    CLAIM
    + cell(
        "# the first\n"
        "import matplotlib.pyplot as plt\n"
        "from IPython.display import display\n"
        "from matplotlib_inline.backend_inline import set_matplotlib_formats\n"
        "set_matplotlib_formats('svg')  # as use_style does\n"
        "times = [1, 2, 3]\n"
        "def draw():\n"
        "    fig, ax = plt.subplots()\n"
        "    ax.plot(times, times)\n"
        "    ax.set(xlabel='t', ylabel='t')\n"
        "    return ax\n"
        "draw()\n"
        "plt.show()",
        "figure",
    )
    + cell(f"# the check\ntimes = [1, 2]\n{RECORD}")
    + cell("# the second\nax = draw()\nax.plot(times, times)\nplt.show()", "figure")
    + cell(
        "# frames\n"
        "# figure may have short line: not so\n"
        "import io\n"
        "fig, ax = plt.subplots()\n"
        "fig.savefig(io.BytesIO())\n"
        "plt.close(fig)",
        "figure",
    )
    + cell("# global\nimport numpy as np\nx = np.random.rand()")
)


def line_of(ran: SimpleNamespace, chapter: str, text: str) -> int:
    """Where a line first stands in the source, from 1."""
    lines = (ran.root / f"chapters/{chapter}.md").read_text().splitlines()
    return lines.index(text) + 1


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    foreign = {"PYTHONSTARTUP": "/nowhere.py", "MPLBACKEND": "nonsense", "OMP_NUM_THREADS": "7"}
    chapters = {
        "good": CLAIM
        + cell(
            "import os, warnings\n"
            "from IPython.display import display\n"
            f"{RECORD}\n"
            "print(seed, rate, os.environ['OMP_NUM_THREADS'], os.environ['MPLBACKEND'][:18])"
        ),
        "raises": cell("x = 1") + cell("def f():\n    return 1 / 0\nf()") + cell("print(2)"),
        "warns": cell("import warnings\nwarnings.warn('beware', DeprecationWarning)"),
        "dies": cell(
            "import os\nos.write(2, b'the machine is out of memory')\nos.kill(os.getpid(), 9)"
        ),
        "unsound": CLAIM.replace("a.b", "a.bc")
        + cell(
            "from IPython.display import display\n"
            + RECORD.replace("'near': True", "'near': False").replace("3.0", "30.0")
        ),
        "drawn": FIGURES,
        "shifts": cell(
            "import os, pathlib\n"
            "root = os.environ['PYTHONPATH'].split(os.pathsep)[0]\n"
            "source = pathlib.Path(root, 'chapters/shifts.md')\n"
            "source.write_text(source.read_text() + '!')"
        ),
    }
    root = write_book(tmp_path_factory.mktemp("book"), chapters)
    for chapter in plan(root):
        pretend(chapter)
        with chapter.source.open("a") as source:
            source.write("\nNow the runs are out of date.\n")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in foreign.items():
            patch.setenv(key, value)
        status, text = call(root, "--limit", "60")
    yield SimpleNamespace(root=root, status=status, text=text)


def test_a_good_chapter_is_kept(ran: SimpleNamespace) -> None:
    chapter = plan(ran.root)[0]
    record = chapter.fresh()
    assert record is not None and record["checks"] == 1 and record["cells"] == 2
    assert record["seconds"] > 0 and record["versions"]["numpy"]
    notebook = nbformat.read(chapter.notebook, as_version=4)
    assert code_cells(notebook)[-1].outputs[-1].text == "0 0.5 1 module://matplotli\n"
    assert [c.id for c in notebook.cells] == [f"cell-{n:03d}" for n in range(5)]
    assert str(ran.root) not in chapter.notebook.read_text()
    assert "papermill" not in chapter.notebook.read_text()
    assert all("line" not in c.metadata for c in notebook.cells)


def test_a_bad_chapter_fails_the_run_and_has_no_valid_run(ran: SimpleNamespace) -> None:
    assert ran.status == 1
    assert "failed: dies, drawn, raises, shifts, unsound, warns" in ran.text
    fresh = [name for name, is_fresh in freshness(ran.root).items() if is_fresh]
    assert fresh == ["good"]


def test_the_traceback_is_readable(ran: SimpleNamespace) -> None:
    assert line_of(ran, "raises", "f()") == 22
    assert "raises: chapters/raises.md:22: raised ZeroDivisionError" in ran.text
    assert "    chapters/raises.md:21, in f()" in ran.text
    assert "return 1 / 0" in ran.text and "\x1b" not in ran.text and "Cell In" not in ran.text


def test_a_python_warning_is_an_error(ran: SimpleNamespace) -> None:
    line = line_of(ran, "warns", "warnings.warn('beware', DeprecationWarning)")
    assert f"warns: chapters/warns.md:{line}: raised DeprecationWarning" in ran.text
    assert "beware" in ran.text


def test_a_dying_kernel_shows_its_log(ran: SimpleNamespace) -> None:
    line = line_of(ran, "dies", "import os")
    (head,) = [told for told in ran.text.splitlines() if told.startswith("dies: papermill")]
    assert head.endswith(f" before chapters/dies.md:{line} was done")
    assert "the machine is out of memory" in ran.text and "was not executed" not in ran.text


def test_an_unsound_record_and_an_unknown_claim_fail_the_run(ran: SimpleNamespace) -> None:
    place = f"chapters/unsound.md:{line_of(ran, 'unsound', 'from IPython.display import display')}"
    assert f"{place}: the check of a.b has far twins only" in ran.text
    assert f"{place}: no claim box here states 'a.b'; did you mean 'a.bc'?" in ran.text


def test_the_watcher_s_faults_fail_the_run_with_their_lines(ran: SimpleNamespace) -> None:
    first, second, frames, draw = (
        f"chapters/drawn.md:{line_of(ran, 'drawn', text)}"
        for text in ("# the first", "# the second", "# frames", "# global")
    )
    told = [line for line in ran.text.splitlines() if "chapters/drawn.md" in line]
    assert [line.removeprefix("drawn: ") for line in told] == [
        f"{second}: this figure reads `times` (list of 3 × int, of {first}), but the check at"
        f" chapters/drawn.md:{line_of(ran, 'drawn', '# the check')} has bound it anew"
        " (list of 2 × int); give the check's a name of its own",
        f"{second}: axes 1 of 1: line 1 and line 2 have the same data; if this is meant,"
        " `# figure may have equal lines: why`",
        f"{frames}: axes 1 of 1: nothing is drawn here",
        f"{frames}: no figure here has short line: take the comment away",
        f"{draw}: the global random state of numpy.random is not as before; draw from"
        " `check.generator()` or a generator of your own",
    ]


def test_a_chapter_that_changes_while_it_runs_is_not_kept(ran: SimpleNamespace) -> None:
    assert "shifts: it, zotk or the requirements changed while it ran" in ran.text


def test_seconds_are_listed(ran: SimpleNamespace) -> None:
    (line,) = [line for line in ran.text.splitlines() if line.startswith("  good ")]
    assert line.split()[2:] == ["s", "executed", "1", "checks"]
    assert "7 chapters, 1 checks; executed 7 chapters of" in ran.text


def test_a_valid_run_is_not_repeated(ran: SimpleNamespace) -> None:
    notebook = plan(ran.root)[0].notebook
    before = notebook.stat().st_mtime_ns
    status, text = call(ran.root, "--only", "good")
    assert status == 0 and "unchanged" in text and "executed 0 chapters" in text
    assert notebook.stat().st_mtime_ns == before


def test_the_time_limit(write: Write) -> None:
    root = write({"slow": cell("import time\ntime.sleep(600)")})
    started = time.monotonic()
    status, text = call(root, "--limit", "4")
    assert status == 1 and "slow: stopped at its limit of 4 s" in text
    assert time.monotonic() - started < 30
    assert freshness(root) == {"slow": False}
    if sys.platform == "linux":
        gone(root)


def test_a_long_chapter_is_named_and_not_stopped() -> None:
    def outcome(name: str, seconds: float, profile: str = "quick") -> Any:
        chapter: Any = SimpleNamespace(name=name, profile=profile)
        return run.Outcome(chapter, seconds, True)

    listed = [outcome("slow", 91.0), outcome("short", 20.0), outcome("large", 900.0, "full")]
    assert run.summary(listed, 100.0).splitlines()[-1] == "  over 90 s: slow"
    assert "over" not in run.summary(listed[1:], 100.0)


# ---- kill -9 ----


def processes_of(root: Path) -> list[int]:
    """Processes that work in a folder below `root` or were started with a path below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text()
            if f"{root}/" in command or (process / "cwd").readlink().is_relative_to(root):
                found.append(int(process.name))
    return found


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(root: Path) -> None:
    """Wait for the last process of a book; end those that stay, and fail."""
    try:
        wait_until(lambda: not processes_of(root))
    finally:
        for process in processes_of(root):
            os.kill(process, signal.SIGKILL)


@linux
def test_a_killed_run_leaves_no_process_and_the_next_one_completes(write: Write) -> None:
    wait = "import time, pathlib\nif not pathlib.Path(GO).exists():\n    time.sleep(600)"
    root = write({"one": ""})
    (root / "chapters/one.md").write_text(
        HEAD
        + cell(wait.replace("GO", repr(str(root / "go"))))
        + cell("raise RuntimeError('a figure was drawn')", "figure")
        + CLAIM
        + cell(f"from IPython.display import display\n{RECORD}\nprint(seed)")
    )
    program = (
        "import pathlib, sys; from ci import run;"
        "run.main(['--profile', 'checks', '--seed', '3'], pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(root)]
    runner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    work = root / "build/scratch/run/one/out.ipynb"
    try:
        wait_until(lambda: work.exists() and '"status": "running"' in work.read_text(), 60)
        assert len(processes_of(root)) >= 2  # papermill and its kernel
    finally:
        runner.kill()
        runner.wait()
    gone(root)
    assert freshness(root, profile="checks", seed=3) == {"one": False}

    (root / "go").touch()
    status, _ = call(root, "--profile", "checks", "--seed", "3")
    assert status == 0
    assert not list((root / "build/scratch").iterdir())
    (chapter,) = plan(root, "checks", 3)
    assert chapter.fresh() is not None
    assert chapter.notebook == root / "build/executed/checks-3/one.ipynb"
    notebook = nbformat.read(chapter.notebook, as_version=4)
    assert notebook.cells[-1].outputs[-1].text == "3\n"


@linux
def test_a_tied_program_dies_with_its_parent_also_under_a_foster_parent() -> None:
    middle = (
        "import os, subprocess, sys, time\n"
        "env = {**os.environ, 'JPY_PARENT_PID': str(os.getpid())}\n"
        f"child = subprocess.Popen([sys.executable, '-P', {str(run.TIED)!r}, 'signal:pause'],"
        " env=env)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    foster_orphans = 36  # PR_SET_CHILD_SUBREAPER
    libc = ctypes.CDLL(None)
    libc.prctl(foster_orphans, 1)
    parent = subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        time.sleep(0.5)  # by now it is tied; if not, it leaves when it is about to be
        parent.kill()
        parent.wait()
        wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        parent.stdout.close()
        libc.prctl(foster_orphans, 0)


@linux
def test_a_tied_program_whose_parent_is_dead_already_does_not_start() -> None:
    env = {**os.environ, "JPY_PARENT_PID": "1"}
    command = [sys.executable, "-P", str(run.TIED), "signal:pause"]
    assert subprocess.run(command, env=env, timeout=20).returncode == 1


# ---- what makes a run out of date ----


@pytest.fixture
def two(write: Write) -> Path:
    root = write({"one": cell("x = 1"), "two": cell("x = 2")})
    for chapter in plan(root):
        pretend(chapter)
    assert freshness(root) == {"one": True, "two": True}
    return root


def test_a_changed_chapter_alone_runs_again(two: Path) -> None:
    with (two / "chapters/two.md").open("a") as source:
        source.write("More.\n")
    assert freshness(two) == {"one": True, "two": False}


@pytest.mark.parametrize(
    "path", ["zotk/__init__.py", "zotk/new.py", "zotk/data/x.npz", "requirements.txt"]
)
def test_a_changed_library_or_requirement_runs_all_again(two: Path, path: str) -> None:
    (two / path).parent.mkdir(exist_ok=True)
    (two / path).write_text("# new\n")
    assert freshness(two) == {"one": False, "two": False}


def test_another_seed_or_profile_is_another_run(two: Path) -> None:
    assert freshness(two, seed=1) == {"one": False, "two": False}
    assert freshness(two, profile="checks") == {"one": False, "two": False}
    pretend(plan(two, seed=1)[0])
    assert freshness(two) == {"one": True, "two": True}


def test_the_notebook_beside_a_chapter_and_compiled_files_do_not_matter(two: Path) -> None:
    (two / "chapters/one.ipynb").write_text("{}")
    (two / "zotk/__pycache__").mkdir()
    (two / "zotk/__pycache__/a.pyc").write_text("")
    assert freshness(two) == {"one": True, "two": True}


@pytest.mark.parametrize("damage", ["", "{", None])
def test_a_run_without_its_own_notebook_and_record_is_not_valid(
    two: Path, damage: str | None
) -> None:
    one, other = plan(two)
    for path in (one.notebook, other.record):
        if damage is None:
            path.unlink()
        else:
            path.write_text(damage)
    assert freshness(two) == {"one": False, "two": False}


def test_data_a_chapter_names(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write({"one": ""})
    source = root / "chapters/one.md"
    source.write_text(HEAD.replace("---\n", "---\ndata: [a.npz]\n", 1))
    monkeypatch.delenv("ZOTK_DATA", raising=False)
    with pytest.raises(ChapterError, match="set ZOTK_DATA"):
        plan(root)
    (root / "data").mkdir()
    monkeypatch.setenv("ZOTK_DATA", str(root / "data"))
    with pytest.raises(ChapterError, match=r"a\.npz, which is missing"):
        plan(root)
    (root / "data/a.npz").write_text("1")
    pretend(plan(root)[0])
    assert freshness(root) == {"one": True}
    (root / "data/a.npz").write_text("2")
    assert freshness(root) == {"one": False}


# ---- parameters ----


def test_only_values_that_differ_are_injected(two: Path) -> None:
    assert plan(two)[0].injected == {}
    assert plan(two, seed=2)[0].injected == {"seed": 2}
    (chapter,) = plan(two, only=["one"], parameters={"rate": 1, "seed": 0})
    assert chapter.injected == {"rate": 1}
    assert chapter.folder == two / "build/aside"


def test_full_takes_its_values_from_the_file(two: Path) -> None:
    (two / "chapters/full.yml").write_text("one: {rate: 0.25}\n")
    one, other = plan(two, "full")
    assert one.injected == {"rate": 0.25} and other.injected == {}
    assert plan(two)[0].injected == {}
    (two / "chapters/full.yml").write_text("won: {rate: 0.25}\n")
    with pytest.raises(ChapterError, match=r"full\.yml names won"):
        plan(two, "full")


def test_a_device_has_runs_of_its_own(two: Path) -> None:
    here, there = plan(two, "full")[0], plan(two, "full", device="cuda")[0]
    assert here.injected == {} and there.injected == {"device": "cuda"}
    assert there.folder == two / "build/executed/full-0-cuda" and there.key != here.key


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"rat": 1}, "has no parameter `rat`"), ({"rate": "1e-3 "}, "takes a number")],
)
def test_wrong_parameters(two: Path, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ChapterError, match=message):
        plan(two, parameters=parameters)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 0\n", "", "no `seed`"),
        ('device = "auto"\n', "", "no `device`"),
        ("rate = 0.5", "rate = 10**5", "plain value"),
        ("rate = 0.5", "import os", "assignments"),
    ],
)
def test_wrong_parameter_cells(write: Write, old: str, new: str, message: str) -> None:
    root = write({"one": ""})
    (root / "chapters/one.md").write_text(HEAD.replace(old, new))
    with pytest.raises(ChapterError, match=message):
        plan(root)


def test_the_command_line_says_what_is_wrong(two: Path) -> None:
    assert call(two, "--only", "three") == (
        2, "error: there is no chapters/three.md; there are one, two\n",
    )  # fmt: skip
    status, text = call(two, "--only", "one", "--parameters", "speed=2")
    assert status == 2 and "no parameter `speed`" in text
    (two / "chapters/two.md").unlink()
    status, text = call(two)
    assert status == 2 and "names chapters/two, which has no .md" in text
    (two / "book/_toc.yml").write_text("root: intro\n")
    assert call(two) == (2, "error: there is no chapter to run\n")


def test_values_of_parameters_on_the_command_line() -> None:
    assert run._assignment("rate=1e-3") == ("rate", 0.001)
    assert run._assignment("sizes=[1,2]") == ("sizes", [1, 2])
    assert run._assignment("device=cpu") == ("device", "cpu")


def test_chapters_of_a_nested_table_of_contents(write: Write) -> None:
    root = write({"one": "", "two": "", "three": ""})
    (root / "book/_toc.yml").write_text(
        "root: intro\nparts:\n- caption: I\n  chapters:\n  - file: chapters/two\n"
        "    sections: [{file: chapters/one}]\n  - file: atlas\n"
    )
    assert in_book(root) == ["two", "one"]
    assert [c.name for c in plan(root, "checks")] == ["one", "three", "two"]


def test_checks_pass_over_a_chapter_that_checks_nothing(write: Write) -> None:
    root = write({"one": cell('check = zotk.Check("a.b")'), "two": cell("x = 1")})
    assert [c.name for c in plan(root, "checks")] == ["one"]
    assert [c.name for c in plan(root, "checks", only=["two"])] == ["two"]


# ---- preparing ----


def test_checks_run_without_figures(write: Write) -> None:
    root = write({"one": cell("x = 1") + cell("draw()", "hide-input, figure")})
    sources = {
        profile: [c.source for c in run.prepare(plan(root, profile)[0]).cells[2:]]
        for profile in ("quick", "checks")
    }
    assert sources == {"quick": ["x = 1", "draw()"], "checks": ["x = 1"]}


def test_a_long_traceback_is_cut() -> None:
    lines = tail("\n".join(map(str, range(100)))).splitlines()
    assert lines[0].strip() == "…" and lines[1].strip() == "60" and len(lines) == 41


# ---- progress ----


def test_progress_without_a_terminal_is_rare() -> None:
    stream = io.StringIO()
    progress = run.Progress(stream)
    progress.printed = -100.0  # long ago
    for line in ("a", "b", "b"):
        progress.show(line)
    progress.say("done")
    assert stream.getvalue() == "a\ndone\n"
    progress.printed -= 6
    progress.show("c")
    assert stream.getvalue() == "a\ndone\nc\n"


def test_progress_on_a_terminal_is_redrawn() -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    progress = run.Progress(stream)
    progress.printed = -100.0
    progress.show("a" * 1000)
    progress.say("done")
    drawn = stream.getvalue().split("\r\x1b[K")[1]
    assert 0 < len(drawn) < 1000 and "\n" not in drawn
    assert stream.getvalue().endswith("\r\x1b[Kdone\n")


def test_a_card() -> None:
    record = {"id": "a.b", "what": "d = 10", "passed": True, "measured": 1.5, "predicted": 1.25,
              "twins": [{"rejected": True}, {"rejected": False}]}  # fmt: skip
    assert run.card(record) == (
        "  passed  a.b d = 10: measured 1.5, predicted 1.25, 1 of 2 twins rejected"
    )
