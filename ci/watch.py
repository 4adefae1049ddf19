"""An IPython extension that watches a chapter's kernel; `ci.judge` judges what it saw.

The kernel leaves a report, one entry for each cell that ran: which names it bound, with a
*signature* of each value (its type and shape, not its content), which names it read, also through
functions of the chapter, which figures it showed and what is wrong with them, and which global
random states it moved. Tags and records are not known here; the runner joins them.
"""

import builtins
import dis
import functools
import hashlib
import json
import os
import pickle
import random
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ci.figures import Fault, excused, faults
from ci.judge import REPORT, SEED

Cell = dict[str, Any]  # an entry of the report


# ---- reading and binding ----


def names(cell: types.CodeType, values: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The global names that a cell's code reads before it binds them, and those it binds.

    ``values``: the globals after the cell ran; the name of a function, or of an object of a class
    of the chapter, stands for what its code reads, too. Code is taken in its order, so that a
    name bound in one branch counts as bound after it.
    """
    read: set[str] = set()
    bound: set[str] = set()
    entered: set[str] = set()

    def reads(name: str) -> None:
        if name not in bound:
            read.add(name)
        if name not in entered:
            entered.add(name)
            for code in _codes(values.get(name)):
                for other in _globals(code):
                    reads(other)

    instructions = list(dis.get_instructions(cell))
    for number, instruction in enumerate(instructions):
        match instruction.opname:
            case "LOAD_NAME" | "LOAD_GLOBAL":
                reads(instruction.argval)
            case "STORE_NAME" | "STORE_GLOBAL":
                bound.add(instruction.argval)
            case "LOAD_CONST" if isinstance(instruction.argval, types.CodeType):
                # comprehensions and nameless functions run here, named ones where they are read
                if not _named(instructions[number + 1 :]):
                    for name in _globals(instruction.argval):
                        reads(name)
    return {name for name in read if not hasattr(builtins, name)}, bound


def _named(following: Sequence[dis.Instruction]) -> bool:
    """Is the function whose code was just loaded bound to a name?"""
    making = ("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE")
    return next((i.opname for i in following if i.opname not in making), "") == "STORE_NAME"


@functools.lru_cache(maxsize=4096)
def _globals(code: types.CodeType) -> frozenset[str]:
    """The global names that a function's code reads, functions inside it included."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return frozenset(found.union(*map(_globals, inner)))


def _codes(value: Any) -> Iterator[types.CodeType]:
    """The code of the chapter behind a value: of a function, a class, an object of a class."""
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, types.FunctionType):
        if value.__module__ == "__main__":
            yield value.__code__
        return
    kind = value if isinstance(value, type) else type(value)
    if kind.__module__ == "__main__":
        for part in vars(kind).values():
            part = getattr(part, "__func__", getattr(part, "fget", part))
            if isinstance(part, types.FunctionType):
                yield part.__code__


def signature(value: Any, depth: int = 2) -> str:
    """What kind of thing a value is: type and shape, or length and kind of its first entry."""
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(value, type | types.ModuleType):
        return f"{kind} {value.__name__}"
    if isinstance(value, types.FunctionType):
        arguments = value.__code__.co_varnames[: value.__code__.co_argcount]
        return f"{kind}({', '.join(arguments)})"
    if isinstance(shape, tuple):
        return f"{kind} of shape {tuple(shape)}"
    if isinstance(value, str | bytes):
        return kind
    if isinstance(value, list | tuple | dict | set | frozenset | range):
        text = f"{kind} of {len(value)}"
        first = next(iter(value.values() if isinstance(value, dict) else value), None)
        return text if first is None or not depth else f"{text} × {signature(first, depth - 1)}"
    return kind


# ---- global random states ----


def seed_globals(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global state is what is watched
    torch.manual_seed(seed)


def random_states() -> dict[str, str]:
    """A digest of each global random state."""
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy.random": np.random.get_state(),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_initialized():
        states["torch.cuda"] = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return {name: hashlib.sha1(pickle.dumps(state)).hexdigest() for name, state in states.items()}


# ---- the extension ----


def figure_report(source: str, shown: Sequence[Sequence[Fault]]) -> Cell:
    """The part of a cell's entry about its figures: what is wrong, and which excuses were idle."""
    wrong, idle = excused(source, [fault for figure in shown for fault in figure])
    return {"figures": len(shown), "wrong": wrong, "idle": idle if shown else []}


class Watch:
    """Writes the report to `path`, anew after each cell."""

    def __init__(self, shell: Any, path: Path) -> None:
        self.shell, self.path = shell, path
        self.cells: list[Cell] = []
        self.figures: list[list[Fault]] = []  # of the cell that runs
        self.before: dict[str, int] = {}
        self.random: dict[str, str] = {}

    def start(self) -> None:
        self.shell.events.register("pre_run_cell", self.pre_run_cell)
        self.shell.events.register("post_run_cell", self.post_run_cell)
        # the formatters by type are set anew by `use_style`; this one, of bundles, stays
        self.shell.display_formatter.mimebundle_formatter.for_type(Figure, self.look)
        saved = Figure.savefig

        @functools.wraps(saved)
        def savefig(figure: Figure, *args: Any, **kwargs: Any) -> None:
            saved(figure, *args, **kwargs)
            self.look(figure)

        Figure.savefig = savefig  # type: ignore
        self.write()

    def look(self, figure: Figure) -> None:
        """Judge a figure that is shown or saved; None leaves the drawing to other formatters."""
        self.figures.append(faults(figure))

    def pre_run_cell(self, info: Any) -> None:
        self.figures = []
        self.before = {name: id(value) for name, value in self.shell.user_ns.items()}
        self.random = random_states()

    def post_run_cell(self, result: Any) -> None:
        source = result.info.raw_cell
        space = self.shell.user_ns
        try:
            code = compile(self.shell.transform_cell(source), "<cell>", "exec")
        except SyntaxError:
            return  # so is the chapter, with its place
        read, bound = names(code, space)
        bound |= {name for name, value in space.items() if self.before.get(name) != id(value)}
        now = random_states()
        self.cells.append(
            {
                "source": source,
                "reads": sorted(read),
                "binds": {
                    name: signature(space[name])
                    for name in sorted(bound)
                    if name in space and not name.startswith("_")
                },
                "moved": [name for name in now if self.random.get(name, now[name]) != now[name]],
                **figure_report(source, self.figures),
            }
        )
        self.write()

    def write(self) -> None:
        self.path.write_text(json.dumps(self.cells), encoding="utf-8")


def load_ipython_extension(shell: Any) -> None:
    """Start watching, under the global seed of the environment."""
    seed_globals(int(os.environ[SEED]))
    Watch(shell, Path(os.environ[REPORT])).start()
