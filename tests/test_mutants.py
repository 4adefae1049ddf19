"""`make mutants`: which faults are planted, who must notice them, and what is reported."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from atlas_mutants import mutant_tables

from ci.chapters import ROOT
from ci.mutants import __main__ as command
from ci.mutants import chapters, report, tests
from ci.mutants.child import Dead, ask
from ci.mutants.operators import Mutant, formulas
from ci.mutants.plan import Plan
from ci.mutants.predictions import cells

# ---- which faults ----


def now(text: str) -> set[str]:
    return {mutant.now for mutant in formulas(text)}


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        ("y = 3 * x", {"y = 4 * x", "y = 2 * x", "y = 3 / x"}),
        ("y = x + 0.5", {"y = x - 0.5", "y = x + 1.0", "y = x + 0.25"}),
        ("y = x**k", {"y = x*k", "y = x**(k + 0.5)", "y = x**(k - 0.5)"}),
        ("y = a < b", {"y = a <= b"}),
        ("y = a < b >= c", {"y = a <= b >= c", "y = a < b > c"}),
        ("y = a == b", {"y = a != b"}),
        ("y = a and b and c", {"y = a or b and c", "y = a and b or c"}),
        ("y = -x", {"y = x"}),
        ("y = not (a or b)", {"y = (a or b)", "y = not (a and b)"}),
        ("y = v[0]", {"y = v[1]"}),
        ("y //= z", {"y *= z"}),
        ("y = (a) * (b)  # a * b", {"y = (a) / (b) # a * b"}),
        ("σ = 'ä', γ - β", {"σ = 'ä', γ + β"}),
        ("y = brentq(lambda x: x + a, 0.1, 5.0)", {"y = brentq(lambda x: x - a, 0.1, 5.0)"}),
        ("y = f(x + a, rtol=1e-5)", {"y = f(x - a, rtol=1e-5)"}),
        ("y = x + 1e-12", {"y = x - 1e-12"}),
        ("y = x if a in b else z", {"y = x if (not (a in b)) else z"}),
        ("y = [x for x in v if f(x)]", {"y = [x for x in v if (not (f(x)))]"}),
    ],
)
def test_faults_of_a_line(line: str, faults: set[str]) -> None:
    assert now(line) == faults


@pytest.mark.parametrize(
    "text",
    [
        '"""1 + 1."""',
        "x = f'{1 + 1}'",
        "y = 'a' + x",
        "x: int | None = f()",
        "def f(x: int | None) -> int | str: ...",
        "raise ValueError(1 + 1)",
        "y = isinstance(x, int | float)",
        "y = True",
        "import x",
        "if __name__ == '__main__':\n    x = 1",
    ],
)
def test_what_is_no_formula_is_left_alone(text: str) -> None:
    assert now(text) == set()


def test_faults_of_functions_know_their_function_and_the_lines_to_run() -> None:
    body = "        if x > self.y(\n            3\n        ):\n            return x\n"
    found = {m.text: m for m in formulas("class A:\n    def f(self, x=2):\n" + body)}
    assert {mutant.scope for mutant in found.values()} == {"A.f"}
    assert found["1"].lines == (2, 6)  # a default: whatever runs the function
    assert found["4"].line == 4 and found["4"].lines == (3, 5)  # a condition: its head
    assert found["4"].was == "3" and found["4"].now == "4"


def test_faults_in_this_repository_are_python() -> None:
    for path in tests.sources(ROOT):
        text = path.read_text(encoding="utf-8")
        for mutant in formulas(text)[::17]:
            planted = mutant.plant(text)
            assert planted != text
            compile(planted, str(path), "exec")


def test_a_name_outlives_changes_elsewhere() -> None:
    (one,) = formulas("def f(x):\n    return x < 1.5 < y\n")[:1]
    (two,) = formulas("import math\n\n\ndef f(x):\n    return  x < 1.5 < y\n")[:1]
    assert one.line != two.line and report.identity("a.py", one) == report.identity("a.py", two)
    assert report.identity("a.py", one) != report.identity("b.py", one)


# ---- the predicted side ----


CHECKS = """
check = zotk.Check("a.first", seed=seed)
shared = 7 * n
own = 3 * shared
def law(k):
    return k ** 2
