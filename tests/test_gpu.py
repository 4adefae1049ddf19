"""Evidence from another device, distilled from runs of a small book on this one."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from ci import evidence, gpu, run
from ci.build import BuildError, stage
from ci.chapters import Chapter, ChapterError, plan
from zotk.evidence import cards

CHAPTER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# One

```{code-cell} ipython3
:tags: [parameters]

seed = 0
device = "auto"
draws = 10
```

```{claim} one.draws The draws
A thousand.
```

```{code-cell} ipython3
import zotk

check = zotk.Check("one.draws", seed=seed)
check.count(draws, 1000, twins={"one more": 1001})
```

```{code-cell} ipython3
---
mystnb:
  image: {alt: "A line."}
  figure: {name: "fig:line", caption: "A line."}
tags: [figure, kept]
---
import matplotlib.pyplot as plt

zotk.use_style()
if draws == 1000:
    plt.plot([0, 1])
    plt.gca().set(xlabel="x", ylabel="y")
    plt.show()
```
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of one chapter, executed at paper scale."""
    root = tmp_path_factory.mktemp("book")
    real = Path(__file__).parent.parent
    for folder in ("book", "chapters"):
        (root / folder).mkdir()
    shutil.copytree(real / "zotk", root / "zotk", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "constraints.txt"):
        (root / name).write_text("")
    toc = "format: jb-book\nroot: intro\nchapters:\n- file: chapters/one\n"
    (root / "book/_toc.yml").write_text(toc)
    (root / "chapters/one.md").write_text(CHAPTER)
    (root / "chapters/full.yml").write_text("one:\n  draws: 1000\n")
    assert run.main(["--profile", "full", "--device", "cpu"], root) == 0
    return root


def executed(book: Path) -> list[Chapter]:
    return plan(book, "full", device="cpu")


@pytest.fixture
def saved(book: Path) -> Any:
    path = gpu.save(book, gpu.distil(book, executed(book), "Some GPU (80 GB)", 0))
    yield path
    path.unlink(missing_ok=True)


def test_a_run_is_distilled_and_current(book: Path, saved: Path) -> None:
    assert saved.name == "some-gpu-80-gb.json"
    (row,) = gpu.elsewhere(book)
    assert row["chapter"] == "one" and row["device"] == "Some GPU (80 GB)"
    assert (row["checks"], row["twins"], row["on_device"]) == (1, 1, 0)
    assert row["current"] is True
    content = json.loads(saved.read_text())
    assert content["chapters"]["one"]["parameters"]["draws"] == 1000
    assert content["versions"]["torch"] == version("torch")


def test_evidence_of_another_text_is_stale(book: Path, saved: Path) -> None:
    source = book / "chapters/one.md"
    try:
        source.write_text(CHAPTER + "\nOne more word.\n")
        assert [row["current"] for row in gpu.elsewhere(book)] == [False]
        source.rename(book / "chapters/two.md")
        assert [row["current"] for row in gpu.elsewhere(book)] == [False]
    finally:
        (book / "chapters/two.md").unlink(missing_ok=True)
        source.write_text(CHAPTER)
    assert [row["current"] for row in gpu.elsewhere(book)] == [True]


def test_evidence_of_another_library_is_stale(book: Path, saved: Path) -> None:
    added = book / "zotk/added.py"
    try:
        added.write_text("")
        assert [row["current"] for row in gpu.elsewhere(book)] == [False]
    finally:
        added.unlink()
    assert [row["current"] for row in gpu.elsewhere(book)] == [True]


def staged(book: Path, executed: list[Chapter]) -> Any:
    """The last cell of the chapter as it is staged for the site."""
    return nbformat.read(stage(book, executed) / "chapters/one.ipynb", as_version=4).cells[-1]


