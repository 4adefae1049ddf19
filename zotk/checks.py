"""Checks that can fail: a claim is accepted only if every nearby wrong statement is rejected.

A :class:`Check` compares what was measured with what a claim predicts and with its *twins*,
named wrong predictions. It passes only when the claim is accepted and all twins are rejected,
and at least one twin is near (within a factor 2; an exponent within ½; a count off by one).

Statistical checks spend α = 10⁻⁶, two-sided, shared by Šidák's rule among the entries of an
array, and must be able to reject each twin with a miss probability of at most 10⁻⁶: for one
number, n ≥ 93 Var/Δ² draws. A check with fewer raises instead of passing by luck.
"""

import hashlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from torch import Tensor

__all__ = ["ALPHA", "Check", "CheckFailed", "Record", "Twin", "Underpowered"]

ALPHA = 1e-6  # false alarms of one statistical check, and misses of one twin
MIME = "application/vnd.zotk.evidence+json"
_POWER = float(norm.isf(ALPHA))
_FAR = 99.0  # stands for an infinite distance, which JSON lacks
Floats = NDArray[np.float64]


class CheckFailed(AssertionError):
    """The claim was not accepted, or a twin was not rejected."""


class Underpowered(ValueError):
    """The draws cannot tell the claim from one of its twins."""


@dataclass(frozen=True)
class Twin:
    """A wrong prediction. ``predicted`` and ``measured`` at the entry that refutes it best.

    ``z``: their distance, in standard errors or, for exact checks, in tolerances (None for
    counts). ``distance`` from the claim: |log₂ ratio| at its largest, or twice the
    difference of exponents; up to 1 is ``near``.
    """

    name: str
    predicted: float
    measured: float
    z: float | None
    distance: float
    near: bool
    rejected: bool


@dataclass(frozen=True)
class Record:
    """The evidence of one check; ``measured`` and ``predicted`` at the worst entry."""

    id: str
    what: str
    kind: str
    measured: float
    predicted: float
    tolerance: float
    stderr: float | None
    z: float | None
    draws: int | None
    alpha: float
    shape: tuple[int, ...]
    index: tuple[int, ...]
    twins: tuple[Twin, ...]
    passed: bool
    seconds: float
    device: str
    dtype: str
    seed: int


