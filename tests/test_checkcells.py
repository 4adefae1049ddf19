"""Checks that cannot be evidence are found in the text of a chapter, at their lines."""

from pathlib import Path

import pytest

from ci.checkcells import Finding, lint, main

CHAPTER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
---

# Sums

```{code-cell} ipython3
:tags: [parameters]

seed, device, n = 0, "cpu", 3
```

```{code-cell} ipython3
---
tags: [hide-input]
---
%matplotlib inline
import math
import numpy as np
import torch
import zotk

def total(k):
    return sum(range(k + 1))
```

````{admonition} Result
```{claim} sum.small A sum
:source: ours

$1 + 2$.
```
````

````{claim} sum.range A longer one
**Theorem.** quoted in a box.

```{math}
1 + 2
```
````

```{code-cell} ipython3
check = zotk.Check("sum.range", seed=seed)
own = zotk.Check("sum.pictures", seed=seed + 1)
gen = own.generator("stream", device=device)
small = zotk.Check("sum.elsewhere", seed=seed).generator()
check.count(total(4), 10, twins={"less": 9})
other = torch.Generator(device).manual_seed(seed)
draws = np.random.default_rng(seed + 1)
%CELL%
pass
```

A **Theorem** in a sentence. > not a quotation

> **Theorem 7.** As a source prints it.
"""
LINE = CHAPTER.split("\n").index("%CELL%") + 1


def planted(code: str) -> list[Finding]:
    return lint(CHAPTER.replace("%CELL%", code))


SOUND = {
    "nothing": "pass",
    "computed": "check.equal(total(4) / 2, 5.0, rtol=1e-9, twins={'t': 5.5})",
    "through names": "x = total(4)\ny = 2 * x\ncheck.count(y, 20, twins={'t': 21})",
    "a parameter": "check.count(n, 3, twins={'t': 4})",
    "a list that grows": "x = []\nx.append(total(4))\ncheck.count(x, [10], twins={'t': [9]})",
    "an array that is filled": (
        "x = np.zeros(1)\nx[0] = total(4)\ncheck.equal(x, 10., rtol=1e-9, twins={'t': 9.})"
    ),
    "a count that grows": (
        "x = 0\nfor k in range(5):\n    x += k\ncheck.count(x, 10, twins={'t': 9})"
    ),
    "a loop over computed": ("for x in map(total, [4]):\n    check.count(x, 10, twins={'t': 9})"),
    "an argument": "def judge(x):\n    check.count(x, 10, twins={'t': 9})",
    "a library's algorithm": (
        "check.equal(torch.linalg.det(torch.eye(2)), 1., rtol=1e-9, twins={'t': 1.1})"
    ),
    "a lambda": "over = zotk.across([1, 2])\nx = over(lambda k: total(k))\n"
    "check.count(x, [1, 3], twins={'t': [1, 4]})",
    "a rate's own slope": "check.rate([1, 2, 4], [total(1)] * 3, 2, atol=0.1, twins={'t': 1.5})",
    "another equal": "assert torch.equal(torch.ones(2), torch.ones(2))",
    "a claim in a name": "for name in open('x'):\n    c = zotk.Check(name, seed=seed)\n"
    "    c.count(total(4), 10, twins={'t': 9})",
    "the box inside another": (
        "c = zotk.Check('sum.small', seed=seed)\nc.count(total(4), 10, twins={'t': 9})"
    ),
    "a seed of a stream": "torch.manual_seed(seed + 4)",
}


@pytest.mark.parametrize("code", SOUND.values(), ids=SOUND)
def test_sound_cells_pass(code: str) -> None:
    assert planted(code) == []


UNSOUND = {
    "two is two": ("check.count(2, 2, twins={'t': 3})", 0, "`2` is typed in, not measured"),
    "one is one": ("check.equal(1.0, 1., rtol=1e-9, twins={'t': 1.1})", 0, "`1.0` is typed in"),
    "by keyword": ("check.count(measured=3, predicted=n, twins={'t': 3})", 0, "`3` is typed in"),
    "by arithmetic": (
        "check.count(len([1, 2]), n - 1, twins={'t': 3})",
        0,
        "`len([1, 2])` is typed in",
    ),
    "in an array": (
        "check.equal(np.array([1., 2.]), total(1), rtol=1e-9, twins={'t': 3})",
        0,
        "is typed in",
    ),
    "by a name": ("two = 2\ncheck.count(two, 2, twins={'t': 3})", 1, "`two` is typed in"),
    "by a name of names": (
        "a, b = 1, math.sqrt(2)\nc = a + b\ncheck.equal(c, 2.4, rtol=1e-2, twins={'t': 3})",
        2,
        "`c` is typed in",
    ),
    "by a loop": (
        "for j in (1, 2):\n    check.count(j, n, twins={'t': 3})",
        1,
        "`j` is typed in",
    ),
    "by a comprehension": (
        "check.count([k**2 for k in range(3)], total(1), twins={'t': 3})",
        0,
        "is typed in",
    ),
    "a typed bound": (
        "check.bound(1.0, total(1), side='upper', rtol=1e-9, twins={'t': 0.5})",
        0,
        "`1.0` is typed in",
    ),
    "a typed rate": (
        "check.rate([total(1), 2, 4], [1, 2, 4], 1, atol=0.1, twins={'t': 1.5})",
        0,
        "`[1, 2, 4]` is typed in",
    ),
    "the same twice": (
        "check.equal(total(4), (total(4)), rtol=1e-9, twins={'t': 11.})",
        0,
        "measured and predicted are both `total(4)`",
    ),
    "a seed of its own": (
        "c = zotk.Check('sum.range', seed=7)\nc.count(total(4), 10, twins={'t': 9})",
        0,
        "a check of its own seed",
    ),
    "no seed": (
        "zotk.Check('sum.range').count(total(4), 10, twins={'t': 9})",
        0,
        "a check of its own seed",
    ),
    "a fixed seed by a name": (
        "lucky = 7\nc = zotk.Check('sum.range', seed=lucky)\nc.count(n, 3, twins={'t': 9})",
        1,
        "a check of its own seed",
    ),
    "a fixed generator": (
        "g = torch.Generator(device).manual_seed(7)",
        0,
        "`torch.Generator(device).manual_seed(7)`: a seed of its own",
    ),
    "a fixed generator of numpy": ("g = np.random.default_rng(7)", 0, "a seed of its own"),
    "a generator without seed": ("g = np.random.default_rng()", 0, "a seed of its own"),
    "an unknown claim": (
        "c = zotk.Check('sum.rang', seed=seed)\nc.count(total(4), 10, twins={'t': 9})",
        0,
        "no {claim} box of this chapter states 'sum.rang'; did you mean 'sum.range'?",
    ),
    "an unknown claim at once": (
        "zotk.Check('mean', seed=seed).count(total(4), 10, twins={'t': 9})",
        0,
        "no {claim} box of this chapter states 'mean'",
    ),
    "no Python": ("check.count(", 0, "is no Python"),
}


@pytest.mark.parametrize(("code", "below", "words"), UNSOUND.values(), ids=UNSOUND)
def test_unsound_cells_are_found_at_their_lines(code: str, below: int, words: str) -> None:
    (finding,) = planted(code)
    assert words in finding.message
    assert finding.line == LINE + below


CHECKED = "check.count(total(4), 10, twins={'t': 9})"


@pytest.mark.parametrize(
    ("code", "below"),
    [(CHECKED, 0), (CHECKED + "  # ; no", 0), (CHECKED.replace(", ", ",\n    "), 2)],
    ids=["bare", "a comment", "on three lines"],
)
def test_a_cell_does_not_end_in_the_record_of_a_check(code: str, below: int) -> None:
    (finding,) = lint(CHAPTER.replace("%CELL%\npass", code))
    assert "its record would be printed" in finding.message
    assert finding.line == LINE + below


@pytest.mark.parametrize(
    "code",
    [
        CHECKED + ";",
        CHECKED + " ;  # no record",
        "record = " + CHECKED,
        f"for _ in range(1):\n    {CHECKED}",
        CHECKED + "\nprint(total(4))",
        "total(4)",
    ],
    ids=["closed", "closed and a comment", "kept", "in a loop", "not the last", "no check"],
)
def test_a_record_that_is_not_printed_passes(code: str) -> None:
    assert lint(CHAPTER.replace("%CELL%\npass", code)) == []


def test_output_that_is_removed_needs_no_semicolon() -> None:
    cell = f"```{{code-cell}} ipython3\n:tags: [remove-output]\n\n{CHECKED}\n```"
    assert lint(CHAPTER.replace("%CELL%", "") + "\n" + cell + "\n") == []


@pytest.mark.parametrize(
    "prose",
    [
        "**Theorem.** All is well.",
        "**Lemma 3 (Euler).** All is well.",
        "First.\n__Proposition.__ All is well.",
        "- **Corollary**: all is well.",
        "```{admonition} Note\n:class: tip\n\n**Theorem.** All is well.\n```",
    ],
)
def test_a_theorem_in_bold_type_is_found(prose: str) -> None:
    text = CHAPTER.replace("%CELL%", "pass") + "\n" + prose + "\n"
    (finding,) = lint(text)
    assert "belongs in a {claim} box" in finding.message
    assert "**" in text.split("\n")[finding.line - 1] or "__" in text.split("\n")[finding.line - 1]


def test_the_command_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    Path("chapters").mkdir()
    Path("chapters/one.md").write_text(CHAPTER.replace("%CELL%", "pass"), encoding="utf-8")
    assert main([]) == 0
    code = "check.count(2, 2, twins={'t': 3})"
    Path("chapters/two.md").write_text(CHAPTER.replace("%CELL%", code), encoding="utf-8")
    capsys.readouterr()
    assert main([]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"chapters/two.md:{LINE}: `2` is typed in") and "2 pages, 1" in last


def test_the_chapters_of_this_book_are_clean() -> None:
    for page in sorted((Path(__file__).parent.parent / "chapters").glob("*.md")):
        assert [(page.name, *f) for f in lint(page.read_text(encoding="utf-8"))] == []


# ---- fences ----


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("\n# Sums", "\n````{note}\n# Sums", 8, "this code cell is text of `````{note}` of line 5"),
        ("%CELL%\npass\n```\n", "%CELL%\n", LINE - 8, "is never closed"),
    ],
)
def test_a_stray_fence_is_seen(before: str, after: str, line: int, message: str) -> None:
    found = lint(CHAPTER.replace(before, after, 1).replace("%CELL%", "pass"))
    assert any(f.line == line and message in f.message for f in found), found


def test_a_code_cell_in_a_box_is_no_cell() -> None:
    box = "````{tip}\n```{code-cell} ipython3\n1 + 1\n```\n````\n"
    found = lint(CHAPTER.replace("%CELL%", "pass") + box)
    line = len(CHAPTER.splitlines()) + 1
    assert [f.message for f in found] == [
        f"this code cell is text of `````{{tip}}` of line {line} and would not run"
    ]
