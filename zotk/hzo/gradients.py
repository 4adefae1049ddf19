"""Hierarchical zeroth-order gradients: divide the depth, and never differentiate.

After the idea of Cao, Ma and Tian (arXiv 2602.10607), of which we know the abstract page only: the
algorithm below is our reconstruction. A network is a chain of units h_l = u_l(h_{l-1}), and the
target of boundary l is δ_l = ∂loss/∂h_l, one row per example. Where the target δ_b is known, any
earlier one is read off forward passes through the segment F = u_b ∘ … ∘ u_{m+1} alone,

    δ_m = Σ_i e_i ⟨δ_b, F(h_m + εe_i) - F(h_m - εe_i)⟩ / 2ε ,

and with all δ_l at hand each unit's parameters follow from its own input and target. Which δ_b is
used for which δ_m is a binary tree over the units: halves (hierarchical), the next unit only
(chain), the top only (direct). Where outputs see parts of h_m only, as in convolutions, several
coordinates move at once and the sum over outputs splits: see :mod:`zotk.hzo.coloring`.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from zotk.estimators.directions import Law
from zotk.estimators.parameters import number, resolvable
from zotk.hzo.coloring import CONVOLUTIONS, GRID
from zotk.hzo.cost import divided, divisor
from zotk.hzo.probe import Probe, through
from zotk.networks.contract import Residual
from zotk.networks.layers import NORMS, POINTWISE, normalized, positions, usual

__all__ = ["HZOEstimate", "hzo_backward", "hzo_gradients"]

Loss = Callable[[Tensor, Tensor], Tensor | float]


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
    probe = Probe(eps, directions, queries, coloring, generator, max_rows)
    with torch.inference_mode(), _own_precision(x):
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

    ``net``: an ``nn.Sequential`` whose entries are the units: Linear, Conv1d, Conv2d, AvgPool2d,
    MaxPool2d, AdaptiveAvgPool2d, elementwise activations (PReLU too), LayerNorm, GroupNorm,
    BatchNorm and Dropout in eval mode, Flatten, :class:`zotk.Residual`, ``nn.Sequential`` of these.
    ``x``: (n, …), rows independent; ``loss(net(x), y)``: one number, called with outputs in float64
    and never differentiated, nor is anything else. The error is of order ε² for smooth units, 0 for
    affine ones, up to rounding.

    ``directions=None`` perturbs each coordinate of a boundary; a standard law with ``queries`` = P
    draws P directions for each row and boundary from ``generator`` (None: seeded 0). ``arity`` as
    in :func:`hzo_cost`. ``coloring``: in states of two axes or more beside the rows, coordinates
    that no output of the segment sees together move at once, and each is read off the outputs that
    see it; needs the outputs one by one where False needs their inner product with the target.
    At most ``max_rows`` perturbed rows are held at a time (2 at least), beside the directions of
    one row.

    Autocast is off inside, since halves would leave little of a difference.

    ``.grad`` of every parameter that needs one is written at the end; an error leaves all as they
    were. At a kink a difference sees both sides: 0.5 for ReLU at 0, where autograd says 0, and 0.5
    for each of k equal maxima in a window of MaxPool2d, k/2 in all. Hooks run. Targets see what
    they change, the gradients of the module's own parameters do not: a warning names it.

    Raises
    ------
    ValueError
        eps, queries, max_rows or arity out of range; queries without directions or directions
        without queries; a law that is not standard; no units or no rows; a unit with settings
        that cannot be treated, named; eps so small that under 1 % of the entries move (a warning
        under 50 %, and where (h + ε) - (h - ε) is off 2ε by over 2 %, with the step that
        serves); targets, gradients or a loss that are not finite; a ``.grad`` made in
        inference mode, which cannot be added to.
    TypeError
        A unit that is not in the list, or not as torch makes it (weight norm, pruning), named;
        arguments of another kind.
    """
    probe = Probe(eps, directions, queries, coloring, generator, max_rows)
    with torch.inference_mode(), _own_precision(x), _hooks_watched(net):
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


def _own_precision(x: Any) -> torch.autocast:
    """Autocast off, on the device of x."""
    return torch.autocast(getattr(x, "device", torch.device("cpu")).type, enabled=False)


