"""Evaluations of one function: nothing cached from other parameters, the same random state."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

__all__ = ["SameBuffers", "SameDraws", "fresh"]


def fresh(f: Callable[[], Any]) -> Any:
    """What f returns, without what torch keeps of tensors made from parameters.

    Autocast keeps the cast of each weight, ``parametrize.cached`` what a parametrization made:
    either would hide that the parameters have moved.
    """
    _forget()
    try:
        return f()
    finally:
        _forget()


def _forget() -> None:
    torch.clear_autocast_cache()
    parametrize._cache.clear()


class SameDraws:
    """Torch's global generators of the CPU and one device, put back before every evaluation.

    They move on once in all, by what the last evaluation drew.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type not in ("cpu", "meta") else None
        self._cpu = torch.get_rng_state()
        if self._device is not None:
            self._own = torch.get_device_module(device).get_rng_state(device)

    def rewind(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._device is not None:
            torch.get_device_module(self._device).set_rng_state(self._own, self._device)


class SameBuffers:
    """The buffers of a module, put back before every evaluation: they move on once in all.

    So do the running statistics of BatchNorm in training mode.
    """

    def __init__(self, net: nn.Module) -> None:
        self._kept = [(buffer, buffer.clone()) for buffer in net.buffers()]

    def rewind(self) -> None:
        for buffer, kept in self._kept:
            buffer.copy_(kept)
