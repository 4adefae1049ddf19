"""Gradient estimates from function values: central and forward differences along random directions.

With z₁ … z_P of a standard law (E[zz'] = I) both estimators are

    ĝ = (1/P) Σ_p c_p z_p,    c_p = [L(θ + εz_p) - L(θ - εz_p)] / 2ε   (central; Spall 1992)
                              c_p = [L(θ + εz_p) - L(θ)] / ε           (forward)

:func:`grad` works on values, like ``torch.func.grad``; :func:`backward` moves the parameters in
place and fills ``.grad``, like ``loss.backward()``. One function computes the c_p of both.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zotk.directions import Gaussian, Law, Orthogonal, _generator, _integer, _positive, _real

__all__ = ["Estimate", "backward", "grad", "replay_"]

Direction = Callable[[int], Iterable[Tensor]]  # the pieces of direction p, one tensor at a time
Values = Callable[[int, int], float]  # (p, side in {-1, 0, +1}) -> the loss at θ + side·εz_p
_CHUNK = 2**20  # entries looked at together where a whole tensor is not needed


@dataclass(frozen=True)
class Estimate:
    """What one :func:`backward` measured: seeds and scalars, enough to replay it.

    ``loss``: mean of ½(L₊ + L₋) (central) or L(θ) (forward). ``coefficients``: the c_p / P
    of ĝ = Σ_p coefficients[p]·z_p. ``evaluations``: calls of the closure. ``shapes`` and
    ``dtypes``: of the parameters, which with the seeds determine the directions.
    """

    loss: float
    coefficients: tuple[float, ...]
    evaluations: int
    directions: Law
    seeds: tuple[int, ...]
    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
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
        eps, queries or scheme out of range; a law with E[zz'] ≠ I; ``params`` without
        tensors; eps so small that under 1 % of the entries move (a warning under 50 %); a
        loss that is not finite.
    TypeError
        ``params`` has other leaves than floating-point tensors; an argument of another kind.
    """
    _options(directions, eps, queries, scheme)
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; a function of params is needed")
    generator = _generator(generator)

    def estimate(params: Any) -> Any:
        leaves, structure = pytree.tree_flatten(params)
        _tensors(leaves)
        with torch.no_grad():
            theta = [t.detach() for t in leaves]
            _floating(theta)
            _standard(directions, theta)
            direction = _directions(directions, theta, _seeds(queries, generator))
            _resolvable(theta, direction(0), eps)

            def at(p: int, side: int) -> float:
                moved = theta
                if side:
                    zs = zip(theta, direction(p), strict=True)
                    moved = [torch.add(t, z, alpha=side * eps) for t, z in zs]
                return _number("loss", loss(pytree.tree_unflatten(moved, structure)))

            coefficients, _, _ = _differences(at, queries, eps, scheme)
            sums = [torch.zeros_like(t, dtype=_wide(t.dtype)) for t in theta]
            _add_up(sums, direction, coefficients)
        out = [total.to(t.dtype) for total, t in zip(sums, theta, strict=True)]
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

    ``params``: what ``net.parameters()`` gives. Tensors that need no gradient are skipped,
    one that occurs twice counts once, the rest lie on one device. ``.grad`` is written after
    the last query only, so any ``torch.optim`` optimiser or scheduler can follow. Keep one
    ``generator`` over a training run: ``None`` is a fresh one seeded 0, and every call
    would use the same directions.

    ``memory``: ``"store"`` holds one direction (P rows for ``Orthogonal``), in what becomes
    ``.grad`` when that is None and queries == 1. ``"replay"`` holds none and redraws it from
    its seed, tensor by tensor (``Sphere`` draws twice, ``Orthogonal`` raises). ``"exact"``
    holds a copy of the parameters and restores them bitwise; half precision needs it. The
    three give the same estimate to rounding. "store" and "replay" step +ε, -2ε, +ε and
    return to within one unit in the last place, per query, of the largest value passed.

    An exception, an interrupt or a loss that is not finite restores the parameters as far
    as ``memory`` says and leaves every ``.grad`` as it was.

    Raises
    ------
    ValueError
        As :func:`grad`, and: an unknown memory, half precision without "exact", parameters
        on several devices, no parameter that needs a gradient, a sparse ``.grad``.
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
    halves = [t.dtype for t in theta if _wide(t.dtype) != t.dtype]
    if halves and memory != "exact":
        raise ValueError(
            f"memory is {memory!r} with {halves[0]} parameters, which would drift by a rounding "
            "per query; 'exact' is needed"
        )
    if memory == "replay" and isinstance(directions, Orthogonal):
        raise ValueError(
            f"memory is {memory!r} with directions={directions}, whose rows are drawn together; "
            "'store' or 'exact' is needed"
        )
    seeds = _seeds(queries, _generator(generator))

    # a .grad made in inference mode could never be added to outside it
    with torch.inference_mode(False), torch.no_grad():
        redraw = _directions(directions, theta, seeds)
        direction = _LastOnly(redraw) if memory == "store" else redraw
        _resolvable(theta, direction(0), eps)
        walk = _FromCopy if memory == "exact" else _InPlace
        coefficients, loss, evaluations = _evaluate(
            closure, walk(theta, direction, eps), queries, eps, scheme
        )
        _accumulate(theta, direction if queries == 1 else redraw, coefficients)
    return Estimate(
        loss=loss,
        coefficients=coefficients,
        evaluations=evaluations,
        directions=directions,
        seeds=seeds,
        shapes=tuple(t.shape for t in theta),
        dtypes=tuple(t.dtype for t in theta),
        device_type=theta[0].device.type,
    )


