"""Gradient estimates of a model's parameters from values of a closure.

:func:`measure` moves the parameters and returns seeds and scalars; :func:`backward` adds what these
stand for to ``.grad``, like ``loss.backward()``. The slopes are those of
:mod:`zotk.estimators.differences`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zotk.arguments import seeded
from zotk.estimators.differences import How, differences
from zotk.estimators.directions import Direction, Law, Pieces
from zotk.estimators.evaluation import SameBuffers, SameDraws, fresh
from zotk.estimators.laws import Gaussian
from zotk.estimators.layerwise import Layerwise
from zotk.estimators.machines import Alone, Group, Machines
from zotk.estimators.moving import FromCopy, InPlace, LastOnly, insist
from zotk.estimators.parameters import (
    add_up,
    draw_seeds,
    number,
    resolvable_sample,
    standard,
    trained,
    wide,
)
from zotk.estimators.record import Estimate

__all__ = ["backward", "measure"]


def measure(
    closure: Callable[[], Tensor | float],
    params: nn.Module | Iterable[Tensor],
    *,
    directions: Law = Gaussian(),  # noqa: B008 (frozen)
    eps: float = 1e-3,
    queries: int = 1,
    scheme: str = "central",
    generator: torch.Generator | None = None,
    memory: str = "exact",
    rng: str = "same",
    group: dist.ProcessGroup | None = None,
    check: bool = False,
) -> Estimate:
    """What a zeroth-order estimate knows, in seeds and scalars; no ``.grad`` is touched.

    ``closure()`` returns the loss at the present values of the parameters, forward only; it
    is called under ``torch.no_grad()``, 2·queries times (central) or queries + 1 (forward).
    It must be *the same function* at every call: with a fresh dropout mask or minibatch the
    difference of two calls contains the change of the function, divided by 2ε. Therefore, with
    ``rng="same"``, torch's global generators of the CPU and of the parameters' device stand at
    the same state at every call, and afterwards where one call leaves them: dropout has one
    mask per step. ``"free"`` leaves them alone. What autocast and ``parametrize.cached`` keep
    of the parameters is forgotten before and after every call. ``check=True`` spends two more
    calls, both at θ, and refuses a closure that returns two values.

    ``params``: a module, or what ``net.parameters()`` gives. Tensors that need no gradient are
    skipped, one that occurs twice counts once, the rest lie on one device. Of a module the
    buffers move on once, too (the statistics of BatchNorm). Keep one ``generator`` over a
    training run: ``None`` is a fresh one seeded 0, and every call would use the same directions.

    ``memory``: ``"exact"`` holds a copy of the parameters and restores them bitwise.
    ``"layerwise"`` needs the module and never writes θ: each parameter reads as θ ± εz in the
    calls of its own module, beside which there is about one module's worth of memory; scripted
    modules are refused. ``"store"`` and ``"replay"`` move θ in place, by +ε,
    -ε, -ε, +ε, which returns every entry exactly that has not changed its binade, and any within
    one unit in the last place, per query, of the largest value passed; ``"store"`` holds one
    direction meanwhile (signs as bytes), ``"replay"`` none: it draws anew for +ε, for the way
    from one side by home to the other, and for the way home, and large tensors in runs
    of 2¹⁶ entries (2²⁴ on a GPU), so that no buffer of a tensor's size is needed. ``Sphere`` and
    ``Guided`` draw twice; ``Orthogonal`` holds its P rows, beside what the memory itself needs,
    and raises with "replay" and "layerwise". All give the same estimate to rounding. Half
    precision needs "exact" or "layerwise".

    An eps that is lost beside a parameter is refused or told before the first call, with the names
    of the tensors and an eps that serves. Of large tensors a sample is looked at.

    ``group``: processes of ``torch.distributed`` with the same parameters, options and data.
    Query p is evaluated by rank p mod W, along directions of rank 0's generator; every rank
    returns the whole estimate, bit by bit what one process would. It needs "exact" or
    "layerwise", as parameters moved in place drift apart. Buffers of a module stay as they were.

    An exception, an interrupt or a loss that is not finite restores the parameters as far
    as ``memory`` says. If the two values of every pair are equal, a warning says so.

    Raises
    ------
    ValueError
        As :func:`grad`, and: an unknown memory or rng, half precision or a group in place,
        parameters on several devices, on meta, of inference mode or with entries in common, no
        parameter that needs a gradient, one that layerwise never read, ranks that do not agree,
        a closure that ``check`` finds to return two values.
    TypeError
        ``params`` is no module and no iterable of plain floating-point tensors of 16 bits or
        more, "layerwise" has no module, or ``closure`` is no function.
    RuntimeError
        The closure failed on another rank of the group, or the group did, after its timeout.
    """
    how = How(directions, eps, queries, scheme, memory, rng)
    return _measured(closure, params, how, generator, group, check)[0]


def backward(
    closure: Callable[[], Tensor | float],
    params: nn.Module | Iterable[Tensor],
    *,
    directions: Law = Gaussian(),  # noqa: B008 (frozen)
    eps: float = 1e-3,
    queries: int = 1,
    scheme: str = "central",
    generator: torch.Generator | None = None,
    memory: str = "store",
    rng: str = "same",
    group: dist.ProcessGroup | None = None,
    check: bool = False,
) -> Estimate:
    """The zeroth-order counterpart of ``loss.backward()``: accumulates ĝ into ``.grad``.

    :func:`measure`, whose arguments these are, and then what it measured is added to every
    ``.grad``: with the strides of the parameter, in its dtype, rounded once. Any ``torch.optim``
    optimiser or scheduler can follow. With "store" and one query the direction becomes
    ``.grad``. Whatever fails leaves every ``.grad`` as it was.

    Raises
    ------
    ValueError
        As :func:`measure`, and: a ``.grad`` that cannot be added to, an estimate beyond the
        range of its dtype.
    TypeError, RuntimeError
        As :func:`measure`.
    """
    how = How(directions, eps, queries, scheme, memory, rng)
    estimate, theta, direction = _measured(closure, params, how, generator, group, check)
    # a .grad made in inference mode could never be added to outside it
    with torch.inference_mode(False), torch.no_grad():
        _accumulate(theta, direction, estimate.coefficients)
    return estimate


def _measured(
    closure: Callable[[], Tensor | float],
    params: nn.Module | Iterable[Tensor],
    how: How,
    generator: torch.Generator | None,
    group: dist.ProcessGroup | None,
    check: bool,
) -> tuple[Estimate, list[Tensor], Direction]:
    """The estimate, the parameters it is of, and its directions, for the last time."""
    if not callable(closure):
        raise TypeError(f"closure is {closure!r}; a function that returns the loss is needed")
    net = params if isinstance(params, nn.Module) else None
    named = trained(params)
    theta = list(named.values())
    standard(how.directions, theta)
    _remembered(how, theta, net, group)
    seeds = draw_seeds(how.queries, seeded(generator))
    with torch.inference_mode(False), torch.no_grad():
        machines: Machines = Alone() if group is None else Group(group, theta[0].device)
        layout = [(tuple(t.shape), t.dtype) for t in theta]
        machines.agree({**vars(how), "layout": layout}, theta)
        seeds = machines.seeds(seeds)
        resolvable_sample(named, how.directions, seeds, how.eps)
        direction = how.directions.directions(theta, seeds)
        held = LastOnly(direction) if how.memory == "store" else direction
        walk: FromCopy | InPlace | Layerwise
        if how.memory == "layerwise" and net is not None:
            walk = Layerwise(net, named, held, how.eps)
        else:
            walk = (FromCopy if how.memory == "exact" else InPlace)(theta, held, how.eps)
        draws = [SameDraws(theta[0].device)] if how.rng == "same" else []
        buffers = [SameBuffers(net)] if net is not None else []

        kept: list[SameDraws | SameBuffers] = [*draws, *buffers]

        def at(p: int, side: int) -> float:
            walk.go(p, side)
            for same in kept:
                same.rewind()
            return number("closure", fresh(closure))

        try:
            if check:
                _one_function(at(0, 0), at(0, 0))
            coefficients, loss, evaluations = differences(
                lambda points: machines.values(points, at), how
            )
            if isinstance(walk, Layerwise):
                walk.insist_on_reads()
        finally:
            insist(walk.restore)
            if group is not None:  # each rank would leave other buffers
                for moved in buffers:
                    moved.rewind()
    estimate = Estimate(
        loss=loss,
        coefficients=coefficients,
        evaluations=evaluations + 2 * check,
        directions=how.directions,
        seeds=seeds,
        shapes=tuple(t.shape for t in theta),
        dtypes=tuple(t.dtype for t in theta),
        device_type=theta[0].device.type,
    )
    return estimate, theta, held if how.queries == 1 else direction


def _remembered(
    how: How, theta: Sequence[Tensor], net: nn.Module | None, group: dist.ProcessGroup | None
) -> None:
    """Refuse a way of moving that would give a wrong result."""
    memory = how.memory
    if memory == "layerwise" and net is None:
        raise TypeError("memory is 'layerwise' and params no module; pass the module itself")
    if memory in ("replay", "layerwise") and how.directions.stored:
        raise ValueError(
            f"memory is {memory!r} with directions={how.directions}, whose rows are drawn "
            "together; 'store' or 'exact' is needed"
        )
    if memory in ("exact", "layerwise"):
        return
    halves = [t.dtype for t in theta if wide(t.dtype) != t.dtype]
    if halves:
        raise ValueError(
            f"memory is {memory!r} with {halves[0]} parameters, which would drift by roundings; "
            "'exact' or 'layerwise' is needed"
        )
    if group is not None:
        raise ValueError(
            f"memory is {memory!r} with a group, whose parameters would drift apart by roundings; "
            "'exact' or 'layerwise' is needed"
        )


def _one_function(first: float, second: float) -> None:
    if first != second:
        raise ValueError(
            f"closure returned {first} and {second} at the same parameters; one function is "
            "needed: the same batch at every call, no counters, and rng='same' for dropout"
        )


def _accumulate(
    theta: Sequence[Tensor], direction: Direction, coefficients: Sequence[float]
) -> None:
    """Add Σ c_p z_p to every ``.grad``, or to none: what can fail comes before the first."""
    sums: Iterator[Tensor]
    if len(coefficients) == 1:
        sums = _one_direction(theta, direction(0), coefficients[0])
    else:
        totals = [torch.zeros_like(t, dtype=wide(t.dtype)) for t in theta]
        add_up(totals, direction, coefficients)
        sums = (totals.pop(0) for _ in theta)  # popped: halves need not be held twice
    made = []
    for t in theta:
        made.append(_rounded(t, next(sums)))
    versions = [None if t.grad is None else t.grad._version for t in theta]

    def write() -> None:
        for t, new, version in zip(theta, made, versions, strict=True):
            if version is None:
                t.grad = new
            elif t.grad is not None and t.grad._version == version:  # not yet, if interrupted
                # the sum of halves was made and rounded beforehand
                t.grad.add_(new) if new.dtype == wide(new.dtype) else t.grad.copy_(new)

    insist(write)


def _one_direction(theta: Sequence[Tensor], pieces: Sequence[Tensor], c: float) -> Iterator[Tensor]:
    """c·z, tensor by tensor. z is nobody else's and is used here for the last time."""
    for k, t in enumerate(theta):
        if isinstance(pieces, Pieces):
            yield pieces.scaled(k, c, wide(t.dtype))
        else:
            yield pieces[k].to(wide(t.dtype)).mul_(c)


def _rounded(t: Tensor, total: Tensor) -> Tensor:
    """The estimate as t's ``.grad`` needs it: laid out as t, in its dtype, finite.

    For halves what is there already is added before the one rounding.
    """
    dtype = t.dtype if t.grad is None else t.grad.dtype
    if t.grad is not None and dtype != wide(dtype):
        total = total.add_(t.grad)
    new = total.to(dtype)
    if new.numel() and not all(map(math.isfinite, map(float, torch.aminmax(new)))):
        raise ValueError(
            f"the estimate for a parameter of shape {tuple(t.shape)} is beyond {dtype}, at most "
            f"{torch.finfo(dtype).max:.3g}; scale the loss down"
        )
    laid = torch.empty_like(t, dtype=dtype)  # the strides that autograd would give
    return new if new.stride() == laid.stride() else laid.copy_(new)
