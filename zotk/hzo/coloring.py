"""Which coordinates may be moved together: Jacobian colouring for layers on a grid.

After Curtis, Powell and Reid (1974): if no output depends on two inputs of one colour, one forward
pass that moves them all reads a slope for each. Convolutions and pooling treat height, width and
channels one by one, so the outputs that an input reaches are a product of sets, one for each axis.
A *pattern* of an axis is a Boolean matrix (outputs, inputs): may this output depend on that input?
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from zotk.arguments import integer
from zotk.networks.contract import Residual
from zotk.networks.layers import POINTWISE, POOLING, usual

__all__ = ["Coloring", "coloring", "compress", "decompress"]

F = nn.functional
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
GRID = (*CONVOLUTIONS, *POOLING)
_WINDOW = ("kernel_size", "stride", "padding", "dilation")


@dataclass(frozen=True, eq=False)
class Coloring:
    """Colours of the coordinates of a state, axis by axis; a coordinate's colour is the tuple.

    ``patterns``: for each axis (outputs, inputs), Boolean; ``colors``: for each axis (inputs,),
    integers from 0. Outputs are seen with as many axes as the state has.
    """

    patterns: tuple[Tensor, ...]
    colors: tuple[Tensor, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the state that is coloured."""
        return tuple(len(colors) for colors in self.colors)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of colours of each axis."""
        return tuple(int(colors.max()) + 1 for colors in self.colors)

    @property
    def count(self) -> int:
        """The number of colours, for each of which a target takes one pair of passes."""
        return prod(self.counts)


def coloring(units: nn.Module | Sequence[nn.Module], shape: Sequence[int]) -> Coloring:
    """Colours for a state of the given shape (without rows) in front of ``units``.

    ``units``: Conv1d, Conv2d (zero padding), AvgPool2d, MaxPool2d, AdaptiveAvgPool2d, Linear,
    Flatten, elementwise activations, normalisations, :class:`zotk.Residual`, ``nn.Sequential`` of
    these.
    Each axis takes colours first fit: C · min(w, H) · min(w, W) for convolutions that see w by w
    points. Always proper; no scheme needs fewer where windows have no holes and all axes are seen
    alike.

    Raises
    ------
    TypeError
        A module that is not in the list, named; a shape that is no sequence of integers.
    ValueError
        A size < 1; a shape that the units do not take; another padding mode than zeros, axes of
        Flatten other than (1, -1), returned indices.
    """
    if not isinstance(shape, Sequence):
        raise TypeError(f"shape is {shape!r}; a sequence of integers is needed")
    for size in shape:
        integer("shape", size, 1)
    seen = _See([torch.eye(size, dtype=torch.bool) for size in shape])
    for unit in [units] if isinstance(units, nn.Module) else units:
        seen = seen.through(unit)
    return Coloring(tuple(seen.patterns), tuple(map(_first_fit, seen.patterns)))


def separate(shape: Sequence[int], outputs: int) -> Coloring:
    """A colour for each coordinate: any of ``outputs`` may depend on any of them."""
    sizes = [outputs] + [1] * (len(shape) - 1)
    yes = torch.ones(1, 1, dtype=torch.bool)
    return Coloring(
        tuple(yes.expand(m, n) for m, n in zip(sizes, shape, strict=True)),
        tuple(torch.arange(n) for n in shape),
    )


def compress(
    coloring: Coloring,
    start: int = 0,
    stop: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """The seeds of colours ``start`` to ``stop``, ``(p, *shape)``: 1 at the coordinates of one.

    What comes out along a seed, J·seed, is one column of the compressed Jacobian.
    """
    chosen = torch.arange(coloring.count)[start:stop]
    dtype = torch.get_default_dtype() if dtype is None else dtype
    seeds = torch.ones(len(chosen), *[1] * len(coloring.colors), dtype=dtype, device=device)
    for axis, (colors, own) in enumerate(
        zip(coloring.colors, torch.unravel_index(chosen, coloring.counts), strict=True), 1
    ):
        line = [1] * seeds.ndim
        line[0], line[axis] = len(chosen), len(colors)
        seeds = seeds * (colors == own[:, None]).view(line).to(seeds)
    return seeds


def decompress(coloring: Coloring, products: Tensor, seeds: Tensor) -> Tensor:
    """J'δ, shaped ``(n, *shape)``, or the part of it that the seeds read.

    ``products``: (n, p, …), δ times J·seed for each output: readouts are sums over the outputs
    that see a coordinate, one sum for each. ``seeds``: ``(p, *shape)`` or ``(n, p, *shape)``. With
    patterns that are full the sum is one number for each seed.
    """
    sizes = [len(pattern) for pattern in coloring.patterns]
    boxes = products.reshape(*products.shape[:2], *sizes)
    for axis, pattern in enumerate(coloring.patterns, 2):
        if pattern.all():
            boxes = boxes.sum(axis, keepdim=True)
        else:
            boxes = (boxes.movedim(axis, -1) @ pattern.to(boxes)).movedim(-1, axis)
    return (seeds * boxes).sum(1)


@dataclass(frozen=True)
class _See:
    """What the outputs of some layers may see of the state before them, axis by axis."""

    patterns: list[Tensor]
    flat: bool = False  # whether the outputs have lost their axes

    def through(self, unit: nn.Module) -> "_See":
        if type(unit) is nn.Sequential:
            seen = self
            for part in unit:
                seen = seen.through(part)
            return seen
        if type(unit) is Residual:
            paths = [self.through(unit.inner)]
            paths.append(self if unit.shortcut is None else self.through(unit.shortcut))
            if all(path.flat for path in paths) and paths[0].sizes != paths[1].sizes:
                paths = [path.mixed(prod(path.sizes)) for path in paths]
            if len({(path.flat, path.sizes) for path in paths}) > 1:
                raise ValueError("the two paths of a Residual differ in shape; equal needed")
            both = zip(*(p.patterns for p in paths), strict=True)
            return _See([one | other for one, other in both], paths[0].flat)
        usual(unit, str(unit))
        if type(unit) is nn.Flatten:
            return _See(self.patterns, len(self.patterns) > 1)
        if type(unit) is nn.Linear:
            features = prod(self.sizes) if self.flat else self.sizes[-1]
            if features != unit.in_features:
                raise ValueError(f"{unit} gets {features} features; {unit.in_features} needed")
            return self.mixed(unit.out_features)
        if type(unit) in GRID:
            axes = ("C", "L") if type(unit) is nn.Conv1d else ("C", "H", "W")
            if self.flat or len(self.patterns) != len(axes):
                raise ValueError(f"{unit} takes states of shape ({', '.join(axes)})")
            layer = [_channels(unit, len(self.patterns[0]))]
            layer += [_line(unit, axis, len(p)) for axis, p in enumerate(self.patterns[1:])]
            after = zip(layer, self.patterns, strict=True)
            return _See([(a.float() @ b.float()) > 0 for a, b in after])
        if type(unit) in POINTWISE:
            return self
        if type(unit) in (nn.LayerNorm, nn.GroupNorm):  # every entry of a row, at most
            full = [p.any(0).expand(len(p), -1) for p in self.patterns]
            return _See(full, self.flat)
        raise TypeError(f"units has a {type(unit).__name__}, whose pattern is not known")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of the outputs, flat ones along the axes that they had."""
        return tuple(map(len, self.patterns))

    def mixed(self, outputs: int) -> "_See":
        """Linear: flat states are seen whole by every output, others along their last axis."""
        mixed = range(len(self.patterns)) if self.flat else [len(self.patterns) - 1]
        patterns = list(self.patterns)
        for axis in mixed:
            rows = outputs if axis == mixed[-1] else 1
            patterns[axis] = patterns[axis].any(0).expand(rows, -1)
        return _See(patterns, self.flat)