def replay_(params: Iterable[Tensor], estimate: Estimate, scale: float) -> None:
    """Add ``scale · ĝ`` to the parameters in place, from the estimate's seeds and scalars.

    With scale = -lr this repeats, to rounding, the SGD step that used the estimate, without
    evaluating or storing anything: what a second machine needs to follow the first.

    Raises
    ------
    ValueError
        Parameters of other shapes or dtypes than the estimate's or on another device type,
        where the same seeds draw other directions; a scale that is not finite.
    TypeError
        ``estimate`` is no :class:`Estimate`, or ``scale`` no number.
    """
    if not isinstance(estimate, Estimate):
        raise TypeError(f"estimate is {estimate!r}; what zotk.backward returned is needed")
    if not math.isfinite(_real("scale", scale)):
        raise ValueError(f"scale is {scale}; a finite number is needed")
    theta = _parameters(params)
    for name, found, made in (
        ("shapes", tuple(t.shape for t in theta), estimate.shapes),
        ("dtypes", tuple(t.dtype for t in theta), estimate.dtypes),
        ("device type", theta[0].device.type, estimate.device_type),
    ):
        if found != made:
            raise ValueError(f"params have the {name} {found}; the estimate was made for {made}")
    with torch.no_grad():
        direction = _directions(estimate.directions, theta, estimate.seeds)
        _add_up(theta, direction, [scale * c for c in estimate.coefficients])


def _differences(
    at: Values, queries: int, eps: float, scheme: str
) -> tuple[tuple[float, ...], float, int]:
    """The c_p / P, the loss, and the number of evaluations."""
    if scheme == "central":
        pairs = [(at(p, +1), at(p, -1)) for p in range(queries)]
        coefficients = tuple((plus - minus) / (2 * eps * queries) for plus, minus in pairs)
        return coefficients, sum(0.5 * (a + b) for a, b in pairs) / queries, 2 * queries
    base = at(0, 0)
    coefficients = tuple((at(p, +1) - base) / (eps * queries) for p in range(queries))
    return coefficients, base, queries + 1


def _evaluate(
    closure: Callable[[], Tensor | float], walker: "_Walker", queries: int, eps: float, scheme: str
) -> tuple[tuple[float, ...], float, int]:
    """What :func:`_differences` gives for the closure; θ is back at the end, whatever happens."""

    def at(p: int, side: int) -> float:
        walker.go(p, side)
        return _number("closure", closure())

    try:
        return _differences(at, queries, eps, scheme)
    finally:
        _insist(walker.restore)


class _Walker(Protocol):
    """Moves θ in place to θ + side·εz_p, and back."""

    def go(self, p: int, side: int) -> None: ...

    def restore(self) -> None: ...


class _FromCopy:
    """Starts each move from a copy of θ."""

    def __init__(self, theta: Sequence[Tensor], direction: Direction, eps: float) -> None:
        self._theta, self._direction, self._eps = theta, direction, eps
        self._saved = [t.clone() for t in theta]

    def go(self, p: int, side: int) -> None:
        if side == 0:
            return self.restore()
        pieces = zip(self._theta, self._saved, self._direction(p), strict=True)
        for t, start, z in pieces:
            t.copy_(start).add_(z, alpha=side * self._eps)

    def restore(self) -> None:
        for t, start in zip(self._theta, self._saved, strict=True):
            t.copy_(start)


