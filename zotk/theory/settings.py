"""From measured numbers to the settings of a zeroth-order run, each with its reason."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from zotk.arguments import integer
from zotk.estimators.directions import Law
from zotk.estimators.laws import Orthogonal, Rademacher, Sphere
from zotk.theory.probe import Measured
from zotk.theory.schemes import Coefficients, coefficients
from zotk.theory.secular import bounds

__all__ = ["Reason", "Settings", "edge_of", "suggest"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reason:
    """The claims that a setting rests on, and whether they state it or it goes beyond them.

    ``kind``: "claim" where the claims state it for every loss of their kind; "extrapolated" where
    they are about quadratics, one step or exact slopes and are used beyond; "library" for what
    the functions of zotk ask for.
    """

    kind: str
    claims: tuple[str, ...]
    why: str


@dataclass(frozen=True, repr=False)
class Settings:
    """What :func:`suggest` found. ``print`` shows it as a table.

    ``eps``, ``directions``, ``scheme``, ``queries`` and ``memory`` are arguments of
    :func:`zotk.measure`; ``batch`` the examples a step (None for one loss); ``lr`` the rate,
    ``tries`` the three to compare; ``evaluations`` those of the whole run of ``horizon`` steps;
    ``floor`` the excess loss that noises keep up at ``lr``; ``edge`` the rate at which the expected
    loss of the quadratic model begins to grow over the run, for a trace of ``curvature``.
    ``reasons`` has one :class:`Reason` for each.
    """

    eps: float
    directions: Law
    scheme: str
    queries: int
    batch: int | None
    lr: float
    tries: tuple[float, float, float]
    momentum: float
    memory: str
    horizon: int
    evaluations: int
    edge: float
    curvature: float
    floor: float
    stop: str
    watch: str
    warnings: tuple[str, ...]
    reasons: dict[str, Reason] = field(hash=False)

    def __repr__(self) -> str:
        return (
            f"Settings(eps={self.eps:.3g}, {self.queries} of {self.directions}, lr={self.lr:.3g}, "
            f"{self.horizon} steps, {self.evaluations} evaluations)"
        )

    def rows(self) -> list[tuple[str, str, Reason]]:
        """(setting, value, reason), for tables."""
        shown = {
            "eps": f"{self.eps:.2g}",
            "directions": f"{self.queries} of {type(self.directions).__name__}, "
            f"{self.scheme} differences",
            "batch": "the whole loss" if self.batch is None else f"{self.batch}, one for all ends",
            "lr": f"{self.lr:.2g}",
            "tries": ", ".join(f"{each:.2g}" for each in self.tries),
            "momentum": f"{self.momentum:g}",
            "memory": self.memory,
            "evaluations": f"{self.evaluations} in {self.horizon} steps",
            "floor": f"{self.floor:.2g} above the least loss",
            "stop": self.stop,
            "watch": self.watch,
        }
        return [(name, value, self.reasons[name]) for name, value in shown.items()]

    def __str__(self) -> str:
        lines = []
        for name, value, reason in self.rows():
            of = ", ".join(reason.claims)
            lines.append(f"{name:<12} {value}")
            lines.append(f"{'':<12}   {reason.kind}{': ' + of if of else ''}; {reason.why}")
        return "\n".join([*lines, *(f"warning      {each}" for each in self.warnings)])


def suggest(
    measured: Measured,
    *,
    budget: int,
    horizon: int,
    dtype: torch.dtype,
    batch: int | None = None,
    optimizer: str = "sgd",
) -> Settings:
    """Settings of a run of ``horizon`` steps with ``budget`` evaluations of the loss.

    ``dtype``: what the parameters will have in the run; ``batch``: examples a step, the measured
    batches' where None. ``optimizer``: "sgd" or "adam".

    The rate is the smaller of two. One is what a step can bear, from |g|², noise and curvature
    (``minibatch.one-step``, with tr H² for the largest eigenvalue and the noise of evaluation
    added); the other is half of the bound of ``minibatch.bounds`` for the quadratic model, with the
    directions that are felt within the horizon for the rank (``minibatch.horizon``). Each number
    is taken at the careful end of its standard error, and the second moment at its limit where it
    is unresolved.

    Raises
    ------
    ValueError
        |g|², the error of an evaluation or both moments of H were not resolved (the message says
        what to measure); tr H is negative; a budget below two evaluations a step; ``batch`` where
        none was measured, or where their size is not known; an unknown optimizer.
    TypeError
        ``measured`` is no :class:`Measured`; a number or ``dtype`` of another kind.
    """
    if not isinstance(measured, Measured):
        raise TypeError(f"measured is {measured!r}; what zotk.probe returned is needed")
    integer("horizon", horizon, 1)
    integer("budget", budget, 2 * horizon)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype is {dtype!r}; a floating-point dtype is needed")
    if optimizer not in ("sgd", "adam"):
        raise ValueError(f"optimizer is {optimizer!r}; 'sgd' or 'adam' is needed")
    size = _batch(measured, batch)
    m = _Careful.of(measured, size)
    warnings: list[str] = []
    reasons: dict[str, Reason] = {}

    sigma = _sigma(measured, dtype)
    eps, reasons["eps"] = _eps(measured, sigma, dtype, warnings)
    half = torch.finfo(dtype).bits < 32
    memory = "layerwise" if half else "store"
    reasons["memory"] = Reason(
        "library", (), "half precision is not written in place; layerwise needs the module"
        if half else "replay where there is no room for one direction",
    )  # fmt: skip
    queries, directions, scheme, reasons["directions"] = _directions(
        m, budget // (2 * horizon), sigma, eps, half, optimizer, warnings
    )
    k = m.coefficients(directions, queries)
    nu2 = (2 if scheme == "forward" else 0.5) * (sigma / eps) ** 2 / queries
    edge = edge_of(m, k, horizon)
    step = m.grad2 / ((k.p * m.top + k.c * m.trace) * m.square + nu2 * m.trace)
    lr, why = min((step, "what a step can bear"), (edge / 2, "half of the model's edge"))
    reasons["lr"] = Reason(
        "extrapolated",
        ("minibatch.one-step", "minibatch.bounds", "minibatch.horizon"),
        f"{why}; with curvature of the start, see Watch",
    )
    tries = (lr / 2, lr, 2 * lr)
    if optimizer == "adam":
        lr = math.sqrt(m.grad2) / (math.pi * m.trace * math.sqrt(m.square / m.grad2))
        tries = (lr / 2, lr, 2 * lr)
        reasons["lr"] = Reason(
            "extrapolated", (), "half of what a sign step can bear, (2/π)|g|/tr H; let it decay"
        )
    if reasons["eps"].kind == "extrapolated" and nu2 * queries > m.square:
        warnings.append(
            "errors of evaluation exceed the slopes: repeat evaluations, or use a wider format"
        )
    felt = m.felt(lr if optimizer == "sgd" else edge / 2, horizon)
    floor = lr / 4 * ((k.p + k.c * felt) * (m.square - m.grad2) + felt * nu2)
    reasons |= {
        "tries": Reason("extrapolated", ("mean-square.isotropic",),
                        "half of the edge is best only where all eigenvalues agree: compare"),
        "momentum": Reason("extrapolated", ("mean-square.queries",),
                           f"no claim; it can pay from P ≈ tr H/λ ≈ {m.trace / m.top:.0f} on"),
        "batch": Reason("claim", ("minibatch.two-ends", "two-point.common-random-numbers"),
                        "one batch, and one of every random number, at both ends"),
        "evaluations": Reason("library", (), "two a direction, forward one and one more a step"),
        "floor": Reason("extrapolated", ("minibatch.floor", "two-point.budget"),
                        "proportional to lr: divide it by ten for the last part"),
        "stop": Reason("extrapolated", ("mean-square.sample-means",),
                       "judge the median of a few runs, not their mean"),
        "watch": Reason("extrapolated", ("kernel-ends.walk", "kernel-ends.inflation"),
                        "the walk can raise tr H, and the edge comes down: zotk.Watch"),
    }  # fmt: skip
    warnings += m.warnings
    used = horizon * (queries + 1 if scheme == "forward" else 2 * queries)
    return Settings(
        eps=eps,
        directions=directions,
        scheme=scheme,
        queries=queries,
        batch=size,
        lr=lr,
        tries=tries,
        momentum=0.0,
        memory=memory,
        horizon=horizon,
        evaluations=used,
        edge=edge,
        curvature=m.trace,
        floor=floor,
        stop=f"when the mean loss of {max(10, horizon // 10)} steps is no lower than that of those "
        f"before; at once above {2 * abs(measured.loss):.3g}",
        watch="lr √(d Σc²), |slope|, and the edge now and then",
        warnings=tuple(warnings),
        reasons=reasons,
    )


@dataclass(frozen=True)
class _Careful:
    """The measured numbers at their careful ends, for batches of the run's size."""

    d: int
    n: int | None
    trace: float  # of the positive part of H
    second: float
    top: float  # at least the largest eigenvalue
    grad2: float
    square: float  # E |g_B|²
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, m: Measured, n: int | None) -> "_Careful":
        bent = m.trace is None and m.second is None
        if bent or (m.trace is not None and m.trace < 0):
            found = "is not resolved" if m.trace is None else f"is {m.trace:.3g}"
            raise ValueError(
                f"tr H {found} where this was measured: no edge is known; measure after a few "
                "careful steps, with a loss in a wider format, or with more probes"
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
        second = m.limits["second"] if m.second is None else m.second + m.stderr["second"]
        if m.second is None:
            warnings.append("tr H² is not resolved: its limit stands for it")
        if m.trace is None:
            warnings.append("tr H is not resolved: its limit, or √(tr H²), stands for it")
            trace = m.limits["trace"]
        else:
            trace = m.trace + m.stderr["trace"]
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
            warnings=tuple(warnings),
        )

    def coefficients(self, law: Law, queries: int) -> Coefficients:
        names = {Orthogonal: "orthogonal", Sphere: "sphere"}
        return coefficients(
            self.d, self.trace, scheme=names.get(type(law), "plain"), queries=queries,
            minibatch=None, population=None, batches="same",
        )  # fmt: skip

    def felt(self, lr: float, steps: int) -> float:
        """Σ 1 - (1 - lr λ)^(2 steps) for λ_k ∝ k^-a with this trace and second moment."""
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


