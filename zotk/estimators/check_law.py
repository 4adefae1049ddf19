"""Does a law draw what it declares?"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zotk.arguments import integer, seeded
from zotk.estimators.directions import Law
from zotk.estimators.parameters import draw_seeds

__all__ = ["check_law"]

_Z = 6.5  # standard errors: false alarms below 1e-6 for ten thousand entries


def check_law(
    law: Law,
    shapes: Sequence[Sequence[int]],
    *,
    draws: int = 4096,
    queries: int | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Draw directions for tensors of these shapes and compare with what the law declares.

    Asked are: the same piece from the same seeds, alone or with others; ``E[zz'] = I`` entry by
    entry if ``is_standard`` says so, else the mean of ``z_i²`` against ``second_moment``; the
    means of ``z_i⁴`` and of ``|z|⁴/d`` against ``kurtosis`` and ``gain``, where these do not
    raise ValueError. d is the sum of the entries of all shapes; a few dozen are enough, as the
    covariance of all pairs is looked at.

    Each of the ``draws`` is one estimate of ``queries`` directions, of which the means are taken,
    at a step of its own (`Law.at`): what a law keeps over steps is drawn anew. ``queries=None`` is
    3 for a law whose directions belong together, else 1; ``generator=None`` a fresh one seeded 0.

    Raises
    ------
    ValueError
        The law does not keep what it declares; the message has both numbers.
    TypeError
        ``law`` is no law.
    """
    if not isinstance(law, Law):
        raise TypeError(f"law is {law!r}; a law such as zotk.Gaussian() is needed")
    integer("draws", draws, 100)
    like = [torch.empty(tuple(shape), dtype=torch.float64) for shape in shapes]
    d = sum(t.numel() for t in like)
    integer("the entries of all shapes", d, 1)
    queries = (3 if law.joint else 1) if queries is None else queries
    integer("queries", queries, 1)
    seeds = draw_seeds(draws * (queries + 1), seeded(generator))
    of_estimates = [seeds[k : k + queries] for k in range(draws, len(seeds), queries)]
    _same_again(law.at(seeds[0]), like, of_estimates[0])
    z = torch.stack(
        [
            torch.stack([_flat(law.at(step).directions(like, each)(p)) for p in range(queries)])
            for step, each in zip(seeds, of_estimates, strict=False)
        ]
    )  # draws × queries × d
    squares = z.square()
    if law.is_standard(d):
        products = z.mT @ z / queries
        _compare(law, "E[zz'], entry by entry", products.flatten(1), torch.eye(d).flatten())
    else:
        of_all = squares.mean((1, 2))[:, None]
        _compare(law, "E z_i²", of_all, torch.tensor([law.second_moment(d)]))
    fourth, length = squares.square().mean((1, 2)), (squares.sum(2).square() / d).mean(1)
    for name, found, declared in (
        ("E z_i⁴", fourth, lambda: law.kurtosis(d) * law.second_moment(d) ** 2),
        ("E|z|⁴/d", length, lambda: law.gain(d)),
    ):
        try:
            value = declared()
        except ValueError:  # the law says that there is none
            continue
        _compare(law, name, found[:, None], torch.tensor([value]))


def _flat(pieces: Sequence[Tensor]) -> Tensor:
    return torch.cat([z.flatten() for z in pieces])


def _same_again(law: Law, like: Sequence[Tensor], seeds: Sequence[int]) -> None:
    together = [list(law.directions(like, seeds)(p)) for p in range(len(seeds))]
    for p in reversed(range(len(seeds))):
        for k in reversed(range(len(like))):
            if not torch.equal(law.directions(like, seeds)(p)[k], together[p][k]):
                raise ValueError(
                    f"{law}: piece {k} of a seed differs when it is drawn alone or again"
                )


def _compare(law: Law, name: str, drawn: Tensor, declared: Tensor) -> None:
    declared = declared.double()
    mean = drawn.mean(0)
    error = drawn.std(0) / math.sqrt(len(drawn)) + 1e-9 * declared.abs().clamp(min=1.0)
    z = (mean - declared).abs() / error
    worst = int(z.argmax())
    if z[worst] > _Z:
        raise ValueError(
            f"{law} declares {declared[worst]:.6g} for {name} and draws {mean[worst]:.6g} "
            f"± {error[worst]:.2g}"
        )