class Check:
    """Evidence for one claim. Each method makes one check: a card, a record, or an error.

    ``claim`` is the permanent id of a ``{claim}`` box, ``seed`` the book's seed. All methods
    take ``twins`` (a non-empty dict of named wrong predictions, shaped like the prediction)
    and ``what`` (a few words that tell one check of a claim from another), and raise

    ValueError
        for no twin, no near twin, or tolerances that are missing or doubled;
    Underpowered
        when the draws could not reject a twin;
    CheckFailed
        when the claim is not accepted or a twin is not rejected (the record says which).
    """

    def __init__(self, claim: str, *, seed: int = 0) -> None:
        if not re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", claim):
            raise ValueError(f"claim is {claim!r}; words of a-z, 0-9 joined by '.' or '-' needed")
        self.claim = claim
        self.seed = int(seed)
        self._start = time.perf_counter()

    def generator(self, stream: str = "", *, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator of the claim's own, fixed by the book's seed, the id and ``stream``."""
        text = f"{self.seed}/{self.claim}/{stream}".encode()
        seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
        return torch.Generator(device).manual_seed(seed)

    def equal(
        self,
        measured: ArrayLike | Tensor,
        predicted: ArrayLike | Tensor,
        *,
        stderr: ArrayLike | Tensor | None = None,
        rtol: float | None = None,
        relative_to: str = "entry",
        draws: int | None = None,
        twins: Mapping[str, Any],
        what: str = "",
    ) -> Record:
        """measured = predicted, entry by entry, up to chance (``stderr``) or rounding (``rtol``).

        ``stderr`` has the shape of ``measured`` or is one number; ``draws`` is how many it
        comes from. ``rtol`` is relative to each predicted entry, or to the largest where that
        is 0. With ``relative_to="largest"`` an array is judged as one vector: ``rtol`` is
        relative to its largest entry, and so is the nearness of a twin (to entries of at
        least half that size). Integers need neither.
        """
        if relative_to not in ("entry", "largest"):
            raise ValueError(f"relative_to is {relative_to!r}; 'entry' or 'largest' is needed")
        m, p = _array("measured", measured), _array("predicted", predicted)
        m, p = np.broadcast_arrays(m, p)
        whole = _is_integer(measured) and _is_integer(predicted)
        if (stderr is None) == (rtol is None) and not (whole and stderr is None):
            raise ValueError("exactly one of stderr and rtol is needed, unless all are integers")
        statistical = stderr is not None
        top = np.abs(p).max()
        whole_vector = relative_to == "largest"
        scale = np.where((p == 0) | whole_vector, top, np.abs(p))
        judging = np.abs(p) >= 0.5 * top if whole_vector else np.full(p.shape, True)
        if statistical:
            se = np.broadcast_to(_array("stderr", stderr), m.shape)
            if (se < 0).any():
                raise ValueError(f"stderr has a negative entry, {se.min()}")
            unit, factor = se, _sidak(m.size)
        else:
            unit, factor = scale * (0.0 if rtol is None else _tolerance("rtol", rtol)), 1.0
        z = _ratio(np.abs(m - p), unit)
        worst = _argmax(z)
        accepted = bool(z[worst] <= factor)

        judged = []
        for name, t in self._shaped(twins, p):
            power = float(_ratio(np.abs(t - p), unit).max())
            if statistical and power < factor + _POWER:
                raise Underpowered(_shortage(self.claim, name, power, factor + _POWER, draws))
            distance = _ratio(np.abs(m - t), unit)
            at = _argmax(distance)
            value = None if whole and rtol is None and not statistical else _cap(distance[at])
            judged.append(
                _twin(
                    name,
                    t[at],
                    m[at],
                    value,
                    _octaves(t[judging], p[judging]),
                    bool(distance[at] > factor),
                )
            )
        return self._conclude(
            kind="equal",
            what=what,
            measured=m[worst],
            predicted=p[worst],
            tolerance=factor * unit[worst],
            stderr=float(unit[worst]) if statistical else None,
            z=float((m - p)[worst] / unit[worst]) if statistical and unit[worst] else None,
            draws=draws,
            shape=m.shape,
            index=worst,
            twins=judged,
            accepted=accepted,
            like=measured,
        )

    def rate(
        self,
        x: ArrayLike | Tensor,
        y: ArrayLike | Tensor,
        slope: float,
        *,
        stderr: ArrayLike | Tensor | None = None,
        atol: float | None = None,
        draws: int | None = None,
        twins: Mapping[str, float],
        what: str = "",
    ) -> Record:
        """y ∝ x^slope: the least-squares slope of log y in log x, within ``atol`` or chance.

        ``stderr``: standard errors of the y (shape of y; they also weight the fit), or one
        number, the standard error of the slope itself. ``twins`` are other slopes.
        """
        lx, values = np.log(_positives("x", x)), _positives("y", y)
        if lx.shape != values.shape or lx.ndim != 1 or lx.size < 3:
            raise ValueError(f"x and y have shapes {lx.shape}, {values.shape}; (n,), n ≥ 3, needed")
        if (stderr is None) == (atol is None):
            raise ValueError("exactly one of stderr and atol is needed")
        given = None if stderr is None else _array("stderr", stderr)
        weights = np.ones_like(lx)
        if given is not None and given.ndim:
            weights = (values / np.broadcast_to(given, values.shape)) ** 2
        centred = lx - np.average(lx, weights=weights)
        fitted = float((weights * centred * np.log(values)).sum() / (weights * centred**2).sum())
        if given is None:
            se, unit, factor = None, _tolerance("atol", atol), 1.0
        else:
            se = float(given) if not given.ndim else float((weights * centred**2).sum() ** -0.5)
            unit, factor = se, _sidak(1)
        judged = []
        for name, t in self._shaped(twins, np.asarray(slope, float)):
            wrong = float(t)
            if se is not None and abs(wrong - slope) < (factor + _POWER) * se:
                power = abs(wrong - slope) / se
                raise Underpowered(_shortage(self.claim, name, power, factor + _POWER, draws))
            distance = abs(fitted - wrong) / unit
            judged.append(
                _twin(name, wrong, fitted, distance, 2 * abs(wrong - slope), distance > factor)
            )
        return self._conclude(
            kind="rate",
            what=what,
            measured=fitted,
            predicted=slope,
            tolerance=factor * unit,
            stderr=se,
            z=None if se is None else (fitted - slope) / se,
            draws=draws,
            shape=lx.shape,
            index=(),
            twins=judged,
            accepted=abs(fitted - slope) <= factor * unit,
            like=y,
        )

    def bound(
        self,
        values: ArrayLike | Tensor,
        bound: ArrayLike | Tensor,
        *,
        side: str,
        rtol: float,
        twins: Mapping[str, Any],
        what: str = "",
    ) -> Record:
        """values ≤ bound (``side="upper"``) or ≥ bound ("lower"), up to rounding ``rtol``.

        Twins are stronger bounds; each must be violated by some value.
        """
        if side not in ("upper", "lower"):
            raise ValueError(f"side is {side!r}; 'upper' or 'lower' is needed")
        sign = 1.0 if side == "upper" else -1.0
        v, b = np.broadcast_arrays(_array("values", values), _array("bound", bound))
        unit = np.abs(b) * _tolerance("rtol", rtol)
        excess = sign * (v - b)
        worst = _argmax(excess - unit)
        judged = []
        for name, t in self._shaped(twins, b):
            if not (sign * (b - t) > 0).any():
                raise ValueError(f"twin {name!r} is no stronger {side} bound anywhere")
            over = sign * (v - t) - unit
            at = _argmax(over)
            z = _cap(sign * (v - t)[at] / unit[at]) if unit[at] else None
            judged.append(_twin(name, t[at], v[at], z, _octaves(t, b), bool(over[at] > 0)))
        return self._conclude(
            kind="bound",
            what=what,
            measured=v[worst],
            predicted=b[worst],
            tolerance=unit[worst],
            stderr=None,
            z=None,
            draws=None,
            shape=v.shape,
            index=worst,
            twins=judged,
            accepted=bool((excess <= unit).all()),
            like=values,
        )

    def count(
        self, measured: Any, predicted: Any, *, twins: Mapping[str, Any], what: str = ""
    ) -> Record:
        """measured = predicted for integers (or integer arrays), exactly."""
        if not (_is_integer(measured) and _is_integer(predicted)):
            raise TypeError(f"count compares integers; got {measured!r} and {predicted!r}")
        m, p = np.broadcast_arrays(_array("measured", measured), _array("predicted", predicted))
        worst = _argmax(np.abs(m - p))
        judged = []
        for name, t in self._shaped(twins, p):
            at = _argmax(np.abs(m - t))
            distance = min(_octaves(t, p), float(np.abs(t - p).max()))
            judged.append(_twin(name, t[at], m[at], None, distance, bool((m != t).any())))
        return self._conclude(
            kind="count",
            what=what,
            measured=m[worst],
            predicted=p[worst],
            tolerance=0.0,
            stderr=None,
            z=None,
            draws=None,
            shape=m.shape,
            index=worst,
            twins=judged,
            accepted=bool((m == p).all()),
            like=measured,
        )

    def _shaped(self, twins: Mapping[str, Any], p: Floats) -> list[tuple[str, Floats]]:
        if not twins:
            raise ValueError(f"{self.claim}: a check without twins cannot fail; name at least one")
        return [
            (name, np.broadcast_to(_array(f"twins[{name!r}]", t), p.shape))
            for name, t in twins.items()
        ]

    def _conclude(self, *, accepted: bool, twins: list[Twin], like: Any, **facts: Any) -> Record:
        if not any(t.near for t in twins):
            nearest = min(twins, key=lambda t: t.distance)
            raise ValueError(
                f"{self.claim}: no twin is near the claim (the nearest, {nearest.name!r}, is at "
                f"{nearest.distance:.3g}; up to 1, a factor 2, is near)"
            )
        now = time.perf_counter()
        for key in ("measured", "predicted", "tolerance"):
            facts[key] = float(facts[key])
        record = Record(
            id=self.claim,
            alpha=ALPHA if facts["stderr"] is not None else 0.0,
            twins=tuple(twins),
            passed=accepted and all(t.rejected for t in twins),
            seconds=now - self._start,
            device=like.device.type if isinstance(like, Tensor) else "cpu",
            dtype=str(like.dtype).removeprefix("torch.") if hasattr(like, "dtype") else "float64",
            seed=self.seed,
            **facts,
        )
        self._start = now
        _show(record)
        if not accepted:
            raise CheckFailed(
                f"{self.claim}: measured {record.measured:.9g}, predicted {record.predicted:.9g}, "
                f"tolerance {record.tolerance:.3g} at index {record.index}"
            )
        for twin in twins:
            if not twin.rejected:
                raise CheckFailed(
                    f"{self.claim}: twin {twin.name!r} ({twin.predicted:.9g}) is not rejected by "
                    f"{twin.measured:.9g}"
                )
        return record


def _array(name: str, value: Any) -> Floats:
    if isinstance(value, Tensor):
        value = value.detach().to("cpu", torch.float64).numpy()
    array = np.asarray(value, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} is empty or has an entry that is not finite: {array}")
    return array


def _positives(name: str, value: Any) -> Floats:
    array = _array(name, value)
    if (array <= 0).any():
        raise ValueError(f"{name} has the entry {array.min()}; positive numbers are needed")
    return array


def _tolerance(name: str, value: float | None) -> float:
    if value is None or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; a positive finite number is needed")
    return float(value)


def _is_integer(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.dtype.is_floating_point and not value.dtype.is_complex
    return bool(np.issubdtype(np.asarray(value).dtype, np.integer))


def _sidak(entries: int) -> float:
    """Critical |z| so that all ``entries`` together raise a false alarm with probability α."""
    each = -math.expm1(math.log1p(-ALPHA) / entries)
    return float(norm.isf(each / 2))


def _ratio(difference: Floats, unit: Floats) -> Floats:
    """difference / unit, with 0/0 = 0: an entry without noise must agree exactly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / unit)


