"""Kernels of models under first- and zeroth-order updates. K is never divided by N.

:func:`ntk` is the tangent kernel of any model: inner products of its gradients. :func:`zo_entk`
estimates it from random directions, without a backward pass. The others are
about linear models f(x) = <θ, x>; the features of a linearised model are its gradients. The
Neural Zeroth-order Kernel of one pair of directions (NZK paper, Eq 5) is, for features x_i,
K_ij = <x_i, ζ><ζ, z><z, x_j>: :func:`nzk` is its expectation, :func:`nzk_samples` its average
over drawn pairs. :func:`zo_kernel` is the expected kernel of one step of ZO-SGD,
E[<x_i, z><z, x_j>], which has no ζ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev, jvp, vmap

from zotk.directions import Gaussian, Law, Orthogonal, _generator, _integer, _positive
from zotk.estimators import _floating, _resolvable
from zotk.models import Functional, Model
from zotk.structure import Factor, compact, factors, inner, leaves

__all__ = ["KernelEstimate", "ntk", "nzk", "nzk_samples", "zo_entk", "zo_kernel"]

_JACOBIAN = 2**25  # entries of the Jacobian (of factors) held for x1, and at most as many for x2
_ROWS = 64  # examples differentiated at once: this bounds what the model holds meanwhile
_ENTRIES = 2**20  # numbers held at once while sampling, beside the kernel itself


@dataclass(frozen=True)
class KernelEstimate:
    """A kernel averaged over ``draws`` independent draws, with the standard error per entry."""

    matrix: Tensor
    stderr: Tensor
    draws: int


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
        ``outputs`` unknown; x1 and x2 without rows or of different shapes of an example;
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
    params = {name: value.detach() for name, value in params.items()}
    x1, right = x1.detach(), x1.detach() if x2 is None else x2.detach()
    with torch.no_grad():
        out = f(params, x1[:1].clone())  # a layer may work in place
    if out.ndim not in (1, 2) or len(out) != 1:
        raise ValueError(f"f gives shape {tuple(out.shape)} for one example; (1,) or (1, c) needed")
    return params, x1, right, out


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
        jacobians = differentiate(params, x).values()
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
    _integer("queries", queries, 1)
    _positive("eps", eps)
    if scheme not in ("jvp", "central"):
        raise ValueError(f"scheme is {scheme!r}; 'jvp' or 'central' is needed")
    params, x1, right, out = _evaluated(f, params, x1, x2)
    theta = list(params.values())
    _floating(theta)
    sizes = [t.numel() for t in theta]
    d, c, device = sum(sizes), out.numel(), theta[0].device
    blocks = isinstance(directions, Orthogonal)
    if blocks and queries > d and queries % d:
        raise ValueError(
            f"queries is {queries} with directions={directions} in R^{d}; at most {d} or a "
            f"multiple of it is needed"
        )
    generator = _generator(generator, device)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in theta) else torch.float32
    x = x1 if x2 is None else torch.cat((x1, right))

    def push(*z: Tensor) -> Tensor:
        """J z, (n,) or (n, c)."""
        tangent = dict(zip(params, z, strict=True))
        if scheme == "jvp":
            return jvp(lambda p: f(p, x), (params,), (tangent,))[1]
        plus, minus = (
            f({k: torch.add(t, tangent[k], alpha=side * eps) for k, t in params.items()}, x)
            for side in (1, -1)
        )
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
                _resolvable(theta, [piece[0] for piece in cut(z[:1])], eps)
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


def nzk(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    directions: Law,
    shared: bool = False,
    other: Law | None = None,
) -> Tensor:
    """The expected NZK of features x1 (n1, d) and x2 (n2, d; None: x1): shape (n1, n2).

    Independent ζ and z: ``x_i' E[ζζ'] E[zz'] x_j`` (NZK paper, Theorem 1, any two laws);
    ``directions`` is the law of z, ``other`` that of ζ (None: the same). ``shared``: ζ = z,
    ``x_i' E[|z|² zz'] x_j`` (Corollary 2; with a mean ≠ 0, in general form).

    Raises
    ------
    ValueError
        Features that are not (n1, d) and (n2, d); ``other`` given beside ``shared``; a law
        without the moments asked for.
    """
    x1, x2 = _features(x1, x2)
    d = x1.shape[1]
    if shared:
        if other is not None:
            raise ValueError(f"other is {other}; with shared=True there is no second law")
        return _quadratic(x1, x2, *_fourth(directions, d))
    zeta = _second(directions if other is None else other, d)
    return _quadratic(x1, x2, *_product(zeta, _second(directions, d), d))


def zo_kernel(x1: Tensor, x2: Tensor | None = None, *, directions: Law) -> Tensor:
    """The expected one-step kernel of ZO-SGD, x_i' E[zz'] x_j: shape (n1, n2).

    One step on the mean loss changes the outputs at x1, in mean, by -(lr/n2) K L'(f(x2)).
    Raises as :func:`nzk`.
    """
    x1, x2 = _features(x1, x2)
    return _quadratic(x1, x2, *_second(directions, x1.shape[1]))


def nzk_samples(
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    directions: Law,
    draws: int,
    shared: bool = False,
    other: Law | None = None,
    generator: torch.Generator | None = None,
) -> KernelEstimate:
    """The NZK averaged over ``draws`` ≥ 2 independent pairs (ζ, z), with standard errors.

    Arguments as :func:`nzk`. Memory: the two results and a bounded chunk of draws. The rows
    of ``Orthogonal`` are no independent draws, and refused. Of centred Gaussian directions only
    what the features see is drawn, where that is less: the same law of every draw, at lower cost.
    """
    x1, x2 = _features(x1, x2)
    _integer("draws", draws, 2)
    if shared and other is not None:
        raise ValueError(f"other is {other}; with shared=True there is no second law")
    zeta_law = directions if other is None else other
    for law in (directions, zeta_law):
        if type(law).__name__ == "Orthogonal":
            raise ValueError("the rows of Orthogonal() are not independent draws; use Sphere()")
    generator = _generator(generator, x1.device)
    unseen = 0
    if all(isinstance(law, Gaussian) and law.mean == 0 for law in (directions, zeta_law)):
        x1, x2, unseen = _seen(x1, x2, draws)
    d = x1.shape[1]
    kind = {"generator": generator, "dtype": x1.dtype, "device": x1.device}
    first = torch.zeros(len(x1), len(x2), dtype=torch.float64, device=x1.device)
    second = torch.zeros_like(first)
    chunk = max(1, _ENTRIES // (2 * d + 2 * (len(x1) + len(x2))))
    for start in range(0, draws, chunk):
        n = min(chunk, draws - start)
        z = directions.sample(n, d, **kind)  # type: ignore[arg-type]
        zeta = z if shared else zeta_law.sample(n, d, **kind)  # type: ignore[arg-type]
        if unseen:
            half = torch.full((n,), unseen / 2, dtype=first.dtype, device=x1.device)
            length = torch._standard_gamma(half, generator=generator).mul_(2).sqrt_()
            zeta[:, -1] = zeta_law.second_moment(d) ** 0.5 * length
        left = (zeta @ x1.T) * (zeta * z).sum(1, keepdim=True)
        right = z @ x2.T
        first += left.T @ right
        second += left.square_().T @ right.square_()
    mean = first / draws
    variance = (second / draws - mean.square()).clamp_(min=0)
    stderr = (variance / (draws - 1)).sqrt_()
    return KernelEstimate(mean.to(x1.dtype), stderr.to(x1.dtype), draws)


# A matrix aI + b11' is the pair (a, b): all that the moments of our laws need.


def _second(law: Law, d: int) -> tuple[float, float]:
    """E[zz']."""
    if isinstance(law, Gaussian):
        return law.std**2, law.mean**2
    return law.second_moment(d), 0.0


def _fourth(law: Law, d: int) -> tuple[float, float]:
    """E[|z|² zz']."""
    if isinstance(law, Gaussian) and law.mean:
        s2, m2 = law.std**2, law.mean**2
        return (d + 2) * s2**2 + d * m2 * s2, d * m2**2 + (d + 4) * m2 * s2
    return law.gain(d), 0.0


def _product(p: tuple[float, float], q: tuple[float, float], d: int) -> tuple[float, float]:
    return p[0] * q[0], p[0] * q[1] + p[1] * q[0] + d * p[1] * q[1]


def _quadratic(x1: Tensor, x2: Tensor, a: float, b: float) -> Tensor:
    kernel = a * (x1 @ x2.T)
    return kernel + b * torch.outer(x1.sum(1), x2.sum(1)) if b else kernel


def _seen(x1: Tensor, x2: Tensor, draws: int) -> tuple[Tensor, Tensor, int]:
    """The features in an orthonormal basis of their span, a zero column behind.

    Centred Gaussians look alike in every basis. Of the parts of ζ and z beside the span, in
    ``unseen`` dimensions, only the product counts: the length of ζ's (χ distributed) times
    the component of z's along it (normal, whatever ζ is). One entry of each, met by the zero
    column, holds these two; with ζ = z both hold the length. Where this saves nothing the
    features come back as they are, with 0.
    """
    both = x1 if x2 is x1 else torch.cat((x1, x2))
    span, d = both.shape
    if span + 1 >= d or draws <= span:
        return x1, x2, 0
    basis = torch.linalg.qr(both.double().T).Q
    seen = torch.nn.functional.pad(both.double() @ basis, (0, 1)).to(both.dtype)
    return seen[: len(x1)], seen[-len(x2) :], d - span


def _features(x1: Tensor, x2: Tensor | None) -> tuple[Tensor, Tensor]:
    x2 = x1 if x2 is None else x2
    for name, x in (("x1", x1), ("x2", x2)):
        if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
            raise TypeError(f"{name} is {x!r}; a floating-point tensor is needed")
        if x.ndim != 2 or x.shape[1] != x1.shape[-1] or x.shape[1] == 0:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; (n, d) is needed, d that of x1")
    return x1, x2
