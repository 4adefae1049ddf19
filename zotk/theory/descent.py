"""The outputs of a linear model under gradient descent: one eigendecomposition, no loops over t."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zotk.arguments import positive
from zotk.theory.powers import power_sums, shaped, times

__all__ = ["Curve", "gradient_descent"]


@dataclass(frozen=True)
class Curve:
    """Outputs and loss along f_{t+1} = f_t - (lr/N) K (f_t - y) (NZK paper, Eq 7).

    ``start``, ``targets``: f_0 and y, shape (N,). ``eigenvalues`` of K/N, ascending, and
    ``eigenvectors``, columns; eigenvalues below rounding are 0.
    """

    start: Tensor
    targets: Tensor
    lr: float
    eigenvalues: Tensor
    eigenvectors: Tensor

    def __post_init__(self) -> None:
        n = self.eigenvalues.numel()
        needed = {"eigenvalues": (n,), "eigenvectors": (n, n), "start": (n,), "targets": (n,)}
        for name, shape in needed.items():
            shaped(name, getattr(self, name), shape)

    @property
    def critical_lr(self) -> float:
        """The learning rate 2N/λ_max(K), infinite for K = 0.

        Below it every error component that K sees decays.
        """
        top = float(self.eigenvalues[-1])
        return 2 / top if top > 0 else float("inf")

    def at(self, t: int | Tensor) -> Tensor:
        """f_t for integers t ≥ 0 of any shape S: shape ``(*S, N)``."""
        errors = self._factors ** times(t, self.start.device)[..., None] * self._start
        return self.targets + errors @ self.eigenvectors.T

    def loss(self, t: int | Tensor) -> Tensor:
        """The mean of ½(f_t - y)² over the N examples, for integers t of any shape S."""
        steps = times(t, self.start.device)
        return power_sums(self._start.square() / (2 * len(self.start)), self._factors, 2 * steps)

    @property
    def limit(self) -> Tensor:
        """The limit of f_t, which is the targets on the range of K and the start beside it.

        Raises ValueError at or above ``critical_lr``, where there is no limit.
        """
        if self.lr >= self.critical_lr:
            raise ValueError(f"lr is {self.lr}; a limit exists below {self.critical_lr}")
        kept = torch.where(self.eigenvalues == 0, self._start, 0.0)
        return self.targets + self.eigenvectors @ kept

    @property
    def _start(self) -> Tensor:
        return self.eigenvectors.T @ (self.start - self.targets)

    @property
    def _factors(self) -> Tensor:
        return 1 - self.lr * self.eigenvalues


def gradient_descent(K: Tensor, f0: Tensor, y: Tensor, lr: float) -> Curve:
    """Kernel gradient descent on the squared loss: the curve f_{t+1} = f_t - (lr/N) K (f_t - y).

    K: symmetric positive semi-definite, (N, N); f0, y: (N,). For K = XX' this is gradient
    descent of a linear model, and E f_t of ZO-SGD with E[zz'] = I.

    Raises
    ------
    ValueError
        Shapes that do not fit, columns (N, 1) among them, whose residuals would be broadcast to
        (N, N); K without rows; K not symmetric or with a negative eigenvalue beyond rounding
        (each relative to its largest entry); lr not positive.
    """
    n = K.shape[0] if K.ndim else 1
    shaped("K", K, (n, n))
    shaped("f0", f0, (n,))
    shaped("y", y, (n,))
    positive("lr", lr)
    rounding = n * torch.finfo(K.dtype).eps
    gap = float((K - K.T).abs().max())
    if not gap <= rounding * float(K.abs().max()):
        raise ValueError(f"K is not symmetric: entries differ from their mirror by up to {gap:.3g}")
    values, vectors = torch.linalg.eigh((K + K.T) / (2 * n))
    floor = rounding * float(values.abs().max())
    if values[0] < -floor:
        raise ValueError(f"K has the negative eigenvalue {n * float(values[0]):.3g}")
    values = torch.where(values <= floor, 0.0, values)
    return Curve(f0, y, float(lr), values, vectors)
