"""What an estimate measured, in seeds and scalars, and how to repeat a step from it."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zotk.arguments import real, seeded
from zotk.estimators.directions import Law, run
from zotk.estimators.named import LAWS, law_from, plain_law
from zotk.estimators.parameters import in_runs, trained, wide

__all__ = ["Estimate", "join", "replay_"]

_VERSION = 2  # of records as plain fields; 2: large tensors are drawn in runs
_SHARED = ("directions", "shapes", "dtypes", "device_type")  # what joined estimates have alike


@dataclass(frozen=True, repr=False)
class Estimate:
    """What one :func:`measure` or :func:`backward` found: seeds and scalars, enough to replay it.

    ``loss``: mean of ½(L₊ + L₋) (central) or L(θ) (forward). ``coefficients``: the c_p / P
    of ĝ = Σ_p coefficients[p]·z_p. ``evaluations``: calls of the closure. ``shapes`` and
    ``dtypes``: of the parameters, which with the seeds determine the directions.

    To read one back from ``torch.save`` with ``weights_only=True``, call
    ``torch.serialization.add_safe_globals(zotk.Estimate.safe_globals())`` once; or keep
    ``to_json()``, which is exact and readable.
    """

    loss: float
    coefficients: tuple[float, ...]
    evaluations: int
    directions: Law
    seeds: tuple[int, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    device_type: str

    def __post_init__(self) -> None:
        if len(self.coefficients) != len(self.seeds):
            counts = f"{len(self.coefficients)} coefficients and {len(self.seeds)} seeds"
            raise ValueError(f"an estimate has {counts}; one of each for a direction is needed")
        if len(self.shapes) != len(self.dtypes):
            counts = f"{len(self.shapes)} shapes and {len(self.dtypes)} dtypes"
            raise ValueError(f"an estimate has {counts}; one of each for a parameter is needed")
        for c in self.coefficients:
            if not math.isfinite(real("a coefficient", c)):
                raise ValueError(f"coefficients has {c}; finite numbers are needed")

    def __repr__(self) -> str:
        entries = sum(shape.numel() for shape in self.shapes)
        return (
            f"Estimate(loss={self.loss:.6g}, {len(self.seeds)} of {self.directions}, "
            f"{self.evaluations} evaluations, {len(self.shapes)} tensors of {entries} entries)"
        )

    @property
    def slope(self) -> float:
        """How steep the loss seems, the root of the mean of the squared slopes c_p².

        Its square is an unbiased estimate of the squared length of the gradient (of the smoothed
        loss; of a masked one, of what moves), as E c² = g'E[zz']g = g'g. It is also, but for
        the sign, what the loss changes by along the estimate: -g'ĝ = -mean c_p².
        """
        return math.sqrt(sum(c * c for c in self._slopes()) / len(self.seeds))

    @property
    def stderr(self) -> float | None:
        """The standard error of `slope`, from the spread of the P squared slopes.

        With s² the sample variance of the c_p² (divisor P - 1) it is s/(2 slope √P): the standard
        error of their mean, carried over to its root. For Gaussian directions it is near
        slope/√(2P). It knows the chance of the directions alone, not that of a batch, of rounding
        or of a large eps. None for one query, and for laws whose directions belong together
        (`Orthogonal`, `Guided`), whose slopes are not independent. 0 if every slope is 0.
        """
        count = len(self.seeds)
        if count < 2 or self.directions.joint:
            return None
        squares = [c * c for c in self._slopes()]
        mean = sum(squares) / count
        if mean == 0:
            return 0.0
        spread = math.sqrt(sum((square - mean) ** 2 for square in squares) / (count - 1))
        return spread / (2 * math.sqrt(mean * count))

    def _slopes(self) -> list[float]:
        return [len(self.seeds) * c for c in self.coefficients]

    def to_json(self) -> str:
        """One line of JSON; seeds are words, as JSON's numbers end at 2⁵³ in many readers.

        Of the tensors that a law has, a mask or a guess, the line has a fingerprint. Raises
        TypeError for a law that is not zotk's.
        """
        return json.dumps(self.plain())

    def plain(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["directions"] = plain_law(self.directions)
        fields["seeds"] = [str(seed) for seed in self.seeds]
        fields["shapes"] = [list(shape) for shape in self.shapes]
        fields["dtypes"] = [str(dtype).removeprefix("torch.") for dtype in self.dtypes]
        return {"version": _VERSION, **fields}

    @classmethod
    def from_json(cls, text: str, *, directions: Law | None = None) -> "Estimate":
        """What :meth:`to_json` wrote. Raises ValueError for anything else.

        ``directions``: the law, where it has tensors, of which the text has a fingerprint only;
        another law than the record's is refused.
        """
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this is no estimate in JSON: {error}") from error
        return cls.from_plain(plain, directions=directions)

    @classmethod
    def from_plain(cls, plain: dict[str, Any], *, directions: Law | None = None) -> "Estimate":
        """From the fields as JSON has them. Raises ValueError for anything else."""
        try:
            fields = dict(plain)
            version = fields.pop("version", 1)
            made = cls(
                directions=law_from(fields.pop("directions"), directions),
                coefficients=tuple(fields.pop("coefficients")),
                seeds=tuple(int(seed) for seed in fields.pop("seeds")),
                shapes=tuple(torch.Size(shape) for shape in fields.pop("shapes")),
                dtypes=tuple(_dtype(name) for name in fields.pop("dtypes")),
                **fields,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no estimate in JSON: {error}") from error
        made._as_drawn_now(version)
        return made

    def _as_drawn_now(self, version: int) -> None:
        """Refuse a record whose seeds drew other directions when it was made."""
        if version not in (1, _VERSION):
            raise ValueError(f"the record has version {version}; this zotk reads up to {_VERSION}")
        most = max((shape.numel() for shape in self.shapes), default=0)
        same = ("Gaussian", "Rademacher", "Coordinate")  # on the CPU, in runs or not
        kept = self.device_type == "cpu" and type(self.directions).__name__ in same
        if version == 1 and most >= 2 * run(torch.device(self.device_type)) and not kept:
            raise ValueError(
                f"the record has version 1, and a tensor of {most} entries: those were drawn at "
                f"once then, along {self.directions}, and now in runs, from which the seeds give "
                "other directions; it can be replayed by the zotk that made it"
            )

    @staticmethod
    def safe_globals() -> list[Any]:
        """The types that ``torch.load(weights_only=True)`` has to be told of."""
        return [Estimate, *LAWS.values()]


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is no dtype of torch")
    return dtype


def join(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate from the queries of several, made at the same parameters.

    Each counts by its number of queries, as if all had been asked at once.

    Raises
    ------
    ValueError
        No estimate; estimates of different laws, shapes, dtypes or device types; ones whose
        directions belong together (`Orthogonal`, `Guided`).
    TypeError
        Something else than estimates.
    """
    listed = list(estimates)
    for each in listed:
        if not isinstance(each, Estimate):
            raise TypeError(f"estimates holds a {type(each).__name__}; estimates are needed")
    if not listed:
        raise ValueError("estimates is empty; at least one is needed")
    first = listed[0]
    for name in _SHARED:
        found = {repr(getattr(each, name)) for each in listed}
        if len(found) > 1:
            raise ValueError(f"estimates have the {name} {' and '.join(sorted(found))}")
    if first.directions.joint and len(listed) > 1:
        raise ValueError(
            f"estimates along {first.directions} cannot be joined: the directions of each belong "
            "together; replay them one by one, each with its share of the scale"
        )
    total = sum(len(each.seeds) for each in listed)
    shares = [len(each.seeds) / total for each in listed]
    pairs = list(zip(listed, shares, strict=True))
    return dataclasses.replace(
        first,
        loss=sum(share * each.loss for each, share in pairs),
        coefficients=tuple(share * c for each, share in pairs for c in each.coefficients),
        evaluations=sum(each.evaluations for each in listed),
        seeds=tuple(seed for each in listed for seed in each.seeds),
    )


