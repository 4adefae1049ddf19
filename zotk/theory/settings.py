"""From measured numbers to the settings of a zeroth-order run, each with its reason."""

import math
from dataclasses import dataclass, field

import torch

from zotk.arguments import integer
from zotk.estimators.directions import Law
from zotk.estimators.laws import Orthogonal, Rademacher, Sphere
from zotk.theory.careful import Careful, edge_of
from zotk.theory.probe import Measured
from zotk.theory.shaken import Reach

__all__ = ["Reason", "Settings", "suggest"]


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
    :func:`zotk.measure`, ``rounding`` of :func:`zotk.replay_`, ``lr`` and ``momentum`` of the
    optimiser (for Adam α and β₁); ``batch`` the examples a step (None for one loss); ``tries`` the
    three rates to compare; ``evaluations`` those of the whole run of ``horizon`` steps; ``floor``
    the excess loss that noises keep up at ``lr``; ``edge`` the rate (of plain steps) at which the
    expected loss of the quadratic model begins to grow over the run, for a trace of ``curvature``,
    and ``share`` what of it a rate may be; ``walk`` the length that the run is to walk at ``lr``.
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
    rounding: str
    horizon: int
    evaluations: int
    edge: float
    curvature: float
    share: float
    walk: float
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
            "rounding": self.rounding,
            "machines": f"up to {self.queries}, group=" if self.queries > 1 else "one",
            "walk": f"about {self.walk:.2g}",
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

    The rate is the least of three. One is what a step can bear, from |g|², noise and curvature
    (``minibatch.one-step``, with tr H² for the largest eigenvalue and the noise of evaluation
    added). One is half of the bound of ``minibatch.bounds`` for the quadratic model, with the
    directions that are felt within the horizon for the rank (``minibatch.horizon``). Both are about
    the start. The third is the largest rate that is at most half of that bound where its own walk
    over the horizon ends, lr √(d Σc²) away (``kernel-ends.walk``): there tr H and squared slopes
    are those of the shaken parameters, ``measured.shaken``, with straight lines between the
    lengths, and the bound falls as 1/tr H; no walk may be longer than the longest of these.
    Curvature is taken two standard errors up, the rest one to the careful side, and the second
    moment at its limit where it is unresolved.

    The third is a forecast: a run may meet a curvature that no random shake does, by what it
    learns, and its drift is in no random walk. :class:`zotk.Watch` looks along the way.

    For Adam the rate α is this one times √(E c²): with one query of signs α/√v is a scalar rate,
    v the mean of c² (``adam.scalar``). It is safe at the start; it rises to the edge of momentum
    where slopes vanish (``adam.edge``, a measurement), and the level there falls with α
    (``adam.scale``).

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
    m = Careful.of(measured, size)
    warnings: list[str] = []
    reasons: dict[str, Reason] = {}

    sigma = _sigma(measured, dtype)
    eps, reasons["eps"] = _eps(measured, sigma, dtype, warnings)
    half = torch.finfo(dtype).bits < 32
    reasons |= _formats(half)
    queries, directions, scheme, reasons["directions"] = _directions(
        m, budget // (2 * horizon), sigma, eps, half, optimizer, warnings
    )
    k = m.coefficients(directions, queries)
    nu2 = (2 if scheme == "forward" else 0.5) * (sigma / eps) ** 2 / queries
    edge = edge_of(m, k, horizon)
    step = m.grad2 / ((k.p * m.top + k.c * m.trace) * m.square + nu2 * m.trace)
    reach = Reach.of(
        measured.shaken, 2 * measured.eps * math.sqrt(m.d), d=m.d, trace=m.trace, square=m.walks,
        batch=size, noise=queries * nu2,
    )  # fmt: skip
    far, longest = reach.rate(edge / 2, queries, horizon)
    of_walk = "no walk beyond what was looked at" if longest else "half of its walk's last edge"
    lr, why = min(
        (edge / 2, "half of the model's edge"), (step, "what a step can bear"), (far, of_walk)
    )
    share = min(step, edge / 2) / edge
    reasons["lr"] = Reason(
        "extrapolated",
        ("minibatch.one-step", "minibatch.bounds", "minibatch.horizon", "kernel-ends.walk"),
        why,
    )
    walk = reach.walk(lr, queries, horizon)
    if reasons["eps"].kind == "extrapolated" and nu2 * queries > m.square:
        warnings.append(
            "errors of evaluation exceed the slopes: repeat evaluations, or use a wider format"
        )
    felt = m.felt(lr if optimizer == "sgd" else edge / 2, horizon)
    floor = lr / 4 * ((k.p + k.c * felt) * (m.square - m.grad2) + felt * nu2)
    momentum, reasons["momentum"] = 0.0, _no_momentum(m, queries)
    reasons["floor"] = Reason(
        "extrapolated", ("minibatch.floor", "two-point.budget"),
        "proportional to lr: divide it by ten for the last part",
    )  # fmt: skip
    if optimizer == "adam":  # lr is its scalar rate, α/√v, and v the mean of c²
        own = m.square - m.grad2 + nu2
        lr *= math.sqrt(m.square + nu2)
        settled = min(edge, lr / math.sqrt(own)) if own > 0 else edge
        floor = lr**2 * felt / (4 * settled)
        momentum = 0.9
        reasons |= _adam(why)
    reasons |= {
        "tries": Reason("extrapolated", ("mean-square.isotropic",),
                        "half of the edge is best only where all eigenvalues agree: compare"),
        "machines": Reason("claim", ("machines.bitwise", "machines.bytes"),
                           "a query or more each; scalars travel, and the bits stay equal"),
        "batch": Reason("claim", ("minibatch.two-ends", "two-point.common-random-numbers"),
                        "one batch, and one of every random number, at both ends"),
        "evaluations": Reason("library", (), "two a direction, forward one and one more a step"),
        "stop": Reason("extrapolated", ("mean-square.sample-means",),
                       "judge the median of a few runs, not their mean"),
        "watch": Reason("extrapolated", ("kernel-ends.walk", "kernel-ends.inflation"),
                        "the walk, and what is learned, can raise tr H: zotk.Watch"),
        "walk": Reason("extrapolated", ("kernel-ends.walk",),
                       "lr √(d Σc²), with slopes as where the parameters are shaken"),
    }  # fmt: skip
    if not measured.shaken:
        warnings.append(
            "the loss is not finite where the parameters are shaken by a quarter of their length: "
            f"no walk beyond {reach.length[-1]:.2g}, as far as the lines went"
        )
    warnings += m.warnings
    used = horizon * (queries + 1 if scheme == "forward" else 2 * queries)
    return Settings(
        eps=eps,
        directions=directions,
        scheme=scheme,
        queries=queries,
        batch=size,
        lr=lr,
        tries=(lr / 2, lr, 2 * lr),
        momentum=momentum,
        memory="layerwise" if half else "store",
        rounding="stochastic" if half else "nearest",
        horizon=horizon,
        evaluations=used,
        edge=edge,
        curvature=m.trace,
        share=share,
        walk=walk,
        floor=floor,
        stop=f"when the mean loss of {max(10, horizon // 10)} steps is no lower than that of those "
        f"before; at once above {2 * abs(measured.loss):.3g}",
        watch="lr √(d Σc²), |slope|, and the edge now and then",
        warnings=tuple(warnings),
        reasons=reasons,
    )


