"""Judge mutants of predictions by the chapter they are in: one run of its cells, with children.

The cells run in order, without figures, as in `make verify`. Before a cell with mutants a child
of the process is made for each: it runs the faulty cell and those that can see what it binds,
until one raises, warns, or writes to stderr. A mutant survives a chapter that does not.
"""

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ci.chapters import read
from ci.mutants.child import Dead, ask
from ci.mutants.operators import Mutant
from ci.mutants.predictions import Cell, cells

HANG = 10.0  # times the usual time of a cell, and a minute more
IGNORED = r"`torch\.jit\.script` is deprecated"


class Broken(Exception):
    """The chapter fails without any fault in it."""


def load(root: Path, name: str) -> list[Cell]:
    source = root / "chapters" / f"{name}.md"
    return cells(read(source), source.read_text(encoding="utf-8"))


def judge(
    name: str,
    found: Sequence[Cell],
    wanted: Callable[[Cell, Mutant], bool],
    record: Callable[[Cell, Mutant, str | None], None],
    deadline: float,
) -> None:
    """Judge the wanted mutants of a chapter, and `record` what killed each; until a deadline.

    Runs IPython in this process, which is of no use for another chapter. Raises `Broken`.
    """
    shell = _shell()
    last = max((k for k, cell in enumerate(found) if any(_chosen(cell, wanted))), default=-1)
    for number, cell in enumerate(found[: last + 1]):
        if cell.figure:
            continue
        usual = 5.0
        for mutant in _chosen(cell, wanted):
            if time.monotonic() > deadline:
                return
            left = [c for c in found[number + 1 : cell.reach + 1] if not c.figure]
            texts = [mutant.plant(cell.source), *(c.source for c in left)]
            limit = HANG * usual + 60.0 * len(texts)
            try:
                verdict = ask(lambda texts=texts: [_first(shell, texts)], limit)  # type: ignore[misc]
                killer = verdict[0] if verdict else "time"
            except Dead:
                killer = "memory"
            record(cell, mutant, killer)
        if number < last or not any(_chosen(cell, wanted)):
            start = time.monotonic()
            if trouble := run(shell, cell.source):
                raise Broken(f"chapters/{name}.md:{cell.line} raises {trouble} as it is")
            usual = max(usual, time.monotonic() - start)


def _chosen(cell: Cell, wanted: Callable[[Cell, Mutant], bool]) -> Iterator[Mutant]:
    return (mutant for mutant in cell.mutants if wanted(cell, mutant))


def _shell() -> Any:
    """IPython without a history, as a kernel of the runner has it."""
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    import torch
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    torch.set_num_threads(1)
    shell: Any = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None  # slow to format
    warnings.resetwarnings()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", IGNORED, DeprecationWarning)
    return shell


def _first(shell: Any, texts: Sequence[str]) -> str | None:
    for text in texts:
        if trouble := run(shell, text):
            return trouble
    return None


def run(shell: Any, text: str) -> str | None:
    """Run a cell quietly; the name of what it raised, or "stderr", or None."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        result = shell.run_cell(text, store_history=False)
        sys.stdout.flush()
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        return type(error).__name__
    return "stderr" if errors.getvalue() else None
