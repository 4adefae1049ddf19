"""Parameters that are to be moved: which are fit, their directions, and sums of these."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from zotk.arguments import real
from zotk.estimators.directions import Direction, Law, Pieces

_SAMPLE = 1024  # entries of a tensor that tell whether it moves


def trained(params: nn.Module | Iterable[Tensor]) -> dict[str, Tensor]:
    """The distinct tensors of ``params`` that need a gradient, by name or by place."""
    every: dict[str, Tensor]
    if isinstance(params, nn.Module):
        every = dict(params.named_parameters())
    elif isinstance(params, Tensor) or not isinstance(params, Iterable):
        kind = type(params).__name__
        raise TypeError(f"params is a {kind}; a module or an iterable of tensors is needed")
    else:
        every = {str(k): t for k, t in enumerate(params)}
    tensors(list(every.values()))
    first = {id(t): name for name, t in reversed(every.items()) if t.requires_grad}
    found = {name: t for name, t in every.items() if first.get(id(t)) == name}
    theta = list(found.values())
    if not theta:
        raise ValueError(f"params has {len(every)} tensors, none of which needs a gradient")
    if not all(t.is_leaf for t in theta):
        raise ValueError("params has a tensor that an operation made; leaves are needed")
    floating(theta)
    for name, t in found.items():
        _writable(f"parameter {name} of shape {tuple(t.shape)}", t)
        if t.grad is not None:
            _writable(f".grad of parameter {name} of shape {tuple(t.shape)}", t.grad)
    _apart("params", theta)
    _apart(".grad", [t.grad for t in theta if t.grad is not None])
    return found


def _writable(name: str, t: Tensor) -> None:
    """Refuse a tensor into which nothing can be written entry by entry."""
    if t.layout != torch.strided:
        raise ValueError(f"{name} is {t.layout}; a dense tensor is needed")
    if is_traceable_wrapper_subclass(t) or type(t).__name__ == "FlatParameter":
        # a DTensor, or what FSDP holds a part of
        raise TypeError(f"{name} is a {type(t).__name__}; a plain tensor, whole, is needed")
    if t.is_meta:
        raise ValueError(f"{name} is on the device meta, where nothing has a value")
    if t.is_inference():
        raise ValueError(f"{name} was made in inference mode; it cannot be written to outside it")
    if any(step == 0 and size > 1 for step, size in zip(t.stride(), t.shape, strict=True)):
        raise ValueError(f"{name} is expanded; entries that share memory cannot differ")


def _apart(name: str, values: Sequence[Tensor]) -> None:
    """Refuse two tensors with an entry in common."""
    held: dict[int, list[Tensor]] = {}
    for t in values:
        if t.numel():
            held.setdefault(t.untyped_storage().data_ptr(), []).append(t)
    for same in held.values():
        ends = sorted(_span(t) for t in same)
        if all(before <= start for (_, before), (start, _) in pairwise(ends)):
            continue
        # the bytes of the storage, counted by the tensors that have them
        readers = torch.zeros(max(end for _, end in ends), dtype=torch.uint8)
        for t in same:
            width = t.element_size()
            strides = [*(step * width for step in t.stride()), 1]
            readers.as_strided([*t.shape, width], strides, _span(t)[0]).add_(1)
        if int(readers.max()) > 1:
            shapes = ", ".join(str(tuple(t.shape)) for t in same)
            raise ValueError(
                f"{name} of shapes {shapes} share memory and would move twice; "
                "one parameter is needed (tied weights are one parameter)"
            )


def _span(t: Tensor) -> tuple[int, int]:
    """The first byte of its storage that a tensor has, and one past the last."""
    reach = sum(step * (size - 1) for step, size in zip(t.stride(), t.shape, strict=True))
    start, width = int(t.storage_offset()), t.element_size()
    return start * width, (start + reach + 1) * width


def tensors(values: Sequence[Any]) -> None:
    if not values:
        raise ValueError("params holds no tensor; was an iterator, as net.parameters(), used up?")
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(f"params holds a {type(value).__name__}; tensors are needed")


def floating(theta: Sequence[Tensor]) -> None:
    for t in theta:
        if not t.dtype.is_floating_point:
            raise TypeError(f"params holds a tensor of {t.dtype}; a floating-point dtype is needed")
        if torch.finfo(t.dtype).bits < 16:
            raise TypeError(f"params holds a tensor of {t.dtype}; 16 bits or more are needed")
    devices = {t.device for t in theta}
    if len(devices) > 1:
        raise ValueError(f"params lie on {sorted(map(str, devices))}; one device is needed")


def standard(law: Law, theta: Sequence[Tensor]) -> None:
    d = sum(t.numel() for t in theta)
    if d == 0:
        raise ValueError("params have no entries")
    if not law.is_standard(d):
        raise ValueError(
            f"directions is {law}, whose E[zz'] is not I: the estimate would be scaled or turned; "
            "use .standardized()"
        )


def resolvable(theta: Sequence[Tensor], pieces: Sequence[Tensor], eps: float) -> None:
    """Judges whether θ + εz differs from θ in the parameters' precision, tensor by tensor."""
    _judge({f"parameter {k}": t for k, t in enumerate(theta)}, [pieces], eps)


