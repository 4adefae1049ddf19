"""The predicted side of a chapter's checks, and the faults that can be planted in it.

The side is the argument that a check compares with, and the assignments and functions of the same
cell that feed it and nothing measured. Left alone is

- what `glue` quotes: a plain reading of what a check reads (`ci.glued` refuses formulas there), and
  no run can tell whether it reads the right entry;
- what feeds twins alone: a function, a name, or one entry of a dictionary, `forms["ω = 0"] = …`,
  when the prediction reads others by their keys;
- what the measured side reads, too, also as the name that a loop around it runs over;
- the double and the half of zeros;
- twice an upper bound, half a lower one, of a check whose `slack=` says why no value comes near.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ci.mutants.operators import Mutant, Source, called, expressions

SIDE = {"equal": (1, "predicted"), "count": (1, "predicted"), "bound": (1, "bound")}
SIDE["rate"] = (2, "slope")


@dataclass(frozen=True)
class Cell:
    """A code cell of a chapter; `line` is that of its first line in the chapter's file."""

    source: str
    line: int
    figure: bool
    mutants: tuple[Mutant, ...]
    reach: int  # the last cell, by number, that can see a fault in this one


def cells(notebook: Any, text: str) -> list[Cell]:
    """The code cells of a chapter, with the mutants of those that are no figures."""
    found: list[Cell] = []
    position, claim = 0, ""
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        position = text.index(cell.source, position)
        line = text.count("\n", 0, position) + 1
        figure = "figure" in cell.metadata.get("tags", [])
        position += len(cell.source)
        mutants: list[Mutant] = []
        if not figure:
            mutants, claim = _mutants(cell.source, claim)
        found.append(Cell(cell.source, line, figure, tuple(mutants), 0))
    loads = [_names(ast.parse(cell.source), ast.Load) for cell in found]
    stores = [_stored(ast.parse(cell.source)) for cell in found]
    return [replace(c, reach=_reach(k, loads, stores, found)) for k, c in enumerate(found)]


def _reach(start: int, loads: list[set[str]], stores: list[set[str]], found: list[Cell]) -> int:
    """The last cell that reads, perhaps through others, what a cell binds."""
    tainted, last = set(stores[start]), start
    for number in range(start + 1, len(loads)):
        if loads[number] & tainted and not found[number].figure:
            tainted |= stores[number]
            last = number
    return last


def _names(tree: ast.AST, context: type[ast.expr_context]) -> set[str]:
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, context)}


def _stored(tree: ast.AST) -> set[str]:
    """What a cell binds, also by `name[i] = …` and `name.append(…)`."""
    functions = (n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef))
    bound = {name.partition("[")[0] for name, *_ in _feeds(tree)}
    return _names(tree, ast.Store) | bound | set(functions)


def _reads(tree: ast.AST) -> set[str]:
    """The names read in a node; of a dictionary asked for one entry, `forms['claim']`."""
    entries = {
        id(node.value): _entry(node.value.id, node.slice.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
    }
    names = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return {entries.get(id(node), node.id) for node in names}


def _entry(name: str, key: str) -> str:
    return f"{name}[{key!r}]"


def _feeds(tree: ast.AST) -> Iterator[tuple[str, ast.AST, set[str]]]:
    """A name or an entry, the node that gives it a value, and what is read there."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        value: ast.AST | None = None
        match node:
            case ast.Assign(targets=targets, value=value):
                pass
            case (
                ast.AnnAssign(target=target, value=value)
                | ast.AugAssign(target=target, value=value)
            ):
                targets = [target]
            case ast.NamedExpr(target=target, value=value):
                targets = [target]
            case ast.Call(func=ast.Attribute(attr="append" | "extend", value=target), args=[value]):
                targets = [target]
            case ast.FunctionDef(name=name):
                yield name, node, _reads(node)
                continue
        if value is None:
            continue
        for target in targets:
            for bound in _bases(target):
                yield bound, value, _reads(value)


def _loops(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """The names that loops over a name bind, and that name: other loops mix what is read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Name):
            for bound in _names(node.target, ast.Store):
                yield bound, _reads(node.iter)


