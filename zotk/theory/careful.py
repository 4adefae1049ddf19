"""The careful end of what was measured, and the edge that is safe for it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zotk.estimators.directions import Law
from zotk.estimators.laws import Orthogonal, Sphere
from zotk.theory.probe import Measured
from zotk.theory.schemes import Coefficients, coefficients
from zotk.theory.secular import bounds

__all__ = ["Careful", "edge_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Careful:
    """The measured numbers at their careful ends, for batches of n examples (None: one loss)."""

    d: int
    n: int | None
    trace: float  # of the positive part of H
    second: float
    top: float  # at least the largest eigenvalue
    grad2: float
    square: float  # E |g_B|², with |g|² at its lower end
    walks: float  # and at its upper end
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, m: Measured, n: int | None) -> "Careful":
        bent = m.trace is None and m.second is None
        if bent or (m.trace is not None and m.trace < 0):
            found = "is not resolved" if m.trace is None else f"is {m.trace:.3g}"
            raise ValueError(
                f"tr H {found} where this was measured: no edge is known; measure with "
                "larger batches or more probes, with a loss in a wider format, or after a few "
                "careful steps"
            )
        if m.sigma is None:
            raise ValueError(
                "the error of an evaluation is not resolved; measure where the loss is smoother, "
                "or with a larger eps"
            )
        if m.grad2 is None or m.noise_scale is None:
            needed = "larger batches or more probes"
            raise ValueError(
                f"|g|² is not resolved from {m.probes} probes, so the noise scale is not known; "
                f"measure with {needed} (four times as many halve the error)"
            )
        warnings = []
        second = m.limits["second"] if m.second is None else m.second + 2 * m.stderr["second"]
        if m.second is None:
            warnings.append("tr H² is not resolved: its limit stands for it")
        if m.trace is None:
            warnings.append("tr H is not resolved: its limit, or √(tr H²), stands for it")
            trace = m.limits["trace"]
        else:
            trace = m.trace + 2 * m.stderr["trace"]
        top = math.sqrt(second)
        if top > trace:
            warnings.append(
                "tr H² > (tr H)²: H has negative eigenvalues, and no edge is known; "
                "√(tr H²) stands for the trace. Measure again after some steps"
            )
        if not m.repeatable:
            warnings.append(
                "two evaluations at one point differ: if a batch or a mask is drawn inside, "
                "keep it for all ends of a step"
            )
        if m.kink is not None:
            warnings.append("kinks: slopes err by κ√ε, and curvature depends on the step")
        share = 1 / n if n else 0.0
        noise = share * (m.noise_scale + m.stderr.get("noise_scale", 0.0))
        careful = m.grad2 - m.stderr["grad2"]
        return cls(
            d=m.d,
            n=n if m.examples is not None or not n else 1,
            trace=max(trace, top),
            second=second,
            top=top,
            grad2=careful,
            square=careful + noise * m.grad2,
            walks=m.grad2 + m.stderr["grad2"] + noise * m.grad2,
            warnings=tuple(warnings),
        )

    def coefficients(self, law: Law, queries: int) -> Coefficients:
        names = {Orthogonal: "orthogonal", Sphere: "sphere"}
        return coefficients(
            self.d, self.trace, scheme=names.get(type(law), "plain"), queries=queries,
            minibatch=None, population=None, batches="same",
        )  # fmt: skip

    def felt(self, lr: float, steps: int) -> float:
        """How many directions a run feels: Σ 1 - (1 - lr λ)^(2 steps).

        For eigenvalues λ_k ∝ k^-a with this trace and second moment.
        """
        k, counts = _blocks(self.d)
        low, high = 0.0, 40.0
        for _ in range(60):
            a = (low + high) / 2
            ratio = (counts * k**-a).sum() ** 2 / (counts * k ** (-2 * a)).sum()
            low, high = (a, high) if ratio > self.trace**2 / self.second else (low, a)
        values = k**-low
        values *= self.trace / (counts * values).sum()
        with np.errstate(divide="ignore"):
            kept = np.exp(2 * steps * np.log1p(-np.minimum(1.0, lr * values)))
        return float((counts * (1 - kept)).sum())


def edge_of(m: Careful, k: Coefficients, horizon: int) -> float:
    """A lower bound on the rate at which the quadratic model ends a run higher than it began."""
    if m.n is None:
        return bounds(k, 0.0, trace=m.trace, second=m.second, top=m.top, rank=m.d)[0]
    n = m.n

    def low(lr: float) -> float:
        share = 1 / n
        own = Coefficients(
            k.b, k.p * (1 + share), k.p * share, k.c * m.trace * share, k.c * (1 + share)
        )
        rank = max(1, math.ceil(m.felt(lr, horizon)))
        return bounds(own, 0.0, trace=m.trace, second=m.second, top=m.top, rank=rank)[0]

    least, most = 0.0, low(0.0)
    for _ in range(40):
        middle = (least + most) / 2
        least, most = (middle, most) if low(middle) > middle else (least, middle)
    return least


def _blocks(d: int) -> tuple[Floats, Floats]:
    """1 … d as block means and sizes: exact to 1,000, then 2 % wide."""
    ends = [*range(1, min(d, 1000) + 2)]
    while ends[-1] <= d:
        ends.append(min(d + 1, math.ceil(1.02 * ends[-1])))
    edges = np.array(ends, float)
    return (edges[1:] + edges[:-1] - 1) / 2, np.diff(edges)
