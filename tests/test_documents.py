"""The code a reader copies from the front pages runs, and is the same in both."""

import ast
import json
import re
from dataclasses import asdict
from pathlib import Path

import jupytext
import torch

import zotk
from ci import checkcells, evidence, glued, prose
from ci.chapters import declared

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


def test_the_settings_block_of_the_readme_runs():
    """After the first block's model; and the settings make a run that goes down."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if ".suggest(" in b)
    scope: dict = {}
    torch.manual_seed(0)
    exec(first_python_block("README.md").split("for step")[0], scope)
    exec(block, scope)
    settings = scope["settings"]
    assert settings.horizon == 400 and settings.evaluations <= 800 and settings.batch == 8
    start = scope["loss"](slice(None)).item()
    draw = torch.Generator().manual_seed(1)
    for _ in range(60):
        chosen = torch.randint(len(scope["x"]), (settings.batch,), generator=draw)
        made = zotk.measure(
            lambda chosen=chosen: scope["loss"](chosen), scope["net"],
            directions=settings.directions, eps=settings.eps, queries=settings.queries,
            generator=draw,
        )  # fmt: skip
        zotk.replay_(scope["net"], made, -settings.lr)
        assert scope["watch"].step(made, settings.lr).lr <= settings.lr
    assert scope["loss"](slice(None)).item() < start


def test_every_command_the_readme_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`?make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"book", "test", "lab", "chapter", "verify", "clean"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_chapter_of_the_readme_runs_as_printed(monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (chapter,) = re.findall(r"^`{5}markdown\n(.*?)^`{5}$", text, re.MULTILINE | re.DOTALL)
    assert not checkcells.lint(chapter) and not glued.faults(chapter) and not prose.lint(chapter)
    notebook = jupytext.reads(chapter, fmt="md:myst")
    assert declared(notebook, "parabola") == {"seed": 0, "device": "auto"}
    records = []
    monkeypatch.setattr("zotk.evidence.checks.show", records.append)
    scope: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
    found = [json.loads(json.dumps(asdict(record))) for record in records]
    assert len(found) == 1 and not evidence.faults(found[0])


def test_captions_name_no_colour_that_the_dark_theme_turns_over():
    """Light and dark change places there, but in figures of cells with the tag colour-scale."""
    turned = re.compile(r"\b(black|white|pal|dark|bright|light)(e|er|est)?\b", re.IGNORECASE)
    for chapter in sorted((ROOT / "chapters").glob("*.md")):
        for cell in jupytext.read(chapter, fmt="md:myst").cells:
            if "colour-scale" not in cell.metadata.get("tags", []):
                shown = cell.metadata.get("mystnb", {})
                words = [shown.get("image", {}).get("alt"), shown.get("figure", {}).get("caption")]
                for text in filter(None, words):
                    assert not turned.search(text), (chapter.name, text)


def test_no_docstring_of_a_property_begins_with_a_type_by_accident():
    """Sphinx reads what stands before a colon in its first line as the type of the property."""
    for path in sorted((ROOT / "zotk").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                "property" in ast.unparse(each) for each in node.decorator_list
            ):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                assert ": " not in first, f"{path.relative_to(ROOT)}:{node.lineno}: {first}"