@pytest.fixture
def poor(book: Path) -> Iterator[list[Chapter]]:
    """The chapter run with too few draws for its figure, and without its check."""
    source = book / "chapters/one.md"
    source.write_text(CHAPTER.replace("check.count(", "0 and check.count("))
    try:
        assert run.main(["--profile", "quick"], book) == 0
        yield plan(book, "quick")
    finally:
        source.write_text(CHAPTER)


def test_a_kept_figure_stands_in_for_one_that_could_not_be_drawn(
    book: Path, saved: Path, poor: list[Chapter]
) -> None:
    cell = staged(book, poor)
    (output,) = cell.outputs
    kept = json.loads(saved.read_text())["chapters"]["one"]["figures"]["fig:line"]
    assert output.data[gpu.SVG] == kept and kept.lstrip().startswith("<?xml")
    day = json.loads(saved.read_text())["date"].partition("T")[0]
    note = f"A line. *Drawn on Some GPU (80 GB), {day}; the chapter or the library has changed"
    assert cell.metadata.mystnb.figure.caption.startswith(note)


def test_the_newest_of_two_kept_figures_is_shown(
    book: Path, saved: Path, poor: list[Chapter]
) -> None:
    older = {**json.loads(saved.read_text()), "device": "Aged GPU", "date": "2020-01-02T03:04:05"}
    path = gpu.save(book, older)
    try:
        assert "Some GPU" in staged(book, poor).metadata.mystnb.figure.caption
        saved.unlink()
        assert "Aged GPU, 2020-01-02;" in staged(book, poor).metadata.mystnb.figure.caption
    finally:
        path.unlink()
    assert staged(book, poor).outputs == []


def test_a_figure_that_was_drawn_is_left_alone(book: Path, saved: Path) -> None:
    cell = staged(book, executed(book))
    assert len(cell.outputs) == 1 and cell.metadata.mystnb.figure.caption == "A line."


def test_a_kept_figure_without_a_name_is_refused(book: Path) -> None:
    cell = nbformat.v4.new_code_cell(metadata={"tags": ["kept"]})
    with pytest.raises(ValueError, match="name and caption"):
        gpu.fill(book, "one", nbformat.v4.new_notebook(cells=[cell]))


WITHOUT = """
```{code-cell} ipython3
import sys

sys.modules["datasets"] = None  # as where it is not installed
for name in ("digits", "mnist"):
    try:
        zotk.images(name, (0, 1), per_class=2)
    except (ImportError, ConnectionError):
        continue
```
"""