def edge_of(m: _Careful, k: Coefficients, horizon: int) -> float:
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


def _batch(m: Measured, batch: int | None) -> int | None:
    if batch is not None:
        integer("batch", batch, 1)
    if m.noise_scale == 0 and "noise_scale" not in m.stderr:
        if batch is not None:
            raise ValueError(
                f"batch is {batch}, but one loss was measured; pass batches to zotk.probe"
            )
        return None
    if m.examples is None and batch is not None:
        raise ValueError(
            f"batch is {batch}, but the measured batches are of unknown size; measure with batches "
            "of this size, made of tensors, and leave batch out"
        )
    return batch or m.examples or 1


def _sigma(m: Measured, dtype: torch.dtype) -> float:
    assert m.sigma is not None
    if not m.repeatable:
        return max(m.sigma, torch.finfo(dtype).eps * abs(m.loss) / 4)
    ratio = torch.finfo(dtype).eps / torch.finfo(m.dtype).eps
    return max(m.sigma * ratio, torch.finfo(torch.float64).eps * abs(m.loss) / 4, 1e-300)


def _eps(
    m: Measured, sigma: float, dtype: torch.dtype, warnings: list[str]
) -> tuple[float, Reason]:
    if m.kink is not None:
        eps = (sigma / m.kink) ** (2 / 3)
        reason = Reason("extrapolated", ("two-point.kinks",), "κ²ε + σ²/2ε² is least there")
    elif m.third is not None:
        eps = (sigma / (2 * m.third)) ** (1 / 3)
        kind = "claim" if m.dtype == dtype or not m.repeatable else "extrapolated"
        reason = Reason(
            kind, ("two-point.best-eps", "two-point.budget"), "any step of this order will do"
        )
    else:
        eps = m.eps
        reason = Reason(
            "extrapolated", ("two-point.budget",), "the step measured with: nothing bends there"
        )
    least = m.largest * torch.finfo(dtype).eps / 2
    if eps < least:
        warnings.append(
            f"eps {eps:.2g} would not move the largest parameters in {dtype}: {least:.2g} taken"
        )
        eps, reason = (
            least,
            Reason("extrapolated", ("two-point.round-off",), "half a unit in the last place"),
        )
    return eps, reason


