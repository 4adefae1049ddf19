"""The guard over glued values: every planted formula is seen, every reading passes."""

import base64
import json
import re
from pathlib import Path
from textwrap import dedent, indent

import pytest
from claims_book import PIXEL, Book

import zotk
from ci.glued import CHECKS, THEORY, faults, main

PREFIX = "application/papermill.record/"

HEAD = """
    ```{code-cell} ipython3
    :tags: [parameters]

    seed = 0
    d = 5
    ```

    ```{code-cell} ipython3
    import math
    import numpy as np
    import torch
    import zotk
    from myst_nb import glue
    from scipy.optimize import brentq
    ```

    Text with a glue("a", 0.5).

    ```{code-cell} ipython3
    ---
    mystnb:
      image:
        alt: "glue"
    tags: [hide-input]
    ---
    def run(n):
        return torch.randn(n)


    def watch(n):
        return torch.randn(n)


    def formula(n):
        return (n + 2) / n


    def other(n):
        return (n + 4) / n


    written = lambda n: f"{n:.1e}"
    check = zotk.Check("a.b", seed=seed)
    gen = check.generator()
    values = run(d)
    spread = values.std(0)
    unread = watch(7)
    record = check.equal(values.mean(), formula(d), stderr=spread / d**0.5, twins={"a": other(d)})
    ```
    """
FIRST = dedent(HEAD).strip("\n").count("\n") + 4  # line of the first line of a cell after HEAD


def chapter(code: str, *, tags: str = "") -> str:
    options = f":tags: [{tags}]\n" if tags else ""
    return (
        dedent(HEAD).strip("\n")
        + "\n\n```{code-cell} ipython3\n"
        + options
        + dedent(code).strip("\n")
        + "\n```\n"
    )


READ = {
    "a field of a record": 'glue("a", record.measured)',
    "its percentage": 'glue("a", 100 * record.predicted, display=False)',
    "a record in place": 'glue("a", check.equal(values, 1.0, twins={"b": 2.0}).measured)',
    "a value that a check reads": 'glue("a", float(values.mean()))',
    "a standard error that a check reads": 'glue("a", spread.item())',
    "a text of it": 'glue("a", f"{values[0]:.0e}")',
    "a text of several": 'glue("a", ", ".join(f"{v:.0f}" for v in values))',
    "a ratio": 'glue("a", (values[0] / values[-1]).item())',
    "an excess in per cent": 'glue("a", 100 * (values[0] / record.predicted - 1))',
    "a relative error": 'glue("a", ((values - values[0]).norm() / values.norm()).item())',
    "a root": 'glue("a", math.sqrt(values.square().mean()))',
    "a root by a power": 'glue("a", values.square().mean() ** 0.5)',
    "one minus": 'glue("a", 1 - min(values))',
    "a parameter": 'glue("a", d)',
    "a checked function elsewhere": 'glue("a", formula(64))',
    "a formula that a check reads": 'x = 3 * d\nglue("a", x)\ncheck.equal(values, x, twins={})',
    "a reading with a name": 'share = values.mean() / values.max()\nglue("a", share)',
    "in a loop": 'for name, v in {"a": values}.items():\n    glue(f"a-{name}", v.mean())',
    "over pairs": 'for name, v in zip(("a", "b"), values):\n    glue(name, v)',
    "through a list": 'all_ = []\nfor v in values:\n    all_.append(v)\nglue("a", max(all_))',
    "through a format of the chapter": 'glue("a", tens(values[0]))\n',
    "the negative": 'glue("a", -values.min())',
    "read by a check that follows": 'late = watch(9)\nglue("a", late[0])\n'
    "check.count(len(late), 9, twins={})",
    "upstream of a check": 'start = watch(3)\nend = start.cumsum(0)\nglue("a", start[0])\n'
    "check.equal(end, 1.0, rtol=1e-3, twins={})",
    "read in a function that checks": "def test(v):\n    check.equal(v, 1.0, twins={})\n\n\n"
    'mine = watch(3)\ntest(mine)\nglue("a", mine[0])',
    "read by a helper of the check": 'mine = watch(3)\ncheck.over(mine, d)\nglue("a", mine[0])',
}


@pytest.mark.parametrize("code", READ.values(), ids=READ.keys())
def test_a_plain_reading_of_what_a_check_reads_passes(code: str) -> None:
    helper = 'def tens(v):\n    return f"{v:.1e}"\n\n\n'
    assert faults(chapter(helper + code)) == []


