"""Parameters that are to be moved: which are fit, their directions, and sums of these."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from zotk.arguments import real
from zotk.estimators.directions import Law, Pieces, own
from zotk.estimators.laws import Orthogonal

Direction = Callable[[int], Sequence[Tensor]]  # the pieces of direction p
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


def resolvable(theta: Sequence[Tensor], pieces: Iterable[Tensor], eps: float) -> None:
    """Judges whether θ + εz differs from θ in the parameters' precision, tensor by tensor."""
    _judge({f"parameter {k}": t for k, t in enumerate(theta)}, pieces, eps)


def resolvable_sample(theta: Mapping[str, Tensor], law: Law, seed: int, eps: float) -> None:
    """As `resolvable`, for directions of a law, on up to `_SAMPLE` entries of each tensor.

    Where a piece depends on the shape of its tensor, or is nearly all zeros, the whole of it.
    """
    seen = theta if law.by_tensor else {k: sample(t) for k, t in theta.items()}
    _judge(seen, drawn(law, list(seen.values()), [seed])(0), eps)


def _judge(theta: Mapping[str, Tensor], pieces: Iterable[Tensor], eps: float) -> None:
    moved, asked = [], []
    for t, z in zip(theta.values(), pieces, strict=True):
        moved.append(int(torch.count_nonzero(torch.add(t, z, alpha=eps) != t)))
        asked.append(int(torch.count_nonzero(z)))
    if sum(moved) < 0.01 * sum(asked):
        raise ValueError(
            f"eps is {eps}: θ + εz = θ in {sum(asked) - sum(moved)} of {sum(asked)} entries; "
            "a larger eps is needed"
        )
    still = [
        f"{name} in {n - m} of {n} entries"
        for name, m, n in zip(theta, moved, asked, strict=True)
        if m < 0.5 * n
    ]
    if still:
        warnings.warn(
            f"eps is {eps}: θ + εz = θ for {', '.join(still)}; the estimate says nothing of "
            "what does not move",
            stacklevel=4,
        )


def sample(t: Tensor) -> Tensor:
    """Up to `_SAMPLE` entries of a tensor, spread over it."""
    if t.numel() <= _SAMPLE:
        return t
    in_memory = sorted(range(t.dim()), key=t.stride, reverse=True)  # so that nothing is copied
    return t.permute(in_memory).reshape(-1)[:: -(-t.numel() // _SAMPLE)]


def drawn(law: Law, like: Sequence[Tensor], seeds: Sequence[int]) -> Direction:
    """The direction of each seed; for `Orthogonal` the rows of all seeds, from the first."""
    if not isinstance(law, Orthogonal):
        return lambda p: law.pieces(like, seeds[p])
    sizes = [t.numel() for t in like]
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in like) else torch.float32
    device = like[0].device
    rows = law.sample(
        len(seeds), sum(sizes), generator=own(seeds[0], 0, device), dtype=dtype, device=device
    )
    parts = rows.split(sizes, dim=1)
    return lambda p: Pieces(
        # a copy: pieces are the caller's to keep
        lambda k: parts[k][p].view(like[k].shape).to(like[k].dtype, copy=True),
        len(like),
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
