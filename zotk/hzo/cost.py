"""How a tower is divided, and what reading all its targets costs."""

from collections.abc import Iterator
from dataclasses import dataclass

from zotk.arguments import integer

__all__ = ["HZOCost", "divided", "divisor", "hzo_cost"]


@dataclass(frozen=True)
class HZOCost:
    """What all targets of a tower cost, per example, with central differences.

    ``layer_evaluations``: units run on one perturbed row. ``queries``: scalars read off, two for
    each direction. ``rounds``: readouts that must wait for one another. ``nesting``: splits
    between the top and the earliest boundary.
    """

    layer_evaluations: int
    queries: int
    rounds: int
    nesting: int


def hzo_cost(width: int, depth: int, arity: int | str) -> HZOCost:
    """The cost of a tower of ``depth`` units of ``width`` outputs; random directions: width = P.

    ``arity`` k ≥ 2 divides segments into k parts, the larger ones first; 1 is direct, "chain"
    (and any arity ≥ depth) goes unit by unit. Counted over the splits :func:`hzo_backward` makes.

    Raises
    ------
    ValueError
        width, depth or arity < 1; another word than "chain".
    TypeError
        width, depth or arity is no integer.
    """
    integer("width", width, 1)
    integer("depth", depth, 1)
    units, depths = 0, {depth: 0}
    for m, b in divided(depth, divisor(arity, depth)):
        units += b - m
        depths[m] = depths[b] + 1
    return HZOCost(
        layer_evaluations=2 * width * units,
        queries=2 * width * (depth - 1),
        rounds=max(depths.values()),
        nesting=depths.get(1, 0),
    )


def divisor(arity: int | str, depth: int) -> int:
    """Into how many parts a segment is divided."""
    if arity == "chain":
        return max(depth, 2)
    if isinstance(arity, str):
        raise ValueError(f"arity is {arity!r}; an integer or 'chain' is needed")
    integer("arity", arity, 1)
    return arity


def divided(depth: int, arity: int) -> Iterator[tuple[int, int]]:
    """Pairs (m, b): the target of boundary m is read off units m+1 … b. b comes before m."""
    segments = [(0, depth)]
    while segments:
        a, b = segments.pop()
        if b - a < 2:
            continue
        count = min(arity, b - a)
        if arity == 1:  # the first unit alone, the rest to be split again from the same target
            sizes = [1, b - a - 1]
        else:  # larger parts first
            sizes = [(b - a + count - 1 - k) // count for k in range(count)]
        for size in reversed(sizes):
            if b - size > a:
                yield b - size, b
            segments.append((b - size, b))
            b -= size
