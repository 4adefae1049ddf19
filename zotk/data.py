"""Data: scikit-learn's handwritten digits, and points on a sphere."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from zotk.directions import Sphere

__all__ = ["digits", "sphere"]


def digits(
    classes: Sequence[int] = range(10), *, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels, of the given classes.

    Returns x of shape (n, 64), pixels in [0, 1], in ``dtype`` (torch's default), and y of
    shape (n,), int64: the position of each image's class in ``classes``. The order is that
    of the data set (several writers in turn), the same on every call.

    Raises ValueError for a class that is not 0 … 9, or named twice; TypeError for a dtype
    that is not a floating-point one.
    """
    wanted = list(classes) if isinstance(classes, Iterable) else []
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(10)):
        raise ValueError(f"classes is {classes!r}; distinct digits of 0 … 9 are needed")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype is {dtype}; a floating-point dtype is needed")
    from sklearn.datasets import load_digits  # heavy to import, needed here only

    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    x = torch.from_numpy(bunch.data).to(dtype) / 16
    hits = labels[:, None] == torch.tensor(wanted)
    kept = hits.any(1)
    return x[kept], hits[kept].int().argmax(1)


def sphere(
    n: int,
    d: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """n points drawn uniformly from the unit sphere of R^d: shape (n, d)."""
    return Sphere(1.0).sample(n, d, generator=generator, dtype=dtype, device=device)
