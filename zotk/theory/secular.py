"""When does a positive recursion of second moments decay? One equation, O(r) to evaluate.

The r modes with λ > 0 meet in two numbers only, q = Σ λ_j m_j and r̂ = Σ λ_j² m_j. So the matrix
of the recursion is never formed: its spectral radius lies below w if and only if every mode
alone decays faster than w^t and the sum ``characteristic`` is below 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from zotk.theory.schemes import Coefficients

__all__ = ["Momentum", "Sums", "bounds", "last", "sums"]


@dataclass(frozen=True)
class Momentum:
    """v' = beta v + ĝ, e' = e - lr (gradient ĝ + velocity v').

    Plain steps are (0, 1, 0), heavy ball (beta, 0, 1), Nesterov's form (beta, 1, beta).
    """

    beta: float
    gradient: float
    velocity: float


@dataclass(frozen=True)
class Sums:
    """Σ ω/λ, Σ ω and Σ ω λ over the modes, where ω says how a mode answers the others' noise."""

    s0: float
    s1: float
    s2: float
    spread: float  # s0 s2 - s1², without cancellation

    def characteristic(self, k: Coefficients) -> float:
        """Below 1 just if the 2×2 map of (q, r̂) has its spectral radius below 1.

        It is 1 minus the characteristic polynomial at 1, that is tr K - det K for
        K = [[a s1 + f s0, c s0], [a s2 + f s1, c s1]]; det K is not positive.
        """
        return (k.a + k.c) * self.s1 + k.f * self.s0 + k.a * k.c * self.spread

    def excess(self, k: Coefficients) -> float:
        """q/s² at rest, for noise of variance s² in the targets: the entry of K/(I - K)."""
        whole = self.characteristic(k)
        return (whole - k.c * self.s1) / (1 - whole)


def sums(modes: Tensor, lr: float, w: float, k: Coefficients, how: Momentum) -> Sums | None:
    """``Sums`` of growth w, or None if some mode alone, fed by itself only, grows as fast.

    A mode answers a unit of noise in ĝ with h(t); G = Σ h(t)² w^(-t) is a quotient of
    polynomials (the autocorrelation of an ARMA(2, 1) process), and ω = λ²G/(1 - (p - b²) λ²G).
    modes: the positive eigenvalues, shape (r,), float64.
    """
    root = math.sqrt(w)
    x = k.b * lr * modes
    both = how.gradient + how.velocity
    tau = 1 + how.beta - both * x  # sum and product of the two poles of the mean
    delta = how.beta * (1 - how.gradient * x)
    # w ∓ τ√w + δ; the first is small for small x and written without cancellation
    ahead = (root - 1) * (root - how.beta) + x * (both * root - how.gradient * how.beta)
    behind = w + tau * root + delta
    if not bool((ahead > 0).all() and (behind > 0).all() and (delta < w).all()):
        return None
    late = how.gradient * how.beta
    top = x.square() * ((w + delta) * (both**2 * w + late**2) - 2 * both * late * tau * w)
    rest = k.b**2 * (w - delta) * ahead * behind - (k.p - k.b**2) * top
    if not bool((rest > 0).all()):
        return None
    omega = top / rest
    s0, s1 = float((omega / modes).sum()), float(omega.sum())
    mean = s1 / s0
    return Sums(
        s0,
        s1,
        float((omega * modes).sum()),
        s0 * float((omega / modes * (modes - mean).square()).sum()),
    )


def last(holds: Callable[[float], bool], high: float, rtol: float = 0.0) -> float:
    """The end of the interval from 0 on which ``holds`` is true, to ``rtol`` or the last digit.

    It must be true, then false; ``high`` is doubled until it is false.
    """
    low = 0.0
    while holds(high) and high < 1e300:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high and high - low > rtol * high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def bounds(
    k: Coefficients, beta: float, *, trace: float, second: float, top: float, rank: int
) -> tuple[float, float]:
    """Bounds on the threshold from tr H, tr H², λ_max and the number of positive eigenvalues.

    For plain steps (beta = 0) and heavy ball. ω_i = x_i/(2b - p' x_i) with x = lr λ/(1 - beta)
    and p' = p - 2b² beta/(1 + beta): the lower bound puts the largest x_i into the denominators,
    the upper one the smallest, or keeps the top mode alone. For these ω the spread of ``Sums`` is
    linear, (r s1 - T s0)/p', which leaves a share of s0 that is never negative without momentum.
    """
    inner = k.p - 2 * k.b**2 * beta / (1 + beta)
    linear, cross = (k.a + k.c) * trace + k.f * rank, k.a * k.c
    if cross * trace <= k.f * inner * (1 + 1e-12):
        part = cross / inner if cross else 0.0
        fed, alone = linear, (k.a + k.c + part * rank) * top + k.f - part * trace
    else:
        square = cross * max(0.0, rank * second - trace**2)
        fed, alone = (linear + math.sqrt(linear**2 + 4 * square)) / 2, (k.a + k.c) * top + k.f
    of_mean = 2 * (1 + beta) / ((1 - beta) * k.b * top)
    low = _over(2 * k.b, fed + max(inner, 0.0) * top)
    high = _over(2 * k.b, max(linear + min(inner, 0.0) * top, inner * top + alone))
    return (1 - beta) * min(low, of_mean), (1 - beta) * min(high, of_mean)


def _over(a: float, b: float) -> float:
    return a / b if b > 0 else math.inf