PLANTED = {
    "a formula of constants": ('glue("a", 100 * math.sqrt(3 / 2048))', "3 / 2048"),
    "a power of constants": ('glue("a", (1 + 17 / 24) ** 3)', "(1 + 17 / 24) ** 3"),
    "a typed number": ('glue("a", 2.59)', "typed in code"),
    "a typed number in a loop": (
        'for name, v in (("a", 2.5), ("b", 3.5)):\n    glue(name, v)',
        "typed in code",
    ),
    "a typed text": ('glue("a", "about 5")', "typed in code"),
    "a formula with a name": ('a = 11 * 12 // 2\nglue("a", a)', "11 * 12 // 2"),
    "a factor on a checked value": ('glue("a", 2 * values.mean())', "2 * values.mean()"),
    "a divisor of a checked value": ('glue("a", values.mean() / 128)', "/ 128"),
    "a sum": ('glue("a", values[0] + 1)', "values[0] + 1"),
    "a power of a checked value": ('glue("a", values[0] ** 2)', "values[0] ** 2"),
    "a product": ('glue("a", values[0] * values[1])', "is a formula"),
    "a function no check reads": ('glue("a", other(5))', "calls `other`"),
    "it in a twin only": (
        'wrong = other(6)\ncheck.equal(values, 1.0, twins={"w": wrong})\nglue("a", wrong)',
        "calls `other`",
    ),
    "the library": ('glue("a", zotk.StudentT(9).gain(2))', "gain"),
    "a solved equation": ('glue("a", brentq(lambda x: x - 1, 0, 2))', "brentq"),
    "a logarithm of a checked value": ('glue("a", math.log(values[0]))', "math.log"),
    "an observation": ('glue("a", unread.mean())', "watch(7)"),
    "a name bound anew": ('values = watch(3)\nglue("a", values[0])', "watch(3)"),
    "the loop before": (
        'for k in range(3):\n    more = watch(k)\n    glue("a", more[0])',
        "watch(k)",
    ),
    "a list filled by a formula": (
        'all_ = []\nfor v in values:\n    all_.append(v * 3)\nglue("a", all_[0])',
        "v * 3",
    ),
    "a formula in a comprehension": ('glue("a", max(v**3 for v in values))', "v ** 3"),
    "a formula that adds up": ('t = values[0] / values[1]\nt += 3 * d\nglue("a", t)', "3 * d"),
    "one branch": ('glue("a", values[0] if d else 3 * d)', "3 * d"),
    "after `with`": ('with torch.no_grad():\n    a = 3 * d\nglue("a", a)', "3 * d"),
    "a lambda no check reads": ('f = lambda n: 3 * n\nglue("a", f(d))', "calls `f`"),
    "a scalar product": ('glue("a", (values @ values).item())', "values @ values"),
    "a generator": ('glue("a", float(check.generator()))', "check.generator()"),
    "one without a name": (
        'glue("a", float(zotk.Check("a").generator()))',
        "generator()",
    ),
    "what a round leaves to the next": (
        'last = values\nfor v in values:\n    glue("a", last)\n    last = 3 * v',
        "3 * v",
    ),
    "in `if`": ('if d > 3:\n    glue("a", 3 * d)', "3 * d"),
}


@pytest.mark.parametrize(("code", "says"), PLANTED.values(), ids=PLANTED.keys())
def test_what_no_check_answers_for_is_seen_on_its_line(code: str, says: str) -> None:
    (fault,) = faults(chapter(code))
    assert says in fault.message
    text = chapter(code).split("\n")
    assert "glue(" in text[fault.line - 1] and fault.line >= FIRST


def test_a_figure_cell_glues_nothing() -> None:
    (fault,) = faults(chapter('glue("a", values[0])', tags="figure, hide-input"))
    assert "tagged `figure`" in fault.message and fault.line == FIRST + 1
    assert faults(chapter("values.mean()", tags="figure")) == []


OBSERVED = {
    "a run": 'glue("a", unread.mean())  # observed: seven draws',
    "on the line above": '# observed: seven draws\nglue("a", unread.mean())',
    "the percentage": 'glue("a", 100 * unread.mean())  # observed: seven draws',
    "a function that runs": 'glue("a", watch(4)[0])  # observed: four draws',
    "over lines": 'glue(\n    "a",\n    unread.mean(),  # observed: seven draws\n)',
    "a product of arrays": 'glue("a", (unread @ unread).item())  # observed: seven draws',
}


