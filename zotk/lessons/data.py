"""Data: handwritten digits, real images in small numbers, points on a sphere, a linear teacher."""

import math
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zotk.arguments import integer, seeded
from zotk.estimators.laws import Sphere
from zotk.evidence.cards import show_left_out

__all__ = ["digits", "images", "linear_task", "sphere"]


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
    dtype = _floating(dtype)
    bunch = _sklearn().load_digits()
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
    ``noise`` is a standard deviation (1/50 or 1/20 in the public code; the paper's N(0, 0.02)
    could mean a variance).

    Raises ValueError for n or d below 1, a negative noise, a theta that is not of shape (d,);
    TypeError for a dtype that is not a floating-point one.
    """
    integer("n", n, 1)
    integer("d", d, 1)
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise is {noise}; a finite number of at least 0 is needed")
    dtype = _floating(dtype)
    device = torch.device(seeded(generator).device if device is None else device)
    generator = seeded(generator, device)
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


_COLORED = ("cifar10", "tiny-imagenet")
_HUB = {  # address on the hub, split unless told
    "mnist": ("ylecun/mnist", "test"),
    "cifar10": ("uoft-cs/cifar10", "train"),
    "tiny-imagenet": ("zh-plus/tiny-imagenet", "train"),
}


def images(
    name: str,
    classes: Sequence[int],
    *,
    per_class: int,
    split: str | None = None,
    size: int | None = None,
    color: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The first ``per_class`` images of each class, grey unless told, in the data set's order.

    ``name``: "digits" (scikit-learn's, see :func:`digits`), "patches" (32×32 of its two sample
    photographs, 260 each in a fixed random order; class 0 the temple, 1 the flower), "mnist",
    "cifar10" or "tiny-imagenet". The last three come through Hugging Face ``datasets``
    (``pip install 'zotk[data]'``), from the hub, or from the folder that the environment
    variable ZOTK_DATA names, with the hub's layout in a subfolder for each. ``split``: one of
    the hub's; None: "test" of mnist, "train" of the others.

    Returns x of shape (n, pixels), pixels in [0, 1] in ``dtype`` (torch's default), and y of shape
    (n,), int64: the position of each image's class in ``classes``. With ``size``, averages over
    size × size equal areas; a pixel on a border counts in each by its share. With ``color``, red,
    then green, then blue: (n, 3 · pixels), of the last two data sets.

    Raises ValueError for an unknown name, a split of "digits" or "patches", a split that is not
    stored, colours of a data set that is grey here, classes that do not exist, are named twice or
    have fewer images; TypeError for a dtype that is not a floating-point one; ImportError without
    ``datasets``, ConnectionError without the hub. In a notebook the cell that meets one of the last
    two keeps a record of it, so that whoever reads the run knows which data it did without.
    """
    integer("per_class", per_class, 1)
    dtype = _floating(dtype)
    if size is not None:
        integer("size", size, 1)
    wanted = list(classes) if isinstance(classes, Iterable) else []
    if len(set(wanted)) < len(wanted) or not wanted:
        raise ValueError(f"classes is {classes!r}; distinct classes are needed")
    if color and name not in _COLORED:
        raise ValueError(f"color is True; {name!r} is grey, {', '.join(_COLORED)} are not")
    if name in _BUNDLED:
        if split is not None:
            raise ValueError(f"split is {split!r}; {name!r} has none")
        pixels, labels = _BUNDLED[name](dtype)
    elif name in _HUB:
        try:
            address, usual = _HUB[name]
            rows_of = stored(name, address, split or usual)
        except (ImportError, ConnectionError) as error:
            show_left_out(name, str(error))
            raise
        labels = list(rows_of["label"])
    else:
        known = ", ".join(map(repr, [*_BUNDLED, *_HUB]))
        raise ValueError(f"name is {name!r}; {known} are known")
    rows = []
    for one in wanted:
        hits = [row for row, label in enumerate(labels) if label == one]
        if len(hits) < per_class:
            raise ValueError(f"class {one!r} of {name} has {len(hits)} images; {per_class} needed")
        rows += hits[:per_class]
    rows.sort()
    if name in _BUNDLED:
        x = pixels[rows]
    else:
        column = "img" if "img" in rows_of.features else "image"
        mode = "RGB" if color else "L"
        found = [np.asarray(image.convert(mode)) for image in rows_of.select(rows)[column]]
        x = torch.from_numpy(np.stack(found)).to(dtype) / 255
        x = x.movedim(3, 1) if color else x
    if size is not None:
        side = x.shape[-1]
        fine = torch.eye(side, dtype=dtype).repeat_interleave(size, 0)  # pixels in `size` parts
        shares = fine.view(size, side, side).mean(1)
        x = shares @ x @ shares.T
    return x.flatten(1), torch.tensor([wanted.index(labels[row]) for row in rows])


def _sklearn() -> Any:
    """scikit-learn's data sets: heavy to import, and needed by these functions only.

    Where rich is installed, its import draws from Python's global generator; that is put back.
    """
    state = random.getstate()
    from sklearn import datasets

    random.setstate(state)
    return datasets


def _digits(dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    x, y = digits(dtype=dtype)
    return x.view(-1, 8, 8), y.tolist()


def _patches(dtype: torch.dtype) -> tuple[Tensor, list[int]]:
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=dtype)  # the luma of ITU-R BT.601
    parts = []
    for photograph in _sklearn().load_sample_images().images:
        whole = torch.from_numpy(photograph.copy()).to(dtype) @ grey / 255
        tiles = whole.unfold(0, 32, 32).unfold(1, 32, 32).reshape(-1, 32, 32)
        order = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(0))
        parts.append(tiles[order])
    return torch.cat(parts), [k for k, part in enumerate(parts) for _ in part]


_BUNDLED = {"digits": _digits, "patches": _patches}


def _floating(dtype: torch.dtype | None) -> torch.dtype:
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype is {dtype}; a floating-point dtype is needed")
    return dtype


def stored(name: str, address: str, split: str) -> Any:
    """A split of a stored data set: from the folder ZOTK_DATA if it is set, else from the hub."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"{name} comes through the package `datasets`: pip install 'zotk[data]'; "
            "'digits' needs nothing"
        ) from error
    mirror = os.environ.get("ZOTK_DATA")
    if mirror and not (Path(mirror) / name).is_dir():
        raise ValueError(f"ZOTK_DATA is {mirror!r}; it has no folder {name!r}")
    try:
        return datasets.load_dataset(str(Path(mirror) / name) if mirror else address, split=split)
    except ConnectionError as error:
        raise ConnectionError(
            f"{address} cannot be reached on the hub: set ZOTK_DATA to a folder that holds {name}/"
        ) from error
