"""Kernels of linear models f(x) = <θ, x> under zeroth-order updates. K is never divided by N.

The features of a linearised model are its gradients. The Neural Zeroth-order Kernel of one pair
of directions (NZK paper, Eq 5) is, for features x_i, K_ij = <x_i, ζ><ζ, z><z, x_j>: :func:`nzk`
is its expectation, :func:`nzk_samples` its average over drawn pairs. :func:`zo_kernel` is the
expected kernel of one step of ZO-SGD, E[<x_i, z><z, x_j>], which has no ζ.
"""

import torch
from torch import Tensor

from zotk.arguments import integer, seeded
from zotk.estimators.directions import Law
from zotk.estimators.laws import Gaussian
from zotk.kernels.average import KernelEstimate

__all__ = ["nzk", "nzk_samples", "zo_kernel"]

_ENTRIES = 2**20  # numbers held at once while sampling, beside the kernel itself


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
    integer("draws", draws, 2)
    if shared and other is not None:
        raise ValueError(f"other is {other}; with shared=True there is no second law")
    zeta_law = directions if other is None else other
    for law in (directions, zeta_law):
        if type(law).__name__ == "Orthogonal":
            raise ValueError("the rows of Orthogonal() are not independent draws; use Sphere()")
    generator = seeded(generator, x1.device)
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
