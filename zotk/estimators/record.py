"""What an estimate measured, in seeds and scalars, and how to repeat a step from it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from zotk.arguments import real
from zotk.estimators.directions import Law
from zotk.estimators.parameters import add_up, drawn, trained, wide

__all__ = ["Estimate", "replay_"]


@dataclass(frozen=True)
class Estimate:
    """What one :func:`backward` measured: seeds and scalars, enough to replay it.

    ``loss``: mean of ½(L₊ + L₋) (central) or L(θ) (forward). ``coefficients``: the c_p / P
    of ĝ = Σ_p coefficients[p]·z_p. ``evaluations``: calls of the closure. ``shapes`` and
    ``dtypes``: of the parameters, which with the seeds determine the directions.
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


def replay_(params: Iterable[Tensor], estimate: Estimate, scale: float) -> None:
    """Add ``scale · ĝ`` to the parameters in place, from the estimate's seeds and scalars.

    With scale = -lr this repeats, to rounding, the SGD step that used the estimate, without
    evaluating anything: what a second machine needs to follow the first. Nothing is stored,
    but for half precision the sum in float32, so that a step is rounded once.

    Raises
    ------
    ValueError
        Parameters of other shapes or dtypes than the estimate's or on another device type,
        where the same seeds draw other directions; a scale that is not finite.
    TypeError
        ``estimate`` is no :class:`Estimate`, or ``scale`` no number.
    """
    if not isinstance(estimate, Estimate):
        raise TypeError(f"estimate is {estimate!r}; what zotk.backward returned is needed")
    if not math.isfinite(real("scale", scale)):
        raise ValueError(f"scale is {scale}; a finite number is needed")
    theta = trained(params)
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
        for t, moved in zip(theta, sums, strict=True):
            if moved is not t:
                t.copy_(moved)
