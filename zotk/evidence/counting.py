"""Exact counts of what a network evaluates, also inside vmap, grad and forward-mode AD."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves


@dataclass
class QueryCount:
    """What a network evaluated since the count began; see `count_queries`.

    forwards: finished calls of the network × parameter sets vmapped together.
    rows: forwards × leading dimension of the input (n, …); a vmap level that batches the input (or
        the random numbers) but no parameter multiplies rows and not forwards.
    layer_rows: name of a leaf module (as in `net.named_modules()`) → rows that leaf evaluated,
        whoever called it.
    tangent_rows: rows × tangents that forward-mode AD pushed through; in nested jvp the mixed
        tangents count as well.
    """

    forwards: int = 0
    rows: int = 0
    layer_rows: dict[str, int] = field(default_factory=dict)
    tangent_rows: int = 0


def count_queries(net: nn.Module) -> AbstractContextManager[QueryCount]:
    """Count the evaluations of `net` inside a `with` block: `with count_queries(net) as q:`.

    `net` is called with a tensor of shape (n, …) as its first argument (of shape (): one row).
    The `QueryCount` can be read inside the block and after it, and contexts can be nested. Exact
    under `torch.func` (vmap with chunks, grad, jvp, … in any order), `torch.autograd.forward_ad`
    and `functional_call`: at each vmap level a module counts once if it does not depend on that
    level, and as often as the level is wide if it does. Buffers count as parameters.

    A call of parts (`net[3:]`) shows in `layer_rows` alone, a call that raises only in the leaves
    it had finished. Not seen: functions (`torch.nn.functional`), backward passes, copies of `net`,
    compiled calls.

    Raises TypeError when `net` is no `nn.Module`, and NotImplementedError in a call of `net` under
    `vectorize=True` of `torch.autograd.functional`.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {net!r}")
    return _counting(net)


@contextmanager
def _counting(net: nn.Module) -> Iterator[QueryCount]:
    names = {module: name for name, module in net.named_modules() if _is_leaf(name, module)}
    count = QueryCount(layer_rows=dict.fromkeys(names.values(), 0))

    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        state = [*module.parameters(), *module.buffers()]
        inputs = tree_leaves((args, kwargs))
        # The output too: random layers and captured tensors batch it where the inputs are not.
        seen = [*state, *inputs, *tree_leaves(output)]
        sizes = _vmap_sizes(seen)
        n = _leading_dimension(inputs)
        rows = n * prod(sizes.values())
        if module in names:  # a deep copy made inside the block has the hook and is not counted
            count.layer_rows[names[module]] += rows
        if module is net:
            count.forwards += prod(_vmap_sizes(state).values())
            count.rows += rows
            count.tangent_rows += n * _count_tangents(seen, sizes)

    with ExitStack() as hooks:
        for module in {net, *names}:
            hooks.enter_context(module.register_forward_hook(hook, with_kwargs=True))
        yield count


def _is_leaf(name: str, module: nn.Module) -> bool:
    """No children; a parametrization acts on parameters, so it is neither a leaf nor a child."""
    children = (child for child, _ in module.named_children())
    return "parametrizations" not in name and all(child == "parametrizations" for child in children)


def _leading_dimension(inputs: Iterable[object]) -> int:
    """Rows of the first tensor; 0 without any, since then nothing goes in."""
    shapes = (leaf.shape for leaf in inputs if isinstance(leaf, Tensor))
    shape = next(shapes, torch.Size([0]))
    return shape[0] if shape else 1


def _unwrap(leaf: object) -> Iterator[tuple[int, Tensor]]:
    """(level, tensor) for a tensor and all it wraps, innermost transform first, at last level 0."""
    while isinstance(leaf, Tensor):
        if _functorch.is_legacy_batchedtensor(leaf):
            raise NotImplementedError(
                "count_queries cannot see into vectorize=True of torch.autograd; use torch.func"
            )
        level = _functorch.maybe_get_level(leaf)  # -1: bare, -2: wrapper of a finished transform
        if level != -2:
            yield max(level, 0), leaf
        leaf = _functorch.get_unwrapped(leaf) if level != -1 else None


def _vmap_sizes(leaves: Iterable[object]) -> dict[int, int]:
    """vmap level → its size, for the levels at which some of `leaves` are batched."""
    return {
        level: _functorch.get_unwrapped(tensor).shape[_functorch.maybe_get_bdim(tensor)]
        for leaf in leaves
        for level, tensor in _unwrap(leaf)
        if _functorch.is_batchedtensor(tensor)
    }


def _count_tangents(leaves: Iterable[object], sizes: dict[int, int]) -> int:
    """Tangents of values batched as `sizes`, over all vmap levels of the values and tangents."""
    found: dict[frozenset[int], dict[int, int]] = {}
    _collect_tangents(leaves, frozenset(), found)
    # A tangent is as wide as the value and, if mixed, as the tangents it derives from.
    wide = (ChainMap(sizes, *(found[part] for part in found if part <= key)) for key in found)
    return sum(prod(levels.values()) for levels in wide)


def _collect_tangents(
    leaves: Iterable[object], key: frozenset[int], found: dict[frozenset[int], dict[int, int]]
) -> None:
    """Add to `found`, by the jvp levels of a tangent, the vmap sizes of tangents in `leaves`."""
    for leaf in leaves:
        for level, tensor in _unwrap(leaf):
            # A bare inference tensor carries no tangent, and torch fails when asked for it.
            if _functorch.is_batchedtensor(tensor) or (level == 0 and tensor.is_inference()):
                continue
            with _interpreters_up_to(level):
                tangent = forward_ad.unpack_dual(tensor).tangent
            if tangent is not None:
                found.setdefault(key | {level}, {}).update(_vmap_sizes([tangent]))
                _collect_tangents([tangent], key | {level}, found)


@contextmanager
def _interpreters_up_to(level: int) -> Iterator[None]:
    """Set deeper transforms aside: the tangent of a wrapper is visible to its own level alone."""
    with ExitStack() as stack:
        while (_functorch.maybe_current_level() or 0) > level:
            stack.enter_context(temporarily_pop_interpreter_stack())
        yield
