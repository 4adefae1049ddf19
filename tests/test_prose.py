"""The prose lint: every catch, every exclusion, exact lines."""

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci.prose import NO_REASON, UNUSED, Finding, lint, main


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
    "after a stray closing tag": ("a</pre> <pre>0.5</pre> and 1.5", "decimal", "1.5"),
    "after bold in hidden HTML": ("<pre>\n<b>a</b> 0.5\n</pre>\n1.5", "decimal", "1.5"),
    "the same in a block": ("<div>\n</pre>\n<pre>0.5</pre>\n1.5\n</div>", "decimal", "1.5"),
    "after code with bold": ("<code>a<b>b</b> 0.5</code> and 1.5", "decimal", "1.5"),
    "a number between dollars": ("The slope $0.51$ is.", "decimal", "0.51"),
    "times after dollars": ("It is $3$ times faster.", "times", "3 times"),
    "a decimal in a formula": (
        r"So $\operatorname{tr}H=1.92$ here.",
        "formula",
        r"$\operatorname{tr}H=1.92$",
    ),
    "a mean in a formula": (r"By $\mathbb EM^2=6.47$ it.", "formula", r"$\mathbb EM^2=6.47$"),
    "a factor in a formula": (r"It costs $1.26\log_2L$.", "formula", r"$1.26\log_2L$"),
    "a decimal below one in it": ("It is $0.42L$.", "formula", "$0.42L$"),
    "a power of ten in a formula": (r"About $3\cdot10^5$.", "formula", r"$3\cdot10^5$"),
    "a rounded formula": (r"It is $32^3/27\approx1214$.", "formula", r"$32^3/27\approx1214$"),
    "a percentage in a formula": (r"In $5\,\%$ of them.", "formula", r"$5\,\%$"),
    "times in a formula": (r"It is $3\times$ faster.", "formula", r"$3\times$"),
    "a formula over a line end": ("So $a\n\\approx 1214$.", "formula", r"$a \approx 1214$"),
    "times after about, once": ("It is about 3 times faster.", "times", "3 times"),
    "words for times": ("It is three times faster.", "multiple", "three times faster"),
    "twice as": ("It goes twice as far.", "multiple", "twice as"),
    "twice the": ("It asks for twice the directions.", "multiple", "twice the"),
    "twice too": ("It is twice too large.", "multiple", "twice too"),
    "about twice": ("It moves by about twice.", "multiple", "about twice"),
    "tens of times": ("It starts tens of times lower.", "multiple", "tens of times lower"),
    "over a line end in words": ("It is three\ntimes faster.", "multiple", "three times faster"),
    "tenfold": ("A tenfold cost.", "multiple", "tenfold"),
    "orders of magnitude": (
        "It is two orders of magnitude off.",
        "multiple",
        "two orders of magnitude",
    ),
    "an order of magnitude": ("An order of magnitude more.", "multiple", "An order of magnitude"),
    "by half": ("It overstates the error by half.", "fraction", "by half"),
    "within a fifth": ("It is sharp to within a fifth.", "fraction", "within a fifth"),
    "less than a third": ("It takes less than a third.", "fraction", "than a third"),
    "a third of its": ("It keeps a third of its variance.", "fraction", "a third of its"),
    "half of the": ("So half of the digits are lost.", "fraction", "half of the"),
    "a factor in words": ("It gains a factor of ten.", "factor", "factor of ten"),
    "a factor in digits": ("The factor 52 is lost.", "factor", "factor 52"),
    "a factor nearby": ("It has a factor near 713.", "factor", "factor near 713"),
    "a count of runs": ("It fails in 12 of 20 runs.", "share", "12 of 20"),
    "the same in words": ("It fails in three out of the five.", "share", "three out of the five"),
    "one in a thousand": ("Both stay below one in a thousand.", "share", "one in a thousand"),
    "per cent in words": ("It is known to five per cent.", "percentage", "five per cent"),
    "a number in words after about": ("It rises to about two.", "integer", "about two"),
    "an integer after about": ("It takes about 2,000 steps.", "integer", "about 2,000"),
    "a claim": (
        "```{claim} a.b Slope\n:kind: theorem\n\nIn 5 % of them.\n```",
        "percentage",
        "5 %",
    ),
    "a claim in colons": (":::{claim} a.b Slope\nThe slope is 0.5.\n:::", "decimal", "0.5"),
    "a claim in a box": ("````{note}\n```{claim} a.b S\nIs 0.5.\n```\n````", "decimal", "0.5"),
    "the title of a claim": ("```{claim} a.b Slope 0.5\nIt is.\n```", "decimal", "0.5"),
    "the alternative text of a figure": (
        "```{figure} a.png\n:width: 50%\n:alt: slope 0.5\n\nT\n```",
        "decimal",
        "0.5",
    ),
    "the same in YAML": (
        "```{figure} a.png\n---\nscale: 0.5\nalt: slope 1.5\n---\nT\n```",
        "decimal",
        "1.5",
    ),
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
    "mathematics": r"The slope $\frac12$ is $2d+4$ or $0.5\,L\log_2L$, and $10^{-3}$.",
    "mathematics over a line end": "The slope $a +\n0.5$ is.",
    "the value of a symbol": r"Take $h=1.5$, $\eta_0 = 0.125$, $\eta\beta=1.25$, $\sigma^2=0.15$.",
    "a size that is no number": r"So $\log_2\binom{2D}D\approx2D$ holds, $n\approx12d$.",
    "formulas in a proof": "````{prf:proof}\nSo $t\\le0.267$, twice the sum.\n````",
    "formulas in a claim": "```{claim} a.b S\nSo $t\\le0.267$, half of the sum.\n```",
    "formulas in an exercise": "```{exercise}\nShow $t\\le0.267$, twice as fast.\n```",
    "formulas in a claim in a box": "````{note}\n```{claim} a.b S\n$t\\le0.267$\n```\n````",
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
    "a block quotation": "> The slope is 0.5,\n> or 5 %.",
    "a quotation in a box": "```{admonition} What the paper says\n> b = 0.605\n```",
    "front matter": "---\ntitle: slope 0.5\n---\n\nText.",
    "options": "```{figure} a.png\n:width: 50%\n:name: fig-0.5\n\nText.\n```",
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
    "a number in words": "An index occurs twice, three times, or in two thirds.",
    "the second half": "The second half of the sentence, the upper half of the tower.",
    "a formula in words": "It is cheaper by half the logarithm, or by half of $x$.",
    "an honest time": "**Time** about forty-five minutes, or about fifty minutes to read.",
    "how many": "One of them, nine of the parts, a factor of d.",
    "a name with digits": "In float32 and x1.5y, at ed732c6.",
    "a date": "On 2026-02-11, or 11.02.2026, at 127.0.0.1.",
}


