"""Parameters that are to be moved: which are fit, their directions, and sums of these."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from zotk.arguments import real
from zotk.estimators.directions import Law, Orthogonal

Direction = Callable[[int], Iterable[Tensor]]  # the pieces of direction p, one tensor at a time
_CHUNK = 2**20  # entries looked at together where a whole tensor is not needed


def trained(params: Iterable[Tensor]) -> list[Tensor]:
    """The distinct tensors of ``params`` that need a gradient."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params is a {type(params).__name__}; an iterable of tensors is needed")
    every = list(params)
    tensors(every)
    theta = list({id(t): t for t in every if t.requires_grad}.values())
    if not theta:
        raise ValueError(f"params has {len(every)} tensors, none of which needs a gradient")
    if not all(t.is_leaf for t in theta):
        raise ValueError("params has a tensor that an operation made; leaves are needed")
    floating(theta)
    for t in theta:
        _writable(f"a parameter of shape {tuple(t.shape)}", t)
        if t.grad is not None:
            _writable(f".grad of a parameter of shape {tuple(t.shape)}", t.grad)
    _apart("params", theta)
    _apart(".grad", [t.grad for t in theta if t.grad is not None])
    return theta


def _writable(name: str, t: Tensor) -> None:
    """Refuse a tensor into which nothing can be written entry by entry."""
    if t.layout != torch.strided:
        raise ValueError(f"{name} is {t.layout}; a dense tensor is needed")
    if is_traceable_wrapper_subclass(t):
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


def resolvable(theta: Sequence[Tensor], pieces: Iterable[Tensor], eps: float) -> None:
    """Judges whether θ + εz differs from θ in the parameters' precision."""
    moved = asked = 0
    for t, z in zip(theta, pieces, strict=True):
        for part, step in zip(
            t.reshape(-1).split(_CHUNK), z.reshape(-1).split(_CHUNK), strict=True
        ):
            moved += int(torch.count_nonzero(torch.add(part, step, alpha=eps) != part))
            asked += int(torch.count_nonzero(step))
    still = f"eps is {eps}: θ + εz = θ in {asked - moved} of {asked} entries"
    if moved < 0.01 * asked:
        raise ValueError(f"{still}; a larger eps is needed")
    if moved < 0.5 * asked:
        warnings.warn(still, stacklevel=3)


def drawn(law: Law, like: Sequence[Tensor], seeds: Sequence[int]) -> Direction:
    if not isinstance(law, Orthogonal):
        return lambda p: law.pieces(like, seeds[p])
    sizes = [t.numel() for t in like]
    generator = torch.Generator(like[0].device).manual_seed(seeds[0])
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in like) else torch.float32
    rows = law.sample(
        len(seeds), sum(sizes), generator=generator, dtype=dtype, device=like[0].device
    )
    return lambda p: (
        # a copy: pieces are the caller's to keep
        part.view(t.shape).to(t.dtype, copy=True)
        for part, t in zip(rows[p].split(sizes), like, strict=True)
    )


def draw_seeds(queries: int, generator: torch.Generator) -> tuple[int, ...]:
    high = 2**62  # a CPU generator uses the lower half of a seed's bits, a GPU's all of them
    seeds = torch.randint(high, (queries,), generator=generator, device=generator.device)
    return tuple(seeds.tolist())


def add_up(sums: Sequence[Tensor], direction: Direction, coefficients: Sequence[float]) -> None:
    """Add Σ c_p z_p to the tensors ``sums``, in place."""
    for p, c in enumerate(coefficients):
        for total, z in zip(sums, direction(p), strict=True):
            total.add_(z, alpha=c)


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