def _directions(
    m: _Careful,
    pairs: int,
    sigma: float,
    eps: float,
    half: bool,
    optimizer: str,
    warnings: list[str],
) -> tuple[int, Law, str, Reason]:
    if optimizer == "adam":
        return pairs, Rademacher(), "central", Reason(
            "extrapolated", ("mean-square.signs",), "with one query Adam's v is one number"
        )  # fmt: skip
    if pairs >= m.d and m.d <= 3000 and not half:
        return m.d, Orthogonal(), "central", Reason(
            "claim", ("two-point.coordinates", "two-point.orthogonal"),
            "as many as parameters: a whole block, or coordinates, gives the gradient itself",
        )  # fmt: skip
    if pairs > 2 * m.trace / m.top and m.n is None:
        warnings.append(
            f"more queries a step than tr H/λ, about {m.trace / m.top:.1f}, are not worth their "
            "price: more steps with fewer queries"
        )
    # squared errors that forward differences keep where the gradient vanishes, at their best step
    bend = m.trace**2 + 2 * m.second
    forward = math.sqrt(2 * bend) * sigma
    if pairs > 1 and forward < 0.01 * m.grad2 and eps < (8 * sigma**2 / bend) ** 0.25:
        return 2 * pairs - 1, Sphere(), "forward", Reason(
            "extrapolated", ("two-point.forward",),
            "nearly twice the directions, while |g| is ten times the error they keep",
        )  # fmt: skip
    if 10 * pairs >= m.d and pairs <= m.d and pairs * m.d <= 10**7 and not half:
        return pairs, Orthogonal(), "central", Reason(
            "claim", ("two-point.orthogonal", "moments.optimal"), "a fair part of all dimensions"
        )  # fmt: skip
    return pairs, Sphere(), "central", Reason(
        "claim", ("moments.optimal", "two-point.variance"), "least error but for orthogonal blocks"
    )  # fmt: skip
