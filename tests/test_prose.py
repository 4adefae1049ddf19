"""The prose lint: every catch, every exclusion, exact lines."""

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.prose import Finding, lint, main


def page(text: str) -> str:
    return dedent(text).strip("\n") + "\n"


def found(text: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.text) for finding in lint(page(text))]


CAUGHT = {
    "a decimal": ("The slope is 0.5 here.", "decimal", "0.5"),
    "a decimal that ends the sentence": ("The slope is 0.5.", "decimal", "0.5"),
    "no digit before the point": ("The slope is .25 here.", "decimal", ".25"),
    "a negative decimal": ("The slope is −0.5 here.", "decimal", "0.5"),
    "thousands": ("It took 1,234.5 units.", "decimal", "1,234.5"),
    "an exponent": ("An error of 3.2e-4 remains.", "decimal", "3.2e-4"),
    "an exponent without a point": ("An error of 1e-6 remains.", "decimal", "1e-6"),
    "the same with a true minus": ("An error of 1e−6 remains.", "decimal", "1e−6"),
    "an exponent with a true minus": ("An error of 3.2e−4 remains.", "decimal", "3.2e−4"),
    "a dot for times": ("An error of 3·10^-4 remains.", "decimal", "3·10^-4"),
    "a power of ten": ("An error of 3 × 10⁻⁴ remains.", "decimal", "3 × 10⁻⁴"),
    "a decimal with a unit": ("It takes 12.3s and", "decimal", "12.3"),
    "a decimal after a sign": ("We take ε=0.01 here.", "decimal", "0.01"),
    "a range": ("Between 1–2.5 units.", "decimal", "2.5"),
    "a percentage": ("In 5% of the runs.", "percentage", "5%"),
    "a percentage with a space": ("In 12 % of the runs.", "percentage", "12 %"),
    "a percentage with an entity": ("In 12&nbsp;% of the runs.", "percentage", "12 %"),
    "a permille": ("In 5 ‰ of the runs.", "percentage", "5 ‰"),
    "an escaped percentage": (r"In 12\% of the runs.", "percentage", "12%"),
    "a percentage in words": ("In 12 percent of the runs.", "percentage", "12 percent"),
    "a decimal percentage, once": ("In 12.5 % of the runs.", "percentage", "12.5 %"),
    "times": ("It is 3 times faster.", "times", "3 times"),
    "decimal times, once": ("It is 2.4 times faster.", "times", "2.4 times"),
    "the sign": ("It is 150× faster.", "times", "150×"),
    "the sign with a space": ("It is 150 × faster.", "times", "150 ×"),
    "the letter": ("It is 10x faster.", "times", "10x"),
    "over a line end": ("It is 3\ntimes faster.", "times", "3 times"),
    "through emphasis": ("It is **3** times faster.", "times", "3 times"),
    "through HTML": ("In <b>12</b> % of the runs.", "percentage", "12 %"),
    "after a word that numbers": ("The Figure 0.5 is not.", "decimal", "0.5"),
    "after another Python": ("Python 3.11 took 2.5 units.", "decimal", "2.5"),
    "a heading": ("# Slope 0.5", "decimal", "0.5"),
    "a list": ("- first\n- slope 0.5", "decimal", "0.5"),
    "a table": ("| a |\n|---|\n| 0.5 |", "decimal", "0.5"),
    "a definition list": ("Term\n: slope 0.5", "decimal", "0.5"),
    "a footnote": ("Text.[^a]\n\n[^a]: slope 0.5", "decimal", "0.5"),
    "the text of a link": ("See [slope 0.5](x.md).", "decimal", "0.5"),
    "the alt text of an image": ("![slope 0.5](x.png)", "decimal", "0.5"),
    "the title of a reference": ("See {ref}`slope 0.5 <target>`.", "decimal", "0.5"),
    "a role that prints its text": ("A {sub}`0.5` here.", "decimal", "0.5"),
    "a badge": ("{bdg-info}`0.5`", "decimal", "0.5"),
    "an HTML block": ("<div>\nslope 0.5\n</div>", "decimal", "0.5"),
    "after hidden HTML": ("<pre>a</pre> slope 0.5", "decimal", "0.5"),
    "after inline code in HTML": ("A <code>b</code> slope 0.5", "decimal", "0.5"),
    "after a block quotation": ("> said\n\nslope 0.5", "decimal", "0.5"),
    "beside a glue": ("{glue}`a` and 0.5", "decimal", "0.5"),
}


@pytest.mark.parametrize(("text", "kind", "written"), CAUGHT.values(), ids=CAUGHT.keys())
def test_a_number_in_prose_is_caught_once(text: str, kind: str, written: str) -> None:
    assert [(f.kind, f.text) for f in lint(text + "\n")] == [(kind, written)]


