"""How an estimate is made, and its slopes from the values of the loss.

With z₁ … z_P of a standard law (E[zz'] = I) both estimators are

    ĝ = (1/P) Σ_p c_p z_p,    c_p = [L(θ + εz_p) - L(θ - εz_p)] / 2ε   (central; Spall 1992)
                              c_p = [L(θ + εz_p) - L(θ)] / ε           (forward)

One function computes the c_p of :func:`zotk.grad`, :func:`zotk.measure` and :func:`zotk.backward`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zotk.arguments import integer, positive
from zotk.estimators.directions import Law
from zotk.estimators.laws import Coordinate
from zotk.estimators.machines import Point

__all__ = ["How", "Values", "differences"]

Values = Callable[[Sequence[Point]], Sequence[float]]  # the loss at θ + side·εz_p, for (p, side)
SCHEMES = ("central", "forward")
MODES = ("store", "replay", "exact", "layerwise")


@dataclass(frozen=True)
class How:
    """How an estimate is made, judged before anything moves."""

    directions: Law
    eps: float
    queries: int
    scheme: str
    memory: str = "exact"
    rng: str = "same"

    def __post_init__(self) -> None:
        law = self.directions
        if not isinstance(law, Law):
            raise TypeError(f"directions is {law!r}; a law such as zotk.Gaussian() is needed")
        positive("eps", self.eps)
        integer("queries", self.queries, 1)
        for name, known in (("scheme", SCHEMES), ("memory", MODES), ("rng", ("same", "free"))):
            value = getattr(self, name)
            if value not in known:
                words = list(map(repr, known))
                allowed = " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"
                raise ValueError(f"{name} is {value!r}; {allowed} is needed")
        object.__setattr__(self, "queries", int(self.queries))


def differences(values_at: Values, how: How) -> tuple[tuple[float, ...], float, int]:
    """The c_p / P, the loss, and the number of evaluations."""
    every = range(how.queries)
    if how.scheme == "central":
        points = [(p, side) for p in every for side in (+1, -1)]
        values = values_at(points)
        pairs = list(zip(values[::2], values[1::2], strict=True))
        width, loss = 2 * how.eps, sum(0.5 * (a + b) for a, b in pairs) / how.queries
    else:
        points = [(0, 0), *((p, +1) for p in every)]
        values = values_at(points)
        pairs = [(value, values[0]) for value in values[1:]]
        width, loss = how.eps, values[0]
    # along a coordinate a slope may well be 0, along other directions hardly ever
    if all(a == b for a, b in pairs) and not isinstance(how.directions, Coordinate):
        warnings.warn(
            f"the loss is {pairs[0][0]} at both ends of every pair: it does not see the "
            "parameters, is flat or a step function here, or rounds the difference away; now and "
            "then that is harmless, else a larger eps or a loss in a wider format helps",
            stacklevel=4,
        )
    coefficients = tuple((a - b) / (width * how.queries) for a, b in pairs)
    return coefficients, loss, len(points)
