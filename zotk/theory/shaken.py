"""What a loss is like far from its parameters, and how far a run may walk there.

A run walks along random directions of all d dimensions (``kernel-ends.walk``), so that the place
where it ends is, but for what it learns, one to which the parameters are shaken at random. At a few
lengths ℓ of that, :func:`shake` measures tr H and the squared slopes. They say before the run how
long its walk will be, dℓ² = lr² d M(ℓ)/P a step for P queries of the mean squared slope M(ℓ), and
whether the edge there, proportional to 1/tr H, is above its rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from zotk.theory.lines import Lines, derivatives, mean_of

__all__ = ["SHARES", "Reach", "Shaken", "shake"]

Floats = NDArray[np.float64]
SHARES = (1 / 4, 1 / 2, 1.0, 2.0)  # of the parameters' length
_POINTS = 100  # of a walk between two measured lengths


@dataclass(frozen=True)
class Shaken:
    """The loss where its parameters are shaken at random by ``length`` (root mean square).

    ``trace`` is tr H and ``grad2`` |g|² there, ``scatter`` the trace of the covariance of the
    gradient of one example (of one batch if their size is not known; 0 for one loss). ``stderr``
    has a standard error for each.
    """

    length: float
    trace: float
    grad2: float
    scatter: float
    stderr: dict[str, float]


def shake(
    lines: Lines,
    lengths: Sequence[float],
    eps: float,
    here: Floats,
    numbers: dict[str, tuple[float, float]],
    *,
    batches: int,
    examples: int,
    d: int,
) -> tuple[Shaken, ...]:
    """`Shaken` at each length, up to the first where a loss is not finite.

    ``here``: the values (lines, 2 batches, 4 points at ±ε, ±2ε) of the first lines where nothing
    is shaken; ``numbers``: trace, grad2 and scatter there, from all lines, with standard errors.
    The same lines, batches and shakes are taken at each length, and what is returned is a number
    of the start and the mean change of it on these lines. Line i is shaken along direction
    ``probes`` + i, which has no line.
    """
    count, found = len(here), []
    single = bool((here[:, 0] == here[:, 1]).all())
    first = lines.count - count
    before = _squares(here, eps)
    for length in lengths:
        values = np.empty_like(here)
        for i in range(count):
            with lines.shaken(first + i, length / math.sqrt(d)):
                for j in range(1 if single else 2):
                    k = (2 * i + j) % batches
                    values[i, j] = [lines.or_nan(t * eps, i, k) for t in (-2, -1, 1, 2)]
            if single:
                values[i, 1] = values[i, 0]
        if not np.isfinite(values).all():
            break
        now, stderr = {}, {}
        for name, after in _squares(values, eps).items():
            start, error = numbers[name]
            scale = examples if name == "scatter" else 1
            change, chance = mean_of(after - before[name], max(2, min(count, batches // 2)))
            now[name], stderr[name] = start + scale * change, math.hypot(error, scale * chance)
        found.append(Shaken(length, **now, stderr=stderr))
    return tuple(found)


def _squares(values: Floats, eps: float) -> dict[str, Floats]:
    """Of each line; errors of evaluation, the same at each length, are still in them."""
    s, _, q = derivatives(values, eps)
    return {
        "trace": q.mean(1),
        "grad2": s[:, 0] * s[:, 1],
        "scatter": (s[:, 0] - s[:, 1]) ** 2 / 2,
    }


@dataclass(frozen=True)
class Reach:
    """How long the walk of a run becomes, and how the edge comes down on it.

    At the walks ``length`` (from 0) the edge is that of the start over ``growth``; ``area`` is
    ∫ dℓ²/(d M), so that t steps at a rate lr reach the length where it is lr² t/P.
    """

    length: Floats
    growth: Floats
    area: Floats

    @classmethod
    def of(
        cls,
        shaken: Sequence[Shaken],
        seen: float,
        *,
        d: int,
        trace: float,
        square: float,
        batch: int | None,
        noise: float,
    ) -> "Reach":
        """From careful ends, none of which falls with the length.

        ``trace`` and ``square`` are those of the start, M = ``square`` + ``noise`` there; tr H
        is taken two standard errors up and M one. ``seen``: the length of lines that were looked
        along, the only one known where nothing was shaken.
        """
        share = 1 / batch if batch else 0.0
        knots, growth, slopes = [0.0], [1.0], [square + noise]
        for each in shaken:
            error = math.hypot(each.stderr["grad2"], share * each.stderr["scatter"])
            knots.append(each.length)
            growth.append((each.trace + 2 * each.stderr["trace"]) / trace)
            slopes.append(each.grad2 + share * each.scatter + error + noise)
        if not shaken:
            knots, growth, slopes = [0.0, seen], growth * 2, slopes * 2
        at = np.linspace(0, len(knots) - 1, _POINTS * (len(knots) - 1) + 1)
        length = np.interp(at, range(len(knots)), knots)
        up, M = (np.interp(length, knots, np.maximum.accumulate(each)) for each in (growth, slopes))
        steps = np.diff(length**2) / (d * (M[1:] + M[:-1]) / 2)
        return cls(length, up, np.concatenate([[0.0], np.cumsum(steps)]))

    def walk(self, lr: float, queries: int, steps: int) -> float:
        """The length after so many steps; at most the longest known."""
        return float(np.interp(lr**2 * steps / queries, self.area, self.length))

    def rate(self, most: float, queries: int, steps: int) -> tuple[float, bool]:
        """The largest rate that is at most ``most``/growth at the end of its own walk.

        And whether it is the longest known walk that decides.
        """
        rates = np.sqrt(self.area * queries / steps)  # that reach these lengths
        bears = rates * self.growth <= most  # true, then false: both factors rise
        if bears.all():
            return float(rates[-1]), True
        k = int(bears.argmin())

        def over(lr: float) -> float:
            return float(lr * np.interp(lr**2 * steps / queries, self.area, self.growth) - most)

        return float(brentq(over, rates[k - 1], rates[k], xtol=1e-12 * rates[k])), False
