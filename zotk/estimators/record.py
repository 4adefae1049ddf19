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
from zotk.estimators import laws
from zotk.estimators.directions import Law
from zotk.estimators.laws import Orthogonal
from zotk.estimators.parameters import add_up, drawn, trained, wide

__all__ = ["Estimate", "join", "replay_"]

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

    def to_json(self) -> str:
        """One line of JSON; seeds are words, as JSON's numbers end at 2⁵³ in many readers.

        Raises TypeError for a law that is not zotk's.
        """
        return json.dumps(self.plain())

    def plain(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        law = type(self.directions)
        if getattr(laws, law.__name__, None) is not law:
            raise TypeError(f"directions is {self.directions!r}; a law of zotk is needed for JSON")
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields["directions"] = {"law": law.__name__, **dataclasses.asdict(self.directions)}  # type: ignore[call-overload]
        fields["seeds"] = [str(seed) for seed in self.seeds]
        fields["shapes"] = [list(shape) for shape in self.shapes]
        fields["dtypes"] = [str(dtype).removeprefix("torch.") for dtype in self.dtypes]
        return fields

    @classmethod
    def from_json(cls, text: str) -> "Estimate":
        """What :meth:`to_json` wrote. Raises ValueError for anything else."""
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this is no estimate in JSON: {error}") from error
        return cls.from_plain(plain)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Estimate":
        """From the fields as JSON has them. Raises ValueError for anything else."""
        try:
            fields = dict(plain)
            options = dict(fields.pop("directions"))
            name = options.pop("law")
            if name not in laws.__all__:
                raise ValueError(f"{name!r} is no law of zotk")
            return cls(
                directions=getattr(laws, name)(**options),
                coefficients=tuple(fields.pop("coefficients")),
                seeds=tuple(int(seed) for seed in fields.pop("seeds")),
                shapes=tuple(torch.Size(shape) for shape in fields.pop("shapes")),
                dtypes=tuple(_dtype(name) for name in fields.pop("dtypes")),
                **fields,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no estimate in JSON: {error}") from error

    @staticmethod
    def safe_globals() -> list[Any]:
        """The types that ``torch.load(weights_only=True)`` has to be told of."""
        return [Estimate, *(getattr(laws, name) for name in laws.__all__)]


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
        No estimate; estimates of different laws, shapes, dtypes or device types; `Orthogonal`
        ones, whose rows are drawn together from one seed.
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
    if isinstance(first.directions, Orthogonal) and len(listed) > 1:
        raise ValueError(
            "estimates along Orthogonal() rows cannot be joined: the rows of each come from its "
            "first seed; replay them one by one, each with its share of the scale"
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
    evaluating anything: what a second machine needs to follow the first. Nothing is stored,
    but for half precision the sum in float32, so that a step is rounded once.

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
        direction = drawn(estimate.directions, theta, estimate.seeds)
        sums = [t if wide(t.dtype) == t.dtype else t.to(wide(t.dtype)) for t in theta]
        add_up(sums, direction, [scale * c for c in estimate.coefficients])
        chance = seeded(generator, theta[0].device)
        for t, moved in zip(theta, sums, strict=True):
            if moved is not t:
                t.copy_(_by_chance(moved, t.dtype, chance) if rounding == "stochastic" else moved)


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
