"""Training dynamics in function space, in closed form: one eigendecomposition, no loops over t."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zotk.directions import _positive

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

    @property
    def critical_lr(self) -> float:
        """2N/λ_max(K): below it every error component decays; infinite for K = 0."""
        top = float(self.eigenvalues[-1])
        return 2 / top if top > 0 else float("inf")

    def at(self, t: int | Tensor) -> Tensor:
        """f_t for integers t ≥ 0 of any shape S: shape (*S, N)."""
        return self.targets + self._errors(t) @ self.eigenvectors.T

    def loss(self, t: int | Tensor) -> Tensor:
        """The mean of ½(f_t - y)² over the N examples, for integers t of any shape S."""
        return 0.5 * self._errors(t).square().mean(-1)

    @property
    def limit(self) -> Tensor:
        """lim f_t: the targets on the range of K, the start beside it.

        Raises ValueError at or above ``critical_lr``, where there is no limit.
        """
        if self.lr >= self.critical_lr:
            raise ValueError(f"lr is {self.lr}; a limit exists below {self.critical_lr}")
        kept = torch.where(self.eigenvalues == 0, self._start, 0.0)
        return self.targets + self.eigenvectors @ kept

    @property
    def _start(self) -> Tensor:
        return self.eigenvectors.T @ (self.start - self.targets)

    def _errors(self, t: int | Tensor) -> Tensor:
        steps = torch.as_tensor(t, device=self.start.device)
        if steps.dtype.is_floating_point or steps.dtype == torch.bool or (steps < 0).any():
            raise ValueError(f"t is {t}; integers of at least 0 are needed")
        factors = 1 - self.lr * self.eigenvalues
        return factors ** steps[..., None] * self._start


def gradient_descent(K: Tensor, f0: Tensor, y: Tensor, lr: float) -> Curve:
    """Kernel gradient descent on the squared loss: the curve f_{t+1} = f_t - (lr/N) K (f_t - y).

    K: symmetric positive semi-definite, (N, N); f0, y: (N,). For K = XX' this is gradient
    descent of a linear model, and E f_t of ZO-SGD with E[zz'] = I.

    Raises
    ------
    ValueError
        Shapes that do not fit; K not symmetric or with a negative eigenvalue beyond rounding
        (each relative to its largest entry); lr not positive.
    """
    n = len(y)
    if K.shape != (n, n) or f0.shape != (n,) or y.shape != (n,):
        shapes = f"{tuple(K.shape)}, {tuple(f0.shape)}, {tuple(y.shape)}"
        raise ValueError(f"K, f0, y have shapes {shapes}; (N, N), (N,), (N,) are needed")
    _positive("lr", lr)
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
