"""Tangent kernels of any model: exact, or from random directions. K is never divided by N.

:func:`ntk` takes inner products of the model's gradients. :func:`zo_entk` estimates them from
random directions, without a backward pass.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import jacrev, jvp, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from zotk.arguments import integer, positive, seeded
from zotk.estimators.directions import Law
from zotk.estimators.evaluation import fresh
from zotk.estimators.laws import Gaussian, Orthogonal
from zotk.estimators.parameters import floating, resolvable
from zotk.kernels.average import KernelEstimate
from zotk.networks.contract import Functional, Model
from zotk.networks.layers import Factor, compact, factors, inner, leaves

__all__ = ["ntk", "zo_entk"]

_JACOBIAN = 2**25  # entries of the Jacobian (of factors) held for x1, and at most as many for x2
_ROWS = 64  # examples differentiated at once: this bounds what the model holds meanwhile
_ENTRIES = 2**20  # numbers held at once while sampling, beside the kernels


def ntk(
    f: Model,
    params: dict[str, Tensor],
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    outputs: str = "full",
) -> Tensor:
    """The tangent kernel K_ij = <∂f(x_i)/∂θ, ∂f(x_j)/∂θ> of x1 (n1, …) and x2 (n2, …; None: x1).

    For outputs (n, c): shape (n1, n2, c, c), entry [i, j, a, b] pairing output a at x_i with b at
    x_j, or with ``outputs="trace"`` its sum over a = b, (n1, n2). For outputs (n,): (n1, n2)
    either way. f must treat examples independently (no batch norm in training mode).

    What :func:`zotk.functional` makes of a ``Sequential`` of Linear, Conv2d, Flatten, pooling
    and elementwise layers is taken layer by layer, its gradients in factors: no Jacobian, and
    orders of magnitude faster. Any other f, and a network with hooks or a parameter of several
    layers, is differentiated example by example.

    Memory: the result and a bounded number of rows of the Jacobian (of factors), at least one
    of x1 and one of x2, which for long x1 are computed more than once. No graph is kept.

    Raises
    ------
    TypeError
        ``params`` not a dict of floating-point tensors; x1 or x2 no tensor.
    ValueError
        ``outputs`` unknown; batch norm or dropout in train mode in what :func:`zotk.functional`
        made; x1 and x2 without rows or of different shapes of an example;
        outputs of another shape.
    """
    if outputs not in ("full", "trace"):
        raise ValueError(f"outputs is {outputs!r}; 'full' or 'trace' is needed")
    params, x1, right, out = _evaluated(f, params, x1, x2)
    with torch.no_grad():
        kernel = _blocks(f, params, x1, None if x2 is None else right, out, outputs == "trace")
    return kernel if out.ndim == 2 and outputs == "full" else kernel[:, :, 0, 0]


def _evaluated(
    f: Model, params: dict[str, Tensor], x1: Tensor, x2: Tensor | None
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """The arguments detached, x1 for a missing x2, and the outputs at the first example."""
    if not isinstance(params, dict) or not params:
        raise TypeError(f"params is {params!r}; a dict of tensors, not empty, is needed")
    for name, value in params.items():
        if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
            raise TypeError(f"params[{name!r}] is {value!r}; a floating-point tensor is needed")
    for name, x in (("x1", x1), ("x2", x1 if x2 is None else x2)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} is {x!r}; a tensor is needed")
        if x.ndim == 0 or len(x) == 0 or x.shape[1:] != x1.shape[1:]:
            shape = tuple(x.shape)
            raise ValueError(f"{name} has shape {shape}; (n, …) is needed, n > 0, alike in x1, x2")
    if isinstance(f, Functional):
        _by_example(f.net)
    params = {name: value.detach() for name, value in params.items()}
    x1, right = x1.detach(), x1.detach() if x2 is None else x2.detach()
    with torch.no_grad():
        out = fresh(lambda: f(params, x1[:1].clone()))  # a layer may work in place
    if out.ndim not in (1, 2) or len(out) != 1:
        raise ValueError(f"f gives shape {tuple(out.shape)} for one example; (1,) or (1, c) needed")
    return params, x1, right, out


def _by_example(net: nn.Module) -> None:
    """Refuse layers that couple the examples of a batch, or draw anew at every call."""
    for name, layer in net.named_modules():
        kind = f"layer {name!r} of f is a {type(layer).__name__}"
        if isinstance(layer, _BatchNorm):
            if layer.running_mean is None:
                raise ValueError(
                    f"{kind} without running statistics, which couples the examples; "
                    "track_running_stats=True, and net.eval(), are needed"
                )
            if layer.training:
                raise ValueError(f"{kind} in train mode, which couples examples; call net.eval()")
        if isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
            raise ValueError(f"{kind} in train mode, which draws at every call; call net.eval()")


def _blocks(
    f: Model, params: dict[str, Tensor], x1: Tensor, x2: Tensor | None, out: Tensor, total: bool
) -> Tensor:
    """The kernel (n1, n2, c, c), block by block; with c = 1 for its trace."""
    c = out.numel()
    net = leaves(f.net, x1) if isinstance(f, Functional) and out.ndim == 2 else None
    differentiate = vmap(jacrev(lambda p, row: f(p, row[None])[0]), in_dims=(None, 0))

    def gradients(x: Tensor) -> list[Factor]:
        if net is not None:
            return [compact(factor) for factor in factors(net, params, x, c, total=total)]
        n, one = len(x), out.new_ones(len(x), 1, 1)
        jacobians = fresh(lambda: differentiate(params, x)).values()
        return [(one, j.reshape(n, 1 if total else c, 1, -1)) for j in jacobians]

    size = c * sum(value.numel() for value in params.values())
    if net is not None:
        first = factors(net, params, x1[:1], c, total=total)
        size = sum(t.numel() for raw in first for factor in (raw, compact(raw)) for t in factor)
    step = max(1, min(_ROWS, _JACOBIAN // max(1, size)))
    held = max(1, _JACOBIAN // max(1, size)) // step * step

    right = x1 if x2 is None else x2
    width = 1 if total else c
    kernel = out.new_empty(len(x1), len(right), width, width)
    for top in range(0, len(x1), held):
        rows = slice(top, top + held)
        pieces = zip(*(gradients(x) for x in x1[rows].split(step)), strict=True)
        left = [_joined(parts) for parts in pieces]
        for start in range(top if x2 is None else 0, len(right), step):
            columns = slice(start, start + step)
            if x2 is None and start < top + held:
                part = slice(start - top, start - top + step)
                other = [(v[part], delta[part]) for v, delta in left]
            else:
                other = gradients(right[columns])
            pairs = zip(left, other, strict=True)
            block = sum((inner(a, b) for a, b in pairs), out.new_zeros(1, 1, width, width))
            kernel[rows, columns] = block
            if x2 is None:
                kernel[columns, rows] = block.permute(1, 0, 3, 2)
    return kernel


def _joined(parts: Sequence[Factor]) -> Factor:
    """One factor of the examples of several."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([v for v, _ in parts]), torch.cat([delta for _, delta in parts])


