"""Networks as pure functions of their parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zotk.directions import _generator, _integer, _positive

__all__ = ["Functional", "Residual", "functional", "mlp", "tower"]

Model = Callable[[dict[str, Tensor], Tensor], Tensor]


class Residual(nn.Module):
    """``x + inner(x)`` for a module that keeps the shape of x."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(x)
        if inner.shape != x.shape:
            raise ValueError(f"inner makes {tuple(inner.shape)} of {tuple(x.shape)}; equal needed")
        return x + inner


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


def mlp(
    widths: Sequence[int],
    activation: Callable[[], nn.Module] = nn.Tanh,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Linear layers of the given widths with ``activation()`` between them.

    Weights are N(0, 1/fan-in), biases 0, drawn from ``generator`` (None: seeded 0).
    """
    for width in widths:
        _integer("widths", width, 1)
    if len(widths) < 2:
        raise ValueError(f"widths is {list(widths)}; two or more are needed")
    generator = _generator(generator)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype)
        with torch.no_grad():
            linear.weight.normal_(0, fan_in**-0.5, generator=generator)
            linear.bias.zero_()
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


def tower(
    width: int,
    depth: int,
    activation: Callable[[], nn.Module] = nn.Tanh,
    *,
    residual: bool = False,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """``depth`` units ``activation(W h)`` of equal width, W = gain · orthogonal, no biases.

    ``residual`` wraps each unit in :class:`Residual`. W is Haar distributed, drawn from
    ``generator`` (None: seeded 0); gain is the Lipschitz constant of each linear map.
    """
    _integer("width", width, 1)
    _integer("depth", depth, 1)
    _positive("gain", gain)
    generator = _generator(generator)
    units: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.utils.skip_init(nn.Linear, width, width, bias=False, dtype=dtype)
        nn.init.orthogonal_(linear.weight, gain, generator=generator)
        unit = nn.Sequential(linear, activation())
        units.append(Residual(unit) if residual else unit)
    return nn.Sequential(*units)