def test_a_chapter_that_left_data_out_leaves_no_evidence(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = book / "chapters/one.md"
    try:
        source.write_text(CHAPTER + WITHOUT)
        assert gpu.main(["--device", "cpu"], book) == 1
        said = capsys.readouterr().err
        assert "one left out data it was asked for: mnist: " in said and "pip install" in said
        assert "digits:" not in said
        assert not list((book / "ci").glob("evidence/*.json"))
    finally:
        source.write_text(CHAPTER)


def test_a_chapter_with_all_its_data_leaves_evidence(book: Path) -> None:
    assert gpu.main(["--device", "cpu"], book) == 0
    (path,) = (book / "ci/evidence").glob("*.json")
    path.unlink()


def test_zotk_and_ci_speak_of_left_out_data_by_one_name() -> None:
    assert cards.LEFT_OUT == evidence.LEFT_OUT and cards.MIME == evidence.MIME


def test_without_a_valid_run_nothing_is_distilled(book: Path) -> None:
    with pytest.raises(ChapterError, match="no valid run of one"):
        gpu.distil(book, plan(book, "full", 5, device="cpu"), "GPU", 5)


@pytest.mark.parametrize("device", ["cuda", None])
def test_a_run_on_the_processor_is_none_on_the_device(book: Path, device: str | None) -> None:
    with pytest.raises(ChapterError, match="no valid run of one"):
        gpu.distil(book, plan(book, "full", device=device), "GPU", 0)


def test_an_unsound_check_is_not_distilled(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = evidence.read_chapters(executed(book)[0].folder)
    failed = replace(found, by_cell={0: ({**found.records[0], "passed": False},)})
    monkeypatch.setattr(evidence, "read_chapters", lambda folder: [failed])
    with pytest.raises(ChapterError, match=r"one: check of 'one\.draws' failed"):
        gpu.distil(book, executed(book), "GPU", 0)


def _unsound(content: dict[str, Any]) -> None:
    content["chapters"]["one"]["records"][0]["measured"] = 999.0


def _no_twins(content: dict[str, Any]) -> None:
    content["chapters"]["one"]["records"][0]["twins"] = []


def _no_date(content: dict[str, Any]) -> None:
    del content["date"]


def _date_is_a_number(content: dict[str, Any]) -> None:
    content["date"] = 20260102


def _records_are_none(content: dict[str, Any]) -> None:
    content["chapters"]["one"]["records"] = None


def _record_is_a_number(content: dict[str, Any]) -> None:
    content["chapters"]["one"]["records"] = [5]


def _chapter_is_a_list(content: dict[str, Any]) -> None:
    content["chapters"]["one"] = []


def _figure_is_a_number(content: dict[str, Any]) -> None:
    content["chapters"]["one"]["figures"]["fig:line"] = 5


def _no_figures(content: dict[str, Any]) -> None:
    del content["chapters"]["one"]["figures"]


def _no_content(content: dict[str, Any]) -> None:
    del content["chapters"]["one"]["content"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_unsound, "measured 999"),
        (_no_twins, "has no twins"),
        (_no_date, "malformed: date is 'missing'"),
        (_date_is_a_number, "malformed: date is 20260102"),
        (_no_content, "one is malformed: content is 'missing'"),
        (_records_are_none, "one is malformed: records is None"),
        (_record_is_a_number, "check 1 is malformed"),
        (_no_figures, "one is malformed: figures is 'missing'"),
        (_figure_is_a_number, "one: figures is malformed: fig:line is 5"),
        (_chapter_is_a_list, r"one is malformed: \[\]"),
    ],
)
def test_a_spoilt_file_fails_the_build(
    book: Path, saved: Path, spoil: Callable[[dict[str, Any]], None], says: str
) -> None:
    content = json.loads(saved.read_text())
    spoil(content)
    saved.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=says):
        gpu.elsewhere(book)
    with pytest.raises(BuildError, match=says):
        stage(book, executed(book))


def test_a_file_that_is_no_json_is_named(book: Path, saved: Path) -> None:
    saved.write_text("{")
    with pytest.raises(ValueError, match=r"some-gpu-80-gb\.json is malformed"):
        gpu.elsewhere(book)


def test_what_is_staged_for_the_site(book: Path, saved: Path) -> None:
    source = stage(book, executed(book))
    assert json.loads((source / "elsewhere.json").read_text()) == gpu.elsewhere(book)


def test_no_cuda_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(run, "main", lambda *_: pytest.fail("it ran all the same"))
    assert gpu.main([]) == 2
    assert "sees no CUDA device" in capsys.readouterr().err


def test_a_failed_run_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = []
    monkeypatch.setattr(run, "main", lambda *arguments: asked.append(arguments) or 1)
    assert gpu.main([], book) == 1
    assert asked == [(["--profile", "full", "--seed", "0", "--device", "cuda"], book)]
    assert not list((book / "ci/evidence").glob("*.json"))


def test_a_processor_with_data_leaves_evidence_of_one_chapter(
    monkeypatch: pytest.MonkeyPatch, book: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = []
    monkeypatch.setattr(run, "main", lambda *arguments: asked.append(arguments) or 1)
    assert gpu.main(["--device", "cpu", "--only", "one"], book) == 1
    wanted = ["--profile", "full", "--seed", "0", "--device", "cpu", "--only", "one"]
    assert asked == [(wanted, book)]