@contextmanager
def _hooks_watched(net: nn.Module) -> Iterator[None]:
    """Warns, once for each module with parameters, of hooks that change its input or output."""
    given: dict[nn.Module, Tensor] = {}
    made: dict[nn.Module, Tensor] = {}
    changed: set[nn.Module] = set()

    def before(module: nn.Module, args: Any) -> None:
        given[module] = args[0].clone()

    def between(module: nn.Module, args: Any, output: Tensor) -> None:
        made[module] = output.clone()
        if not torch.equal(args[0], given[module]):
            changed.add(module)

    def after(module: nn.Module, _: Any, output: Tensor) -> None:
        if not torch.equal(output, made[module]):
            changed.add(module)

    with ExitStack() as own:
        for module in net.modules() if isinstance(net, nn.Module) else ():
            hooked = module._forward_hooks or module._forward_pre_hooks
            if hooked and next(module.parameters(), None) is not None:
                own.enter_context(module.register_forward_pre_hook(before, prepend=True))
                own.enter_context(module.register_forward_hook(between, prepend=True))
                own.enter_context(module.register_forward_hook(after))
        yield
    for name, module in net.named_modules():
        if module in changed:
            warnings.warn(
                f"a hook of unit {name!r}, a {type(module).__name__}, changes what goes in or "
                "comes out: targets see that, the gradients of its own parameters do not",
                stacklevel=3,
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
    probe: "Probe", units: Sequence[nn.Module], x: Tensor, y: Tensor, loss: Loss, arity: int | str
) -> _Read:
    """All targets, the top one from the loss and the others along the splits."""
    depth = len(units)
    splits = divided(depth, divisor(arity, depth))
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
        raise TypeError(f"x is {x!r}; a floating-point tensor is needed")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; (n, …) with rows is needed")
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; a function of outputs and targets is needed")
    states = through(units, x)
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


def _top(h: Tensor, y: Tensor, loss: Loss, eps: float) -> tuple[float, Tensor]:
    """The loss and δ_L, output by output; float64, since a mean moves by ε/n only."""
    wide = h.double().contiguous()
    resolvable([wide], [torch.ones_like(wide)], eps)
    y = y.double() if isinstance(y, Tensor) and y.dtype.is_floating_point else y
    try:
        value = number("loss", loss(wide, y))
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
            sides.append(number("loss", loss(moved, y)))
        at[i] = middle
        out[i] = (sides[0] - sides[1]) / (2 * eps)
    return value, delta.to(h.dtype)


def _leaf(
    probe: Probe, unit: nn.Module, h: Tensor, delta: Tensor, grads: dict[Tensor, Tensor]
) -> None:
    """Add to ``grads`` what a unit's parameters get from its input h and the target after it."""
    grid = isinstance(unit, CONVOLUTIONS)
    axes_of = "(n, C, L)" if isinstance(unit, nn.Conv1d) else "(n, C, H, W)"
    if grid and h.ndim != axes_of.count(",") + 1:
        raise ValueError(f"{unit} got shape {tuple(h.shape)}; {axes_of} is needed")
    if isinstance(unit, (nn.Linear, *CONVOLUTIONS)):
        # a point of a grid is held once for each output that sees it
        seen = 1 if isinstance(unit, nn.Linear) else prod(unit.kernel_size)
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
                delta.movedim(1 if grid else -1, 0).flatten(1).sum(1),
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


def _before(probe: Probe, part: nn.Module, h: Tensor, delta: Tensor) -> Tensor:
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
                f"unit {name!r} is a {type(module).__name__}; Linear, Conv1d, Conv2d, pooling, "
                "Flatten, BatchNorm, LayerNorm, GroupNorm, Dropout, Residual, Sequential and "
                "torch's activations that act entry by entry and do not jump can be treated"
            )
        # a weight made of others (weight norm, pruning) or another forward: the leaf would be wrong
        leaf = (nn.Linear, *CONVOLUTIONS, *NORMS)
        own = {"weight", "bias"} if isinstance(module, leaf) else set()
        own |= {"weight"} if isinstance(module, nn.PReLU) else set()
        if set(module._parameters) != own or "forward" in vars(module):
            raise TypeError(
                f"unit {name!r}, a {type(module).__name__}, has other parameters or another "
                "forward than torch gives it; it cannot be treated"
            )
        usual(module, f"unit {name!r}")
    return list(net)