def zo_entk(
    f: Model,
    params: dict[str, Tensor],
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    directions: Law = Gaussian(),  # noqa: B008 (frozen)
    queries: int,
    scheme: str = "jvp",
    eps: float = 1e-3,
    generator: torch.Generator | None = None,
) -> KernelEstimate:
    """The tangent kernel from ``queries`` directions z: the mean of (J1 z)(J2 z)', J by θ.

    Shapes as of :func:`ntk` (full). Both sets see the same z, so the mean is J1 E[zz'] J2':
    for a law with E[zz'] = I the tangent kernel. ``scheme="jvp"``: J z in forward mode, exact;
    "central": [f(θ + εz) - f(θ - εz)] / 2ε, function values alone, off by O(ε²) and by their
    rounding over ε. f must treat examples independently and work under ``torch.func.vmap``.

    ``stderr``: the standard error of each entry, from ``draws`` independent draws; nan for a
    single one. Directions are independent draws, except that the rows of one block of
    ``Orthogonal`` (d rows, or all ``queries`` if fewer) make one draw together.

    Directions are drawn by ``generator`` (None: a fresh one seeded 0) in chunks, and forgotten:
    memory does not grow with ``queries``, but for ``Orthogonal``, whose block is held. Equal
    generators give the same directions whatever the inputs.

    Raises
    ------
    TypeError
        As :func:`ntk`; ``directions`` no law, ``queries`` no integer, ``eps`` no number.
    ValueError
        As :func:`ntk`; ``scheme`` unknown; queries < 1, or more than d and no multiple of d for
        ``Orthogonal``; eps ≤ 0, or ("central") so small that under 1 % of the parameters move (a
        warning under 50 %).
    """
    if not isinstance(directions, Law):
        raise TypeError(f"directions is {directions!r}; a law such as zotk.Gaussian() is needed")
    integer("queries", queries, 1)
    positive("eps", eps)
    if scheme not in ("jvp", "central"):
        raise ValueError(f"scheme is {scheme!r}; 'jvp' or 'central' is needed")
    params, x1, right, out = _evaluated(f, params, x1, x2)
    theta = list(params.values())
    floating(theta)
    sizes = [t.numel() for t in theta]
    d, c, device = sum(sizes), out.numel(), theta[0].device
    blocks = isinstance(directions, Orthogonal)
    if blocks and queries > d and queries % d:
        raise ValueError(
            f"queries is {queries} with directions={directions} in R^{d}; at most {d} or a "
            f"multiple of it is needed"
        )
    generator = seeded(generator, device)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in theta) else torch.float32
    x = x1 if x2 is None else torch.cat((x1, right))

    def push(*z: Tensor) -> Tensor:
        """J z, (n,) or (n, c)."""
        tangent = dict(zip(params, z, strict=True))
        if scheme == "jvp":
            return fresh(lambda: jvp(lambda p: f(p, x), (params,), (tangent,)))[1]

        def moved(side: int) -> dict[str, Tensor]:
            return {k: torch.add(t, tangent[k], alpha=side * eps) for k, t in params.items()}

        plus, minus = (fresh(partial(f, moved(side), x)) for side in (1, -1))
        return (plus - minus) / (2 * eps)

    def cut(z: Tensor) -> list[Tensor]:
        """The pieces of some directions, as the parameters are."""
        parts = zip(z.split(sizes, 1), theta, strict=True)
        return [part.reshape(-1, *t.shape).to(t.dtype) for part, t in parts]

    drawn = d if blocks else max(1, _ENTRIES // max(1, d))
    held = max(1, _ENTRIES // (d + x.numel() + len(x) * c))
    mean = torch.zeros(len(x1) * c, len(right) * c, dtype=torch.float64, device=out.device)
    squares = torch.zeros_like(mean)  # sum of squared deviations from the mean
    draws = 0
    with torch.no_grad():
        for start in range(0, queries, drawn):
            n = min(drawn, queries - start)
            z = directions.sample(n, d, generator=generator, dtype=dtype, device=device)
            if scheme == "central" and start == 0:
                resolvable(theta, [piece[0] for piece in cut(z[:1])], eps)
            new, second = torch.zeros_like(mean), torch.zeros_like(mean)
            for part in z.split(held):
                pushed = vmap(push)(*cut(part)).double()
                left, other = pushed[:, : len(x1)].flatten(1), pushed[:, -len(right) :].flatten(1)
                new += left.T @ other / n
                second += left.square().T @ other.square()
            count = 1 if blocks else n
            if not blocks:
                squares += (second - n * new.square()).clamp_(min=0)
            # what was there and the new draws joined
            new -= mean
            squares += new.square() * (draws * count / (draws + count))
            mean += new * (count / (draws + count))
            draws += count
    stderr = (squares / (draws * (draws - 1))).sqrt() if draws > 1 else squares.fill_(torch.nan)
    shape = (len(x1), c, len(right), c) if out.ndim == 2 else (len(x1), len(right))

    def shaped(kernel: Tensor) -> Tensor:
        kernel = kernel.to(out.dtype).reshape(shape)
        return kernel.transpose(1, 2) if out.ndim == 2 else kernel

    return KernelEstimate(shaped(mean), shaped(stderr), draws)