def replay_(
    params: nn.Module | Iterable[Tensor],
    estimate: Estimate,
    scale: float,
    *,
    rounding: str = "nearest",
    generator: torch.Generator | None = None,
) -> None:
    """Add ``scale · ĝ`` to the parameters in place, from the estimate's seeds and scalars.

    With scale = -lr this repeats, to rounding, the SGD step that used the estimate, without
    evaluating anything: what a second machine needs to follow the first. Nothing of a tensor's
    size is stored; half precision is summed in float32, run by run, and rounded once.

    ``rounding="stochastic"`` rounds half precision up or down with probabilities that make the
    mean exact, so that steps below half a unit in the last place are not lost; ``generator``
    (None: a fresh one seeded 0; keep one over a run) draws for it. Other dtypes are not
    rounded anew.

    Raises
    ------
    ValueError
        Parameters of other shapes or dtypes than the estimate's or on another device type,
        where the same seeds draw other directions; a scale that is not finite; another rounding.
    TypeError
        ``estimate`` is no :class:`Estimate`, or ``scale`` no number.
    """
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"rounding is {rounding!r}; 'nearest' or 'stochastic' is needed")
    if not isinstance(estimate, Estimate):
        raise TypeError(f"estimate is {estimate!r}; what zotk.backward returned is needed")
    if not math.isfinite(real("scale", scale)):
        raise ValueError(f"scale is {scale}; a finite number is needed")
    theta = list(trained(params).values())
    for name, found, made in (
        ("shapes", tuple(t.shape for t in theta), estimate.shapes),
        ("dtypes", tuple(t.dtype for t in theta), estimate.dtypes),
        ("device type", theta[0].device.type, estimate.device_type),
    ):
        if found != made:
            raise ValueError(f"params have the {name} {found}; the estimate was made for {made}")
    with torch.no_grad():
        direction = estimate.directions.directions(theta, estimate.seeds)
        every = [direction(p) for p in range(len(estimate.seeds))]
        steps = [scale * c for c in estimate.coefficients]
        chance = seeded(generator, theta[0].device)
        for k, t in enumerate(theta):
            for together in zip(*(in_runs([t], pieces, k) for pieces in every), strict=True):
                ((part,), _), *_ = together
                total = part.to(wide(t.dtype))  # the run itself, where it is as wide
                for c, (_, z) in zip(steps, together, strict=True):
                    total.add_(z, alpha=c)
                if total is not part:
                    by_chance = rounding == "stochastic"
                    part.copy_(_by_chance(total, t.dtype, chance) if by_chance else total)


def _by_chance(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """float32 rounded to one of its two neighbours in `dtype`, with mean x.

    A number between neighbours a and b becomes b with probability (x - a)/(b - a). Beyond the
    largest number of the format the nearest is taken.
    """
    near = x.to(dtype)
    off = x - near.float()
    away = torch.where(off > 0, math.inf, -math.inf).to(dtype)
    far = torch.nextafter(near, away)
    gap = far.float() - near.float()
    draw = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    up = far.isfinite() & (draw * gap.abs() < off.abs())
    return torch.where(up, far, near)
