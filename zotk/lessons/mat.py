"""Runs in the arrays of the NZK paper's public code, which saves each experiment as data.mat."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zotk.arguments import integer
from zotk.theory.descent import gradient_descent

__all__ = ["official_arrays"]


def official_arrays(
    K: Tensor,
    f0: Tensor,
    y: Tensor,
    lr: float,
    *,
    iterations: int,
    record: Sequence[int],
    order: str,
    suffix: str = "",
) -> dict[str, np.ndarray]:
    """Kernel descent as the public code records it, under its historical names.

    K, f0, y, lr: as in :func:`zotk.gradient_descent`; ``order``: "fo" or "zo"; ``suffix`` ends
    the names, for instance "_normal_1.0". For N examples and T iterations, with ORDER for
    ``order``: loss_list_ORDER (T,), the losses at 0 … T-1; f_ORDER_list, the outputs at the
    iterations of ``record``, one below the other, (len(record)·N, 1); f_diff_list_ORDER, the T
    steps of the outputs likewise, (T·N, 1); NTK_kernal_fo or NZK_kernal_zo (N, N);
    function_record_iteration_list. ``scipy.io.savemat`` writes such a dict.

    Raises ValueError for iterations below 1, a record outside 0 … T-1, another order.
    """
    integer("iterations", iterations, 1)
    if not all(0 <= t < iterations for t in record):
        raise ValueError(f"record is {record!r}; iterations from 0 to {iterations - 1} are needed")
    if order not in ("fo", "zo"):
        raise ValueError(f"order is {order!r}; 'fo' or 'zo' is needed")
    curve = gradient_descent(K, f0, y, lr)
    times = torch.arange(iterations, device=K.device)
    f = curve.at(torch.arange(iterations + 1, device=K.device))
    kernel = "NTK_kernal_fo" if order == "fo" else "NZK_kernal_zo"
    arrays = {
        f"loss_list_{order}": curve.loss(times),
        f"f_{order}_list": f[list(record)].reshape(-1, 1),
        f"f_diff_list_{order}": f.diff(dim=0).reshape(-1, 1),
        kernel: K,
    }
    named = {name + suffix: values.cpu().numpy() for name, values in arrays.items()}
    return named | {"function_record_iteration_list": np.asarray(record)}