@pytest.mark.parametrize("text", EXCLUDED.values(), ids=EXCLUDED.keys())
def test_what_may_be_typed(text: str) -> None:
    assert lint(text + "\n") == []


OPAQUE_DIRECTIVES = (
    "math", "code-cell", "code", "code-block", "sourcecode", "toctree", "epigraph", "highlights",
    "pull-quote",
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


CELL = """
    # Title

    ```{code-cell} ipython3
    ---
    mystnb:
      image:
        alt: "A line of slope 0.5, three times as steep as the other, with 12 dots."
      figure:
        name: fig:slope-0.5
        caption: |
          First line, $x=0.5$.
          The slope {glue:text}`slope:.2f` is 1.5.
    tags: [figure, hide-input]
    ---
    x = 2.5
    ```
    """


def test_alternative_text_and_caption_of_a_cell_are_prose() -> None:
    assert found(CELL) == [(7, "0.5"), (7, "three times as"), (12, "1.5")]
    short = CELL.replace("caption: |\n          First", 'caption: "First').replace("1.5.", '1.5."')
    assert found(short) == [(7, "0.5"), (7, "three times as"), (10, "1.5")]  # where it starts


def test_a_cell_says_why_a_number_is_typed() -> None:
    both = "typed:\n      alt: limits of the axis\n      caption: as printed\n    tags:"
    assert found(CELL.replace("tags:", both)) == []
    alt = "typed: {alt: limits of the axis}\n    tags:"
    assert found(CELL.replace("tags:", alt)) == [(12, "1.5")]
    empty = 'typed: {alt: ""}\n    tags:'
    assert (13, NO_REASON) in found(CELL.replace("tags:", empty))
    unused = CELL.replace("is 1.5", "is steep").replace("tags:", both)
    assert found(unused) == [(15, UNUSED)]


def test_a_caption_without_numbers_and_other_cells_pass() -> None:
    assert found("```{code-cell} ipython3\n---\ntags: [a]\n---\nx = 0.5\n```") == []
    assert found("```{code-cell} ipython3\n---\nx: 0.5\n```") == []
    assert found("```{code-cell} ipython3\n```") == []


EXCUSED = {
    "a paragraph": "% typed: a setting\nThe slope is 0.5,\nand 5 %.",
    "a formula": "% typed: a setting\nIt is $0.531$ or $a=0.56b$.",
    "words": "% typed: exact\nIt costs twice as much.",
    "a heading": "% typed: a name\n# Slope 0.5",
    "a list": "% typed: settings\n- slope 0.5\n- slope 1.5",
    "an item": "- one\n\n  % typed: a setting\n  slope 0.5",
    "a table": "% typed: settings\n| a |\n|---|\n| 0.5 |",
    "the head of a table": "% typed: settings\n| 0.5 |\n|---|\n| a |",
    "a title": "% typed: a name\n```{note} slope 0.5\nText.\n```",
    "a figure": "% typed: limits\n```{figure} a.png\n:alt: slope 0.5\n\nText.\n```",
    "in a directive": "```{note}\n% typed: a setting\nslope 0.5\n```",
    "in a claim": "```{claim} a.b S\n:kind: theorem\n\n% typed: the check reads it\nIs 0.5.\n```",
    "HTML": "% typed: a setting\n<div>\nslope 0.5\n</div>",
}


@pytest.mark.parametrize("text", EXCUSED.values(), ids=EXCUSED.keys())
def test_a_comment_says_why_a_number_is_typed(text: str) -> None:
    assert lint(text + "\n") == []
    without = "\n".join(line for line in text.split("\n") if "typed:" not in line)
    assert lint(without + "\n") != []


NOT_EXCUSED = {
    "without a reason": ("% typed:\nslope 0.5", [(1, NO_REASON)]),
    "for nothing": ("% typed: a setting\nText.", [(1, UNUSED)]),
    "at the end": ("Text.\n\n% typed: a setting", [(3, UNUSED)]),
    "a line above": ("% typed: a setting\n\nslope 0.5", [(1, UNUSED), (3, "0.5")]),
    "what follows at once": ("% typed: a name\n# Slope 0.5\nslope 1.5", [(3, "1.5")]),
    "the paragraph after": ("% typed: a\nslope 0.5\n\nslope 1.5", [(4, "1.5")]),
    "the body of a directive": (
        "% typed: a name\n```{note} slope 0.5\nslope 1.5\n```",
        [(3, "1.5")],
    ),
    "another comment": ("% slope\nslope 0.5", [(2, "0.5")]),
    "in a quotation": ("> % typed: a setting\n> slope 0.5", []),
}


@pytest.mark.parametrize(("text", "expected"), NOT_EXCUSED.values(), ids=NOT_EXCUSED.keys())
def test_a_comment_excuses_the_block_below_alone(
    text: str, expected: list[tuple[int, str]]
) -> None:
    assert [(finding.line, finding.text) for finding in lint(text + "\n")] == expected


def test_an_opt_out_at_fault_is_told_in_words() -> None:
    (finding,) = lint("% typed: a setting\nText.\n")
    assert finding.message == "`typed` excuses nothing: take it away"


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
