"""Walkers: they move parameters in place to θ ± εz, and back, whatever happens."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from zotk.estimators.parameters import Direction


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
        pieces = zip(self._theta, self._saved, self._direction(p), strict=True)
        for t, start, z in pieces:
            t.copy_(start).add_(z, alpha=side * self._eps)

    def restore(self) -> None:
        for t, start in zip(self._theta, self._saved, strict=True):
            t.copy_(start)


class InPlace:
    """Moves by ±ε z, home between two sides, and knows for each tensor where it stands.

    A move of 2ε rounds otherwise than two of ε: +ε, -2ε, +ε shifts entries by a unit in the last
    place about every other time, +ε, -ε, -ε, +ε only those that change their binade.

    An interrupt can come between a tensor's move and the note of it; the tensor's version,
    which every move raises, then tells whether the move was made.
    """

    def __init__(self, theta: Sequence[Tensor], direction: Direction, eps: float) -> None:
        self._theta, self._direction, self._eps = theta, direction, eps
        self._sides = [0] * len(theta)
        self._query = 0
        self._pending: tuple[int, int, int] | None = None  # tensor, side, version before

    def go(self, p: int, side: int) -> None:
        self._move(0)
        self._query = p
        self._move(side)

    def restore(self) -> None:
        self._move(0)

    def _move(self, side: int) -> None:
        if self._pending is not None:
            k, goal, version = self._pending
            if self._theta[k]._version != version:
                self._sides[k] = goal
            self._pending = None
        if all(s == side for s in self._sides):
            return
        for k, (t, z) in enumerate(zip(self._theta, self._direction(self._query), strict=True)):
            if self._sides[k] != side:
                self._pending = (k, side, t._version)
                t.add_(z, alpha=(side - self._sides[k]) * self._eps)
                self._sides[k] = side
                self._pending = None


class LastOnly:
    """Keeps the pieces of the last direction asked for, and only those."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._kept: tuple[int, list[Tensor]] | None = None

    def __call__(self, p: int) -> list[Tensor]:
        if self._kept is None or self._kept[0] != p:
            self._kept = None  # freed before the next is drawn
            self._kept = (p, list(self._direction(p)))
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