PROSE_DIRECTIVES = (
    "admonition", "note", "warning", "tip", "dropdown", "card", "grid", "grid-item-card",
    "tab-set", "tab-item", "exercise", "solution", "figure", "glue:figure", "list-table",
    "prf:proof", "prf:definition", "prf:algorithm", "sidebar", "margin", "never-heard-of",
)  # fmt: skip


@pytest.mark.parametrize("name", PROSE_DIRECTIVES)
@pytest.mark.parametrize("fence", ["```", ":::"])
def test_the_body_of_a_directive_is_prose(name: str, fence: str) -> None:
    text = f"{fence}{{{name}}} word\n:class: wide\n\nslope 0.5\n{fence}\n"
    assert lint(text) == [Finding(4, "decimal", "0.5")]


@pytest.mark.parametrize("name", ["admonition", "note", "exercise", "tab-item", "card"])
def test_the_title_of_a_directive_is_prose(name: str) -> None:
    assert lint(f"```{{{name}}} slope 0.5\nbody\n```\n") == [Finding(1, "decimal", "0.5")]


def test_a_bare_colon_fence_is_prose() -> None:
    assert lint(":::\nslope 0.5\n:::\n") == [Finding(2, "decimal", "0.5")]


EXCLUDED = {
    "mathematics": "The slope $0.5$ is $12\\%$ or $3\\times$.",
    "mathematics over a line end": "The slope $a +\n0.5$ is.",
    "double dollars": "$$\n0.5\n$$",
    "labelled double dollars": "$$\n0.5\n$$ (eq:a)",
    "amsmath": "\\begin{align}\na &= 0.5\n\\end{align}",
    "the math directive": "```{math}\n:label: a\n0.5\n```",
    "a role that looks titled": "The slope {math}`0.5 <b>` is, {code}`0.5 <b>` too.",
    "the math role": "The slope {math}`0.5` is.",
    "a code span": "The call `f(0.5)` is.",
    "a code span over a line end": "The call `f(a,\n0.5)` is.",
    "a code fence": "```python\nx = 0.5\n```",
    "a bare fence": "```\nx = 0.5\n```",
    "indented code": "    x = 0.5",
    "a code cell": "```{code-cell} ipython3\n:tags: [a]\nx = 0.5\n```",
    "a claim": "```{claim} a.b Slope 0.5\n:kind: theorem\n\nIn 5 %, 3 times 0.5.\n```",
    "a claim in colons": ":::{claim} a.b Slope 0.5\nThe slope is 0.5.\n:::",
    "a claim in a box": "````{note}\n```{claim} a.b Slope\nThe slope is 0.5.\n```\n````",
    "a block quotation": "> The slope is 0.5,\n> or 5 %.",
    "a quotation in a box": "```{admonition} What the paper says\n> b = 0.605\n```",
    "front matter": "---\ntitle: slope 0.5\n---\n\nText.",
    "options": "```{figure} a.png\n:width: 50%\n:alt: slope 0.5\n\nText.\n```",
    "options in YAML": "```{figure} a.png\n---\nwidth: 50%\nscale: 0.5\n---\nText.\n```",
    "options over nested boxes": "::::{grid} 2\n:::{card} Word\n:width: 50%\nText.\n:::\n::::",
    "a path": "```{figure} a/0.5/b.png\nText.\n```",
    "the key of a pasted figure": "```{glue:figure} slope_0.5\nText.\n```",
    "a link target": 'See [text](x/0.5.md "0.5") and [text][a].\n\n[a]: https://a.b/0.5',
    "an address in angle brackets": "See <https://a.b/0.5>.",
    "a bare address": "See https://a.b/0.5 or doi:10.1137/0904025.",
    "an arXiv number": "See arXiv 2604.14669 and arXiv:2605.03373.",
    "a glue": "The slope is {glue:text}`slope:.2f` or {glue}`a0.5`.",
    "a reference": "See {ref}`target-0.5` and {ref}`text <target-0.5>`.",
    "a citation": "See {cite:t}`a0.5`.",
    "a comment": "<!-- slope 0.5\n\n5 % -->",
    "a comment in a line": "Text <!-- slope\n0.5 --> text.",
    "a MyST comment": "% slope 0.5",
    "a block break": '+++ {"slope": 0.5}',
    "a label": "(slope-0.5)=\n\nText.",
    "a substitution": "Version {{ slope }} of {{ '0.5' }}.",
    "code in HTML": "<pre>\nx = 0.5\n</pre>",
    "inline code in HTML": "The call <code>f(0.5)</code> is.",
    "an attribute in HTML": '<div style="width: 12.5%">\nText.\n</div>',
    "a script": "<script>\nx = 0.5\n</script>",
    "a version": "It needs 2.13.0, or v2.1, or version 2.1.",
    "the version of a program": "It needs Python 3.11+, PyTorch 2.13 and CUDA 12.4.",
    "the version of a licence": "The text is CC BY 4.0, the code Apache-2.0.",
    "versions": "It runs on Python 3.11, 3.12 and 3.13.",
    "a figure": "See Figure 1 and Figure 2.1.",
    "a section": "See Section 3.1, §2.8, Appendix C.2 and Sections 3.1–3.3.",
    "an equation": "See Eq. 3.2 and (Theorem 4.1).",
    "an image size": "An 8×8 image, 64 × 64, 3×3×3 and 8×8×C, 8 × 8 × C.",
    "a layer list": "The network 784-1024-10.",
    "an integer": "It has 711 parameters and 10,000 draws; see step 3. Then stop.",
    "a number in words": "It is three times faster.",
    "a name with digits": "In float32 and x1.5y, at ed732c6.",
    "a date": "On 2026-02-11, or 11.02.2026, at 127.0.0.1.",
}