class _InPlace:
    """Moves by differences of sides, and knows for each tensor where it stands.

    An interrupt can come between a tensor's move and the note of it; the tensor's version,
    which every move raises, then tells whether the move was made.
    """

    def __init__(self, theta: Sequence[Tensor], direction: Direction, eps: float) -> None:
        self._theta, self._direction, self._eps = theta, direction, eps
        self._sides = [0] * len(theta)
        self._query = 0
        self._pending: tuple[int, int, int] | None = None  # tensor, side, version before

    def go(self, p: int, side: int) -> None:
        if p != self._query:
            self._move(0)
            self._query = p
        self._move(side)

    def restore(self) -> None:
        self._move(0)

    def _move(self, side: int) -> None:
        if self._pending is not None:
            k, goal, version = self._pending
            if self._theta[k]._version != version:
                self._sides[k] = goal
            self._pending = None
        if all(s == side for s in self._sides):
            return
        for k, (t, z) in enumerate(zip(self._theta, self._direction(self._query), strict=True)):
            if self._sides[k] != side:
                self._pending = (k, side, t._version)
                t.add_(z, alpha=(side - self._sides[k]) * self._eps)
                self._sides[k] = side
                self._pending = None


def _insist(restore: Callable[[], None]) -> None:
    """Runs ``restore`` to its end, however often it is interrupted, then passes that on."""
    interrupted = None
    while True:
        try:
            restore()
            break
        except KeyboardInterrupt as again:
            interrupted = again
    if interrupted is not None:
        raise interrupted


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


def _accumulate(
    theta: Sequence[Tensor], direction: Direction, coefficients: Sequence[float]
) -> None:
    """Add Σ c_p z_p to every ``.grad``; where that is None, it comes to be at the end."""
    if len(coefficients) == 1:
        # the pieces are nobody else's and are used here for the last time: they become .grad
        made = []
        for t, z in zip(theta, direction(0), strict=True):
            made.append(z.mul_(coefficients[0]) if t.grad is None else None)
            if t.grad is not None:
                t.grad.add_(z, alpha=coefficients[0])
    else:
        # halves are summed in float32 and rounded once
        sums = [
            t.grad
            if t.grad is not None and t.grad.dtype == _wide(t.grad.dtype)
            else torch.zeros_like(t, dtype=_wide(t.dtype))
            for t in theta
        ]
        _add_up(sums, direction, coefficients)
        made = []
        for t, total in zip(theta, sums, strict=True):
            if t.grad is not None and t.grad is not total:
                t.grad.add_(total)
            made.append(total.to(t.dtype) if t.grad is None else None)
    for t, new in zip(theta, made, strict=True):
        if new is not None:
            t.grad = new


def _add_up(sums: Sequence[Tensor], direction: Direction, coefficients: Sequence[float]) -> None:
    """Add Σ c_p z_p to the tensors ``sums``, in place."""
    for p, c in enumerate(coefficients):
        for total, z in zip(sums, direction(p), strict=True):
            total.add_(z, alpha=c)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precisions, else the dtype itself."""
    return torch.float32 if torch.finfo(dtype).bits < 32 else dtype


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


def _seeds(queries: int, generator: torch.Generator) -> tuple[int, ...]:
    high = 2**62  # a CPU generator uses the lower half of a seed's bits, a GPU's all of them
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
        raise ValueError("params has a tensor that an operation made; leaves are needed")
    _floating(theta)
    for t in theta:
        if t.grad is not None and t.grad.layout != torch.strided:
            raise ValueError(
                f".grad of a parameter of shape {tuple(t.shape)} is {t.grad.layout}; a dense "
                "tensor or None is needed"
            )
    return theta


def _tensors(values: Sequence[Any]) -> None:
    if not values:
        raise ValueError("params holds no tensor")
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(f"params holds a {type(value).__name__}; tensors are needed")


def _floating(theta: Sequence[Tensor]) -> None:
    for t in theta:
        if not t.dtype.is_floating_point:
            raise TypeError(f"params holds a tensor of {t.dtype}; a floating-point dtype is needed")
    devices = {t.device for t in theta}
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


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.dtype.is_complex:
            kind = f"a tensor of {value.dtype}, shape {tuple(value.shape)}"
            raise TypeError(f"{name} returned {kind}; one real number is needed")
        value = value.item()
    number = _real(f"what {name} returned", value)
    if not math.isfinite(number):
        raise ValueError(f"{name} returned {number}; a finite loss is needed")
    return number