values = [run(shared, 5) for _ in range(9)]
wanted = []
wanted.append(law(4) + own)
check.equal(values, np.array(wanted), rtol=1e-9, twins={"8": 8 * own})
zotk.Check("a.second").rate(x, y, -1, atol=0.05, twins={"half": -0.5})
zotk.Check("a.third").count(len(values), n + own, twins={"11": 11})
glue("quoted", 100 * own, display=False)
print(13 * n)
"""


def chapter(*sources: tuple[str, str]) -> Any:
    made = [
        nbformat.v4.new_code_cell(text, metadata={"tags": [tag] if tag else []})
        for text, tag in sources
    ]
    return nbformat.v4.new_notebook(cells=made)


def listed(*sources: tuple[str, str]) -> list[chapters.Cell]:
    return cells(chapter(*sources), "Head\n" + "\n".join(text for text, _ in sources))


def test_faults_are_planted_on_the_predicted_side_alone() -> None:
    (cell,) = listed((CHECKS, ""))
    changed = {(m.scope, m.was.split(" ")[0], m.text) for m in cell.mutants}
    texts = {m.was for m in cell.mutants}
    assert cell.line == 2
    assert ("a.first", "own", "4") in changed  # 3 * shared, which feeds predictions only
    assert any(m.was == "return k ** 2" and m.text == "3" for m in cell.mutants)
    assert any("append" in m.was and m.text == "-" for m in cell.mutants)
    assert {"2 * np.array(wanted)", "np.array(wanted) / 2"} <= {m.text for m in cell.mutants}
    rates = {m.text for m in cell.mutants if m.scope == "a.second"}
    assert {"(-1) + 0.5", "(-1) - 0.5", "2", "0", "1"} == rates
    counts = {m.text for m in cell.mutants if m.scope == "a.third"}
    assert {"2 * (n + own)", "(n + own) + 1", "(n + own) - 1", "-"} <= counts
    left = ("values = ", "print", "shared = ", "glue")
    assert not any(word in text for text in texts for word in left)
    assert not any("8 * own" in m.now and m.text == "9" for m in cell.mutants)


ENTRIES = """
check = zotk.Check("a.first", seed=seed)
forms = {"claim": [], "twice": [], "all": []}
for n in (3, 4):
    forms["claim"].append(5 + n)
    forms["twice"].append(2 * n)
    forms["unlike"] = n / 7
