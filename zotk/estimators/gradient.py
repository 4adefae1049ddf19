"""Gradients of functions of values from function values, like ``torch.func.grad``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from zotk.arguments import seeded
from zotk.estimators.differences import How, differences
from zotk.estimators.directions import Law
from zotk.estimators.evaluation import fresh
from zotk.estimators.laws import Gaussian
from zotk.estimators.machines import Point
from zotk.estimators.parameters import (
    add_up,
    draw_seeds,
    floating,
    number,
    resolvable_sample,
    standard,
    tensors,
    wide,
)

__all__ = ["grad"]


def grad(
    loss: Callable[[Any], Tensor],
    *,
    directions: Law = Gaussian(),  # noqa: B008 (frozen)
    eps: float = 1e-3,
    queries: int = 1,
    scheme: str = "central",
    generator: torch.Generator | None = None,
    vectorize: bool = False,
) -> Callable[[Any], Any]:
    """The zeroth-order counterpart of ``torch.func.grad``: a function of ``params``.

    ``loss(params)`` returns one number; ``params`` is a tensor or any nesting of dicts,
    lists and tuples of tensors, and the estimate has its structure, shapes and dtypes.
    ``generator=None`` is a fresh one seeded 0, made once: calls of the returned function
    draw new directions each time, and two equal calls of ``zotk.grad`` repeat each other.
    Costs 2·queries evaluations (central) or queries + 1 (forward).

    ``vectorize=True`` makes them at once, by ``torch.func.vmap``: the same numbers to rounding,
    faster for small models, with as many copies of the parameters as there are evaluations.
    ``loss`` is then called with tensors that vmap has given a hidden dimension: it cannot branch
    on their values, take one out of torch (``item``), or draw random numbers.

    Raises
    ------
    ValueError
        eps, queries or scheme out of range; a law with E[zz'] ≠ I; ``params`` without
        tensors; eps so small that under 1 % of the entries move (a warning under 50 %); a
        loss that is not finite; with ``vectorize``, a loss that vmap cannot evaluate.
    TypeError
        ``params`` has other leaves than floating-point tensors; an argument of another kind.
    """
    how = How(directions, eps, queries, scheme)
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; a function of params is needed")
    generator = seeded(generator)

    def estimate(params: Any) -> Any:
        found, structure = pytree.tree_flatten_with_path(params)
        places, leaves = [path for path, _ in found], [leaf for _, leaf in found]
        tensors(leaves)
        with torch.no_grad():
            theta = [t.detach() for t in leaves]
            floating(theta)
            standard(directions, theta)
            seeds = draw_seeds(how.queries, generator)
            named = {
                f"params{pytree.keystr(path)}": t for path, t in zip(places, theta, strict=True)
            }
            resolvable_sample(named, directions, seeds, eps)
            direction = directions.directions(theta, seeds)

            def moved(p: int, side: int) -> list[Tensor]:
                if not side:
                    return theta
                zs = zip(theta, direction(p), strict=True)
                return [torch.add(t, z, alpha=side * eps) for t, z in zs]

            def at(point: Point) -> float:
                there = pytree.tree_unflatten(moved(*point), structure)
                return number("loss", fresh(lambda: loss(there)))

            def at_each(points: Sequence[Point]) -> list[float]:
                return [at(point) for point in points]

            def at_once(points: Sequence[Point]) -> list[float]:
                copies = [torch.stack(ts) for ts in zip(*(moved(*p) for p in points), strict=True)]
                try:
                    every = fresh(lambda: vmap(on_leaves)(*copies))
                except Exception as error:
                    at(points[0])  # a fault of the loss itself is told as such
                    raise ValueError(
                        "vectorize is True, and torch.func.vmap cannot evaluate this loss "
                        f"(vectorize=False can): {error}"
                    ) from error
                return [number("loss", value) for value in every]

            def on_leaves(*leaves: Tensor) -> Tensor:
                return loss(pytree.tree_unflatten(list(leaves), structure))

            coefficients, _, _ = differences(at_once if vectorize else at_each, how)
            sums = [torch.zeros_like(t, dtype=wide(t.dtype)) for t in theta]
            add_up(sums, direction, coefficients)
        out = [total.to(t.dtype) for total, t in zip(sums, theta, strict=True)]
        return pytree.tree_unflatten(out, structure)

    return estimate
