"""Gradient estimates from function values: central and forward differences along random directions.

With z₁ … z_P of a standard law (E[zz'] = I) both estimators are

    ĝ = (1/P) Σ_p c_p z_p,    c_p = [L(θ + εz_p) - L(θ - εz_p)] / 2ε   (central; Spall 1992)
                              c_p = [L(θ + εz_p) - L(θ)] / ε           (forward)

:func:`grad` works on values, like ``torch.func.grad``; :func:`backward` moves the parameters in
place and fills ``.grad``, like ``loss.backward()``. One function computes the c_p of both.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from zotk.arguments import integer, positive, seeded
from zotk.estimators.directions import Gaussian, Law, Orthogonal
from zotk.estimators.evaluation import SameDraws, fresh
from zotk.estimators.moving import FromCopy, InPlace, LastOnly, Walker, insist
from zotk.estimators.parameters import (
    Direction,
    add_up,
    draw_seeds,
    drawn,
    floating,
    number,
    resolvable,
    standard,
    tensors,
    trained,
    wide,
)
from zotk.estimators.record import Estimate

__all__ = ["backward", "grad"]

Values = Callable[[int, int], float]  # (p, side in {-1, 0, +1}) -> the loss at θ + side·εz_p


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
    generator = seeded(generator)

    def estimate(params: Any) -> Any:
        leaves, structure = pytree.tree_flatten(params)
        tensors(leaves)
        with torch.no_grad():
            theta = [t.detach() for t in leaves]
            floating(theta)
            standard(directions, theta)
            direction = drawn(directions, theta, draw_seeds(queries, generator))
            resolvable(theta, direction(0), eps)

            def at(p: int, side: int) -> float:
                moved = theta
                if side:
                    zs = zip(theta, direction(p), strict=True)
                    moved = [torch.add(t, z, alpha=side * eps) for t, z in zs]
                return number("loss", fresh(lambda: loss(pytree.tree_unflatten(moved, structure))))

            coefficients, _, _ = _differences(at, queries, eps, scheme)
            sums = [torch.zeros_like(t, dtype=wide(t.dtype)) for t in theta]
            add_up(sums, direction, coefficients)
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
    rng: str = "same",
) -> Estimate:
    """The zeroth-order counterpart of ``loss.backward()``: accumulates ĝ into ``.grad``.

    ``closure()`` returns the loss at the present values of the parameters, forward only; it
    is called under ``torch.no_grad()``, 2·queries times (central) or queries + 1 (forward).
    It must be *the same function* at every call: with a fresh dropout mask or minibatch the
    difference of two calls contains the change of the function, divided by 2ε. Therefore, with
    ``rng="same"``, torch's global generators of the CPU and of the parameters' device stand at
    the same state at every call, and afterwards where one call leaves them: dropout has one
    mask per step. ``"free"`` leaves them alone. What autocast and ``parametrize.cached`` keep
    of the parameters is forgotten before and after every call.

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
        As :func:`grad`, and: an unknown memory or rng, half precision without "exact", parameters
        on several devices, on meta, of inference mode or with entries in common, no parameter that
        needs a gradient, a ``.grad`` that cannot be added to, an
        estimate beyond the range of its dtype.
    TypeError
        ``params`` is no iterable of plain floating-point tensors of 16 bits or more, or
        ``closure`` is no function.
    """
    _options(directions, eps, queries, scheme)
    if memory not in ("store", "replay", "exact"):
        raise ValueError(f"memory is {memory!r}; 'store', 'replay' or 'exact' is needed")
    if rng not in ("same", "free"):
        raise ValueError(f"rng is {rng!r}; 'same' or 'free' is needed")
    if not callable(closure):
        raise TypeError(f"closure is {closure!r}; a function that returns the loss is needed")
    theta = trained(params)
    standard(directions, theta)
    halves = [t.dtype for t in theta if wide(t.dtype) != t.dtype]
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
    queries = int(queries)
    seeds = draw_seeds(queries, seeded(generator))

    # a .grad made in inference mode could never be added to outside it
    with torch.inference_mode(False), torch.no_grad():
        redraw = drawn(directions, theta, seeds)
        direction = LastOnly(redraw) if memory == "store" else redraw
        resolvable(theta, direction(0), eps)
        walk = FromCopy if memory == "exact" else InPlace
        coefficients, loss, evaluations = _evaluate(
            closure,
            walk(theta, direction, eps),
            SameDraws(theta[0].device) if rng == "same" else None,
            queries,
            eps,
            scheme,
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
    closure: Callable[[], Tensor | float],
    walker: Walker,
    draws: SameDraws | None,
    queries: int,
    eps: float,
    scheme: str,
) -> tuple[tuple[float, ...], float, int]:
    """What :func:`_differences` gives for the closure; θ is back at the end, whatever happens."""

    def at(p: int, side: int) -> float:
        walker.go(p, side)
        if draws is not None:
            draws.rewind()
        return number("closure", fresh(closure))

    try:
        return _differences(at, queries, eps, scheme)
    finally:
        insist(walker.restore)


def _accumulate(
    theta: Sequence[Tensor], direction: Direction, coefficients: Sequence[float]
) -> None:
    """Add Σ c_p z_p to every ``.grad``, or to none: what can fail comes before the first."""
    if len(coefficients) == 1:
        # the pieces are nobody else's and are used here for the last time: they may become .grad
        pieces = zip(theta, direction(0), strict=True)
        sums = [z.to(wide(t.dtype)).mul_(coefficients[0]) for t, z in pieces]
    else:
        sums = [torch.zeros_like(t, dtype=wide(t.dtype)) for t in theta]
        add_up(sums, direction, coefficients)
    made = []
    for t in theta:
        made.append(_rounded(t, sums.pop(0)))  # popped: halves need not be held twice
    versions = [None if t.grad is None else t.grad._version for t in theta]

    def write() -> None:
        for t, new, version in zip(theta, made, versions, strict=True):
            if version is None:
                t.grad = new
            elif t.grad is not None and t.grad._version == version:  # not yet, if interrupted
                # the sum of halves was made and rounded beforehand
                t.grad.add_(new) if new.dtype == wide(new.dtype) else t.grad.copy_(new)

    insist(write)


def _rounded(t: Tensor, total: Tensor) -> Tensor:
    """The estimate as t's ``.grad`` needs it: laid out as t, in its dtype, finite.

    For halves what is there already is added before the one rounding.
    """
    dtype = t.dtype if t.grad is None else t.grad.dtype
    if t.grad is not None and dtype != wide(dtype):
        total = total.add_(t.grad)
    new = total.to(dtype)
    if not new.isfinite().all():
        raise ValueError(
            f"the estimate for a parameter of shape {tuple(t.shape)} is beyond {dtype}, at most "
            f"{torch.finfo(dtype).max:.3g}; scale the loss down"
        )
    laid = torch.empty_like(t, dtype=dtype)  # the strides that autograd would give
    return new if new.stride() == laid.stride() else laid.copy_(new)


def _options(directions: Law, eps: float, queries: int, scheme: str) -> None:
    if not isinstance(directions, Law):
        raise TypeError(f"directions is {directions!r}; a law such as zotk.Gaussian() is needed")
    positive("eps", eps)
    integer("queries", queries, 1)
    if scheme not in ("central", "forward"):
        raise ValueError(f"scheme is {scheme!r}; 'central' or 'forward' is needed")