check.equal(values, forms["claim"], rtol=1e-9, twins={"2": forms["twice"], "7": forms["unlike"]})
check.equal(values, sum(FORMS), rtol=1e-9, twins={"2": forms["twice"]})
"""


def test_an_entry_of_a_dictionary_that_only_twins_read_is_left_alone() -> None:
    (cell,) = listed((ENTRIES, ""))
    lines = {m.was for m in cell.mutants}
    assert 'forms["claim"].append(5 + n)' in lines
    assert not lines & {'forms["twice"].append(2 * n)', 'forms["unlike"] = n / 7'}
    # who reads the dictionary reads all of it, and who reads an entry reads what makes it
    (cell,) = listed((ENTRIES.replace("FORMS", "map(sum, forms.values())"), ""))
    lines = {m.was for m in cell.mutants}
    assert {'forms["twice"].append(2 * n)', 'forms["unlike"] = n / 7'} <= lines
    (cell,) = listed((ENTRIES.replace('"claim": []', '"claim": [1 - 2]'), ""))
    assert any(m.was.startswith("forms = ") and m.text == "+" for m in cell.mutants)


def test_what_a_measured_entry_rests_on_is_left_alone() -> None:
    text = 'found = {"a": 1 + k}\nfound["b"] = 2 + k\n'
    text += 'zotk.Check("a.b").equal(found["a"], found["b"], twins={"4": 4})'
    (cell,) = listed((text, ""))
    assert {m.was.split(" ")[0] for m in cell.mutants} == {
        'found["b"]',
        'zotk.Check("a.b").equal(found["a"],',
    }


def test_what_a_loop_around_the_measured_side_runs_over_is_left_alone() -> None:
    text = "angles = radians(30)\nfound = []\nfor angle in angles:\n    found.append(run(angle))\n"
    check = 'zotk.Check("a.b").equal(found, angles * 7, twins={"4": 4})'
    (cell,) = listed((text + check, ""))
    assert {m.was for m in cell.mutants} == {check}
    (cell,) = listed((text.replace("run(angle)", "run()") + check, ""))
    assert "angles = radians(30)" in {m.was for m in cell.mutants}


def test_a_bound_is_loosened_unless_its_check_has_said_so() -> None:
    text = 'zotk.Check("a.b").bound(found, top, side="SIDE", twins={"4": 4})'
    whole = {"2 * top", "top / 2"}
    for side, loose in (("upper", "2 * top"), ("lower", "top / 2")):
        (cell,) = listed((text.replace("SIDE", side), ""))
        assert {m.text for m in cell.mutants} == whole
        (cell,) = listed((text.replace("SIDE", side).replace(", twins", ", slack=why, twins"), ""))
        assert {m.text for m in cell.mutants} == whole - {loose}


def test_zeros_have_no_double_and_no_half() -> None:
    text = 'zotk.Check("a.b").KIND(found, np.zeros(n), twins={"1": 1})'
    for kind, texts in (("equal", set()), ("count", {"np.zeros(n) + 1", "np.zeros(n) - 1"})):
        (cell,) = listed((text.replace("KIND", kind), ""))
        assert {m.text for m in cell.mutants} == texts
    (cell,) = listed((text.replace("KIND", "equal").replace("zeros", "ones"), ""))
    assert {m.text for m in cell.mutants} == {"2 * np.ones(n)", "np.ones(n) / 2"}


def test_a_fault_is_followed_through_the_cells_that_can_see_it() -> None:
    first = 'k = 3\nzotk.Check("a.b").count(m, k, twins={"4": 4})'
    found = listed((first, ""), ("j = k + 1", ""), ("print(2)", ""), ("j", ""), ("j", "figure"))
    assert [cell.reach for cell in found] == [3, 3, 2, 3, 4]
    assert found[4].mutants == ()


# ---- children ----


def test_a_child_answers_or_runs_out_of_time_or_dies() -> None:
    others = psutil.Process().children()  # of other tests: what spawned processes leave to track
    assert ask(lambda: ["x" * 200_000], 30) == ["x" * 200_000]
    start = time.monotonic()
    assert ask(lambda: time.sleep(60), 0.2) is None
    assert time.monotonic() - start < 20
    with pytest.raises(Dead, match="without an answer"):
        ask(lambda: os._exit(3), 30)
    with pytest.raises(Dead, match="ZeroDivisionError"):
        ask(lambda: 1 / 0, 30)
    assert set(psutil.Process().children()) <= set(others)


# ---- modules before the tests ----

FORMULA = """
def area(x):
    return 3 * x


def unused(x):
    return x + 1


def weak(x):
    return x * 1.5
"""
TESTS = """
import pytest
from zotk.formula import area, weak

@pytest.fixture(scope="module")
def made():
    return area(2)

def test_area(made):
    assert made == 6

def test_weak(made):
    assert weak(2) > 0
"""
CHAPTER = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---
# One

```{code-cell} ipython3
:tags: [parameters]
seed = 0
device = "auto"
```

```{code-cell} ipython3
from myst_nb import glue
class Check:
    def __init__(self, claim): pass
    def count(self, measured, predicted, twins):
        assert measured == predicted
```

```{code-cell} ipython3
:tags: [figure]
raise SystemError("figures are not run")
```

```{code-cell} ipython3
total = 4 + 5
Check("a.b").count(9, total, twins={"8": 8})
few = 3
Check("a.b").count(True, few > 2, twins={"no": False})
glue("quoted", 2 * total, display=False)
```

```{code-cell} ipython3
later = 7
Check("a.c").count(7, later, twins={"8": 8})
```

```{code-cell} ipython3
assert later == 7
```
"""


