"""The expected squares that zeroth-order steps leave: one eigendecomposition, no loops over t."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zotk.arguments import integer, positive
from zotk.theory.powers import power_sums, shaped, times

__all__ = ["MeanSquare", "mean_square"]


@dataclass(frozen=True)
class MeanSquare:
    """Second moments of e = θ - θ* under e' = (I - lr S H) e, for random steps S.

    E S = b I and E[S A S'] = p A + c tr(A) I for every symmetric A. Along the eigenvectors of H,
    with ``eigenvalues`` λ (those below rounding are 0), the moments m_i = E e_i² obey

        m_i' = (1 - 2 b lr λ_i + p lr² λ_i²) m_i + c lr² Σ_j λ_j² m_j,

    and the excess loss E L - min L is ½ Σ_i λ_i m_i. Directions with λ_i = 0 are fed by the
    others but do not act back: ``radius``, ``threshold`` and ``loss`` leave them out.
    """

    eigenvalues: Tensor
    lr: float
    b: float
    p: float
    c: float

    def __post_init__(self) -> None:
        shaped("eigenvalues", self.eigenvalues, (self.eigenvalues.numel(),))

    def step(self, m: Tensor) -> Tensor:
        """The second moments one step after m; both (..., d), in the order of ``eigenvalues``."""
        self._check("m", m)
        x = self.lr * self.eigenvalues
        spread = self.c * (x.square() * m).sum(-1, keepdim=True)
        return (1 - 2 * self.b * x + self.p * x.square()) * m + spread

    @property
    def radius(self) -> float:
        """Spectral radius of ``step`` on the directions with λ > 0; without any, 0.

        The moments along them, and with them the excess loss, decay from every start if and only
        if it is below 1.
        """
        values = torch.linalg.eigvalsh(self._operator)
        return float(values[-1]) if len(values) else 0.0

    @property
    def threshold(self) -> float:
        """The lr at which the radius reaches 1 (below it is smaller); infinite for H = 0.

        It is 2b over the largest eigenvalue of p diag(λ) + c √λ √λ'. Proof: ``step`` acts on
        λ m as the symmetric matrix I - 2 b lr diag(λ) + lr² (p diag(λ)² + c λλ'). Second moments
        have no negative entries, nor has this matrix, so its radius is its largest eigenvalue
        (Perron); this is below 1 if and only if lr (p diag(λ)² + c λλ') is below 2 b diag(λ).
        The characteristic equation is Σ_j c lr λ_j / (2b - p lr λ_j) = 1.
        """
        kept, roots = self._kept, self._kept.sqrt()
        values = torch.linalg.eigvalsh(self.p * kept.diag() + self.c * torch.outer(roots, roots))
        return 2 * self.b / float(values[-1]) if len(values) else float("inf")

    def loss(self, t: int | Tensor, m0: Tensor) -> Tensor:
        """The excess loss E L - min L after t steps from the second moments m0, shape (d,).

        t: integers ≥ 0 of any shape S; the result has shape S.
        """
        self._check("m0", m0)
        if m0.ndim != 1:
            raise ValueError(f"m0 has shape {tuple(m0.shape)}; (d,) is needed")
        steps = times(t, self.eigenvalues.device)
        values, vectors = torch.linalg.eigh(self._operator)
        start = self._kept * m0[self.eigenvalues > 0].to(vectors.dtype)
        weights = 0.5 * vectors.sum(0) * (vectors.T @ start)
        # growth is split off, so that no term overflows against another
        growth = values.new_tensor([1.0, *values[-1:]]).max()
        sums = power_sums(weights, values / growth, steps).clamp(min=0)
        return torch.where(sums == 0, 0.0, sums * growth**steps)

    @property
    def _kept(self) -> Tensor:
        return self.eigenvalues[self.eigenvalues > 0]

    @property
    def _operator(self) -> Tensor:
        """How a step acts on λ m, where λ > 0: symmetric, with the eigenvalues of ``step``."""
        x = self.lr * self._kept
        diagonal = 1 - 2 * self.b * x + self.p * x.square()
        return diagonal.diag() + self.c * torch.outer(x, x)

    def _check(self, name: str, m: Tensor) -> None:
        d = len(self.eigenvalues)
        if not isinstance(m, Tensor) or not m.dtype.is_floating_point:
            raise TypeError(f"{name} is {m!r}; a floating-point tensor is needed")
        if m.ndim == 0 or m.shape[-1] != d:
            raise ValueError(f"{name} has shape {tuple(m.shape)}; its last dimension must be {d}")


def mean_square(
    eigenvalues: Tensor, lr: float, *, scheme: str = "plain", queries: int = 1
) -> MeanSquare:
    """How the expected squared errors of a linear model move under steps θ' = θ - lr S ∇L(θ).

    eigenvalues: of H = X'X/N, the Hessian of the mean of ½(f - y)², shape (d,), d the number of
    parameters: zeros belong to it. ``scheme`` names S, for z and ζ standard Gaussian:

    - "plain": zz', the two-point step (exact for a quadratic loss, whatever eps);
    - "shared": ζζ'zz' with ζ = z, that is ``|z|² zz'``;
    - "independent": ζζ'zz' with independent ζ and z;
    - "sphere": zz' with z uniform on the sphere of radius √d;
    - "first-order": I.

    ``queries`` = B averages B independent copies of S, which makes p into p/B + b² (1 - 1/B) and
    c into c/B. The error is taken from a minimiser θ*, so noise in the targets changes nothing.

    Raises
    ------
    TypeError
        ``eigenvalues`` no floating-point tensor; ``queries`` no integer.
    ValueError
        ``eigenvalues`` not of shape (d,), d ≥ 1, not finite, or negative beyond rounding; lr not
        positive; an unknown scheme; ``queries`` < 1.
    """
    if not isinstance(eigenvalues, Tensor) or not eigenvalues.dtype.is_floating_point:
        raise TypeError(f"eigenvalues is {eigenvalues!r}; a floating-point tensor is needed")
    shaped("eigenvalues", eigenvalues, (eigenvalues.numel(),))
    positive("lr", lr)
    integer("queries", queries, 1)
    d = len(eigenvalues)
    floor = d * torch.finfo(eigenvalues.dtype).eps * eigenvalues.abs().max()
    if not (eigenvalues.isfinite().all() and (eigenvalues >= -floor).all()):
        ends = f"{float(eigenvalues.min()):.3g} to {float(eigenvalues.max()):.3g}"
        raise ValueError(f"eigenvalues are {ends}; finite numbers of at least 0 are needed")
    # E[zz'Azz'] = 2A + tr(A) I (Isserlis); lengths and directions of a Gaussian are independent,
    # with E|z|⁸/E|z|⁴ = (d+4)(d+6); for ζ apart, E[ζζ'(ζ'z)²] = 2zz' + |z|² I comes first
    fourth = (d + 4) * (d + 6)
    moments: dict[str, tuple[float, float, float]] = {
        "plain": (1, 2, 1),
        "shared": (d + 2, 2 * fourth, fourth),
        "independent": (1, 4, d + 4),
        "sphere": (1, 2 * d / (d + 2), d / (d + 2)),
        "first-order": (1, 1, 0),
    }
    if scheme not in moments:
        raise ValueError(f"scheme is {scheme!r}; one of {', '.join(moments)} is needed")
    b, p, c = moments[scheme]
    p, c = p / queries + b**2 * (1 - 1 / queries), c / queries
    kept = torch.where(eigenvalues <= floor, 0.0, eigenvalues)
    return MeanSquare(kept, float(lr), float(b), float(p), float(c))
