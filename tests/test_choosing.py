"""The blocks of the settings page stand alone: after imports and a seed they find every name."""

import ast
import builtins
from pathlib import Path

import jupytext
import pytest

CHAPTER = Path(__file__).parent.parent / "chapters/choosing.md"
CODE = [c.source for c in jupytext.read(CHAPTER).cells if c.cell_type == "code"]
PASTED = ("zotk.probe(loss, net", "def run(lr", "class Lora", "box_found =", "chip_found =")
GIVEN = {"seed", "lora_steps", "torch", "zotk", "nn", "copy"}


def block(part: str) -> str:
    (found,) = (source for source in CODE if part in source and "glue(" not in source)
    return found


def missing(source: str, given: set[str]) -> set[str]:
    """Names that a block reads and neither it, nor Python, nor ``given`` binds."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [n for n in nodes if isinstance(n, ast.Name)]
    imports = [a for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names]
    bound = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {a.asname or a.name for a in imports}
    read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
    return read - bound - given - set(dir(builtins))


@pytest.mark.parametrize("part", PASTED)
def test_a_block_needs_a_seed_and_the_imports_only(part: str) -> None:
    before = {"net", "loss", "batches", "measured", "settings"} if part == PASTED[1] else set()
    assert missing(block(part), GIVEN | before) == set()


def test_a_block_that_leans_on_a_folded_cell_is_seen() -> None:
    assert missing(block(PASTED[3]) + "\nrecipes.count(box)", GIVEN) == {"recipes"}