LOADED = ("IPython.core.interactiveshell", "matplotlib_inline.backend_inline")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository of one formula, one file of tests, and one chapter."""
    place = tmp_path / "repository"
    for folder in ("zotk", "ci/mutants", "book/_ext", "tests", "chapters", ".git", "build"):
        (place / folder).mkdir(parents=True)
    (place / "zotk/__init__.py").touch()
    (place / "zotk/formula.py").write_text(FORMULA)
    (place / "tests/test_formula.py").write_text(TESTS)
    (place / "chapters/one.md").write_text(CHAPTER)
    (place / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-q"\n')
    monkeypatch.setattr(tests, "PRELOADED", ("torch", "myst_nb", *LOADED))
    monkeypatch.setattr(command, "ROOT", place)
    yield place


def verdicts(root: Path, file: str) -> dict[str, str | None]:
    plan = Plan(root)
    found = plan.results.read()
    return {m.now: found.get(report.identity(file, m), "open") for _, m in plan.mutants(file)}


def test_the_tests_that_run_a_line_judge_it(root: Path) -> None:
    assert command.main(["--minutes", "5", "--jobs", "1", "--only", "zotk/formula.py"]) == 0
    found = verdicts(root, "zotk/formula.py")
    assert found == {
        "return 4 * x": "tests/test_formula.py::test_area",
        "return 2 * x": "tests/test_formula.py::test_area",
        "return 3 / x": "tests/test_formula.py::test_area",
        "return x - 1": report.NOBODY,
        "return x + 2": report.NOBODY,
        "return x + 0": report.NOBODY,
        "return x / 1.5": None,
        "return x * 3.0": None,
        "return x * 0.75": None,
    }
    assert (root / "zotk/formula.py").read_text() == FORMULA


def test_a_trace_lasts_until_what_it_ran_changes(root: Path) -> None:
    kept, file = root / "traces", root / "tests/test_formula.py"

    def again() -> bool:
        """Were the tests traced again?"""
        before = (kept / "test_formula.json").stat().st_mtime_ns
        found = tests.traced(root, kept, file)
        assert set(found["tests"]) == {f"tests/test_formula.py::test_{n}" for n in ("area", "weak")}
        return (kept / "test_formula.json").stat().st_mtime_ns > before

    tests.traced(root, kept, file)
    assert not again()
    (root / "zotk/elsewhere.py").write_text("y = 1\n")  # nothing of it is run
    assert not again()
    for path in (root / "zotk/formula.py", file, root / "tests/conftest.py"):
        path.touch()
        path.write_text(path.read_text() + "\n# another word\n")
        assert again()
        assert not again()


def test_a_prediction_is_judged_by_its_chapter(root: Path, capsys: Any) -> None:
    assert command.main(["--minutes", "5", "--jobs", "1", "--only", "chapters/one.md"]) == 0
    found = verdicts(root, "chapters/one.md")
    assert found["total = 4 - 5"] == found["total = 5 + 5"] == "AssertionError"
    assert found["later = 8"] == "AssertionError"
    unseen = {now for now, by in found.items() if by is None}
    assert unseen == {"few = 4", 'Check("a.b").count(True, few > 1, twins={"no": False})'}
    assert "chapters/one.md:28" in capsys.readouterr().out


def test_a_chapter_that_fails_as_it_is_judges_nothing(root: Path) -> None:
    (root / "chapters/one.md").write_text(CHAPTER.replace("total = 4 + 5", "total = 4 + 6"))
    found = chapters.load(root, "one")

    def judge() -> str:
        try:
            chapters.judge("one", found, lambda *_: True, lambda *_: None, time.monotonic() + 60)
        except chapters.Broken as error:
            return str(error)
        return ""

    assert "chapters/one.md:26 raises AssertionError as it is" in ask(judge, 120)


def test_verdicts_last_until_what_they_rest_on_changes(root: Path) -> None:
    command.main(["--minutes", "5", "--jobs", "1"])
    assert "open" not in {*verdicts(root, "zotk/formula.py").values()}
    with (root / "tests/test_formula.py").open("a") as file:
        file.write("\n\ndef test_more():\n    assert weak(2) == 3\n")
    found = verdicts(root, "zotk/formula.py")
    # kills of the report stand, as the formula is the same; survivors are asked again
    assert found["return 4 * x"] == "tests/test_formula.py::test_area"
    assert found["return x / 1.5"] == "open"
    (root / "zotk/formula.py").write_text("\n" + FORMULA)
    assert set(verdicts(root, "zotk/formula.py").values()) == {"open"}


def reported(root: Path) -> report.Row:
    known = report.load(root)
    assert known is not None
    (row,) = (row for row in known["rows"] if row.file == "chapters/one.md")
    return row


def test_a_verdict_on_an_earlier_state_is_reported_as_such_and_asked_again(root: Path) -> None:
    asked = ["--jobs", "1", "--only", "chapters/one.md", "--minutes"]
    command.main([*asked, "5"])
    first = reported(root)
    assert first.judged == first.mutants == first.killed + 2 and first.older == 0
    (root / ".cache/mutants/results.jsonl").unlink()  # another machine: the report alone
    text = CHAPTER.replace("later = 7\n", "later = 7\nlater\n").replace("4 + 5", "4 + 6 - 1")
    (root / "chapters/one.md").write_text(text)
    plan = Plan(root)
    gone = {m.now for _, m in plan.mutants("chapters/one.md")} - {
        *verdicts(root, "chapters/one.md")
    }
    assert gone == set() and set(verdicts(root, "chapters/one.md").values()) == {"open"}
    for _ in range(2):  # a report of older verdicts does not make them new
        command.main([*asked, "0"])
        row = reported(root)
        assert 2 < row.killed == row.judged - 2 < row.older == row.judged < row.mutants
    (_, never), (_, again) = plan.open_chapters(60)
    assert {m.was for _, m in plan.mutants("chapters/one.md") if name(m) in never} == {
        "total = 4 + 6 - 1"
    }
    assert len(again) == row.older
    command.main([*asked, "5"])
    row = reported(root)
    assert row.judged == row.mutants and row.older == 0
    command.main(["--only", "zotk/formula.py", "--minutes", "0"])  # drops no other file
    assert reported(root) == row


def name(mutant: Mutant) -> str:
    return report.identity("chapters/one.md", mutant)


def test_a_fault_that_was_caught_must_stay_caught(root: Path, capsys: Any) -> None:
    assert command.main(["--sample", "4"]) == 1  # no report yet
    command.main(["--minutes", "5", "--jobs", "1"])
    assert command.main(["--sample", "4"]) == 0
    assert "4 faults asked again, 4 caught" in capsys.readouterr().out
    strong = (root / "tests/test_formula.py").read_text()
    (root / "tests/test_formula.py").write_text(strong.replace("test_area", "test_renamed"))
    assert command.main(["--sample", "4"]) == 0
    (root / "tests/test_formula.py").write_text(strong.replace("made == 6", "made"))
    assert command.main(["--sample", "4"]) == 1
    assert "zotk/formula.py:3: this fault was caught before" in capsys.readouterr().err
    (root / "tests/test_formula.py").write_text(strong)
    sound = "assert measured == predicted"
    (root / "chapters/one.md").write_text(CHAPTER.replace(sound, "pass"))
    assert command.main(["--sample", "4"]) == 1
    assert "chapters/one.md:2" in capsys.readouterr().err


# ---- the report ----

MUTANTS = [
    (7, Mutant("f", 7, (7, 7), "y = 1 + x", text, 0, 1, ""))
    for text in ("y = 2 + x", "y = 0 + x", "y = 1 - x")
]


def test_an_explained_survivor_is_not_a_fault(root: Path) -> None:
    names = [report.identity("zotk/a.py", mutant) for _, mutant in MUTANTS]
    (root / report.EXPLAINED).write_text(
        "zotk/a.py:\n- {in: f, was: y = 1 +  x, now: y = 1 - x, because: x is 0}\n"
    )
    found = {names[0]: "tests/t.py::t", names[1]: report.NOBODY, names[2]: None}
    row = report.row("zotk/a.py", "", MUTANTS, found, report.explanations(root))
    assert (row.mutants, row.judged, row.killed, row.explained) == (3, 3, 1, 1)
    assert row.share == 0.5
    assert [s.because for s in row.survivors] == [None, "x is 0"]
    assert [s.run for s in row.survivors] == [False, True]
    del found[names[1]]
    assert report.row("zotk/a.py", "", MUTANTS, found, {}).judged == 2
    report.write(root, [row], {"zotk/a.py": {names[0]: "tests/t.py::t"}}, {"b.py": "why"})
    back = report.load(root)
    assert back is not None and back["rows"] == [row]
    assert back["killed"] == {"zotk/a.py": {names[0]: "tests/t.py::t"}}
    shown = "\n".join(node.astext() for node in mutant_tables(back))
    gone = "Changed or moved since: 1 of 1 files."
    for words in ("zotk/a.py:7", "x is 0", "no test runs the line", "50.0 %", "b.py: why", gone):
        assert words in shown
    assert "No report" in mutant_tables(None)[0].astext()


def test_an_explanation_without_a_reason_is_refused(root: Path) -> None:
    (root / report.EXPLAINED).write_text(
        "zotk/a.py:\n- {in: f, was: y = 1, now: y = 2, because: ' '}\n"
    )
    with pytest.raises(ValueError, match="`because` is missing"):
        report.explanations(root)


def test_the_committed_report_is_whole() -> None:
    known = report.load(ROOT)
    assert known is not None
    assert sum(len(killed) for killed in known["killed"].values()) > 400
    assert json.dumps(known["left_out"])
