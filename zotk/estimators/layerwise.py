"""θ + side·εz without writing θ: each parameter is moved where its module reads it.

While a :class:`Layerwise` walks, the modules that own parameters have classes of their own, whose
properties give θ + side·εz in the place of θ. What is made during a call of the module is kept
until that call ends: beside the parameters there is about one module's worth of memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zotk.estimators.directions import Direction
from zotk.estimators.parameters import in_runs

__all__ = ["Layerwise"]


class Layerwise:
    """A walker that never writes θ."""

    def __init__(
        self, net: nn.Module, theta: Mapping[str, Tensor], direction: Direction, eps: float
    ) -> None:
        self._direction, self._eps = direction, eps
        self._place = {id(t): k for k, t in enumerate(theta.values())}
        self._unread = dict(theta)
        self._names = {id(t): name for name, t in theta.items()}
        self._pieces: Sequence[Tensor] = ()
        self._alpha = 0.0
        self._open: list[tuple[nn.Module, type, list[Any]]] = []
        try:
            for module in net.modules():
                self._enter(module)
        except BaseException:
            self.restore()
            raise

    def go(self, p: int, side: int) -> None:
        if side:
            self._pieces = self._direction(p)
        self._alpha = side * self._eps

    def restore(self) -> None:
        while self._open:
            module, kind, hooks = self._open[-1]
            object.__setattr__(module, "__class__", kind)
            for hook in hooks:
                hook.remove()
            self._open.pop()

    def insist_on_reads(self) -> None:
        """Raise if a parameter was never read through its module: it was never moved."""
        if self._unread:
            raise ValueError(
                f"memory is 'layerwise' and {', '.join(self._unread)} was never read as an "
                "attribute of its module: kept elsewhere (memory='exact' moves it), or unused "
                "(requires_grad_(False))"
            )

    def _enter(self, module: nn.Module) -> None:
        own = [name for name, t in module._parameters.items() if id(t) in self._place]
        if not own:
            return
        kind = type(module)
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(
                f"memory is 'layerwise' and {kind.__name__} is scripted; it reads θ itself"
            )
        made: dict[str, Tensor] = {}
        depth = 0

        def begins(*_: Any) -> None:
            nonlocal depth
            depth += 1

        def ends(*_: Any) -> None:
            nonlocal depth
            depth -= 1
            if not depth:
                made.clear()

        def reader(name: str) -> property:
            def read(self: nn.Module) -> Tensor | None:
                t = self._parameters[name]
                if t is None or id(t) not in here._place or not here._alpha:
                    return t  # another one, put there by functional_call
                if name not in made:
                    new = here._moved(t)
                    if not depth:
                        return new
                    made[name] = new
                return made[name]

            return property(read)

        here = self
        hooks: list[Any] = []
        self._open.append((module, kind, hooks))
        hooks.append(module.register_forward_pre_hook(begins, prepend=True))
        hooks.append(module.register_forward_hook(ends, always_call=True))
        properties = {name: reader(name) for name in own}
        module.__class__ = type(
            kind.__name__, (kind,), {**properties, "__module__": kind.__module__}
        )

    def _moved(self, t: Tensor) -> Tensor:
        self._unread.pop(self._names[id(t)], None)
        moved = torch.empty_like(t)
        for (start, there), z in in_runs([t.detach(), moved], self._pieces, self._place[id(t)]):
            torch.add(start, z, alpha=self._alpha, out=there)
        return moved
