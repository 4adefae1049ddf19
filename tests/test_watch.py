"""The watcher: what a cell reads and binds, through functions too; the global random states."""

import random
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from claims_book import record

from ci import judge, watch
from ci.chapters import ROOT, cell_lines, read, written
from ci.evidence import MIME


def after(source: str, space: dict[str, Any]) -> tuple[set[str], set[str]]:
    code = compile(source, "<cell>", "exec")
    exec(code, space)
    return watch.names(code, space)


@pytest.mark.parametrize(
    ("source", "read", "bound"),
    [
        ("y = x", {"x"}, {"y"}),
        ("x = 1\ny = x", set(), {"x", "y"}),
        ("x += 1", {"x"}, {"x"}),
        ("for x in z: y = x", {"z"}, {"x", "y"}),
        ("y = [x + i for i in z]", {"x", "z"}, {"y"}),
        ("y = f()", {"f", "g", "x", "z"}, {"y"}),  # f reads x and calls g, which reads z
        ("z = [3]\ny = f()", {"f", "g", "x"}, {"z", "y"}),
        ("def h(): return f()", set(), {"h"}),
        ("def h(): return x\ny = h()", {"x"}, {"h", "y"}),
        ("h = lambda: x\nx = 5\ny = h()", set(), {"h", "x", "y"}),
        ("y = max([0], key=lambda i: x)", {"x"}, {"y"}),
        ("y = o.m()", {"o", "x"}, {"y"}),  # an object of a class of the chapter
        ("import math", set(), {"math"}),
    ],
)
def test_reads_and_binds(source: str, read: set[str], bound: set[str]) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "x": 1, "z": [2]}
    exec(
        "def g(): return z\ndef f(): return x, g()\nclass O:\n    def m(self): return x\no = O()",
        space,
    )
    assert after(source, space) == (read, bound)


def test_functions_that_call_each_other() -> None:
    space: dict[str, Any] = {"__name__": "__main__", "x": 1}
    source = "def f(n): return n and g(n - 1)\ndef g(n): return n and f(n - 1) or x\ny = f(3)"
    assert after(source, space) == ({"x"}, {"f", "g", "y"})


def test_signatures() -> None:
    alike = [(torch.zeros(2, 3), torch.ones(2, 3)), (1.5, 2.5), ([1], [2]), ("a", "bc")]
    differ = [(torch.zeros(3), torch.zeros(4)), (1, 1.0), ([1], [1, 2]), (np.zeros(2), [0, 0]),
              ([np.zeros(2)], [np.zeros(3)]), (lambda a: a, lambda a, b: a)]  # fmt: skip
    assert all(watch.signature(a) == watch.signature(b) for a, b in alike)
    assert all(watch.signature(a) != watch.signature(b) for a, b in differ)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("random", random.random),
        ("numpy.random", np.random.rand),
        ("torch", lambda: torch.rand(1)),
        ("torch", lambda: torch.manual_seed(1)),
    ],
)
def test_a_moved_global_state_is_seen(name: str, draw: Any) -> None:
    before = watch.random_states()
    torch.rand(1, generator=torch.Generator().manual_seed(1))
    np.random.default_rng(0).random()
    assert watch.random_states() == before
    draw()
    now = watch.random_states()
    assert [key for key in now if now[key] != before[key]] == [name]


# ---- judging a report ----