def _bases(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Name(id=name):
            yield name
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key)):
            yield _entry(name, key)
        case ast.Subscript(value=value) | ast.Attribute(value=value) | ast.Starred(value=value):
            yield from _bases(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from _bases(part)


def _closure(names: Iterable[str], reads: dict[str, set[str]]) -> set[str]:
    """What the names rest on: names, and entries of dictionaries."""
    found, waiting, known = set[str](), set(names), set[str]()
    while waiting:
        name = waiting.pop()
        known.add(name)
        whole = name.partition("[")[0]
        # an entry rests on what makes the dictionary; the dictionary on all of its entries
        bound = {name, whole} if name != whole else {n for n in reads if n.startswith(f"{name}[")}
        for each in (bound | {name}) - found:
            found.add(each)
            waiting |= reads.get(each, set()) - known
    return found


def _mutants(text: str, claim: str) -> tuple[list[Mutant], str]:
    """The mutants of a cell, each with the claim it is about, and the last claim named."""
    source = Source(text)
    reads: dict[str, set[str]] = {}
    nodes: dict[str, list[ast.AST]] = {}
    sharing: dict[int, set[str]] = {}  # of a node that gives several names: all of them
    for name, node, names in _feeds(source.tree):
        reads.setdefault(name, set()).update(names)
        nodes.setdefault(name, []).append(node)
        sharing.setdefault(id(node), set()).add(name)
    for name, names in _loops(source.tree):
        reads.setdefault(name, set()).update(names)
    predicted: list[tuple[ast.expr, str, str]] = []
    measured: set[str] = set()
    for call in (n for n in ast.walk(source.tree) if isinstance(n, ast.Call)):
        match call.func:
            case ast.Attribute(attr="Check", value=ast.Name(id="zotk")):
                pass
            case ast.Attribute(attr=kind) if kind in SIDE and _has_twins(call):
                place, name = SIDE[kind]
                loose = _loosened(call)
                others = [a for k, a in enumerate(call.args) if k != place]
                for keyword in call.keywords:
                    if keyword.arg == name:
                        predicted.append((keyword.value, kind, loose))
                    elif keyword.arg != "twins":
                        others.append(keyword.value)
                if len(call.args) > place:
                    predicted.append((call.args[place], kind, loose))
                measured = measured.union(*(_reads(node) for node in others))
    found: list[Mutant] = []
    feeding = set[str]()
    for node, kind, loose in predicted:
        found += expressions(source, [node])
        found += _whole(source, node, kind, loose)
        feeding |= _reads(node)
    own = _closure(feeding, reads) - _closure(measured, reads)
    feeders = [n for name in own for n in nodes.get(name, ()) if sharing[id(n)] <= own]
    found += expressions(source, feeders)
    found = list({(m.start, m.end, m.text): m for m in found}.values())
    found.sort(key=lambda m: (m.start, m.text))
    named = _claims(source, claim)
    return [replace(m, scope=_at(named, m.start)) for m in found], named[-1][1]


def _has_twins(call: ast.Call) -> bool:
    return any(keyword.arg in ("twins", None) for keyword in call.keywords)


def _claims(source: Source, before: str) -> list[tuple[int, str]]:
    """Where a cell names claims."""
    found = [(0, before)]
    for node in ast.walk(source.tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="Check") | ast.Name(id="Check"),
                args=[ast.Constant(value=str() as claim), *_],
            ):
                found.append((source.span(node)[0], claim))
    found = sorted(found)
    if len(found) == 2:  # what precedes the only claim of a cell is about it, too
        found = [(0, found[1][1])]
    return found


def _at(named: list[tuple[int, str]], position: int) -> str:
    return [claim for start, claim in named if start <= position][-1]


def _loosened(call: ast.Call) -> str:
    """The change of a bound as a whole that its check allows on record, by `slack`."""
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    match said.get("slack"), said.get("side"):
        case ast.expr(), ast.Constant(value="upper"):
            return DOUBLE
        case ast.expr(), ast.Constant(value="lower"):
            return HALF
    return ""


ZEROS = {"zeros", "zeros_like", "new_zeros"}
DOUBLE, HALF = "2 *", "/ 2"
CHANGES = {"count": ("+ 1", "- 1"), "rate": ("+ 0.5", "- 0.5")}


def _whole(source: Source, node: ast.expr, kind: str, loose: str) -> Iterator[Mutant]:
    """Faults of a prediction as a whole: a factor; for counts one more, for rates half more."""
    start, end = source.span(node)
    if isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.ListComp):
        return  # lists repeat under a factor
    if isinstance(node, ast.Constant) and kind != "rate":
        return  # its neighbours are mutants already
    zero = isinstance(node, ast.Call) and called(node.func) in ZEROS  # has no other half nor double
    words = source.text[start:end]
    if not isinstance(node, ast.Name | ast.Call | ast.Attribute | ast.Subscript | ast.Constant):
        words = f"({words})"
    if kind != "rate" and loose != DOUBLE and not zero:
        yield source.mutant("", start, end, f"{DOUBLE} {words}")
    for change in CHANGES.get(kind, (HALF,)):
        if change != loose and not (zero and change == HALF):
            yield source.mutant("", start, end, f"{words} {change}")
