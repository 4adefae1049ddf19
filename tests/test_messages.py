"""Complaints of a build: the author's file and line, one line a fault, the near name."""

import jupytext
import pytest

from ci import messages
from ci.chapters import ROOT

CHAPTER = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---

(ch:one)=
# One

```{code-cell} ipython3
:tags: [parameters]
seed = 0
```
Right after the fence.

```{code-cell} ipython3
---
tags: [figure]
---
draw()
```



Three blank lines before.

+++

A cell of its own, with $$ x $$ (eq:one) and ![](map.png).
"""
SOURCES = {
    "chapters/one.ipynb": messages.Source(
        "chapters/one.md", CHAPTER, tuple(messages.first_lines(CHAPTER))
    ),
    "intro.md": messages.Source("book/intro.md", "# Title\n"),
}
NAMES = messages.Names(
    labels={"ch:one", "eq:one", "sum.two", "fig:line"},
    claims={"sum.two"},
    pages={"intro", "chapters/one"},
    citations={"euler1748"},
    glued={"off-25"},
)


def said(*lines):
    return messages.complaints("\n".join(lines), SOURCES, NAMES)


def test_first_lines_are_those_of_the_cells():
    starts = messages.first_lines(CHAPTER)
    lines = CHAPTER.splitlines()
    assert [lines[start - 1] for start in starts] == [
        "(ch:one)=",
        "```{code-cell} ipython3",
        "Right after the fence.",
        "```{code-cell} ipython3",
        "Three blank lines before.",
        "A cell of its own, with $$ x $$ (eq:one) and ![](map.png).",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").glob("*.md")), ids=lambda p: p.stem)
def test_every_line_of_prose_in_the_book_is_found_again(path):
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.read(path, fmt="md:myst")
    source = messages.Source(path.name, text, messages.executed_lines(text, notebook))
    lines = text.splitlines()
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for at, words in enumerate(cell.source.splitlines()):
                assert lines[messages.line_in(source, 10_000 * (number + 1) + at + 2) - 1] == words


def test_the_cell_that_papermill_adds_shifts_nothing():
    notebook = jupytext.reads(CHAPTER, fmt="md:myst")
    plain = messages.executed_lines(CHAPTER, notebook)
    added = {"cell_type": "code", "source": "seed = 3", "metadata": {"tags": [messages.INJECTED]}}
    notebook.cells.insert(2, added)
    assert messages.executed_lines(CHAPTER, notebook) == (*plain[:2], plain[1], *plain[2:])


def test_places():
    assert said(
        "\x1b[91m/there/build/source/chapters/one.ipynb:50002: WARNING: it is odd\x1b[39;49;00m",
        "/there/build/source/intro.md:7: ERROR: it is bad [myst.bad_kind]",
        "/x/chapters/one.ipynb:: WARNING: image file not readable: chapters/map.png",
        "/there/build/source/chapters/one.ipynb: WARNING: no place",
        "WARNING: sources.yml: euler / thm-1 is a hole",
        "/elsewhere/other.py:3: WARNING: not ours",
        "reading sources... nothing to complain of",
    ) == [
        "chapters/one.md:23: it is odd",
        "book/intro.md:7: it is bad",
        "chapters/one.md:27: image file not readable: chapters/map.png",
        "chapters/one.md: no place",
        "sources.yml: euler / thm-1 is a hole",
        "/elsewhere/other.py:3: not ours",
    ]


def test_a_log_without_complaints():
    assert said("build succeeded.", "dumping object inventory... done") == []


def test_one_line_a_fault():
    place = "/x/chapters/one.ip"
    assert said(
        f"{place}.rst: WARNING: label 'sum.tow' not found.",
        f"{place}ynb:10003: WARNING: prf:ref reference target not found: sum.tow",
        f"{place}ynb:10003: WARNING: prf:ref reference target not found: sum.tow",
        f"{place}.rst: WARNING: label 'alone' not found.",
    ) == [
        "chapters/one.md:6: prf:ref reference target not found: sum.tow; did you mean 'sum.two'?",
        "/x/chapters/one.ip.rst: label 'alone' not found.",
    ]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("undefined label: 'ch:onne'", "ch:one"),
        ("prf:ref reference target not found: sum.tow", "sum.two"),
        ("equation not found: eq:ones", "eq:one"),
        ("'myst' cross-reference target not found: '#fig:lines'", "fig:line"),
        ("unknown document: 'chapters/uno'", "chapters/one"),
        ('could not find bibtex key "euler1747"', "euler1748"),
        ("source 'euler1749, Theorem 1' starts with neither a bibliography key", "euler1748"),
        ("No key 'off-24' found in glue data for this document.", "off-25"),
        ("claim 'sum.bound' uses unknown 'sum.tvo'", "sum.two"),
        ("no claim has the id 'sum-two'", "sum.two"),
        ("check of 'sum.twoo' (fingers) in one belongs to no claim", "sum.two"),
        ("sources.yml: a / b names 'sum.twos', which is not among the claims", "sum.two"),
    ],
)
def test_the_near_name_is_offered(text, near):
    assert said(f"WARNING: {text}") == [f"{text}; did you mean {near!r}?"]


@pytest.mark.parametrize(
    "text", ["undefined label: 'infinity'", 'could not find bibtex key "hilbert"', "it is odd"]
)
def test_nothing_is_offered_when_nothing_is_near(text):
    assert said(f"WARNING: {text}") == [text]


def test_names_are_read_from_the_sources():
    text = CHAPTER + (
        "\n```{claim} sum.two Two\n```\n```{prf:lemma} L\n:label: lem-a\n```\n"
        '\n    name: fig:line\n\nglue("off-25", 1)\n'
    )
    names = messages.names_in([text], "@article{euler1748,\n}\n@book{ gauss1801 ,}", ["intro"])
    assert names == messages.Names(
        labels={"ch:one", "eq:one", "lem-a", "fig:line", "sum.two"},
        claims={"sum.two"},
        pages={"intro"},
        citations={"euler1748", "gauss1801"},
        glued={"off-25"},
    )


def test_a_name_is_offered_once_and_never_itself() -> None:
    names = messages.Names(claims={"a.claim", "a.claims"})
    assert (
        messages.suggestion("no claim has the id 'a.claim'", names) == "; did you mean 'a.claims'?"
    )
    told = "no claim has the id 'a.clam'; did you mean 'a.claim'?"
    assert messages.suggestion(told, names) == ""
