"""JupyterLab on the chapters: pairing changes no chapter, nobody else is asked for anything."""

import os
import shutil
from pathlib import Path

import jupytext
import nbformat
from jupyterlab.labapp import LabApp

from ci import lab
from ci.chapters import ROOT, read, written


def test_pairing_leaves_every_chapter_as_it_is(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "chapters", tmp_path / "chapters")
    for name in written(ROOT):
        source = tmp_path / f"chapters/{name}.md"
        before = source.read_bytes(), source.stat().st_mtime_ns
        for _ in range(2):
            lab.pair(source)
        assert (source.read_bytes(), source.stat().st_mtime_ns) == before
        made = jupytext.read(source.with_suffix(".ipynb"))
        assert [c.source for c in made.cells] == [c.source for c in read(source).cells]
        assert source.with_suffix(".ipynb").stat().st_mtime_ns == before[1]


def test_outputs_stay_and_work_is_not_lost(tmp_path: Path) -> None:
    source, notebook = tmp_path / "one.md", tmp_path / "one.ipynb"
    source.write_text(
        "---\nkernelspec: {display_name: Python 3, language: python, name: python3}\n---\n\n"
        "```{code-cell} ipython3\n1 + 1\n```\n"
    )
    lab.pair(source)
    run = nbformat.read(notebook, as_version=4)
    run.cells[0].outputs = [nbformat.v4.new_output("stream", text="2")]
    nbformat.write(run, notebook)
    time = source.stat().st_mtime_ns
    os.utime(notebook, ns=(time, time))
    source.write_text(source.read_text() + "\nMore.\n")
    lab.pair(source)
    cells = nbformat.read(notebook, as_version=4).cells
    assert cells[0].outputs[0].text == "2" and cells[1].source == "More."

    run.cells[0].source = "1 + 2"
    nbformat.write(run, notebook)
    os.utime(notebook, ns=(2 * time, 2 * time))
    lab.pair(source)
    assert nbformat.read(notebook, as_version=4).cells[0].source == "1 + 2"


def test_no_news() -> None:
    app = LabApp()
    app.parse_command_line(list(lab.OPTIONS))
    assert app.news_url is None
    assert app.check_for_updates_class.__name__ == "NeverCheckForUpdate"