@pytest.mark.parametrize("code", OBSERVED.values(), ids=OBSERVED.keys())
def test_an_observation_says_what_was_run(code: str) -> None:
    assert faults(chapter(code)) == []


NOT_OBSERVED = {
    "a formula": ('glue("a", 100 * math.sqrt(3 / 2048))  # observed: no', "3 / 2048"),
    "a number": ('glue("a", 2.5)  # observed: no', "typed in code"),
    "a formula of the chapter": ('glue("a", other(5))  # observed: no', "a formula"),
    "with a name": ('a = other(5)\nglue("a", a)  # observed: no', "a formula"),
    "of the library": (
        'glue("a", zotk.mean_square(np.ones(3), 1.0).threshold)  # observed: no',
        "mean_square",
    ),
    "arithmetic on a run": ('glue("a", 3 * unread.mean())  # observed: no', "3 * unread.mean()"),
    "hidden arithmetic on a run": (
        'a = unread.mean() / 2 * (1 - 2 / 100)\nglue("a", a)  # observed: no',
        "is a formula",
    ),
    "no reason": ('glue("a", unread.mean())  # observed:', "says what was run"),
    "nothing to excuse": ('glue("a", values.mean())  # observed: it', "excuses nothing"),
    "no glue": ("unread.mean()  # observed: it", "excuses nothing"),
}


@pytest.mark.parametrize(("code", "says"), NOT_OBSERVED.values(), ids=NOT_OBSERVED.keys())
def test_a_formula_is_no_observation(code: str, says: str) -> None:
    (fault,) = faults(chapter(code))
    assert says in fault.message


def test_a_table_shows_something_checked() -> None:
    table = "def table(rows):\n    return Markdown(rows)\n\n\n"
    assert faults(chapter("Markdown(str(values))")) == []
    assert faults(chapter(table + "table([values.mean()])")) == []
    assert faults(chapter("# observed: seven draws\nMarkdown(str(unread))")) == []
    for code in ("Markdown(str(unread))", table + "table([other(3)])"):
        (fault,) = faults(chapter(code))
        assert "of this table" in fault.message


def test_cells_in_long_fences_and_with_yaml_are_read() -> None:
    text = chapter("pass") + indent(
        dedent(
            """
            ````{code-cell} ipython3
            ---
            tags:
            - figure
            - hide-input
            ---
            glue("a", values[0])
            ````
            """
        ),
        "",
    )
    (fault,) = faults(text)
    assert "tagged `figure`" in fault.message
    assert text.split("\n")[fault.line - 1] == 'glue("a", values[0])'


def test_names_are_those_of_the_library() -> None:
    assert all(hasattr(zotk.Check, name) for name in CHECKS)
    assert all(hasattr(zotk, name) or hasattr(zotk.Law, name) for name in THEORY)


def test_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1, "an empty folder is no clean book"
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters/one.md").write_text(chapter('glue("a", record.measured)'))
    assert main([]) == 0
    (tmp_path / "chapters/two.md").write_text(chapter('glue("a", 2.5)'))
    capsys.readouterr()
    assert main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"chapters/two.md:{FIRST}: a: `2.5` is a number typed in code")
    assert main(["chapters/one.md"]) == 0


def test_claims_and_captions_show_what_is_glued_and_no_opt_out(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.two = book.two.replace(
        "$x < 2$, by", "% typed: never shown\n$x < 2$, at most {glue:text}`best:.2f`, by"
    )
    book.write()
    path = book.source / "chapters/two.ipynb"
    notebook = json.loads(path.read_text())
    caption = "Line, {glue:text}`best:.1f` % up."
    cell = {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {
            "mystnb": {"image": {"alt": "Up."}, "figure": {"name": "fig:up", "caption": caption}},
            "typed": {"alt": "never shown"},
        },
        "source": "plot()",
        "outputs": [
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"image/png": base64.b64encode(PIXEL).decode(), "text/plain": "<Figure>"},
            },
            {
                "output_type": "display_data",
                "metadata": {"scrapbook": {"name": "best", "mime_prefix": PREFIX}},
                "data": {PREFIX + "text/plain": "1.23456"},
            },
        ],
    }
    notebook["cells"].append(cell)
    path.write_text(json.dumps(notebook))
    book.write = lambda: None  # type: ignore[method-assign]
    status, warnings = book.build()
    assert (status, warnings) == (0, "")
    page = (book.site / "chapters/two.html").read_text()
    text = re.sub(r"<[^>]+>", "", page)
    assert "at most 1.23, by" in text and "Line, 1.2 % up." in text
    assert "never shown" not in page
