"""Walkers: they move parameters in place to θ ± εz, and back, whatever happens."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from zotk.estimators.directions import Direction, Kept, Pieces
from zotk.estimators.parameters import in_runs


class Walker(Protocol):
    """Moves θ in place to θ + side·εz_p, and back."""

    def go(self, p: int, side: int) -> None: ...

    def restore(self) -> None: ...


class FromCopy:
    """Starts each move from a copy of θ."""

    def __init__(self, theta: Sequence[Tensor], direction: Direction, eps: float) -> None:
        self._theta, self._direction, self._eps = theta, direction, eps
        self._saved = [t.clone() for t in theta]

    def go(self, p: int, side: float) -> None:
        if side == 0:
            return self.restore()
        pieces = self._direction(p)
        for k, both in enumerate(zip(self._theta, self._saved, strict=True)):
            for (t, start), z in in_runs(both, pieces, k):
                torch.add(start, z, alpha=side * self._eps, out=t)

    def restore(self) -> None:
        for t, start in zip(self._theta, self._saved, strict=True):
            t.copy_(start)


class InPlace:
    """Moves by ±ε z, home between two sides, and knows for each tensor where it stands.

    A move of 2ε rounds otherwise than two of ε: +ε, -2ε, +ε shifts entries by a unit in the last
    place about every other time, +ε, -ε, -ε, +ε only those that change their binade.

    A tensor is moved run by run, home and on to the other side while the run is at hand. An
    interrupt can come between two moves, or between a move and the note of it; the tensor's
    version, which every move of a run raises by one, then tells how many were made, and the rest
    follow before anything else.
    """

    def __init__(self, theta: Sequence[Tensor], direction: Direction, eps: float) -> None:
        self._theta, self._direction, self._eps = theta, direction, eps
        self._sides = [0] * len(theta)
        self._query = 0
        self._pending: tuple[int, int, int] | None = None  # tensor, side, version before

    def go(self, p: int, side: int) -> None:
        if p != self._query:
            self._move(0)
            self._query = p
        self._move(side)

    def restore(self) -> None:
        self._move(0)

    def _move(self, side: int) -> None:
        if self._pending is None and all(s == side for s in self._sides):
            return
        pieces = self._direction(self._query)
        if self._pending is not None:
            k, goal, version = self._pending
            self._tensor(pieces, k, goal, done=self._theta[k]._version - version)
        for k, t in enumerate(self._theta):
            if self._sides[k] != side:
                self._pending = (k, side, t._version)
                self._tensor(pieces, k, side)

    def _tensor(self, pieces: Sequence[Tensor], k: int, side: int, done: int = 0) -> None:
        at = self._sides[k]
        ways = [-at, side] if at and side else [side - at]  # by way of home
        runs = in_runs([self._theta[k]], pieces, k)
        moves = ((t, z, way * self._eps) for (t,), z in runs for way in ways)
        for t, z, alpha in islice(moves, done, None):
            t.add_(z, alpha=alpha)
        self._sides[k], self._pending = side, None


class LastOnly:
    """Keeps the pieces of the last direction asked for, and only those."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._kept: tuple[int, Sequence[Tensor]] | None = None

    def __call__(self, p: int) -> Sequence[Tensor]:
        if self._kept is None or self._kept[0] != p:
            self._kept = None  # freed before the next is drawn
            pieces = self._direction(p)
            self._kept = (p, Kept(pieces) if isinstance(pieces, Pieces) else list(pieces))
        return self._kept[1]


def insist(restore: Callable[[], None]) -> None:
    """Runs ``restore`` to its end, however often it is interrupted, then passes that on."""
    interrupted = None
    while True:
        try:
            restore()
            break
        except KeyboardInterrupt as again:
            interrupted = again
    if interrupted is not None:
        raise interrupted