def run_of(*cells: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """A notebook and its report; a cell has tags, check (does it?), reads, binds."""
    notebook, report = nbformat.v4.new_notebook(), []
    for number, cell in enumerate(cells, 1):
        outputs = [nbformat.v4.new_output("display_data", {MIME: record("a.b")})]
        metadata = {"tags": cell.get("tags", []), "line": 10 * number}
        notebook.cells.append(
            nbformat.v4.new_code_cell(
                f"cell {number}", metadata=metadata, execution_count=number,
                outputs=outputs if cell.get("check") else [],
            )
        )  # fmt: skip
        empty = {"reads": [], "binds": {}, "moved": [], "figures": 0, "wrong": [], "idle": []}
        report.append({**empty, "source": f"cell {number}", **cell})
    return notebook, report


OWN = {"binds": {"x": "list of 3"}}
LEFT = {"binds": {"x": "list of 2"}, "check": True}
FIGURE = {"reads": ["x"], "tags": ["figure"]}


@pytest.mark.parametrize(
    ("cells", "lines"),
    [
        ([OWN, LEFT, FIGURE], [30]),
        ([OWN, LEFT, FIGURE, FIGURE], [30, 40]),
        ([{**OWN, "tags": ["figure"]}, LEFT, FIGURE], [30]),
        ([OWN, FIGURE, LEFT], []),
        ([LEFT, FIGURE], []),  # what a check measured
        ([OWN, LEFT, OWN, FIGURE], []),  # bound again by the chapter
        ([OWN, {**LEFT, **OWN}, FIGURE], []),  # of the same shape
        ([OWN, LEFT, {**FIGURE, "tags": []}], []),
    ],
)
def test_a_figure_of_a_check_s_leftovers(cells: list[dict[str, Any]], lines: list[int]) -> None:
    told = list(judge.stale("one", *run_of(*cells)))
    assert [text.split(": ")[0] for text in told] == [f"chapters/one.md:{n}" for n in lines]


def test_idle_excuses_count_for_the_chapter_s_own_parameters() -> None:
    notebook, report = run_of({"idle": ["take the comment away"], "moved": ["torch"]})
    told = list(judge.watched("one", notebook, report, defaults=True))
    assert len(told) == 2 and told[0] == "chapters/one.md:10: take the comment away"
    assert len(list(judge.watched("one", notebook, report, defaults=False))) == 1


def test_judging() -> None:
    notebook, report = run_of({})

    def judged(status: int = 0, log: str = "", profile: str = "quick") -> str:
        seen = report if not status else []  # a kernel died in its first cell
        return str(judge.judge("one", profile, notebook, seen, status=status, log=log))

    assert judged() == judged(profile="checks") == "None"  # a page of tables
    assert "the watcher" in str(judge.judge("one", "quick", notebook, None))
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell("````{claim} a.bc One\n````"))
    assert "not one check" in judged(profile="checks")
    code = notebook.cells[1]
    code.outputs = [nbformat.v4.new_output("display_data", {MIME: record("a.b", passed=False)})]
    assert judged().splitlines() == [
        "chapters/one.md:10: the check of a.b failed",
        "chapters/one.md:10: no claim box here states 'a.b'; did you mean 'a.bc'?",
    ]
    code.execution_count = None
    assert judged().startswith("chapters/one.md:10: was not executed")
    log = "kernel: out of memory\nTraceback (most recent call last):\n  File\nDeadKernelError: dead"
    assert judged(1, log).splitlines() == [
        "papermill ended with status 1 before chapters/one.md:10 was done",
        "    kernel: out of memory",
        "    DeadKernelError: dead",
    ]
    code.outputs = [nbformat.v4.new_output("stream", name="stderr", text="w")]
    assert judged(1).startswith("chapters/one.md:10: wrote to stderr")
    trace = ["Cell In[1], line 3\n", "Cell In[7], line 1"]
    code.execution_count = 1
    code.outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=trace)]
    assert judged().splitlines()[0] == "chapters/one.md:12: raised E"


# ---- places ----


def test_where_cells_begin_in_every_chapter() -> None:
    for name in written(ROOT):
        source = ROOT / f"chapters/{name}.md"
        text = source.read_text(encoding="utf-8")
        cells = [cell for cell in read(source).cells if cell.cell_type == "code"]
        for cell, line in zip(cells, cell_lines(text), strict=True):
            size = len(cell.source.splitlines())
            assert text.splitlines()[line - 1 : line - 1 + size] == cell.source.splitlines()


def test_where_cells_begin() -> None:
    text = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---
```{code-cell} ipython3
a
```
```{code-cell} ipython3
:tags: [x]

b
```
````md
```{code-cell}
not a cell
```
````
````{code-cell} ipython3
---
tags: [y]
---
c
````
"""
    assert cell_lines(text) == [5, 10, 21]


def test_an_idle_excuse_needs_a_figure() -> None:
    excuse = "# figure may have no label: x"
    assert watch.figure_report(excuse, []) == {"figures": 0, "wrong": [], "idle": []}
    assert len(watch.figure_report(excuse, [[]])["idle"]) == 1