def _channels(unit: nn.Module, channels: int) -> Tensor:
    if not isinstance(unit, CONVOLUTIONS):
        return torch.eye(channels, dtype=torch.bool)
    if channels != unit.in_channels:
        raise ValueError(f"{unit} gets {channels} channels; {unit.in_channels} needed")
    one = torch.ones(unit.out_channels // unit.groups, channels // unit.groups)
    return torch.block_diag(*[one] * unit.groups) > 0


def _line(unit: nn.Module, axis: int, size: int) -> Tensor:
    """The pattern along one axis of a grid layer, from 0: what a point lights up."""

    def own(name: str) -> Any:
        value = getattr(unit, name)
        if isinstance(value, str):
            return value  # "same" or "valid"
        first = value[axis] if isinstance(value, Sequence) else value
        return (first, 0 if name == "padding" else 1)

    points = torch.eye(size).view(size, 1, size, 1)
    try:
        return _lit(unit, own, points)[:, 0, :, 0].T > 0
    except RuntimeError as error:  # torch's own refusal speaks of the column of points
        raise ValueError(f"{unit} cannot take {size} points along an axis") from error


def _lit(unit: nn.Module, own: Callable[[str], Any], points: Tensor) -> Tensor:
    """What comes out of a grid layer, along one axis, where single points go in."""
    match unit:
        case nn.Conv1d() | nn.Conv2d():
            (size, _), stride, padding, dilation = map(own, _WINDOW)
            ones = torch.ones(1, 1, size, 1)
            return F.conv2d(points, ones, None, stride, padding, dilation)
        case nn.MaxPool2d():
            kernel, stride, padding, dilation = map(own, _WINDOW)
            return F.max_pool2d(points, kernel, stride, padding, dilation, unit.ceil_mode)
        case nn.AvgPool2d():
            kernel, stride, padding = map(own, _WINDOW[:3])
            return F.avg_pool2d(points, kernel, stride, padding, unit.ceil_mode)
        case _:
            return F.adaptive_avg_pool2d(points, (own("output_size")[0] or len(points), 1))


def _first_fit(pattern: Tensor) -> Tensor:
    """Each input in turn gets the least colour that no output sees already."""
    if pattern.all():
        return torch.arange(pattern.shape[1])
    clash = (pattern.float().T @ pattern.float()) > 0
    colors: list[int] = []
    for row in clash.tolist():
        taken = {color for color, hit in zip(colors, row, strict=False) if hit}
        colors.append(next(color for color in range(len(row)) if color not in taken))
    return torch.tensor(colors)
