"""Losses along random lines: how well they are known, and at which step they bend visibly.

Errors of evaluation are read from a difference table: k-th differences of independent errors of
variance σ² have the variance (2k)!/(k!)² σ², and those of a smooth function vanish with the k-th
power of the spacing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zotk.estimators.evaluation import SameBuffers, SameDraws, fresh
from zotk.estimators.laws import Gaussian
from zotk.estimators.moving import FromCopy, insist
from zotk.estimators.parameters import number

__all__ = [
    "Lines",
    "Pilot",
    "derivatives",
    "kinked",
    "lines_of",
    "mean_of",
    "pilot",
    "sigma_of",
]

Floats = NDArray[np.float64]
_TABLE = np.arange(-3.0, 4.0) + 0.37  # points of a difference table: not θ, which is not rounded
_ORDERS = (4, 5, 6)  # of differences that are read
_RUNGS = 16  # halvings of a step
_LINES = 4  # with a difference table


class Lines:
    """L(θ + t z_i) on batch k: at each batch one random state for all points."""

    def __init__(
        self,
        loss: Callable[..., Any],
        theta: Sequence[Tensor],
        seeds: tuple[int, ...],
        batches: list[Any] | None,
        net: nn.Module | None,
    ) -> None:
        self._loss, self._batches = loss, batches
        self._theta, self._direction = theta, Gaussian().directions(theta, seeds)
        self._walk = FromCopy(theta, self._direction, 1.0)
        self._device = theta[0].device
        self._states: dict[int, SameDraws] = {}
        self._buffers = None if net is None else SameBuffers(net)
        self.count, self.calls = len(seeds), 0

    def value(self, t: float, line: int = 0, batch: int = 0, *, rewind: bool = True) -> float:
        """A finite loss, or ValueError."""
        return number("loss", self._returned(t, line, batch, rewind))

    def or_nan(self, t: float, line: int, batch: int = 0) -> float:
        """A loss; NaN where it is not finite."""
        found = self._returned(t, line, batch, True)
        try:
            return number("loss", found)
        except ValueError:
            return math.nan

    def pair(self, t: float, line: int) -> tuple[float, float]:
        """Even and odd part at t on the first batch; NaN where a loss is not finite."""
        up, down = self.or_nan(t, line), self.or_nan(-t, line)
        return (up + down) / 2, (up - down) / 2

    @contextmanager
    def shaken(self, line: int, s: float) -> Iterator[None]:
        """Meanwhile all lines start from θ + s z of this one."""
        home = self._walk
        try:
            home.go(line, s)
            self._walk = FromCopy(self._theta, self._direction, 1.0)
            yield
        finally:
            self._walk = home

    def close(self) -> None:
        insist(self._walk.restore)
        if self._buffers is not None:
            self._buffers.rewind()

    def _returned(self, t: float, line: int, batch: int, rewind: bool) -> Any:
        self._walk.go(line, t)
        if batch not in self._states:
            self._states[batch] = SameDraws(self._device)
        elif rewind:
            self._states[batch].rewind()
        if self._buffers is not None:
            self._buffers.rewind()
        self.calls += 1
        if self._batches is None:
            return fresh(self._loss)
        one = self._batches[batch]
        return fresh(lambda: self._loss(one))


@contextmanager
def lines_of(
    loss: Callable[..., Any],
    theta: Sequence[Tensor],
    seeds: tuple[int, ...],
    batches: list[Any] | None,
    net: nn.Module | None,
) -> Iterator[Lines]:
    """`Lines`, and the parameters restored bitwise afterwards."""
    with torch.inference_mode(False), torch.no_grad():
        lines = Lines(loss, theta, seeds, batches, net)
        try:
            yield lines
        finally:
            lines.close()


def derivatives(values: Floats, eps: float) -> tuple[Floats, Floats, Floats]:
    """Slope s, a = D³L[z, z, z]/6 and curvature q from values (…, 4 points) at -2ε, -ε, ε, 2ε."""
    far, near = values[..., 3] - values[..., 0], values[..., 2] - values[..., 1]
    q = (values[..., 3] + values[..., 0] - values[..., 2] - values[..., 1]) / (3 * eps**2)
    return (8 * near - far) / (12 * eps), (far - 2 * near) / (12 * eps**3), q


def mean_of(x: Floats, pairs: int) -> tuple[float, float]:
    """The mean over lines and its standard error; lines on one pair of batches stand together."""
    sums = np.bincount(np.arange(len(x)) % pairs, weights=x - x.mean(), minlength=pairs)
    return float(x.mean()), math.sqrt((sums**2).sum() * pairs / (pairs - 1)) / len(x)


@dataclass(frozen=True)
class Pilot:
    """What a few lines tell: a step, the error of an evaluation (with its own), kinks or not.

    ``drift`` and ``off``: by how much curvatures at this step are off, in mean and rms: their
    distance from those at twice the step, a third of it where that is small.
    """

    eps: float
    sigma: tuple[float, float] | None
    bent: bool
    drift: float
    off: float


def pilot(lines: Lines, length: float, unit: float, eps: float | None) -> Pilot:
    """The step ε at which (ε, 2ε) tell curvatures best, the error of an evaluation, and kinks.

    Steps are halved from ``length``, the size of a parameter, until curvatures settle or drown in
    errors; if they drown at once, doubled. A curvature from (ε, 2ε) errs by about a third of its
    distance from that of (2ε, 4ε), and by (2/3)σ/ε² because of σ. With a given ``eps`` only the
    other two are looked for.
    """
    count = min(6, lines.count)
    sigma = sigma_of(lines, length, unit)
    error = 0.0 if sigma is None else sigma[0]
    if eps is not None:
        rows = {step: _at(lines, step, count) for step in (4 * eps, 2 * eps, eps, eps / 2)}
        return _piloted(rows, eps, sigma)
    rows, best = {}, (math.inf, length / 16)
    for rung in range(_RUNGS):
        step = length * 0.5**rung
        rows[step] = _at(lines, step, count)
        if rung < 2:
            continue
        score, size, chance = _judged(rows, step, error)
        best = min(best, (score, step))
        if score - chance < 0.02 * size or chance > 0.3 * size:
            break
    if best[0] > 0.3 * size and rung == 2:  # drowned at once
        for rung in range(1, _RUNGS):
            step = length * 2.0**rung
            rows[step] = _at(lines, step, count)
            score, size, chance = _judged(rows, step / 4, error)
            best = min(best, (score, step / 4))
            if not score < 3 * best[0]:
                break
    return _piloted(rows, best[1], sigma)


def _piloted(rows: dict[float, Floats], eps: float, sigma: tuple[float, float] | None) -> Pilot:
    error = 0.0 if sigma is None else sigma[0]
    if not all(step in rows for step in (eps, 2 * eps, 4 * eps)):  # nothing was resolved
        return Pilot(eps, sigma, False, 0.0, 0.0)
    now, chance = _bends(rows, eps), (2 / 3 * error / eps**2) ** 2
    change = now - _bends(rows, 2 * eps)
    share = 1 / 3 if _rms(change) < 0.1 * _rms(now) else 1.0
    drift = share * math.sqrt(max(0.0, float(change.mean()) ** 2 - chance / len(change)))
    off = share * math.sqrt(max(0.0, _rms(change) ** 2 - chance))
    finite = math.isfinite(drift) and math.isfinite(off)
    return Pilot(eps, sigma, kinked(rows, error), *((drift, off) if finite else (0.0, 0.0)))


def _judged(rows: dict[float, Floats], step: float, sigma: float) -> tuple[float, float, float]:
    """The error of curvatures from (step, 2 step), their size, and the share of σ in the error."""
    now, before = (_bends(rows, each) for each in (step, 2 * step))
    off, chance = _rms(now - before) / 3, 2 / 3 * sigma / step**2
    return (off + chance if math.isfinite(off) else math.inf), _rms(now), chance


def _at(lines: Lines, step: float, count: int) -> Floats:
    return np.array([lines.pair(step, i) for i in range(count)])


def _bends(rows: dict[float, Floats], step: float) -> Floats:
    """Curvatures from (step, 2 step)."""
    bends: Floats = 2 * (rows[2 * step][:, 0] - rows[step][:, 0]) / (3 * step**2)
    return bends


def _rms(x: Floats) -> float:
    return math.sqrt(float((x**2).mean()))


def kinked(rows: dict[float, Floats], sigma: float) -> bool:
    """Do slopes at ε and 2ε differ like √ε, as across kinks, rather than like ε²?

    Judged at the steps where the differences stand above errors of evaluation, and far below the
    slopes: a smooth function that saturates looks like neither.
    """
    before, rates = math.nan, []
    for step in sorted(rows):
        if 2 * step in rows:
            wide, narrow = rows[2 * step][:, 1] / (2 * step), rows[step][:, 1] / step
            off = _rms(wide - narrow)
            if not 8 * sigma / step < off < 0.2 * _rms(narrow):
                off = math.nan
            rates.append(math.log2(off / before))
            before = off
    known = [rate for rate in rates if not math.isnan(rate)]
    return bool(known) and float(np.median(known)) < 1.25


def sigma_of(lines: Lines, length: float, unit: float) -> tuple[float, float] | None:
    """The error of an evaluation and its standard error; None if no spacing tells it.

    Spacings grow from eight times the relative rounding ``unit`` of parameters of size
    ``length``, so that every point is rounded anew and no kink is crossed, until three orders of
    differences agree within a factor 2 and four times the spacing does not show much larger
    ones. Below the spacing of a coarser grid (quantised controls) they grow with its root.
    """
    count, spacing = min(_LINES, lines.count), 8 * unit * length
    found = None
    while True:
        points = [[lines.or_nan(t * spacing, i) for t in _TABLE] for i in range(count)]
        squares = _squares(np.array(points))  # (orders, lines)
        sizes = np.sqrt(squares.mean(1))
        if found is not None and not sizes[0] > 1.5 * found[0]:
            return found
        found, spacing = None, 4 * spacing
        if 0 < sizes.max() <= 2 * sizes.min():
            each = squares.mean(0)
            mean = float(each.mean())
            found = math.sqrt(mean), float(each.std(ddof=1)) / math.sqrt(4 * count * mean)
        if spacing > length / 8:
            return found if sizes.max() > 0 else (0.0, 0.0)


def _squares(table: Floats) -> Floats:
    """Mean squares of differences over (2k)!/(k!)², for each order and line."""
    return np.array(
        [
            (np.diff(table, k, axis=1) ** 2).mean(1)
            * math.factorial(k) ** 2
            / math.factorial(2 * k)
            for k in _ORDERS
        ]
    )
