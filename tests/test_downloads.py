"""Notebooks to download, and the library's distributions.

Whether a notebook runs in a fresh environment takes minutes: `make fresh` finds out.
"""

import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest

from ci import downloads
from ci.chapters import ROOT, files_under


def notebook() -> nbformat.NotebookNode:
    data = {"image/svg+xml": "<svg/>", "text/plain": "a figure"}
    output = nbformat.v4.new_output("display_data", data)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])


@pytest.mark.parametrize("address", ["", "https://github.com/owner/name"])
def test_the_first_cell_sets_up(address: str) -> None:
    prepared = downloads.prepared(notebook(), address)
    nbformat.validate(prepared)
    first, drawing = prepared.cells
    assert (f'%pip install --quiet "zotk @ git+{address}"' in first.source) == bool(address)
    assert ("pip install ." in first.source) == (not address)
    assert "torch.set_num_threads(1)" in first.source
    assert drawing.outputs == [] and drawing.execution_count is None


@pytest.mark.parametrize(
    ("address", "words"), [("https://x.y/z", '"zotk[text] @ git+https://x.y/z"'), ("", ".[text]`")]
)
def test_a_notebook_names_the_extra_that_it_takes(address: str, words: str) -> None:
    taking = notebook()
    taking.cells[0].source = "net = zotk.encoder()"
    assert words in downloads.prepared(taking, address).cells[0].source


def test_the_book_names_its_repository_in_one_setting(tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text("sphinx: {config: {book_repository: https://x.y/z}}")
    assert downloads.repository(tmp_path) == "https://x.y/z"
    (tmp_path / "_config.yml").write_text("title: A book")
    assert downloads.repository(tmp_path) == ""


def test_wheel_and_source_distribution_hold_the_library(tmp_path: Path) -> None:
    wheel, source = downloads.distributions(ROOT, tmp_path)
    library = {path.relative_to(ROOT).as_posix() for path in files_under(ROOT / "zotk")}
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name[:5] == "zotk/"} == library
    with tarfile.open(source) as package:
        names = {name.partition("/")[2] for name in package.getnames()}
    assert names >= {*library, "pyproject.toml", "README.md", "LICENSE"}


def test_no_chapter_needs_the_builders_of_the_book() -> None:
    for chapter in (ROOT / "chapters").glob("*.md"):
        assert "myst_nb" not in chapter.read_text(encoding="utf-8"), chapter.name
