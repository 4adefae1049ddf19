"""What a loss is like around its parameters, in a few numbers, from forward passes alone.

Along a line θ + tz with Gaussian z and slope s, curvature q = z'Hz and a = D³L[z, z, z]/6,

    L(t) = L(0) + s t + q t²/2 + a t³ + ...

so the four values at ±ε and ±2ε give s, q and a. Over the directions E q = tr H, Var q = 2 tr H²
(Hutchinson 1990; the cumulants of a Gaussian quadratic form) and E s² = |g|². Two batches B, B'
on one line separate data from directions: E[s_B s_B'] = |g|², Cov(q_B, q_B') = 2 tr H², and
½E(s_B - s_B')² is the trace of the covariance of a batch's gradient.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zotk.arguments import integer, positive, seeded
from zotk.estimators.parameters import draw_seeds, trained
from zotk.theory.lines import Lines, Pilot, derivatives, lines_of, mean_of, pilot
from zotk.theory.shaken import SHARES, Shaken, shake

__all__ = ["Measured", "probe"]

_LEAST = 4  # pairs of batches, so that their spread can be seen
Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Measured:
    """What :func:`probe` found. A number that differences cannot resolve is None.

    ``d`` parameters of ``dtype``, the ``largest`` of size max |θ_i|, together of the length
    ``norm``; ``loss`` their mean loss.

    trace
        tr H, H the Hessian of the mean loss; negative eigenvalues count as negative.
    second
        tr H².
    grad2
        |g|², the squared length of the gradient of the mean loss.
    noise_scale
        n tr Cov(g_B)/|g|² for batches of n examples: tr Cov(g_i)/|g|² where they are
        independent. In units of a batch if ``examples`` = n is not known. 0 for one loss.
    sigma
        Standard deviation of the error of one evaluation: rounding, or noise of its own.
    third
        Root mean square of D³L[z, z, z]/6 over Gaussian z; None beside ``kink``.
    kink
        κ, where two-point slopes err by κ√ε, as across kinks, and not by third·ε².

    ``stderr`` holds a standard error for each of these, ``limits`` what the size of an unresolved
    one may be (two standard errors above what was found). ``eps``: the step of the lines, which
    were ``probes``; ``evaluations``: calls of the loss. ``repeatable``: two calls at one point
    agreed. ``shaken``: what it is like where the parameters are shaken at random, by 1/4, 1/2,
    1 and 2 times ``norm`` (√d where that is 0) as far as the loss is finite: a ``Shaken`` each,
    with ``length``, ``trace``, ``grad2``, ``scatter`` (tr Cov(g_i)) and ``stderr``.
    """

    d: int
    dtype: torch.dtype
    largest: float
    loss: float
    trace: float | None
    second: float | None
    grad2: float | None
    noise_scale: float | None
    sigma: float | None
    third: float | None
    kink: float | None
    stderr: dict[str, float]
    limits: dict[str, float]
    examples: int | None
    eps: float
    probes: int
    evaluations: int
    repeatable: bool
    norm: float
    shaken: tuple[Shaken, ...] = field(default=(), hash=False)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """The names of the numbers that differences could not resolve."""
        return tuple(self.limits)

    def __repr__(self) -> str:
        missing = f", unresolved: {', '.join(self.limits)}" if self.limits else ""
        shown = ", ".join(
            f"{name}={getattr(self, name):.3g}"
            for name in ("trace", "second", "grad2", "noise_scale")
            if getattr(self, name) is not None
        )
        return f"Measured(d={self.d}, {shown}, {self.evaluations} evaluations{missing})"

    def __str__(self) -> str:
        width = max(len(words) for _, words in _MEANINGS)
        lines = [f"{self.d} parameters of {self.dtype}, loss {self.loss:.4g}"]
        for name, words in _MEANINGS:
            value = getattr(self, name)
            if value is not None:
                error = self.stderr.get(name)
                shown = f"{value:.3g}" + ("" if error is None else f" ± {error:.1g}")
            elif name in self.limits:
                shown = f"unresolved, up to {self.limits[name]:.2g}"
            else:
                continue
            lines.append(f"  {words:<{width}}  {shown}")
        for each in self.shaken:
            words = f"tr H, shaken by {each.length:.3g}"
            lines.append(f"  {words:<{width}}  {each.trace:.3g} ± {each.stderr['trace']:.1g}")
        of = "" if self.examples is None else f" of {self.examples} examples"
        lines.append(f"  {self.evaluations} evaluations{of}, step {self.eps:.3g} of the lines")
        return "\n".join(lines)


_MEANINGS = (
    ("trace", "tr H"),
    ("second", "tr H²"),
    ("grad2", "|g|²"),
    ("noise_scale", "noise scale, in examples"),
    ("sigma", "error of an evaluation"),
    ("third", "third derivative, rms"),
    ("kink", "error across kinks, by √ε"),
)


def probe(
    loss: Callable[..., Tensor | float],
    params: nn.Module | Iterable[Tensor],
    batches: Iterable[Any] | None,
    *,
    probes: int,
    eps: float | None = None,
    generator: torch.Generator | None = None,
) -> Measured:
    """Trace and second moment of the Hessian, |g|², noises and third derivative at ``params``.

    ``loss(batch)`` returns the loss of a batch at the present values of the parameters, forward
    only; with ``batches=None`` it is called as ``loss()``. ``params`` is a module or an iterable
    of tensors, as for :func:`zotk.measure`; those that need no gradient are left alone. Torch's
    global generators stand at one state for all calls with one batch, so that dropout has one
    mask on a line, and at another for the next batch. A ``loss()`` that draws from them
    (batches, dropout) is measured as if each line had two batches.

    ``batches``: independent batches of the size the run will have, at least 8 (a list of tensors,
    of tuples, a loader); of an iterator 2·probes are taken. Each of the ``probes`` lines, along a
    Gaussian direction, sees two of them; if there are fewer than two for each line they are used
    again, and standard errors are those between pairs of batches.

    Trace, |g|² and noise are measured again where the parameters are shaken at random, along
    Gaussian directions, by four lengths up to twice their own, on an eighth of the lines, at least
    four.

    Costs 8·probes calls and half as many, at least 128, where they are shaken; the half of all that
    for one loss without any randomness. Looking for the step ``eps`` of the lines, where it is not
    given, and for the error of an evaluation costs one to two hundred more. ``eps`` balances the
    error of q by round-off and by fourth derivatives.
    Memory: two copies of the parameters. They are restored bitwise, whatever happens.

    Standard errors are over lines, or over pairs of batches, and contain what higher derivatives
    may have left, judged by the lines at 2ε. A number below twice its standard
    error is None, and ``limits`` says how large it may be.

    Raises
    ------
    ValueError
        probes < 4 or fewer than 8 batches; batches of different sizes; a loss that is not finite
        at θ or on the lines; a loss that is the same at all points; parameters as
        :func:`zotk.measure` refuses them.
    TypeError
        ``loss`` is no function or returns no number; ``batches`` is no iterable.
    """
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; a function that returns the loss is needed")
    integer("probes", probes, _LEAST)
    if eps is not None:
        positive("eps", eps)
    named = trained(params)
    theta = list(named.values())
    kept = _batches(batches, 2 * probes)
    seeds = draw_seeds(probes + _shakes(probes), seeded(generator))
    examples = None if kept is None else _size(kept)
    net = params if isinstance(params, nn.Module) else None
    with lines_of(loss, theta, seeds, kept, net) as lines:
        return _measured(lines, theta, probes, eps, kept, examples)


def _shakes(probes: int) -> int:
    return max(_LEAST, probes // 8)


def _batches(batches: Iterable[Any] | None, most: int) -> list[Any] | None:
    """The first of them."""
    if batches is None:
        return None
    if isinstance(batches, str) or not isinstance(batches, Iterable):
        kind = type(batches).__name__
        raise TypeError(f"batches is a {kind}; an iterable of batches or None is needed")
    kept = []
    for batch in batches:
        kept.append(batch)
        if len(kept) == most:
            break
    if len(kept) < 2 * _LEAST:
        raise ValueError(
            f"batches holds {len(kept)}; at least {2 * _LEAST} are needed, or None for one loss"
        )
    return kept[: len(kept) // 2 * 2]


def _size(batches: Sequence[Any]) -> int | None:
    """The number of examples that each batch has, where its tensors agree on it."""
    found = set()
    for batch in batches:
        if isinstance(batch, Tensor | np.ndarray) or not hasattr(batch, "items"):
            leaves = pytree.tree_leaves(batch)
        else:  # what tokenizers make
            leaves = pytree.tree_leaves(dict(batch.items()))
        arrays = [leaf for leaf in leaves if isinstance(leaf, Tensor | np.ndarray) and leaf.ndim]
        sizes = {len(leaf) for leaf in arrays}
        if len(sizes) != 1:
            return None
        found |= sizes
    if len(found) > 1:
        raise ValueError(
            f"batches have {min(found)} to {max(found)} examples; batches of one size are needed"
        )
    return found.pop()


def _measured(
    lines: Lines,
    theta: Sequence[Tensor],
    probes: int,
    eps: float | None,
    batches: list[Any] | None,
    examples: int | None,
) -> Measured:
    start = lines.value(0.0)
    repeatable = lines.value(0.0) == start
    # one loss, unless another state of the generators gives another value
    single = batches is None and (not repeatable or lines.value(0.0, rewind=False) == start)
    lines.value(0.0)  # leaves the generators where one call does
    total = sum(float(t.double().square().sum()) for t in theta)
    length = math.sqrt(total / sum(t.numel() for t in theta)) or 1.0
    dtype = max((t.dtype for t in theta), key=lambda dtype: torch.finfo(dtype).eps)
    found = pilot(lines, length, torch.finfo(dtype).eps, eps)
    count = 2 * probes if batches is None else len(batches)
    values = np.empty((probes, 2, 4))  # lines, their two batches, four points
    for i in range(probes):
        for j in range(1 if single and repeatable else 2):
            k = 0 if single else (2 * i + j) % count
            values[i, j] = [lines.value(t * found.eps, i, k) for t in (-2, -1, 1, 2)]
        if single and repeatable:
            values[i, 1] = values[i, 0]
    if (values == values[:, :, :1]).all():
        raise ValueError(
            f"loss is {values[0, 0, 0]} along every line: it does not see params, is a step "
            "function here, or rounds differences away (a larger eps, or a wider format)"
        )
    d, norm = sum(t.numel() for t in theta), math.sqrt(total)
    numbers, stderr, limits, raw = _numbers(
        values, found, min(probes, count // 2), single=single, examples=examples or 1,
        same=single and repeatable,
    )  # fmt: skip
    lengths = [share * length * math.sqrt(d) for share in SHARES]
    shaken = shake(
        lines, lengths, found.eps, values[: _shakes(probes)], raw, batches=count,
        examples=examples or 1, d=d,
    )  # fmt: skip
    names = ("trace", "second", "grad2", "noise_scale", "sigma", "third", "kink")
    return Measured(
        d=d,
        dtype=dtype,
        largest=max(float(t.abs().max()) for t in theta if t.numel()),
        loss=float(values.mean()),
        **{name: numbers.get(name) for name in names},
        stderr=stderr,
        limits=limits,
        examples=examples,
        eps=found.eps,
        probes=probes,
        evaluations=lines.calls,
        repeatable=repeatable,
        norm=norm,
        shaken=shaken,
    )


def _numbers(
    values: Floats, found: Pilot, pairs: int, *, single: bool, examples: int, same: bool
) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, tuple[float, float]]]:
    """From the values (lines, 2 batches, 4 points), of so many pairs of batches in turn.

    The numbers that are resolved, standard errors, limits; and as they were found, resolved or
    not, those that are measured again far away. ``same``: nothing but the errors of evaluation
    differs in two values.
    """
    m, eps = len(values), found.eps
    sigma = 0.0 if found.sigma is None else found.sigma[0]
    s, a, q = derivatives(values, eps)
    # what errors of evaluation add to the variances of s, a and q
    of_s, of_a, of_q = (
        share * sigma**2 / eps**power for share, power in ((65 / 72, 2), (5 / 72, 6), (4 / 9, 4))
    )
    off = q - q.mean(0)
    half, error = mean_of(off[:, 0] * off[:, 1] / 2, pairs)
    squares = {
        "trace": mean_of(q.mean(1), pairs),
        "second": (half * m / (m - 1) - same * of_q / 2, error),
        "grad2": mean_of(s[:, 0] * s[:, 1] - same * of_s, pairs),
        "third": mean_of((a**2).mean(1) - of_a, pairs),
    }
    # what is left of higher derivatives: at most what the lines at 2ε have corrected
    size = {name: math.sqrt(max(0.0, value)) for name, (value, _) in squares.items()}
    left = {
        "trace": found.drift,
        "second": found.off * (math.sqrt(2) * size["second"] + found.off / 2),
        "grad2": 2 * size["grad2"] * size["third"] * eps**2,
    }
    numbers: dict[str, float] = {}
    stderr: dict[str, float] = {}
    limits: dict[str, float] = {}
    for name, (value, error) in squares.items():
        error = math.hypot(error, left.get(name, 0.0))
        squares[name] = value, error
        if (abs(value) if name == "trace" else value) > 2 * error:
            numbers[name], stderr[name] = value, error
        else:
            limits[name] = max(0.0, value) + 2 * error
    scatter = 0 * q[:, 0] if single else (s[:, 0] - s[:, 1]) ** 2 / 2 - of_s
    if single:
        numbers["noise_scale"] = 0.0
    elif "grad2" in numbers:
        ratio = max(0.0, float(scatter.mean())) / numbers["grad2"]
        error = mean_of(scatter - ratio * s[:, 0] * s[:, 1], pairs)[1] / numbers["grad2"]
        numbers["noise_scale"], stderr["noise_scale"] = examples * ratio, examples * error
    else:
        limits["noise_scale"] = math.inf
    if found.sigma is None:
        limits["sigma"] = float(np.abs(values).max())
    else:
        numbers["sigma"], stderr["sigma"] = found.sigma
    if "third" in limits:
        limits["third"] = math.sqrt(limits["third"])
    else:
        numbers["third"] = math.sqrt(numbers["third"])
        stderr["third"] /= 2 * numbers["third"]
        if found.bent:  # the slopes at ε and 2ε differ by half of the squared error κ²ε, in mean
            scale = 3 * math.sqrt(2) * eps**1.5
            numbers["kink"] = scale * numbers.pop("third")
            stderr["kink"] = scale * stderr.pop("third")
    raw = {name: squares[name] for name in ("trace", "grad2")}
    mean, error = mean_of(scatter, pairs)
    return numbers, stderr, limits, raw | {"scatter": (examples * mean, examples * error)}