def _octaves(twin: Floats, claim: Floats) -> float:
    """|log₂(twin/claim)| at its largest; an entry claimed 0 is measured by the largest one."""
    top = np.abs(claim).max()
    far = []
    for t, c in zip(twin.ravel(), claim.ravel(), strict=True):
        if t == c:
            far.append(0.0)
        elif c == 0:
            far.append(abs(t) / top if top else math.inf)
        else:
            far.append(abs(math.log2(t / c)) if t / c > 0 else math.inf)
    return max(far)


def _argmax(a: Floats) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(a)), a.shape))


def _cap(z: float) -> float:
    return min(float(z), 1e300)  # a noise-free entry refutes by an infinite z, which JSON lacks


def _twin(
    name: str, predicted: float, measured: float, z: float | None, distance: float, rejected: bool
) -> Twin:
    distance = min(distance, _FAR)
    # the last term lets 2c pass as "a factor 2 of c" when its logarithm rounds up
    near = distance <= 1 + 1e-12
    return Twin(name, float(predicted), float(measured), z, distance, near, bool(rejected))


def _shortage(claim: str, name: str, power: float, needed: float, draws: int | None) -> str:
    factor = (needed / power) ** 2 if power else math.inf
    want = f"{factor:.3g} times the draws"
    if draws is not None and math.isfinite(factor):
        want = f"{math.ceil(draws * factor):,} draws, has {draws:,}"
    return (
        f"{claim}: twin {name!r} lies {power:.2f} standard errors from the claim, "
        f"{needed:.2f} are needed to reject it surely: needs {want}"
    )


