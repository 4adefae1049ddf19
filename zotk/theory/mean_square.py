"""The expected squares that zeroth-order steps leave: O(r) a step, no matrix of d × d."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zotk.arguments import integer, positive, real
from zotk.theory.powers import shaped, times
from zotk.theory.schemes import Coefficients, coefficients
from zotk.theory.secular import Momentum, bounds, last, sums

__all__ = ["MeanSquare", "mean_square"]


@dataclass(frozen=True)
class MeanSquare:
    """Second moments of e = θ - θ* under e' = e - lr ĝ, for random estimates ĝ of He.

    Along the eigenvectors of H, with ``eigenvalues`` λ (those below rounding are 0), the moments
    m_i = E e_i² obey

        m_i' = (1 - 2 b lr λ_i + p lr² λ_i²) m_i
               + lr² [(a λ_i + f) (Σ_j λ_j m_j + noise²) + c Σ_j λ_j² m_j],

    and the excess loss E L - min L is ½ Σ_i λ_i m_i. On the full batch a = f = 0. Directions with
    λ_i = 0 are fed by the others but do not act back: ``radius``, ``threshold``, ``loss`` and
    ``floor`` leave them out. With ``momentum`` β the step is that of ``torch.optim.SGD``, and the
    state of a mode is three moments, of e and of the velocity.
    """

    eigenvalues: Tensor
    lr: float
    b: float
    p: float
    c: float
    a: float = 0.0
    f: float = 0.0
    noise: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        shaped("eigenvalues", self.eigenvalues, (self.eigenvalues.numel(),))

    def step(self, m: Tensor) -> Tensor:
        """The second moments one step after m; both (..., d), in the order of ``eigenvalues``.

        With momentum both are (..., 3, d): E e_i², E e_i v_i and E v_i², v the velocity.
        """
        self._vectors("m", m)
        if self.momentum and (m.ndim < 2 or m.shape[-2] != 3):
            raise ValueError(f"m has shape {tuple(m.shape)}; with momentum (..., 3, d) is needed")
        return self._step(self.eigenvalues, m)

    @property
    def radius(self) -> float:
        """Spectral radius of ``step``, without noise, on the directions with λ > 0; without any, 0.

        The moments along them, and with them the excess loss, decay from every start if and only
        if it is below 1.
        """
        modes = self._modes
        return last(lambda w: not self._below(modes, self.lr, w), 1.0) if len(modes) else 0.0

    @property
    def threshold(self) -> float:
        """The lr at which the radius reaches 1 (below it is smaller); infinite for H = 0.

        On the full batch and without momentum it is the root of Σ_j c lr λ_j/(2b - p lr λ_j) = 1.
        """
        modes = self._modes
        if not len(modes):
            return math.inf
        return last(lambda lr: self._below(modes, lr, 1.0), 2 / (self.b * float(modes.max())))

    @property
    def floor(self) -> float:
        """The excess loss that noise in the targets keeps up; infinite from the threshold on."""
        modes = self._modes
        if self.noise == 0 or not len(modes):
            return 0.0
        found = sums(modes, self.lr, 1.0, self._k, self._how)
        if found is None or found.characteristic(self._k) >= 1:
            return math.inf
        return 0.5 * self.noise**2 * found.excess(self._k)

    def bounds(
        self,
        *,
        trace: float | None = None,
        second: float | None = None,
        top: float | None = None,
        rank: int | None = None,
    ) -> tuple[float, float]:
        """Bounds on ``threshold`` from tr H, tr H², λ_max and the number of positive eigenvalues.

        What is not given is taken from ``eigenvalues``, so bounds() tells how good they are.

        Raises ValueError for numbers that no spectrum has (not positive, rank < 1), and for
        nesterov, where no such bounds are known.
        """
        if self.nesterov:
            raise ValueError("nesterov is True; bounds are known for plain steps and heavy ball")
        modes = self._modes
        own = {
            "trace": float(modes.sum()),
            "second": float(modes.square().sum()),
            "top": float(modes.max()) if len(modes) else 0.0,
        }
        given = {"trace": trace, "second": second, "top": top}
        numbers = {name: own[name] if v is None else real(name, v) for name, v in given.items()}
        for name, value in numbers.items():
            positive(name, value)
        size = len(modes) if rank is None else rank
        integer("rank", size, 1)
        k = self._k
        if own["trace"] > 0:  # f is proportional to it
            k = replace(k, f=k.f * numbers["trace"] / own["trace"])
        return bounds(k, self.momentum, rank=size, **numbers)

    def loss(self, t: int | Tensor, m0: Tensor) -> Tensor:
        """The excess loss E L - min L after t steps from the second moments m0, shape (d,).

        t: integers ≥ 0 of any shape S; the result has shape S. The velocity starts at 0. The
        steps are taken one by one until the moments are at rest or infinite: O(r) each.
        """
        self._start(m0)
        steps = times(t, self.eigenvalues.device)
        wanted, where = torch.unique(steps, return_inverse=True)
        found = self._losses(wanted.tolist(), m0)
        losses = torch.tensor(found, dtype=self.eigenvalues.dtype, device=steps.device)
        return losses[where]

    def horizon_threshold(self, t: int, m0: Tensor) -> float:
        """The lr above which t steps from m0, shape (d,), end higher than they began.

        It lies above ``threshold`` where slow modes have not yet been felt. Found by doubling,
        from 1/32 of the threshold, then by halving to ten digits.

        Raises ValueError for t < 1 and where m0 has no loss.
        """
        integer("t", t, 1)
        first = self._start(m0)
        if not first > 0:
            raise ValueError("m0 has no loss; a start with some is needed")

        def no_higher(lr: float) -> bool:
            return replace(self, lr=lr)._losses([t], m0)[0] <= first

        return last(no_higher, self.threshold / 32, rtol=1e-10)

    def _step(self, values: Tensor, m: Tensor) -> Tensor:
        k, lr = self._k, self.lr
        moved = self._how
        first = m[..., 0, :] if self.momentum else m
        slope = k.b * values * first  # E e ĝ
        q = (values * first).sum(-1, keepdim=True) + self.noise**2
        spread = k.c * (values.square() * first).sum(-1, keepdim=True)
        square = k.p * values.square() * first + (k.a * values + k.f) * q + spread  # E ĝ²
        if not self.momentum:
            return first - 2 * lr * slope + lr**2 * square
        mixed, speed = m[..., 1, :], m[..., 2, :]
        beta, g, v = moved.beta, moved.gradient, moved.velocity
        along = beta * mixed + slope  # E e v'
        shared = beta * k.b * values * mixed + square  # E ĝ v'
        speed = beta**2 * speed + 2 * beta * k.b * values * mixed + square
        return torch.stack(
            [
                first
                - 2 * lr * (g * slope + v * along)
                + lr**2 * (g**2 * square + 2 * g * v * shared + v**2 * speed),
                along - lr * (g * shared + v * speed),
                speed,
            ],
            dim=-2,
        )

    def _losses(self, wanted: list[int], m0: Tensor) -> list[float]:
        """The excess losses at the given times, ascending."""
        modes, m = self._modes, m0.double()[self.eigenvalues > 0]
        if self.momentum:
            m = torch.stack([m, torch.zeros_like(m), torch.zeros_like(m)])

        def of(m: Tensor) -> float:
            return 0.5 * float((modes * (m[0] if self.momentum else m)).sum())

        now, value, found = 0, of(m), []
        for t in wanted:
            while now < t and value < math.inf:
                m, before = self._step(modes, m), m
                if torch.equal(m, before):  # at rest
                    break
                now, value = now + 1, of(m)
                if math.isnan(value):  # inf - inf
                    value = math.inf
            now = t
            found.append(value)
        return found

    @property
    def _modes(self) -> Tensor:
        return self.eigenvalues[self.eigenvalues > 0].double()

    @property
    def _k(self) -> Coefficients:
        return Coefficients(self.b, self.p, self.a, self.f, self.c)

    @property
    def _how(self) -> Momentum:
        if self.nesterov:
            return Momentum(self.momentum, 1.0, self.momentum)
        return Momentum(self.momentum, 0.0, 1.0)

    def _below(self, modes: Tensor, lr: float, w: float) -> bool:
        """Does every start decay faster than w^t?"""
        found = sums(modes, lr, w, self._k, self._how)
        return found is not None and found.characteristic(self._k) < 1

    def _start(self, m0: Tensor) -> float:
        """The loss of m0, which must be of shape (d,)."""
        self._vectors("m0", m0)
        if m0.ndim != 1:
            raise ValueError(f"m0 has shape {tuple(m0.shape)}; (d,) is needed")
        return 0.5 * float((self.eigenvalues * m0).sum())

    def _vectors(self, name: str, m: Tensor) -> None:
        d = len(self.eigenvalues)
        if not isinstance(m, Tensor) or not m.dtype.is_floating_point:
            raise TypeError(f"{name} is {m!r}; a floating-point tensor is needed")
        if m.ndim == 0 or m.shape[-1] != d:
            raise ValueError(f"{name} has shape {tuple(m.shape)}; its last dimension must be {d}")


def mean_square(
    eigenvalues: Tensor,
    lr: float,
    *,
    scheme: str = "plain",
    queries: int = 1,
    minibatch: int | None = None,
    population: int | None = None,
    batches: str = "same",
    noise: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> MeanSquare:
    """How the expected squared errors of a linear model move under steps θ' = θ - lr S ∇L(θ).

    eigenvalues: of H = X'X/N, the Hessian of the mean of ½(f - y)², shape (d,), d the number of
    parameters: zeros belong to it. ``scheme`` names S, for z and ζ standard Gaussian:

    - "plain": zz', the two-point step (exact for a quadratic loss, whatever eps);
    - "shared": ζζ'zz' with ζ = z, that is ``|z|² zz'``;
    - "independent": ζζ'zz' with independent ζ and z;
    - "sphere": zz' with z uniform on the sphere of radius √d;
    - "orthogonal": the same, with orthogonal directions in one step, at most d;
    - "signs": zz' with random signs, where H is diagonal in the coordinates;
    - "first-order": I.

    ``queries`` = P averages S over P directions. On the full batch p becomes p/P + b² (1 - 1/P)
    and c becomes c/P if they are independent. The error is taken from a minimiser θ*, so noise in
    the targets changes nothing on the full batch.

    ``minibatch`` = n: every step draws n examples, with replacement, or without it from
    ``population``. Both ends of each difference see the same batch, and so do all P directions
    (``batches="same"``), or each direction draws its own ("fresh"). Exact where the inputs are
    Gaussian; without replacement, where their fourth moments are those of Gaussian ones. On other
    data it is an approximation. ``noise`` is the standard deviation of the targets around
    the linear model. ``momentum`` and ``nesterov`` are those of ``torch.optim.SGD``.

    Raises
    ------
    TypeError
        ``eigenvalues`` no floating-point tensor; ``queries``, ``minibatch`` or ``population`` no
        integer; ``noise`` or ``momentum`` no real number.
    ValueError
        ``eigenvalues`` not of shape (d,), d ≥ 1, not finite, or negative beyond rounding; lr not
        positive; an unknown scheme or value of ``batches``; ``queries`` or ``minibatch`` < 1;
        more orthogonal queries than d; a ``population`` below ``minibatch`` or without it;
        ``noise`` negative or infinite; ``momentum`` outside [0, 1); ``nesterov`` without momentum.
    """
    if not isinstance(eigenvalues, Tensor) or not eigenvalues.dtype.is_floating_point:
        raise TypeError(f"eigenvalues is {eigenvalues!r}; a floating-point tensor is needed")
    shaped("eigenvalues", eigenvalues, (eigenvalues.numel(),))
    positive("lr", lr)
    d = len(eigenvalues)
    floor = d * torch.finfo(eigenvalues.dtype).eps * eigenvalues.abs().max()
    if not (eigenvalues.isfinite().all() and (eigenvalues >= -floor).all()):
        ends = f"{float(eigenvalues.min()):.3g} to {float(eigenvalues.max()):.3g}"
        raise ValueError(f"eigenvalues are {ends}; finite numbers of at least 0 are needed")
    if not 0 <= real("noise", noise) < math.inf:
        raise ValueError(f"noise is {noise}; a finite standard deviation of at least 0 is needed")
    if not 0 <= real("momentum", momentum) < 1:
        raise ValueError(f"momentum is {momentum}; a number from 0 to below 1 is needed")
    if nesterov and momentum == 0:
        raise ValueError("nesterov is True, momentum is 0; nesterov needs momentum")
    kept = torch.where(eigenvalues <= floor, 0.0, eigenvalues)
    k = coefficients(
        d,
        float(kept.double().sum()),
        scheme=scheme,
        queries=queries,
        minibatch=minibatch,
        population=population,
        batches=batches,
    )
    return MeanSquare(
        kept, float(lr), k.b, k.p, k.c, k.a, k.f, float(noise), float(momentum), bool(nesterov)
    )
