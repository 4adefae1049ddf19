"""Gradients of a network's layers in factors, and the inner products of such gradients.

The gradient of output a at example i with respect to a weight matrix (m, k) is Σ_p δ_iap v_ip':
v_ip (k) is what meets the matrix at position p (the input of a Linear layer, a patch of a Conv2d),
δ_iap (m) the derivative of the output by what comes out there. A *factor* is the pair
(v, δ) of shapes (n, p, k) and (n, c, p, m). Its bias is one more entry of v, constantly 1, and
a Jacobian (n, c, P) is the factor with one position, v = 1 and δ = J.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from zotk.networks.contract import aside

__all__ = [
    "ELEMENTWISE", "NORMS", "POINTWISE", "POOLING", "Factor", "compact", "factors", "inner",
    "leaves", "normalized", "positions", "usual",
]  # fmt: skip

Factor = tuple[Tensor, Tensor]
Leaf = tuple[str, nn.Module]  # the prefix of its parameters' names, and the layer

ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Sigmoid, nn.LogSigmoid, nn.Tanh,
    nn.Tanhshrink, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip
# each output sees its own entry alone, in eval mode
POINTWISE = (*ELEMENTWISE, nn.PReLU, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
POOLING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ENTRIES = 2**20  # products of pairs of positions and outputs held at once


def leaves(net: nn.Module, x: Tensor) -> list[Leaf] | None:
    """The layers that ``net`` applies to x one after another; None where that is not sure.

    It is for nested ``nn.Sequential`` of Linear, Conv2d, Flatten, pooling and elementwise
    layers, torch's own and untouched: a subclass, a hook (of weight norm, pruning, a count), a
    parametrization or a parameter of two layers may do anything.
    """
    if any(vars(module)[kind] for module in net.modules() for kind in _HOOKS):
        return None
    found = list(_walk(net))
    owned = [p for _, leaf in found for p in leaf.parameters()]
    known = all(_known(leaf, x) for _, leaf in found)
    return found if known and len({id(p) for p in owned}) == len(owned) else None


def _walk(net: nn.Module, prefix: str = "") -> Iterator[Leaf]:
    if type(net) is nn.Sequential and "forward" not in vars(net):
        for name, child in net._modules.items():
            if child is not None:
                yield from _walk(child, f"{prefix}{name}.")
    else:
        yield prefix, net


def _known(leaf: nn.Module, x: Tensor) -> bool:
    if "forward" in vars(leaf):
        return False
    if type(leaf) is nn.Conv2d:  # without an axis of examples it would take them for channels
        return x.ndim == 4 and leaf.padding_mode == "zeros"
    if type(leaf) is nn.Flatten:
        return (leaf.start_dim, leaf.end_dim) == (1, -1)
    if type(leaf) is nn.MaxPool2d and leaf.return_indices:
        return False
    return x.ndim > 1 and type(leaf) in (nn.Linear, *ELEMENTWISE, *POOLING)


def usual(layer: nn.Module, name: str) -> None:
    """Raise ValueError, naming the layer, for settings under which rows or borders get lost."""
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
        dims = (layer.start_dim, layer.end_dim)
        raise ValueError(f"{name} flattens axes {dims}; (1, -1) keeps the rows")
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.padding_mode != "zeros":
        raise ValueError(f"{name} pads by {layer.padding_mode!r}; 'zeros' is needed")
    if isinstance(layer, nn.MaxPool2d) and layer.return_indices:
        raise ValueError(f"{name} returns indices; return_indices=False is needed")
    if isinstance(layer, nn.Dropout | nn.Dropout2d) and layer.training:
        raise ValueError(f"{name} drops entries anew in every pass; call eval() first")
    batch = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    if batch and (layer.training or layer.running_mean is None):
        raise ValueError(f"{name} mixes the rows of a batch; eval() with statistics is needed")


def normalized(layer: nn.Module, h: Tensor) -> Tensor:
    """What a BatchNorm in eval mode, a LayerNorm or a GroupNorm makes of h before its weights."""
    F = nn.functional
    match layer:
        case nn.LayerNorm():
            return F.layer_norm(h, layer.normalized_shape, None, None, layer.eps)
        case nn.GroupNorm():
            return F.group_norm(h, layer.num_groups, None, None, layer.eps)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return F.batch_norm(h, layer.running_mean, layer.running_var, eps=layer.eps)
    raise TypeError(f"{layer} is no normalisation")


def factors(
    net: Sequence[Leaf], params: dict[str, Tensor], x: Tensor, outputs: int, *, total: bool
) -> Iterator[Factor]:
    """The factors of x (n, …), last layer first: one per layer, per group of a Conv2d.

    Only of what ``params`` names. One pass forward, and one backward for all ``outputs``
    together. ``total``: the outputs side by side in δ, (n, 1, p, c·m), so that inner products
    come out summed over equal outputs.
    """
    tape: list[tuple[nn.Module, dict[str, Tensor], Tensor, Callable[[Tensor], Any]]] = []
    for prefix, leaf in net:
        own = {}
        if isinstance(leaf, nn.Linear | nn.Conv2d):
            own = {k: params[prefix + k] for k in ("weight", "bias") if prefix + k in params}

        def layer(v: Tensor, leaf: nn.Module = leaf, own: dict[str, Tensor] = own) -> Tensor:
            return functional_call(leaf, own, (aside(leaf, v),))

        v = x
        if own or tape:
            x, pull = vjp(layer, v)  # type: ignore[misc]  # no third result without has_aux
            tape.append((leaf, own, v, pull))
        else:
            x = layer(v)
    eye = torch.eye(outputs, dtype=x.dtype, device=x.device)
    delta = eye[:, None].expand(outputs, *x.shape)
    while tape:
        leaf, own, v, pull = tape.pop()
        if own:
            for patches, errors in positions(leaf, v, delta):
                seen = [patches] if "weight" in own else []
                if "bias" in own:
                    seen.append(torch.ones_like(patches[..., :1]))
                if total:
                    errors = errors.transpose(1, 2).flatten(2)[:, None]
                yield torch.cat(seen, 2), errors
        if tape and isinstance(leaf, ELEMENTWISE):
            delta = delta * pull(torch.ones_like(v))[0]
        elif tape:
            (delta,) = vmap(pull)(delta)


def positions(leaf: nn.Module, v: Tensor, delta: Tensor) -> Iterator[Factor]:
    """What goes into a layer and the derivatives by what comes out (c, n, …), per position."""
    if isinstance(leaf, nn.Conv1d | nn.Conv2d):
        sizes = (leaf.kernel_size, leaf.dilation, leaf.stride)
        kernel, dilation, stride = (_plane(each, 1) for each in sizes)
        around = leaf.padding if isinstance(leaf.padding, str) else _plane(leaf.padding, 0)
        v = v[:, :, None] if isinstance(leaf, nn.Conv1d) else v
        if around == "same":  # the odd one goes behind, as in torch
            (top, low), (left, right) = (
                (d * (k - 1) // 2, (d * (k - 1) + 1) // 2)
                for d, k in zip(dilation, kernel, strict=True)
            )
            v, around = nn.functional.pad(v, (left, right, top, low)), "valid"
        around = (0, 0) if isinstance(around, str) else around
        patches = nn.functional.unfold(v, kernel, dilation, around, stride)
        for into, out in zip(
            patches.chunk(leaf.groups, 1), delta.flatten(3).chunk(leaf.groups, 2), strict=True
        ):
            yield into.mT, out.mT.transpose(0, 1)
    else:
        n = len(v)
        yield (
            v.reshape(n, -1, v.shape[-1]),
            delta.reshape(len(delta), n, -1, delta.shape[-1]).transpose(0, 1),
        )


def _plane(sizes: tuple[int, ...], alone: int) -> tuple[int, int]:
    """Sizes of a grid layer along both axes: a line is a grid of height 1."""
    height, width = (alone, *sizes)[-2:]
    return height, width


def compact(factor: Factor) -> Factor:
    """The sum over positions carried out, as a Jacobian, where inner products cost less so.

    Per pair of examples: c² m k products with it, p² (k + c² m) without.
    """
    v, delta = factor
    n, c, p, m = delta.shape
    k = v.shape[2]
    if p == 1 or c * c * m * k >= p * p * (k + c * c * m):
        return v, delta
    # one product per example, outputs side by side: v is not repeated for each of them
    jacobian = delta.mT.reshape(n, c * m, p) @ v
    return v.new_ones(n, 1, 1), jacobian.reshape(n, c, 1, m * k)


def inner(left: Factor, right: Factor) -> Tensor:
    """Inner products of the gradients of n1 and n2 examples: (n1, n2, c, c).

    Σ_pq <v_ip, v_jq> <δ_iap, δ_jbq>, which for one position is a product of two Gram matrices.
    """
    (_, delta), (w, gamma) = left, right
    _, c, p, _ = delta.shape
    n, q = w.shape[:2]
    step = max(1, _ENTRIES // (c * p * n * c * q))
    blocks = []
    for v, d in zip(left[0].split(step), delta.split(step), strict=True):
        pairs = d.flatten(0, 2) @ gamma.flatten(0, 2).T
        pairs = pairs.view(len(d), c, p, n, c, q)
        pairs *= (v.flatten(0, 1) @ w.flatten(0, 1).T).view(len(d), 1, p, n, 1, q)
        blocks.append((pairs.sum((2, 5)) if p * q > 1 else pairs[:, :, 0, ..., 0]).transpose(1, 2))
    return torch.cat(blocks) if len(blocks) > 1 else blocks[0]
