"""Perturbed passes through units, and the targets that are read off them."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zotk.arguments import integer, positive, seeded
from zotk.estimators.directions import Law
from zotk.estimators.parameters import resolvable
from zotk.hzo.coloring import coloring, compress, decompress, separate
from zotk.networks.contract import aside

__all__ = ["Probe", "through"]

_BLUR = 0.02  # of 2ε, above which a step is no longer known


class Probe:
    """Reads targets off perturbed passes, a bounded number of rows at a time, and counts them."""

    def __init__(
        self,
        eps: float,
        directions: Law | None,
        queries: int | None,
        coloring: bool,
        generator: torch.Generator | None,
        max_rows: int,
    ) -> None:
        positive("eps", eps)
        integer("max_rows", max_rows, 2)
        if directions is not None and not isinstance(directions, Law):
            raise TypeError(f"directions is {directions!r}; a law or None is needed")
        if (directions is None) != (queries is None):
            raise ValueError(
                f"directions is {directions}, queries is {queries}; both are needed, or neither, "
                "which perturbs every coordinate"
            )
        if queries is not None:
            integer("queries", queries, 1)
        self.eps = float(eps)
        self.rows = self.queries = 0
        self._law, self._queries, self.max_rows = directions, queries, max_rows
        self._colored = bool(coloring)
        self._generator = None if generator is None else seeded(generator)

    def pull(self, units: Sequence[nn.Module], h: Tensor, delta: Tensor) -> Tensor:
        """The target at h, shaped as h, from the target ``delta`` at the end of ``units``."""
        _step(h, self.eps)
        if self._law is not None and not self._law.is_standard(h[0].numel()):
            raise ValueError(f"directions is {self._law}; a law with E[zz'] = I is needed")
        shape = h.shape[1:]
        if self._law is None and self._colored and len(shape) > 1:
            seen = coloring(units, shape)
        else:
            seen = separate(shape, delta[0].numel())
        count = seen.count if self._queries is None else self._queries
        rows = max(1, min(len(h), self.max_rows // (2 * count)))
        step = max(1, self.max_rows // (2 * rows))
        parts = []
        for part, below in zip(h.split(rows), delta.split(rows), strict=True):
            total = torch.zeros_like(part)
            z = None if self._law is None else self._draw(self._law, part, count)
            for k in range(0, count, step):
                if z is None:
                    seeds = compress(seen, k, k + step, dtype=h.dtype, device=h.device)
                else:
                    seeds = z[:, k : k + step]
                total += decompress(seen, self._products(units, part, below, seeds), seeds)
                read = seeds.count_nonzero() if z is None else seeds.shape[1]
                self.queries += 2 * len(part) * int(read)
            parts.append(total if z is None else total / count)
        return torch.cat(parts)

    def pair(self, unit: nn.Module, h: Tensor, delta: Tensor) -> Tensor:
        """The target before an elementwise unit: one pair of passes for all coordinates."""
        _step(h, self.eps)
        moved = []
        for part in h.split(self.max_rows // 2):
            plus, minus = self._run([unit], torch.cat([part + self.eps, part - self.eps])).chunk(2)
            moved.append(plus - minus)
        return delta * torch.cat(moved) / (2 * self.eps)

    def run(self, units: Sequence[nn.Module], h: Tensor) -> list[Tensor]:
        """The states h, u_1(h), …, each counted but the first."""
        self.rows += len(h) * len(units)
        return through(units, h)

    def _products(
        self, units: Sequence[nn.Module], h: Tensor, delta: Tensor, seeds: Tensor
    ) -> Tensor:
        """δ ⊙ (F(h + εz) - F(h - εz))/2ε for each output: (n, p, outputs); z is (n or 1, p, …)."""
        moves = self.eps * seeds
        moved = torch.stack([h[:, None] + moves, h[:, None] - moves])
        _, n, p = moved.shape[:3]
        plus, minus = self._run(units, moved.flatten(0, 2)).reshape(2, n, p, -1)
        # subtracted before the product: what the two have in common then costs no digits
        return (plus - minus) * delta.reshape(n, 1, -1) / (2 * self.eps)

    def _draw(self, law: Law, h: Tensor, count: int) -> Tensor:
        """Directions for each row, (n, count, *shape)."""
        if self._generator is None:
            self._generator = seeded(None, h.device)
        kind: Any = {"generator": self._generator, "dtype": h.dtype, "device": h.device}
        z = [law.sample(count, h[0].numel(), **kind) for _ in h]
        return torch.stack(z).view(len(h), count, *h.shape[1:])

    def _run(self, units: Sequence[nn.Module], h: Tensor) -> Tensor:
        self.rows += len(h) * len(units)
        for unit in units:
            h = unit(h)
        return h


def through(units: Sequence[nn.Module], h: Tensor) -> list[Tensor]:
    """h, u_1(h), u_2(u_1(h)), …, each kept from units that work in place."""
    states = [h]
    for unit in units:
        states.append(unit(aside(unit, states[-1])))
    return states


def _step(h: Tensor, eps: float) -> None:
    """Judges whether h + ε and h - ε are 2ε apart in the precision of h."""
    resolvable([h], [torch.ones_like(h)], eps)
    apart = ((h + eps) - (h - eps)).double() / (2 * eps)
    off = float((apart - 1).square().mean().sqrt())
    if off > _BLUR:
        # near the cube root of the round-off at the size of h; of two, which costs h no digits
        size = float(h.double().square().mean().sqrt())
        serves = 2.0 ** math.ceil(math.log2(torch.finfo(h.dtype).eps ** (1 / 3) * size))
        warnings.warn(
            f"eps is {eps}: in {h.dtype} (h + ε) - (h - ε) is off 2ε by {off:.0%}, in the rms over "
            f"a state; eps = {serves:g} serves",
            stacklevel=2,
        )
