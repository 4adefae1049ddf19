"""One check over several cases: a formula in d and P, say, at several values of both."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["across"]


def across(cases: Iterable[Any]) -> Callable[[Callable[..., Any]], Any]:
    """``over = across(cases)``; ``over(f)`` is f of every case, end to end, as one flat array.

    A case is a tuple of arguments of f, or one argument. f returns a number or an array, of any
    shape, or a tuple of them, such as (value, standard error): then ``over(f)`` is a tuple of
    flat arrays. Tensors give a tensor, on their device; integers stay integers. ::

        over = zotk.across([(3, 2), (5, 2), (5, 4)])  # (d, P)
        check.equal(over(measure), over(lambda d, P: 1 + (d + 1) / P), rtol=1e-9,
                    twins={"d for d + 1": over(lambda d, P: 1 + d / P)})

    Raises ValueError for fewer than two distinct cases, and where f gives tuples of several
    lengths.
    """
    listed = [case if isinstance(case, tuple) else (case,) for case in cases]
    distinct = [case for i, case in enumerate(listed) if case not in listed[:i]]
    if len(distinct) < 2:
        raise ValueError(f"cases are {listed}; two that differ are needed")

    def over(f: Callable[..., Any]) -> Any:
        found = [f(*case) for case in listed]
        if not any(isinstance(each, tuple) for each in found):
            return _end_to_end(found)
        sizes = {len(each) if isinstance(each, tuple) else 1 for each in found}
        if len(sizes) > 1:
            raise ValueError(f"f returns {sorted(sizes)} values, not always as many")
        return tuple(_end_to_end(part) for part in zip(*found, strict=True))

    return over


def _end_to_end(parts: Iterable[Any]) -> Any:
    found = list(parts)
    for tensor in found:
        if isinstance(tensor, Tensor):
            device = tensor.device
            return torch.cat([torch.as_tensor(p, device=device).reshape(-1) for p in found])
    return np.concatenate([np.asarray(part).reshape(-1) for part in found])