def _formats(half: bool) -> dict[str, Reason]:
    if half:
        memory = Reason(
            "claim", ("layerwise.restore", "layerwise.bytes"),
            "no weight is written while the loss is read; params must be the module",
        )  # fmt: skip
        rounding = Reason(
            "claim", ("rounding.lost", "rounding.stochastic"), "to nearest, small steps are lost"
        )
        return {"memory": memory, "rounding": rounding}
    memory = Reason(
        "claim", ("layerwise.bytes",), "one direction more; replay where it has no room"
    )
    return {
        "memory": memory,
        "rounding": Reason("library", (), "of a sum kept in float32 or wider"),
    }


def _no_momentum(m: Careful, queries: int) -> Reason:
    gain = 1 + (queries + 1) * m.top / m.trace
    if m.n is not None or gain < 3:
        why = (
            f"the safe lr/(1 - β) grows by {gain:.2g} at most on the full batch, batch noise stays"
        )
        return Reason("extrapolated", ("momentum.gain", "momentum.edge"), why)
    return Reason(
        "extrapolated", ("momentum.pays", "momentum.network"),
        "shown on one spectrum and one network that it pays with many queries: try 0.9, lr/10",
    )  # fmt: skip


def _adam(why: str) -> dict[str, Reason]:
    return {
        "lr": Reason(
            "extrapolated", ("adam.scalar", "minibatch.one-step", "minibatch.bounds"),
            f"α/√v, v the mean squared slope, is the first rate: {why}",
        ),
        "momentum": Reason(
            "extrapolated", ("adam.edge",), "β₁; it was measured with β = (0.9, 0.99)"
        ),
        "floor": Reason(
            "extrapolated", ("adam.scale", "adam.edge"),
            "α/√v rises to the edge of momentum; proportional to α² without noise: let α decay",
        ),
    }  # fmt: skip


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
    if eps > 4 * m.eps:  # the lines were looked at so far out
        eps = 4 * m.eps
        reason = Reason("extrapolated", ("two-point.budget",), "the widest step that was looked at")
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
    m: Careful,
    pairs: int,
    sigma: float,
    eps: float,
    half: bool,
    optimizer: str,
    warnings: list[str],
) -> tuple[int, Law, str, Reason]:
    if optimizer == "adam":
        if pairs > 1:
            warnings.append(
                f"one query a step, where the budget has {pairs}: only then is Adam's v one number"
            )
        return 1, Rademacher(), "central", Reason(
            "claim", ("adam.scalar",), "with one query of signs Adam's v is one number"
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
