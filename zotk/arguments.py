"""The checks of arguments, once: each names the argument and says what is needed."""

import math
from numbers import Integral
from typing import Any

import torch

__all__ = ["integer", "positive", "real", "seeded"]


def integer(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; an integer is needed")
    if value < least:
        raise ValueError(f"{name} is {value}; at least {least} is needed")


def real(name: str, value: Any) -> float:
    """A number as a float; tensors and arrays of no dimension count."""
    if isinstance(value, bool | str | complex) or getattr(value, "ndim", 0) != 0:
        raise TypeError(f"{name} is {value!r}; a real number is needed")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}; a real number is needed") from error


def positive(name: str, value: float) -> None:
    number = real(name, value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value}; a positive finite number is needed")


def seeded(
    generator: torch.Generator | None, device: torch.device | str = "cpu"
) -> torch.Generator:
    if generator is None:
        return torch.Generator(device).manual_seed(0)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is {generator!r}; a torch.Generator or None is needed")
    return generator
