"""The networks of the lessons, in units, drawn from a generator."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from zotk.arguments import integer, positive, seeded
from zotk.networks.contract import Residual

__all__ = ["cnn", "mlp", "tower"]


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
        integer("widths", width, 1)
    if len(widths) < 2:
        raise ValueError(f"widths is {list(widths)}; two or more are needed")
    generator = seeded(generator)
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
    integer("width", width, 1)
    integer("depth", depth, 1)
    positive("gain", gain)
    generator = seeded(generator)
    units: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.utils.skip_init(nn.Linear, width, width, bias=False, dtype=dtype)
        nn.init.orthogonal_(linear.weight, gain, generator=generator)
        unit = nn.Sequential(linear, activation())
        units.append(Residual(unit) if residual else unit)
    return nn.Sequential(*units)


def cnn(
    channels: int,
    widths: Sequence[int],
    blocks: int,
    outputs: int,
    activation: Callable[[], nn.Module] = nn.Tanh,
    *,
    residual: bool = True,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """A small convolutional network for images (n, channels, H, W), in units for HZO.

    A stem, then ``blocks`` units for each of ``widths``, all ``activation(3×3 convolution)``, the
    first unit of each width but the first with stride 2; at the end a unit of global average
    pooling and one of a Linear layer. ``residual`` wraps the blocks in :class:`Residual`, with a
    1×1 convolution as shortcut of units with stride. Weights and biases are N(0, 1/fan-in), the
    weights of the 3×3 convolutions times ``gain``, drawn from ``generator`` (None: seeded 0).
    No bias is 0: on an empty patch ReLU would start at its kink.
    """
    for name, value in (("channels", channels), ("blocks", blocks), ("outputs", outputs)):
        integer(name, value, 1)
    for width in widths:
        integer("widths", width, 1)
    if len(widths) == 0:
        raise ValueError("widths is empty; one or more are needed")
    positive("gain", gain)
    generator = seeded(generator)

    def drawn(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> nn.Module:
        with torch.no_grad():
            fan_in = layer.weight[0].numel()
            layer.weight.normal_(0, gain * fan_in**-0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.normal_(0, fan_in**-0.5, generator=generator)
        return layer

    def conv(before: int, after: int, stride: int) -> nn.Sequential:
        layer = nn.utils.skip_init(nn.Conv2d, before, after, 3, stride, 1, dtype=dtype)
        return nn.Sequential(drawn(layer, gain), activation())

    units: list[nn.Module] = [conv(channels, widths[0], 1)]
    before = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            unit: nn.Module = conv(before, width, stride)
            if residual:
                project = None
                if stride == 2 or before != width:
                    project = drawn(
                        nn.utils.skip_init(
                            nn.Conv2d, before, width, 1, stride, bias=False, dtype=dtype
                        )
                    )
                unit = Residual(unit, project)
            units.append(unit)
            before = width
    head = drawn(nn.utils.skip_init(nn.Linear, before, outputs, dtype=dtype))
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Flatten(), head))
