"""What to look at on the way: the walk, the slope, and an edge that comes down.

Every step moves the parameters along random directions of all d dimensions, and what a step adds
in directions that the loss does not see stays: after steps with the coefficients c the parameters
are lr √(d Σc²) away (all directions of one step are nearly orthogonal, and so are those of two).
Far from the start tr H may have grown, and the edge, which is proportional to 1/tr H, may have come
down to a rate that was safe.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zotk.arguments import integer, positive, seeded
from zotk.estimators.parameters import draw_seeds, trained
from zotk.estimators.record import Estimate
from zotk.theory.lines import derivatives, lines_of
from zotk.theory.probe import Measured
from zotk.theory.settings import Settings

__all__ = ["Watch", "Watched"]


@dataclass(frozen=True)
class Watched:
    """After a step: its number, how far the run has walked, the rms slope of its directions.

    ``edge``: the present one, where this step looked for it, else None; ``lr``: the rate to go on
    with, lower than the last where the edge has come down.
    """

    step: int
    walk: float
    slope: float
    edge: float | None
    lr: float

    def __str__(self) -> str:
        edge = "" if self.edge is None else f", edge {self.edge:.2g}"
        return (
            f"step {self.step}: walked {self.walk:.3g}, slope {self.slope:.3g}{edge}, "
            f"lr {self.lr:.2g}"
        )


class Watch:
    """Watches a run with ``settings`` from ``measured``, on the loss and batches of the probe.

    Call :meth:`step` after every step. Every ``every`` steps it evaluates the loss 4·probes times
    more, for tr H, and returns a rate lowered in proportion where the rate is above the suggested
    share of the edge by a quarter or more. It never raises a rate.

    Raises ValueError for every < 1, probes < 2 or without batches, TypeError for other kinds.
    """

    def __init__(
        self,
        measured: Measured,
        settings: Settings,
        loss: Callable[..., Tensor | float],
        params: nn.Module | Iterable[Tensor],
        batches: Iterable[Any] | None,
        *,
        every: int = 100,
        probes: int = 8,
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(measured, Measured) or not isinstance(settings, Settings):
            raise TypeError("measured and settings are what zotk.probe and zotk.suggest returned")
        integer("every", every, 1)
        integer("probes", probes, 2)
        self._settings, self._eps = settings, measured.eps
        self._loss, self._every, self._probes = loss, every, probes
        self._theta = list(trained(params).values())
        self._net = params if isinstance(params, nn.Module) else None
        self._batches = None if batches is None else list(islice(batches, probes))
        if self._batches is not None and not self._batches:
            raise ValueError("batches is empty; one or more, or None, is needed")
        self._generator = seeded(generator)
        self._d, self._steps, self._squares = measured.d, 0, 0.0

    def step(self, estimate: Estimate, lr: float) -> Watched:
        """After the step -lr·ĝ of an estimate."""
        if not isinstance(estimate, Estimate):
            raise TypeError(f"estimate is {estimate!r}; what zotk.measure returned is needed")
        positive("lr", lr)
        squares = [c**2 for c in estimate.coefficients]
        self._steps += 1
        self._squares += lr**2 * sum(squares)
        edge, wanted = None, lr
        if self._steps % self._every == 0:
            edge = self.edge()
            wanted = self._settings.share * edge
            wanted = wanted if lr > 1.25 * wanted else lr
        slope = len(squares) * math.sqrt(sum(squares) / len(squares))
        return Watched(self._steps, math.sqrt(self._d * self._squares), slope, edge, wanted)

    def edge(self) -> float:
        """The edge of the settings, times the trace they rest on over the present one."""
        seeds = draw_seeds(self._probes, self._generator)
        eps, values = self._eps, []
        with lines_of(self._loss, self._theta, seeds, self._batches, self._net) as lines:
            for i in range(self._probes):
                k = 0 if self._batches is None else i % len(self._batches)
                values.append([lines.value(t * eps, i, k) for t in (-2, -1, 1, 2)])
        found = derivatives(np.array(values), eps)[2]
        trace = float(found.mean() + found.std(ddof=1) / math.sqrt(len(found)))
        if trace <= 0:
            return self._settings.edge
        return self._settings.edge * self._settings.curvature / trace
