"""Code in the solutions of exercises runs by itself."""

import re
from pathlib import Path

import pytest

CHAPTERS = Path(__file__).parent.parent / "chapters"
SOLUTION = re.compile(r"^(`{4,})\{solution\} (\S+)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def solutions() -> dict[str, str]:
    """The code of each solution that has some."""
    found = {}
    for chapter in sorted(CHAPTERS.glob("*.md")):
        for _, label, body in SOLUTION.findall(chapter.read_text(encoding="utf-8")):
            if blocks := CODE.findall(body):
                found[label] = "\n".join(blocks)
    return found


@pytest.mark.parametrize(("label", "code"), solutions().items())
def test_a_solution_runs(label: str, code: str) -> None:
    assert "assert " in code, "and checks its own answer"
    exec(compile(code, label, "exec"), {})


def test_there_are_some() -> None:
    assert len(solutions()) >= 8