class _Card:
    def __init__(self, record: Record) -> None:
        self.record = record

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            MIME: asdict(self.record),
            "text/html": _html(self.record),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        r = self.record
        lines = [f"{r.id} {r.what}".rstrip() + f": {_verdict(r)}", f"  {_comparison(r)}"]
        lines += [f"  twin {t.name}: {t.predicted:.6g}, {_refutation(r, t)}" for t in r.twins]
        return "\n".join(lines)


def _verdict(r: Record) -> str:
    return "passed" if r.passed else "FAILED"


def _comparison(r: Record) -> str:
    relation = {"rate": "slope ", "bound": "at most "}.get(r.kind, "")
    text = f"measured {r.measured:.6g}, predicted {relation}{r.predicted:.6g}"
    if r.kind == "bound":
        text = f"tightest value {r.measured:.6g}, bound {r.predicted:.6g}"
    if r.stderr is not None:
        text += f", standard error {r.stderr:.2g}"
        if r.z is not None:
            text += f" (z = {r.z:+.2f})"
    elif r.tolerance:
        text += f", tolerance {r.tolerance:.2g}"
    entries = math.prod(r.shape)
    if entries > 1:
        text += f"; {entries} {'points' if r.kind == 'rate' else 'entries, the worst shown'}"
    return text


def _refutation(r: Record, t: Twin) -> str:
    if not t.rejected:
        return "NOT rejected"
    if t.z is None:
        return "rejected"
    unit = "standard errors" if r.stderr is not None else "tolerances"
    return f"rejected ({t.z:.3g} {unit} away)" if t.z < 1e6 else "rejected (at once)"


def _html(r: Record) -> str:
    rows = "".join(
        f"<tr><td>{escape(t.name)}</td><td>{t.predicted:.6g}</td>"
        f"<td>{escape(_refutation(r, t))}</td></tr>"
        for t in r.twins
    )
    what = f" · {escape(r.what)}" if r.what else ""
    mark = "✓" if r.passed else "✗"
    return (
        f'<div class="zotk-card {"ok" if r.passed else "bad"}">'
        f"<p><strong>{mark} {_verdict(r)}</strong> <code>{escape(r.id)}</code>{what}<br>"
        f"{escape(_comparison(r))}</p>"
        '<table><thead><tr><th scope="col">wrong twin</th><th scope="col">would be</th>'
        f'<th scope="col">verdict</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _show(record: Record) -> None:
    from IPython.display import display

    display(_Card(record))
