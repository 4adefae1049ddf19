"""JupyterLab on the chapters: pairing changes no chapter, nobody else is asked for anything."""

import asyncio
import os
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupyterlab.labapp import LabApp

from ci import boxes, browser, lab, lab_look
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


def test_claims_become_boxes_and_claims_again() -> None:
    for name in written(ROOT):
        text = (ROOT / f"chapters/{name}.md").read_text(encoding="utf-8")
        shown = boxes.to_boxes(text)
        assert text.count("{claim} ") == shown.count("\n:label: ") - text.count("\n:label: ")
        assert "{claim} " not in shown
        assert boxes.to_claims(shown) == text


CHAPTER = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

```{claim} one.two Of two, one
:kind: lemma
:tag: equality

It holds.
```

```{prf:proof}
Look.
```

```{code-cell} ipython3
---
mystnb: {image: {alt: "a layout that jupytext does not write"}}
---
1 / 0
```
"""


def _repository(root: Path) -> Path:
    (root / "chapters").mkdir()
    shutil.copy(ROOT / "jupytext.toml", root)
    source = root / "chapters/one.md"
    source.write_text(CHAPTER)
    lab.pair(source)
    return source


def test_a_save_leaves_a_chapter_whose_cells_are_the_same(tmp_path: Path) -> None:
    source = _repository(tmp_path)

    async def session() -> None:
        manager = boxes.Chapters(root_dir=str(tmp_path))
        opened = await manager.get("chapters/one.ipynb", type="notebook", content=True)
        assert "{prf:lemma} Of two, one\n:label: one.two" in opened["content"]["cells"][0].source
        await manager.save(opened, "chapters/one.ipynb")
        assert source.read_text() == CHAPTER
        opened = await manager.get("chapters/one.ipynb", type="notebook", content=True)
        opened["content"]["cells"][-1]["source"] = "1 / 2"
        await manager.save(opened, "chapters/one.ipynb")
        assert "{claim} one.two Of two, one\n" in source.read_text()
        assert read(source).cells[-1].source == "1 / 2"

    asyncio.run(session())


@pytest.mark.skipif(browser.programs() is None, reason="needs chromium and chromedriver")
def test_the_look_at_lab_sees_what_fails(tmp_path: Path) -> None:
    source = _repository(tmp_path)
    source.write_text(CHAPTER.replace(":kind: lemma\n", ""))  # a claim that stays as it is typed
    with lab_look.lab(tmp_path) as address, browser.chromium() as driver:
        faults = lab_look.look(driver, address, tmp_path, "one")
    assert any("ZeroDivisionError" in fault for fault in faults)
    assert "1 boxes of claims and proofs, 2 in the chapter" in faults
    assert len(faults) == 2, faults