@pytest.mark.parametrize("text", EXCLUDED.values(), ids=EXCLUDED.keys())
def test_what_may_be_typed(text: str) -> None:
    assert lint(text + "\n") == []


OPAQUE_DIRECTIVES = (
    "claim", "math", "code-cell", "code", "code-block", "sourcecode", "toctree",
    "epigraph", "highlights", "pull-quote",
)  # fmt: skip


@pytest.mark.parametrize("name", OPAQUE_DIRECTIVES)
def test_some_directives_hold_no_prose(name: str) -> None:
    assert lint(f"```{{{name}}} word\n:class: wide\n\nslope 0.5\n```\n") == []


def test_lines_are_those_of_the_file() -> None:
    text = """
        ---
        title: slope 0.5
        ---

        # Slope 1.5

        A `code span
        over lines`, a {term}`role
        over lines`, $a +
        b$, [a link](x.md
        "with a title"), <!-- a
        comment --> and 2.5, then
        12
        percent of it.

        - an item

          :::::{admonition} Box 3.5
          :class: tip

          Text 4.5

          ````{prf:proof}
          ```{math}
          5.5
          ```

          By 6.5.
          ````
          :::::

        | head |
        |------|
        | none |
        | 7.5  |

        ```{note}
        ---
        class: 8.5
        ---
        Text

        <div>

        9.5

        </div>
        ```
        """
    assert found(text) == [
        (5, "1.5"), (12, "2.5"), (13, "12 percent"), (18, "3.5"), (21, "4.5"), (28, "6.5"),
        (35, "7.5"), (45, "9.5"),
    ]  # fmt: skip


FRAGMENTS = {  # text, and the lines (from 0) of its findings
    "A line.\nThe slope 0.5.\n\n": [1],
    "Over `two\nlines` and 0.5\nends.\n\n": [1],
    "Over $two\nlines$, {sub}`two\nlines` and 0.5.\n\n": [2],
    "A\n![slope\n0.5](x.md\n'title') or [b](x.md\n'title')\n5 %\n\n": [2, 5],
    "> quoted 0.5\n> more\n\n": [],
    "```python\n0.5\n```\n": [],
    "```{note}\n:class: a\n\nText 0.5\n\n- item 5 %\n```\n": [3, 5],
    ":::{tip} Title 0.5\n```{math}\n0.5\n```\nText\n0.5\n:::\n": [0, 5],
    "| 0.5 |\n|---|\n| a |\n| 3 times |\n\n": [0, 3],
    "1. item\n\n   para 0.5\n\n": [2],
    "<!-- a\n\n0.5 -->\n\n": [],
    "<p>\na\n0.5\n</p>\n\n": [2],
    "<p>\n<b>a</b>\n<b>0.5</b>\n</p>\n\n": [2],
    "$$\n0.5\n$$\n\n": [],
    "\n\n": [],
}


@given(st.lists(st.sampled_from(sorted(FRAGMENTS)), max_size=8))
def test_lines_survive_any_order_of_blocks(fragments: list[str]) -> None:
    expected, start = [], 1
    for fragment in fragments:
        expected += [start + line for line in FRAGMENTS[fragment]]
        start += fragment.count("\n")
    assert [finding.line for finding in lint("".join(fragments))] == expected


def test_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1, "an empty folder is no clean book"
    (tmp_path / "chapters").mkdir()
    (tmp_path / "book" / "_static").mkdir(parents=True)
    (tmp_path / "chapters" / "one.md").write_text("Clean.\n")
    (tmp_path / "book" / "intro.md").write_text("Clean.\n")
    (tmp_path / "book" / "_static" / "other.md").write_text("slope 0.5\n")
    (tmp_path / "README.md").write_text("slope 0.5\n")
    assert main([]) == 0
    (tmp_path / "chapters" / "two.md").write_text("# Title\n\nThe slope is 0.5.\n")
    (tmp_path / "book" / "notation.md").write_text("In 5 % of it.\n")
    capsys.readouterr()
    assert main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert 'chapters/two.md:3: decimal "0.5" in prose: glue it' in lines
    assert 'book/notation.md:1: percentage "5 %" in prose: glue it' in lines
    assert lines[-1] == "4 pages, 2 numbers to glue"
    assert main(["book/intro.md"]) == 0
