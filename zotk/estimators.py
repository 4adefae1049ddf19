"""Gradient estimates from function values: central and forward differences along random directions.

With z₁ … z_P of a standard law (E[zz'] = I) both estimators are

    ĝ = (1/P) Σ_p c_p z_p,    c_p = [L(θ + εz_p) - L(θ - εz_p)] / 2ε   (central; Spall 1992)
                              c_p = [L(θ + εz_p) - L(θ)] / ε           (forward)

:func:`grad` is pure, like ``torch.func.grad``; :func:`backward` moves the parameters in place
and fills ``.grad``, like ``loss.backward()``. One function computes the c_p of both.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zotk.directions import Gaussian, Law, Orthogonal, _integer, _positive

__all__ = ["Estimate", "backward", "grad", "replay_"]

Direction = Callable[[int], Iterable[Tensor]]  # the pieces of direction p, one tensor at a time
Line = Callable[[int], float]  # a side in {-1, 0, +1} -> the loss at θ + side·εz


@dataclass(frozen=True)
class Estimate:
    """What one :func:`backward` measured: seeds and scalars, enough to replay it.

    ``loss``: mean of ½(L₊ + L₋) (central) or L(θ) (forward). ``coefficients``: the c_p / P
    of ĝ = Σ_p coefficients[p]·z_p. ``evaluations``: calls of the closure. ``sizes``: number
    of entries of each parameter tensor.
    """

    loss: float
    coefficients: tuple[float, ...]
    evaluations: int
    directions: Law
    seeds: tuple[int, ...]
    sizes: tuple[int, ...]
    device_type: str


def grad(
    loss: Callable[[Any], Tensor],
    *,
    directions: Law = Gaussian(),  # noqa: B008 (frozen)
    eps: float = 1e-3,
    queries: int = 1,
    scheme: str = "central",
    generator: torch.Generator | None = None,
) -> Callable[[Any], Any]:
    """The zeroth-order counterpart of ``torch.func.grad``: a function of ``params``.

    ``loss(params)`` returns one number; ``params`` is a tensor or any nesting of dicts,
    lists and tuples of tensors, and the estimate has its structure, shapes and dtypes.
    ``generator=None`` is a fresh one seeded 0, made once: calls of the returned function
    draw new directions each time, and two equal calls of ``zotk.grad`` repeat each other.
    Costs 2·queries evaluations (central) or queries + 1 (forward).

    Raises
    ------
    ValueError
        eps, queries or scheme out of range; a law with E[zz'] ≠ I; eps so small that under
        1 % of the entries move (a warning under 50 %); a loss that is not finite.
    TypeError
        ``params`` has no tensors, or other leaves than floating-point tensors.
    """
    _options(directions, eps, queries, scheme)
    generator = torch.Generator().manual_seed(0) if generator is None else generator

    def estimate(params: Any) -> Any:
        leaves, structure = pytree.tree_flatten(params)
        _tensors(leaves)
        _standard(directions, leaves)
        with torch.no_grad():
            theta = [t.detach() for t in leaves]
            direction = _directions(directions, theta, _seeds(queries, generator))
            _resolvable(theta, direction(0), eps)

            def line(p: int) -> AbstractContextManager[Line]:
                def at(side: int) -> float:
                    moved = theta
                    if side:
                        zs = zip(theta, direction(p), strict=True)
                        moved = [torch.add(t, z, alpha=side * eps) for t, z in zs]
                    return _number("loss", loss(pytree.tree_unflatten(moved, structure)))

                return nullcontext(at)

            coefficients, _, _ = _differences(line, queries, eps, scheme)
            out = [torch.zeros_like(t) for t in theta]
            for p, c in enumerate(coefficients):
                for o, z in zip(out, direction(p), strict=True):
                    o.add_(z, alpha=c)
        return pytree.tree_unflatten(out, structure)

    return estimate


def backward(
    closure: Callable[[], Tensor | float],
    params: Iterable[Tensor],
    *,
    directions: Law = Gaussian(),  # noqa: B008 (frozen)
    eps: float = 1e-3,
    queries: int = 1,
    scheme: str = "central",
    generator: torch.Generator | None = None,
    memory: str = "store",
) -> Estimate:
    """The zeroth-order counterpart of ``loss.backward()``: accumulates ĝ into ``.grad``.

    ``closure()`` returns the loss at the present values of the parameters, forward only; it
    is called under ``torch.no_grad()``, 2·queries times (central) or queries + 1 (forward).
    It must be *the same function* at every call: with a fresh dropout mask or minibatch the
    difference of two calls contains the change of the function, divided by 2ε.

    ``params``: what ``net.parameters()`` gives, all on one device. Tensors that need no
    gradient are skipped; one that occurs twice counts once. ``.grad`` is written after the
    last query only, so any ``torch.optim`` optimiser or scheduler can follow. Keep one
    ``generator`` over a training run: ``None`` is a fresh one seeded 0, and every call
    would use the same directions.

    ``memory``: ``"store"`` holds one direction (P rows for ``Orthogonal``), in what becomes
    ``.grad`` when that is None and queries == 1. ``"replay"`` holds none and redraws it from
    its seed, tensor by tensor (``Sphere`` draws twice, ``Orthogonal`` raises). ``"exact"``
    holds a copy of the parameters and restores them bitwise; half precision needs it. The
    three give the same estimate to rounding. "store" and "replay" step +ε, -2ε, +ε and
    return to within one unit in the last place per query.

    An exception, an interrupt or a loss that is not finite restores the parameters as far
    as ``memory`` says and leaves every ``.grad`` as it was.

    Raises
    ------
    ValueError
        As :func:`grad`, and: an unknown memory, half precision without "exact", parameters
        on several devices, no parameter that needs a gradient.
    TypeError
        ``params`` is no iterable of floating-point tensors, or ``closure`` is no function.
    """
    _options(directions, eps, queries, scheme)
    if memory not in ("store", "replay", "exact"):
        raise ValueError(f"memory is {memory!r}; 'store', 'replay' or 'exact' is needed")
    if not callable(closure):
        raise TypeError(f"closure is {closure!r}; a function that returns the loss is needed")
    theta = _parameters(params)
    _standard(directions, theta)
    halves = [t.dtype for t in theta if torch.finfo(t.dtype).bits < 32]
    if halves and memory != "exact":
        raise ValueError(
            f"memory is {memory!r} with {halves[0]} parameters, which would drift by a rounding "
            "per query; 'exact' is needed"
        )
    if memory == "replay" and isinstance(directions, Orthogonal):
        directions.pieces(theta, 0)  # raises

    seeds = _seeds(queries, generator)
    with torch.no_grad():
        direction = _directions(directions, theta, seeds)
        if memory == "store":
            direction = _LastOnly(direction)
        _resolvable(theta, direction(0), eps)
        saved = [t.clone() for t in theta] if memory == "exact" else None

        def line(p: int) -> AbstractContextManager[Line]:
            return _walk(closure, theta, lambda: direction(p), eps, saved)

        coefficients, loss, evaluations = _differences(line, queries, eps, scheme)
        for p, c in enumerate(coefficients):
            for t, z in zip(theta, direction(p), strict=True):
                if t.grad is None:
                    t.grad = z.mul_(c)  # no pieces are used again: queries > 1 redraws them
                else:
                    t.grad.add_(z, alpha=c)
    sizes = tuple(t.numel() for t in theta)
    return Estimate(loss, coefficients, evaluations, directions, seeds, sizes, theta[0].device.type)


def replay_(params: Iterable[Tensor], estimate: Estimate, scale: float) -> None:
    """Add ``scale · ĝ`` to the parameters in place, from the estimate's seeds and scalars.

    With scale = -lr this repeats, to rounding, the SGD step that used the estimate, without
    evaluating or storing anything: what a second machine needs to follow the first.

    Raises
    ------
    ValueError
        Other parameters than the estimate's (by number of entries), or another device type,
        where the same seeds draw other directions.
    """
    theta = _parameters(params)
    sizes = tuple(t.numel() for t in theta)
    if sizes != estimate.sizes:
        raise ValueError(f"params have sizes {sizes}; the estimate was made for {estimate.sizes}")
    if theta[0].device.type != estimate.device_type:
        raise ValueError(
            f"params live on {theta[0].device.type}; the estimate's seeds draw its directions "
            f"on {estimate.device_type} only"
        )
    with torch.no_grad():
        direction = _directions(estimate.directions, theta, estimate.seeds)
        for p, c in enumerate(estimate.coefficients):
            for t, z in zip(theta, direction(p), strict=True):
                t.add_(z, alpha=scale * c)


def _differences(
    line: Callable[[int], AbstractContextManager[Line]], queries: int, eps: float, scheme: str
) -> tuple[tuple[float, ...], float, int]:
    """The c_p / P, the loss, and the number of evaluations."""
    if scheme == "central":
        pairs = []
        for p in range(queries):
            with line(p) as at:
                pairs.append((at(+1), at(-1)))
        coefficients = tuple((plus - minus) / (2 * eps * queries) for plus, minus in pairs)
        return coefficients, sum(0.5 * (a + b) for a, b in pairs) / queries, 2 * queries
    with line(0) as at:
        base = at(0)
    plus = []
    for p in range(queries):
        with line(p) as at:
            plus.append(at(+1))
    return tuple((value - base) / (eps * queries) for value in plus), base, queries + 1


@contextmanager
def _walk(
    closure: Callable[[], Tensor | float],
    theta: Sequence[Tensor],
    pieces: Callable[[], Iterable[Tensor]],
    eps: float,
    saved: Sequence[Tensor] | None,
) -> Iterator[Line]:
    """The line θ + side·εz, walked in place; θ is back at the end, whatever happens."""
    sides = [0] * len(theta)  # where each tensor stands: an interrupt can come between two

    def move(side: int) -> None:
        if all(s == side for s in sides):
            return
        for k, (t, z) in enumerate(zip(theta, pieces(), strict=True)):
            if saved is None:
                t.add_(z, alpha=(side - sides[k]) * eps)
            else:
                t.copy_(saved[k])
                if side:
                    t.add_(z, alpha=side * eps)
            sides[k] = side

    def at(side: int) -> float:
        move(side)
        return _number("closure", closure())

    try:
        yield at
    finally:
        move(0)


class _LastOnly:
    """Keeps the pieces of the last direction asked for, and only those."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._kept: tuple[int, list[Tensor]] | None = None

    def __call__(self, p: int) -> list[Tensor]:
        if self._kept is None or self._kept[0] != p:
            self._kept = None  # freed before the next is drawn
            self._kept = (p, list(self._direction(p)))
        return self._kept[1]


def _directions(law: Law, like: Sequence[Tensor], seeds: Sequence[int]) -> Direction:
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


def _seeds(queries: int, generator: torch.Generator | None) -> tuple[int, ...]:
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    high = 2**62
    drawn = torch.randint(high, (queries,), generator=generator, device=generator.device)
    return tuple(drawn.tolist())


def _options(directions: Law, eps: float, queries: int, scheme: str) -> None:
    if not isinstance(directions, Law):
        raise TypeError(f"directions is {directions!r}; a law such as zotk.Gaussian() is needed")
    _positive("eps", eps)
    _integer("queries", queries, 1)
    if scheme not in ("central", "forward"):
        raise ValueError(f"scheme is {scheme!r}; 'central' or 'forward' is needed")


def _parameters(params: Iterable[Tensor]) -> list[Tensor]:
    """The distinct tensors of ``params`` that need a gradient."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params is a {type(params).__name__}; an iterable of tensors is needed")
    every = list(params)
    _tensors(every)
    theta = list({id(t): t for t in every if t.requires_grad}.values())
    if not theta:
        raise ValueError(f"params has {len(every)} tensors, none of which needs a gradient")
    if not all(t.is_leaf for t in theta):
        raise ValueError(
            "params has a tensor that is the result of an operation; leaves are needed"
        )
    return theta


def _tensors(tensors: Sequence[Any]) -> None:
    if not tensors:
        raise ValueError("params holds no tensor")
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"params holds a {type(t).__name__}; tensors are needed")
        if not t.dtype.is_floating_point:
            raise TypeError(f"params holds a tensor of {t.dtype}; a floating-point dtype is needed")
    devices = {t.device for t in tensors}
    if len(devices) > 1:
        raise ValueError(f"params lie on {sorted(map(str, devices))}; one device is needed")


def _standard(law: Law, theta: Sequence[Tensor]) -> None:
    d = sum(t.numel() for t in theta)
    if d == 0:
        raise ValueError("params have no entries")
    if not law.is_standard(d):
        raise ValueError(
            f"directions is {law}, whose E[zz'] is not I: the estimate would be scaled or turned; "
            "use .standardized()"
        )


def _resolvable(theta: Sequence[Tensor], pieces: Iterable[Tensor], eps: float) -> None:
    """Judges whether θ + εz differs from θ in the parameters' precision."""
    moved = asked = 0
    for t, z in zip(theta, pieces, strict=True):
        moved += int(torch.count_nonzero(torch.add(t, z, alpha=eps) != t))
        asked += int(torch.count_nonzero(z))
    if moved < 0.01 * asked:
        raise ValueError(
            f"eps is {eps}: θ + εz = θ in {asked - moved} of {asked} entries of "
            f"{theta[0].dtype}; a larger eps is needed"
        )
    if moved < 0.5 * asked:
        warnings.warn(
            f"eps is {eps}: θ + εz = θ in {asked - moved} of {asked} entries of {theta[0].dtype}",
            stacklevel=3,
        )


def _number(name: str, value: Tensor | float) -> float:
    if isinstance(value, Tensor) and value.numel() != 1:
        raise TypeError(
            f"{name} returned a tensor of shape {tuple(value.shape)}; one number needed"
        )
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} returned {number}; a finite loss is needed")
    return number
