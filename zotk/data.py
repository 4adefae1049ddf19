"""Data: scikit-learn's handwritten digits, points on a sphere, and a linear teacher."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from zotk.directions import Sphere, _generator, _integer

__all__ = ["digits", "linear_task", "sphere"]


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


def linear_task(
    n: int,
    d: int,
    *,
    noise: float = 0.02,
    orthant: bool = True,
    theta: Tensor | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The linear teacher of the NZK paper's experiments (Section 4, C.2): x, y and theta.

    x: n unit vectors, shape (n, d); ``orthant``: drawn from the cube [0, 1]^d and normalised, as
    the public code does, else uniform on the sphere, as the paper says. ``theta``: the teacher,
    shape (d,); None: integers from 1 to 9. y = <theta, x> + ``noise`` · N(0, 1), shape (n,);
    ``noise`` is a standard deviation (1/50 or 1/20 in the public code).

    Raises ValueError for n or d below 1, a negative noise, a theta that is not of shape (d,).
    """
    _integer("n", n, 1)
    _integer("d", d, 1)
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise is {noise}; a finite number of at least 0 is needed")
    device = torch.device("cpu" if device is None else device)
    generator = _generator(generator, device)
    kind: Any = {"generator": generator, "device": device}
    if orthant:
        x = torch.rand(n, d, dtype=dtype, **kind)
        x = x / x.norm(dim=1, keepdim=True)
    else:
        x = sphere(n, d, dtype=dtype, **kind)
    if theta is None:
        theta = torch.randint(1, 10, (d,), **kind).to(x.dtype)
    elif theta.shape != (d,):
        raise ValueError(f"theta has shape {tuple(theta.shape)}; ({d},) is needed")
    y = x @ theta + noise * torch.randn(n, dtype=x.dtype, **kind)
    return x, y, theta
