"""Queries dealt to the processes of a group, and their values brought together.

Query p belongs to rank p mod W. The values travel as float64 and are summed with zeros, which is
exact: every rank holds what one process alone would have, bit by bit.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from zotk.estimators.parameters import sample

__all__ = ["Alone", "Group", "Machines"]

Point = tuple[int, int]  # (p, side)


class Machines(Protocol):
    """Who evaluates which point."""

    def agree(self, facts: Mapping[str, object], theta: Sequence[Tensor]) -> None: ...

    def seeds(self, seeds: tuple[int, ...]) -> tuple[int, ...]: ...

    def values(
        self, points: Sequence[Point], at: Callable[[int, int], float]
    ) -> Sequence[float]: ...


class Alone:
    """One process, which evaluates everything.

    Warns where a group of several is at work and was not given.
    """

    def agree(self, facts: Mapping[str, object], theta: Sequence[Tensor]) -> None:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            warnings.warn(
                f"torch.distributed has {dist.get_world_size()} processes and group is None: each "
                "makes an estimate of its own and DDP does not average it; pass group=",
                stacklevel=4,
            )

    def seeds(self, seeds: tuple[int, ...]) -> tuple[int, ...]:
        return seeds

    def values(self, points: Sequence[Point], at: Callable[[int, int], float]) -> list[float]:
        return [at(*point) for point in points]


class Group:
    """The processes of a ``torch.distributed`` group, which hold the same parameters."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self._group = group
        self._rank, self._size = dist.get_rank(group), dist.get_world_size(group)
        # nccl moves tensors of its devices only
        self._device = device if dist.get_backend(group) == "nccl" else torch.device("cpu")

    def agree(self, facts: Mapping[str, object], theta: Sequence[Tensor]) -> None:
        """Raise ValueError on every rank if the facts or the parameters differ on some rank.

        Of each parameter a sample is compared.
        """
        of_theta = hashlib.sha256()
        for t in theta:
            part = sample(t).detach().cpu().contiguous()
            of_theta.update(part.reshape(-1).view(torch.uint8).numpy().tobytes())
        mine = {name: repr(value) for name, value in facts.items()}
        mine["the parameters"] = of_theta.hexdigest()
        numbers = [
            int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
            for text in mine.values()
        ]
        told = [
            torch.zeros(len(mine), dtype=torch.int64, device=self._device)
            for _ in range(self._size)
        ]
        dist.all_gather(told, torch.tensor(numbers, device=self._device), group=self._group)
        every = torch.stack(told)
        for name, column in zip(mine, every.T, strict=True):
            others = torch.nonzero(column != column[0]).flatten().tolist()
            if others:
                raise ValueError(f"{name} on rank {others[0]} of the group is not that of rank 0")

    def seeds(self, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Those of rank 0."""
        told = torch.tensor(seeds, dtype=torch.int64, device=self._device)
        dist.broadcast(told, group=self._group, group_src=0)
        return tuple(told.tolist())

    def values(self, points: Sequence[Point], at: Callable[[int, int], float]) -> list[float]:
        """The loss at every point, each evaluated by one rank.

        An error of one rank is raised there; on the others a RuntimeError that names it.
        """
        found = torch.zeros(len(points) + self._size, dtype=torch.float64)
        error = None
        try:
            for k, (p, side) in enumerate(points):
                if p % self._size == self._rank:
                    found[k] = at(p, side)
        except Exception as failure:
            error = failure
            found[: len(points)] = 0
            found[len(points) + self._rank] = 1
        told = found.to(self._device)
        dist.all_reduce(told, group=self._group)
        if error is not None:
            raise error
        failed = torch.nonzero(told[len(points) :]).flatten().tolist()
        if failed:
            raise RuntimeError(f"the closure failed on rank {failed[0]} of the group")
        return told[: len(points)].tolist()
