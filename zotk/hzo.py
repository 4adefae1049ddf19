"""Hierarchical zeroth-order gradients: divide the depth, and never differentiate.

After the idea of Cao, Ma and Tian (arXiv 2602.10607), of which we know the abstract page only: the
algorithm below is our reconstruction. A network is a chain of units h_l = u_l(h_{l-1}), and the
target of boundary l is δ_l = ∂loss/∂h_l, one row per example. Where the target δ_b is known, any
earlier one is read off forward passes through the segment F = u_b ∘ … ∘ u_{m+1} alone,

    δ_m = Σ_i e_i ⟨δ_b, F(h_m + εe_i) - F(h_m - εe_i)⟩ / 2ε ,

and with all δ_l at hand each unit's parameters follow from its own input and target. Which δ_b is
used for which δ_m is a binary tree over the units: halves (hierarchical), the next unit only
(chain), the top only (direct). Where outputs see parts of h_m only, as in convolutions, several
coordinates move at once and the sum over outputs splits: see :mod:`zotk.coloring`.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from zotk.coloring import GRID, coloring, compress, decompress, separate
from zotk.directions import Law, _generator, _integer, _positive
from zotk.estimators import _number, _resolvable
from zotk.models import Residual, _aside
from zotk.structure import NORMS, POINTWISE, normalized, positions, usual

__all__ = ["HZOCost", "HZOEstimate", "hzo_backward", "hzo_cost", "hzo_gradients"]

Loss = Callable[[Tensor, Tensor], Tensor | float]
_BLUR = 0.02  # of 2ε, above which a step is no longer known


@dataclass(frozen=True)
class HZOCost:
    """What all targets of a tower cost, per example, with central differences.

    ``layer_evaluations``: units run on one perturbed row. ``queries``: scalars read off, two for
    each direction. ``rounds``: readouts that must wait for one another. ``nesting``: splits
    between the top and the earliest boundary.
    """

    layer_evaluations: int
    queries: int
    rounds: int
    nesting: int


@dataclass(frozen=True)
class HZOEstimate:
    """What one :func:`hzo_backward` did. Rows times units, each counted when it runs.

    ``loss``; ``base_rows``: without perturbation; ``perturbed_rows``: through segments;
    ``leaf_rows``: through the parts of a unit, to treat its inside; ``loss_evaluations``: calls
    of the loss; ``queries`` and ``rounds`` as in :class:`HZOCost`, queries over all rows.
    """

    loss: float
    base_rows: int
    perturbed_rows: int
    leaf_rows: int
    loss_evaluations: int
    queries: int
    rounds: int


def hzo_cost(width: int, depth: int, arity: int | str) -> HZOCost:
    """The cost of a tower of ``depth`` units of ``width`` outputs; random directions: width = P.

    ``arity`` k ≥ 2 divides segments into k parts, the larger ones first; 1 is direct, "chain"
    (and any arity ≥ depth) goes unit by unit. Counted over the splits :func:`hzo_backward` makes.

    Raises
    ------
    ValueError
        width, depth or arity < 1; another word than "chain".
    TypeError
        width, depth or arity is no integer.
    """
    _integer("width", width, 1)
    _integer("depth", depth, 1)
    units, depths = 0, {depth: 0}
    for m, b in _splits(depth, _arity(arity, depth)):
        units += b - m
        depths[m] = depths[b] + 1
    return HZOCost(
        layer_evaluations=2 * width * units,
        queries=2 * width * (depth - 1),
        rounds=max(depths.values()),
        nesting=depths.get(1, 0),
    )


def hzo_gradients(
    net: nn.Sequential,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    eps: float = 1e-3,
    arity: int | str = 2,
    directions: Law | None = None,
    queries: int | None = None,
    coloring: bool = True,
    generator: torch.Generator | None = None,
    max_rows: int = 4096,
) -> list[Tensor]:
    """The targets δ_1 … δ_L = ∂loss/∂h_l at the outputs of the units, each shaped as h_l.

    Arguments and errors as for :func:`hzo_backward`.
    """
    probe = _Probe(eps, directions, queries, coloring, generator, max_rows)
    with torch.inference_mode():
        targets = _targets(probe, _units(net), x, y, loss, arity).targets
    return [t.clone() for t in targets[1:]]  # of no inference mode, if called outside one


def hzo_backward(
    net: nn.Sequential,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    eps: float = 1e-3,
    arity: int | str = 2,
    directions: Law | None = None,
    queries: int | None = None,
    coloring: bool = True,
    generator: torch.Generator | None = None,
    max_rows: int = 4096,
) -> HZOEstimate:
    """The counterpart of ``loss(net(x), y).backward()``: accumulates into ``.grad``, forward only.

    ``net``: an ``nn.Sequential`` whose entries are the units: Linear, Conv2d, AvgPool2d, MaxPool2d,
    AdaptiveAvgPool2d, elementwise activations (PReLU too), LayerNorm, GroupNorm, BatchNorm and
    Dropout in eval mode, Flatten, :class:`zotk.Residual`, ``nn.Sequential`` of these. ``x``:
    (n, …), rows independent; ``loss(net(x), y)``: one number, called with outputs in float64 and
    never differentiated, nor is anything else. The error is of order ε² for smooth units, 0 for
    affine ones, up to rounding.

    ``directions=None`` perturbs each coordinate of a boundary; a standard law with ``queries`` = P
    draws P directions for each row and boundary from ``generator`` (None: seeded 0). ``arity`` as
    in :func:`hzo_cost`. ``coloring``: in states of two axes or more beside the rows, coordinates
    that no output of the segment sees together move at once, and each is read off the outputs that
    see it; needs the outputs one by one where False needs their inner product with the target.
    At most ``max_rows`` perturbed rows are held at a time (2 at least), beside the directions of
    one row.

    ``.grad`` of every parameter that needs one is written at the end; an error leaves all as they
    were. At a kink a difference sees both sides: 0.5 for ReLU at 0, where autograd says 0, and 0.5
    for each of k equal maxima in a window of MaxPool2d, k/2 in all. Hooks run, but what they
    change is not seen.

    Raises
    ------
    ValueError
        eps, queries, max_rows or arity out of range; queries without directions or directions
        without queries; a law that is not standard; no units or no rows; a unit with settings
        that cannot be treated, named; eps so small that under 1 % of the entries move (a warning
        under 50 %, and where (h + ε) - (h - ε) is off 2ε by over 2 %, with the step that
        serves); autocast; targets, gradients or a loss that are not finite; a ``.grad`` made in
        inference mode, which cannot be added to.
    TypeError
        A unit that is not in the list, or not as torch makes it (weight norm, pruning), named;
        arguments of another kind.
    """
    probe = _Probe(eps, directions, queries, coloring, generator, max_rows)
    with torch.inference_mode():
        units = _units(net)
        read = _targets(probe, units, x, y, loss, arity)
        perturbed, grads = probe.rows, dict[Tensor, Tensor]()
        for unit, h, delta in zip(units, read.states[:-1], read.targets[1:], strict=True):
            _leaf(probe, unit, h, delta, grads)
    for p, grad in grads.items():
        if not grad.isfinite().all():
            raise ValueError(f"a gradient of shape {tuple(p.shape)} is not finite at eps = {eps}")
        if p.grad is not None and p.grad.is_inference():
            raise ValueError("a .grad was made in inference mode; set it to None first")
    # a .grad made in inference mode could never be added to outside it
    with torch.inference_mode(False), torch.no_grad():
        for p, grad in grads.items():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            p.grad.add_(grad)
    return HZOEstimate(
        loss=read.loss,
        base_rows=len(x) * len(units),
        perturbed_rows=perturbed,
        leaf_rows=probe.rows - perturbed,
        loss_evaluations=read.loss_evaluations,
        queries=read.queries,
        rounds=read.rounds,
    )


@dataclass(frozen=True)
class _Read:
    """States h_0 … h_L, targets δ_0 … δ_L (δ_0 stays empty), and what they took."""

    states: list[Tensor]
    targets: list[Tensor]
    loss: float
    loss_evaluations: int
    queries: int
    rounds: int


def _targets(
    probe: "_Probe", units: Sequence[nn.Module], x: Tensor, y: Tensor, loss: Loss, arity: int | str
) -> _Read:
    """All targets, the top one from the loss and the others along the splits."""
    depth = len(units)
    splits = _splits(depth, _arity(arity, depth))
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
        raise TypeError(f"x is {x!r}; a floating-point tensor is needed")
    if torch.is_autocast_enabled(x.device.type):
        raise ValueError("autocast is on: differences need states in one precision; leave it here")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; (n, …) with rows is needed")
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; a function of outputs and targets is needed")
    states = _states(units, x)
    value, top = _top(states[-1], y, loss, probe.eps)
    targets = [x.new_empty(0)] * depth + [top]
    rounds = {depth: 0}
    for m, b in splits:
        h = states[m]
        targets[m] = probe.pull(units[m:b], h, targets[b])
        rounds[m] = rounds[b] + 1
    for m, delta in enumerate(targets[1:], 1):
        if not delta.isfinite().all():
            raise ValueError(f"the target after unit {m - 1} is not finite at eps = {probe.eps}")
    calls = 1 + 2 * top.numel()
    return _Read(states, targets, value, calls, probe.queries, max(rounds.values()))


def _states(units: Sequence[nn.Module], h: Tensor) -> list[Tensor]:
    """h, u_1(h), u_2(u_1(h)), …, each kept from units that work in place."""
    states = [h]
    for unit in units:
        states.append(unit(_aside(unit, states[-1])))
    return states


def _top(h: Tensor, y: Tensor, loss: Loss, eps: float) -> tuple[float, Tensor]:
    """The loss and δ_L, output by output; float64, since a mean moves by ε/n only."""
    wide = h.double().contiguous()
    _resolvable([wide], [torch.ones_like(wide)], eps)
    y = y.double() if isinstance(y, Tensor) and y.dtype.is_floating_point else y
    try:
        value = _number("loss", loss(wide, y))
    except RuntimeError as error:
        raise TypeError(
            f"loss, called with outputs in float64, says: {error} (class weights and the like "
            "must be float64 too)"
        ) from error
    delta = torch.zeros_like(wide)
    moved = wide.clone()
    at, out = moved.view(-1), delta.view(-1)
    for i, middle in enumerate(wide.reshape(-1).tolist()):
        sides = []
        for side in (eps, -eps):
            at[i] = middle + side
            sides.append(_number("loss", loss(moved, y)))
        at[i] = middle
        out[i] = (sides[0] - sides[1]) / (2 * eps)
    return value, delta.to(h.dtype)


class _Probe:
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
        _positive("eps", eps)
        _integer("max_rows", max_rows, 2)
        if directions is not None and not isinstance(directions, Law):
            raise TypeError(f"directions is {directions!r}; a law or None is needed")
        if (directions is None) != (queries is None):
            raise ValueError(
                f"directions is {directions}, queries is {queries}; both are needed, or neither, "
                "which perturbs every coordinate"
            )
        if queries is not None:
            _integer("queries", queries, 1)
        self.eps = float(eps)
        self.rows = self.queries = 0
        self._law, self._queries, self.max_rows = directions, queries, max_rows
        self._colored = bool(coloring)
        self._generator = None if generator is None else _generator(generator)

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
        return _states(units, h)

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
            self._generator = _generator(None, h.device)
        kind: Any = {"generator": self._generator, "dtype": h.dtype, "device": h.device}
        z = [law.sample(count, h[0].numel(), **kind) for _ in h]
        return torch.stack(z).view(len(h), count, *h.shape[1:])

    def _run(self, units: Sequence[nn.Module], h: Tensor) -> Tensor:
        self.rows += len(h) * len(units)
        for unit in units:
            h = unit(h)
        return h


def _leaf(
    probe: _Probe, unit: nn.Module, h: Tensor, delta: Tensor, grads: dict[Tensor, Tensor]
) -> None:
    """Add to ``grads`` what a unit's parameters get from its input h and the target after it."""
    if isinstance(unit, nn.Conv2d) and h.ndim != 4:
        raise ValueError(f"{unit} got shape {tuple(h.shape)}; (n, C, H, W) is needed")
    if isinstance(unit, nn.Linear | nn.Conv2d):
        # a point of a grid is held once for each output that sees it
        seen = prod(unit.kernel_size) if isinstance(unit, nn.Conv2d) else 1
        rows = max(1, probe.max_rows // seen)
        for part, below in zip(h.split(rows), delta.split(rows), strict=True):
            if not _trained(unit.weight):
                break
            groups = positions(unit, part, below[None])
            grad = torch.cat([torch.einsum("npk,nopm->mk", v, out) for v, out in groups])
            _add(grads, unit.weight, grad.view_as(unit.weight))
        if unit.bias is not None:
            _add(
                grads,
                unit.bias,
                delta.movedim(1 if isinstance(unit, nn.Conv2d) else -1, 0).flatten(1).sum(1),
            )
    elif isinstance(unit, NORMS) and unit.weight is not None:
        axes = [k for k in range(h.ndim) if k not in _parameter_axes(unit, h)]
        _add(grads, unit.weight, (delta * normalized(unit, h)).sum(axes))
        if unit.bias is not None:
            _add(grads, unit.bias, delta.sum(axes))
    elif isinstance(unit, nn.PReLU):
        slope = delta * h.clamp(max=0)
        axes = [k for k in range(h.ndim) if k != 1]
        shared = unit.num_parameters == 1
        _add(grads, unit.weight, slope.sum()[None] if shared else slope.sum(axes))
    elif isinstance(unit, Residual):
        for path in (unit.inner, unit.shortcut):
            if path is not None:
                _leaf(probe, path, h, delta, grads)
    elif isinstance(unit, nn.Sequential):
        parts = list(unit)
        needed = [k for k, part in enumerate(parts) if any(map(_trained, part.parameters()))]
        if not needed:
            return
        states = probe.run(parts[:-1], h)
        for k in reversed(range(needed[0], len(parts))):
            _leaf(probe, parts[k], states[k], delta, grads)
            if k > needed[0]:
                delta = _before(probe, parts[k], states[k], delta)


def _before(probe: _Probe, part: nn.Module, h: Tensor, delta: Tensor) -> Tensor:
    """The target before a part of a unit, from the target after it."""
    if isinstance(part, POINTWISE):
        return probe.pair(part, h, delta)
    if isinstance(part, nn.Flatten):
        return delta.reshape(h.shape)
    return probe.pull([part], h, delta)


def _parameter_axes(unit: nn.Module, h: Tensor) -> Sequence[int]:
    """The axes of h along which the weights of a normalisation run."""
    if isinstance(unit, nn.LayerNorm):
        return range(h.ndim - len(unit.normalized_shape), h.ndim)
    return (1,)


def _add(grads: dict[Tensor, Tensor], p: Tensor, grad: Tensor) -> None:
    if _trained(p):
        grads[p] = grads[p] + grad if p in grads else grad


def _step(h: Tensor, eps: float) -> None:
    """Judges whether h + ε and h - ε are 2ε apart in the precision of h."""
    _resolvable([h], [torch.ones_like(h)], eps)
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


def _trained(p: Tensor) -> bool:
    return p.requires_grad


def _units(net: nn.Sequential) -> list[nn.Module]:
    """The top-level entries, if every part of them can be treated."""
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"net is a {type(net).__name__}; an nn.Sequential of units is needed")
    if len(net) == 0:
        raise ValueError("net has no entries; at least one unit is needed")
    for name, module in net.named_modules():
        known = (*POINTWISE, *NORMS, *GRID, nn.Linear, nn.Flatten, nn.Sequential, Residual)
        if type(module) not in known:
            raise TypeError(
                f"unit {name!r} is a {type(module).__name__}; Linear, Conv2d, pooling, Flatten, "
                "BatchNorm, LayerNorm, GroupNorm, Dropout, Residual, Sequential and torch's "
                "activations that act entry by entry and do not jump can be treated"
            )
        # a weight made of others (weight norm, pruning) or another forward: the leaf would be wrong
        own = {"weight", "bias"} if isinstance(module, (nn.Linear, nn.Conv2d, *NORMS)) else set()
        own |= {"weight"} if isinstance(module, nn.PReLU) else set()
        if set(module._parameters) != own or "forward" in vars(module):
            raise TypeError(
                f"unit {name!r}, a {type(module).__name__}, has other parameters or another "
                "forward than torch gives it; it cannot be treated"
            )
        usual(module, f"unit {name!r}")
    return list(net)


def _arity(arity: int | str, depth: int) -> int:
    if arity == "chain":
        return max(depth, 2)
    if isinstance(arity, str):
        raise ValueError(f"arity is {arity!r}; an integer or 'chain' is needed")
    _integer("arity", arity, 1)
    return arity


def _splits(depth: int, arity: int) -> Iterator[tuple[int, int]]:
    """Pairs (m, b): the target of boundary m is read off units m+1 … b. b comes before m."""
    segments = [(0, depth)]
    while segments:
        a, b = segments.pop()
        if b - a < 2:
            continue
        count = min(arity, b - a)
        if arity == 1:  # the first unit alone, the rest to be split again from the same target
            sizes = [1, b - a - 1]
        else:  # larger parts first
            sizes = [(b - a + count - 1 - k) // count for k in range(count)]
        for size in reversed(sizes):
            if b - size > a:
                yield b - size, b
            segments.append((b - size, b))
            b -= size
