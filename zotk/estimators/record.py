"""What an estimate measured, in seeds and scalars, and how to repeat a step from it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from zotk.arguments import real
from zotk.estimators.directions import Law
from zotk.estimators.parameters import add_up, drawn, trained

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


def replay_(params: Iterable[Tensor], estimate: Estimate, scale: float) -> None:
    """Add ``scale · ĝ`` to the parameters in place, from the estimate's seeds and scalars.

    With scale = -lr this repeats, to rounding, the SGD step that used the estimate, without
    evaluating or storing anything: what a second machine needs to follow the first.

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
        add_up(theta, direction, [scale * c for c in estimate.coefficients])
