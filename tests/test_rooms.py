"""Imports of the library run downwards, from room to room, and never in a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = [  # from the ground up; rooms in one tuple do not use each other
    ("evidence", "arguments"),
    ("networks",),
    ("estimators",),
    ("theory", "kernels", "hzo"),
    ("lessons",),
    ("zotk",),
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def room(module: str) -> str:
    """The second word of zotk.ROOM.file; ``zotk`` itself is the roof."""
    return [*module.split("."), "zotk"][1] if module != "zotk" else "zotk"


def arrows(root: Path) -> Iterator[tuple[str, str]]:
    """Pairs (module, module of zotk that it imports), wherever in the file the import stands."""
    for path in sorted((root / "zotk").rglob("*.py")):
        name = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
        name = name.removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                parts = package.split(".")
                start = parts[: len(parts) - node.level + 1] if node.level else []
                source = ".".join([*start, *filter(None, [node.module])])
                files = [f"{source}.{alias.name}" for alias in node.names]
                found = [f if _is_module(root, f) else source for f in files]
            elif isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            else:
                continue
            yield from ((name, f) for f in found if f.partition(".")[0] == "zotk")


def _is_module(root: Path, name: str) -> bool:
    path = root / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def wrong(root: Path) -> list[str]:
    """The arrows that run up or sideways, and a circle of files, in words."""
    found, graph = [], dict[str, set[str]]()
    for here, there in arrows(root):
        graph.setdefault(here, set()).add(there)
        a, b = room(here), room(there)
        for each in (a, b):
            if each not in FLOOR:
                found.append(f"{each} is no room")
        if a != b and FLOOR.get(a, 0) <= FLOOR.get(b, 0):
            found.append(f"{here} uses {there}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(" uses ".join(reversed(error.args[1])))
    return found


def test_no_import_of_the_library_runs_up_or_sideways() -> None:
    assert wrong(ROOT) == []
    assert len(set(arrows(ROOT))) > 60  # it did read them


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        (
            "estimators/a.py",
            "from zotk.kernels.b import c",
            "zotk.estimators.a uses zotk.kernels.b",
        ),
        ("hzo/a.py", "import zotk.kernels.b", "zotk.hzo.a uses zotk.kernels.b"),
        ("hzo/a.py", "def f():\n    from ..kernels import b", "zotk.hzo.a uses zotk.kernels.b"),
        ("theory/a.py", "from zotk import grad", "zotk.theory.a uses zotk"),
        ("evidence/a.py", "from zotk.arguments import c", "zotk.evidence.a uses zotk.arguments"),
        ("attic/a.py", "from zotk.arguments import c", "attic is no room"),
        ("kernels/b.py", "from .b import c", "zotk.kernels.b uses zotk.kernels.b"),
    ],
)
def test_planted_arrows_are_seen(tmp_path: Path, file: str, line: str, words: str) -> None:
    for name in ("kernels/b.py", "arguments.py", "__init__.py", file):
        path = tmp_path / "zotk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path.write_text(line)
    assert words in wrong(tmp_path)
