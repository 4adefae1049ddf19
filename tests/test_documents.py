"""The code a reader copies from the front pages runs, and is the same in both."""

import re
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent


def first_python_block(path: str) -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_your_own_model_in_ten_lines():
    code = first_python_block("README.md")
    assert code == first_python_block("book/intro.md")
    statements = [line for line in code.splitlines() if line and not line.startswith("import")]
    assert len(statements) <= 10
    short = code.replace("range(300)", "range(12)")
    assert short != code
    torch.manual_seed(0)
    scope: dict = {}
    exec(short.split("for step")[0], scope)
    start = scope["loss"]().item()
    exec(short[short.index("for step") :], scope)
    assert scope["loss"]().item() < start


def test_every_command_the_readme_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"book", "test", "lab", "chapter", "verify", "clean"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
