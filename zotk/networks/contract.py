"""What a model is: a function of parameters and inputs, made of a network or not."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Functional", "Model", "Residual", "aside", "functional"]

Model = Callable[[dict[str, Tensor], Tensor], Tensor]


def aside(net: nn.Module, x: Tensor) -> Tensor:
    """x for a net that may work in place: a copy, if any part of it does."""
    return x.clone() if any(getattr(part, "inplace", False) for part in net.modules()) else x


class Residual(nn.Module):
    """``x + inner(x)``, or ``shortcut(x) + inner(x)`` where inner changes the shape of x."""

    def __init__(self, inner: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = inner
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = x if self.shortcut is None else self.shortcut(aside(self.shortcut, x))
        inner: Tensor = self.inner(aside(self.inner, x))
        if inner.shape != kept.shape:
            path = "" if self.shortcut is None else f", shortcut {tuple(kept.shape)}"
            raise ValueError(
                f"inner makes {tuple(inner.shape)} of {tuple(x.shape)}{path}; equal needed"
            )
        return kept + inner


@dataclass(frozen=True, eq=False)
class Functional:
    """``net`` as a function of parameters and inputs; who looks at ``net`` sees its layers."""

    net: nn.Module

    def __call__(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.net, params, (x,))


def functional(net: nn.Module) -> tuple[Functional, dict[str, Tensor]]:
    """``(f, params)`` with ``f(params, x) = net(x)`` for the parameters ``params``.

    ``params`` maps names to detached tensors that share memory with the network's, x has
    shape (n, …) and the result is the network's own, (n, c). Buffers stay the network's.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net is a {type(net).__name__}; a torch.nn.Module is needed")
    return Functional(net), {name: p.detach() for name, p in net.named_parameters()}