def resolvable_sample(
    theta: Mapping[str, Tensor], law: Law, seeds: Sequence[int], eps: float
) -> None:
    """As `resolvable`, for the directions of a law, on up to about `_SAMPLE` entries of a tensor.

    Of a law that depends on the shapes of tensors the pieces are drawn whole, run by run. A few
    parameters are asked along several directions.
    """
    seen = theta if law.by_tensor else {k: sample(t) for k, t in theta.items()}
    asked = max(1 + law.joint, _SAMPLE // sum(t.numel() for t in seen.values()))
    direction = law.directions(list(seen.values()), seeds[:asked] if law.stored else seeds)
    _judge(seen, [direction(p) for p in range(min(asked, len(seeds)))], eps)


def _judge(theta: Mapping[str, Tensor], draws: Sequence[Sequence[Tensor]], eps: float) -> None:
    """Refuse an eps that moves under 1 % of the entries; name the tensors it does not serve."""
    found = [_Moves(eps, draws, k, t) for k, t in enumerate(theta.values())]
    moved, asked = sum(f.moved for f in found), sum(f.asked for f in found)

    def serves() -> str:
        least = max(f.serves() for f in found)
        return f"eps of {_rounded_up(least)} or more moves every tensor"

    if moved < 0.01 * asked:
        largest = max(float(t.abs().max()) for t in theta.values() if t.numel())
        raise ValueError(
            f"eps is {eps}: θ + εz = θ in {asked - moved} of {asked} entries, the largest "
            f"{largest:.2g}; a larger eps is needed, {serves()}, unless the run has blown up"
        )
    named = list(zip(theta, found, strict=True))
    still = [
        f"{name} in {f.asked - f.moved} of {f.asked} entries"
        for name, f in named
        if f.moved < 0.5 * f.asked
    ]
    rough = [
        f"{name} by {f.misfit:.0%} of εz"
        for name, f in named
        if f.moved >= 0.5 * f.asked and f.misfit > 0.5
    ]
    if still or rough:
        words = [f"θ + εz = θ for {', '.join(still)}"] if still else []
        words += [f"θ + εz is rounded for {', '.join(rough)}"] if rough else []
        warnings.warn(
            f"eps is {eps}: {' and '.join(words)}; the estimate says nothing of what does not "
            f"move; {serves()}",
            stacklevel=4,
        )


class _Moves:
    """What θ + εz makes of one tensor, in the entries looked at along some directions.

    ``moved`` of ``asked`` entries change; the move differs from εz by the share ``misfit``, in
    root mean square.
    """

    def __init__(self, eps: float, draws: Sequence[Sequence[Tensor]], k: int, t: Tensor) -> None:
        self._draws, self._k, self._t = draws, k, t
        self.moved = self.asked = 0
        off = self._wished = 0.0
        for t_, z in self._pairs():
            there = torch.add(t_, z, alpha=eps)
            self.moved += int(torch.count_nonzero(there != t_))
            self.asked += int(torch.count_nonzero(z))
            z = z.double()
            off += float(there.double().sub_(t_).sub_(z, alpha=eps).square_().sum())
            self._wished += float(z.square().sum())
        self.misfit = math.sqrt(off / self._wished) / eps if self._wished else 0.0

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (pair for z in self._draws for pair in _looked_at(self._t, z, self._k))

    def serves(self) -> float:
        """From this eps on every entry's spacing is a quarter of a typical εz or less."""
        spacing = 0.0
        for t_, z in self._pairs():
            octave = torch.frexp(t_.double()).exponent.double() - 1
            spacing = max(spacing, float(torch.where(z != 0, octave.exp2(), 0.0).max()))
        spacing *= torch.finfo(self._t.dtype).eps
        return 4 * spacing / math.sqrt(self._wished / self.asked) if self.asked else 0.0


def _looked_at(t: Tensor, pieces: Sequence[Tensor], k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Entries of a tensor and of its piece: about `_SAMPLE` of each run, of few all that move."""
    for (t_,), z in in_runs([t], pieces, k):
        t_, z = t_.reshape(-1), z.reshape(-1)
        step = -(-len(z) // _SAMPLE)
        if step > 1 and int(torch.count_nonzero(z)) * step < len(z):
            where = z.nonzero().flatten()
            t_, z, step = t_[where], z[where], 1
        if len(z):
            yield t_[::step], z[::step]


def _rounded_up(x: float) -> str:
    """A positive number with one digit, not below."""
    digit = 10.0 ** math.floor(math.log10(x)) if x else 1.0
    return f"{math.ceil(x / digit) * digit:.0e}" if x else "0"


def in_runs(
    tensors: Sequence[Tensor], pieces: Sequence[Tensor], k: int
) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
    """The same entries of tensors shaped as piece k, and of the piece, run by run.

    A run is flat and a view; pieces that are held, or tensors that lie otherwise in memory, come
    whole.
    """
    if isinstance(pieces, Pieces) and all(t.is_contiguous() for t in tensors):
        flats, start = [t.detach().view(-1) for t in tensors], 0
        for z in pieces.parts(k):
            yield [flat[start : start + z.numel()] for flat in flats], z
            start += z.numel()
    else:
        yield tensors, pieces[k]


def sample(t: Tensor) -> Tensor:
    """Up to `_SAMPLE` entries of a tensor, spread over it."""
    if t.numel() <= _SAMPLE:
        return t
    in_memory = sorted(range(t.dim()), key=t.stride, reverse=True)  # so that nothing is copied
    return t.permute(in_memory).reshape(-1)[:: -(-t.numel() // _SAMPLE)]


def draw_seeds(queries: int, generator: torch.Generator) -> tuple[int, ...]:
    high = 2**62  # a CPU generator uses the lower half of a seed's bits, a GPU's all of them
    seeds = torch.randint(high, (queries,), generator=generator, device=generator.device)
    return tuple(seeds.tolist())


def add_up(sums: Sequence[Tensor], direction: Direction, coefficients: Sequence[float]) -> None:
    """Add Σ c_p z_p to the tensors ``sums``, in place."""
    for p, c in enumerate(coefficients):
        pieces = direction(p)
        for k, total in enumerate(sums):
            for (run,), z in in_runs([total], pieces, k):
                run.add_(z, alpha=c)


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precisions, else the dtype itself."""
    return torch.float32 if torch.finfo(dtype).bits < 32 else dtype


def number(name: str, value: Any) -> float:
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.dtype.is_complex:
            kind = f"a tensor of {value.dtype}, shape {tuple(value.shape)}"
            raise TypeError(f"{name} returned {kind}; one real number is needed")
        value = value.item()
    elif not isinstance(value, str | bool | complex | Real | np.ndarray | np.generic):
        kind = type(value).__name__  # and not its contents: it may be all outputs of a model
        raise TypeError(f"{name} returned a {kind}; one real number is needed")
    number = real(f"what {name} returned", value)
    if not math.isfinite(number):
        raise ValueError(f"{name} returned {number}; a finite loss is needed")
    return number
