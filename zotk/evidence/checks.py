"""Checks that can fail: a claim is accepted only if every nearby wrong statement is rejected.

A :class:`Check` compares what was measured with what a claim predicts and with its *twins*,
named wrong predictions. It passes only when the claim is accepted and all twins are rejected.
The record says how near each twin is; the book's build refuses a check without a near one
(within a factor 2; an exponent within ½; a count off by one).

Statistical checks spend α = 10⁻⁶, two-sided, shared by Šidák's rule among the entries of an
array, and must be able to reject each twin with a miss probability of at most 10⁻⁶: for one
number, n ≥ 93 Var/Δ² draws. A check with fewer raises instead of passing by luck.

Exact checks are strict by default: ``rtol`` up to 5 %, ``atol`` of a slope up to 0.1, and a bound
that some value comes within 5 % of. ``slack="why not"`` lifts this, and is shown on the card.
"""

import hashlib
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, ndtri
from torch import Tensor

from zotk.evidence.cards import Record, Twin, show

__all__ = ["ALPHA", "Check", "CheckFailed", "Record", "Twin", "Underpowered"]

ALPHA = 1e-6  # false alarms of one statistical check, and misses of one twin
MAX_RTOL = 0.05  # without a reason: of an equality or a bound
MAX_ATOL = 0.1  # without a reason: of a slope, a fifth of what separates two exponents
ATTAINED = 0.05  # how near some value comes to a bound that states no reason
_POWER = float(-ndtri(ALPHA))
_FAR = 99.0  # stands for an infinite distance, which JSON lacks
Floats = NDArray[np.float64]


class CheckFailed(AssertionError):
    """The claim was not accepted, or a twin was not rejected."""


class Underpowered(ValueError):
    """The draws cannot tell the claim from one of its twins."""


class Check:
    """Evidence for one claim. Each method makes one check: a card, a record, or an error.

    ``claim`` is the permanent id of a ``{claim}`` box, ``seed`` the book's seed. All methods
    take ``twins`` (a non-empty dict of named wrong predictions, shaped like the prediction)
    and ``what`` (a few words that tell one check of a claim from another). ``slack`` says, in
    four words or more, why a wide tolerance or a bound out of reach still is evidence. Raised:

    ValueError
        for no twin; tolerances that are missing, doubled, or wide without ``slack``;
    Underpowered
        when the draws could not reject a twin;
    CheckFailed
        when the claim is not accepted, no value comes near a bound without ``slack``, or a twin
        is not rejected (the record says which).
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
        twins: Mapping[str, Any] | None = None,
        what: str = "",
        slack: str = "",
    ) -> Record:
        """measured = predicted, entry by entry, up to chance (``stderr``) or rounding (``rtol``).

        ``stderr`` has the shape of ``measured`` or is one number; ``draws`` is how many it
        comes from. ``rtol`` is relative to each predicted entry, or to the largest where that
        is 0. With ``relative_to="largest"`` an array is judged as one vector: ``rtol`` is
        relative to its largest entry, and so is the nearness of a twin in entries below half
        that size. Integers need neither, and are compared as by ``count``.
        """
        if relative_to not in ("entry", "largest"):
            raise ValueError(f"relative_to is {relative_to!r}; 'entry' or 'largest' is needed")
        if stderr is None and rtol is None and _is_integer(measured) and _is_integer(predicted):
            return self.count(measured, predicted, twins=twins, what=what)
        if (stderr is None) == (rtol is None):
            raise ValueError("exactly one of stderr and rtol is needed, unless all are integers")
        m = _array("measured", measured)
        p = _like(m, "predicted", predicted)
        statistical = stderr is not None
        if statistical and slack:
            raise ValueError("slack excuses a wide rtol; with stderr there is none")
        top = np.abs(p).max()
        whole_vector = relative_to == "largest"
        scale = np.where((p == 0) | whole_vector, top, np.abs(p))
        small = np.abs(p) < 0.5 * top if whole_vector else p == 0
        if statistical:
            unit, factor = _like(m, "stderr", stderr), _sidak(m.size)
            if (unit < 0).any():
                raise ValueError(f"stderr has a negative entry, {unit.min()}")
        else:
            rtol = self._within("rtol", rtol, MAX_RTOL, slack)
            unit, factor = scale * rtol, 1.0
        z = _ratio(np.abs(m - p), unit)
        worst = _argmax(z)
        accepted = bool(z[worst] <= factor)

        judged = []
        for name, t in self._shaped(twins, p):
            power = float(_ratio(np.abs(t - p), unit).max())
            if statistical and power < factor + _POWER:
                raise Underpowered(_shortage(self.claim, name, power, factor + _POWER, draws))
            off = _ratio(np.abs(m - t), unit)
            at = _argmax(off)
            distance = _distances(t, p, small).max()
            judged.append(
                _twin(name, t[at], p[at], m[at], _cap(off[at]), distance, off[at] > factor)
            )
        return self._conclude(
            kind="equal",
            what=what,
            measured=m[worst],
            predicted=p[worst],
            largest=top,
            tolerance=factor * unit[worst],
            rtol=rtol,
            slack=slack,
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
        twins: Mapping[str, float] | None = None,
        what: str = "",
        slack: str = "",
    ) -> Record:
        """y ∝ x^slope: the least-squares slope of log y in log x, within ``atol`` or chance.

        ``stderr``: standard errors of the y (shape of y; they also weight the fit), or one
        number, the standard error of the slope itself. ``twins`` are other slopes. The points
        must lie on a line, too: by χ² where each has a standard error; with ``atol``, the
        slope without any one of them stays within it.
        """
        lx, values = np.log(_positives("x", x)), _positives("y", y)
        if lx.shape != values.shape or lx.ndim != 1 or lx.size < 3 or np.ptp(lx) == 0:
            raise ValueError(f"x and y have shapes {lx.shape}, {values.shape}; (n,), n ≥ 3, needed")
        if (stderr is None) == (atol is None):
            raise ValueError("exactly one of stderr and atol is needed")
        if stderr is not None and slack:
            raise ValueError("slack excuses a wide atol; with stderr there is none")
        given = None if stderr is None else _positives("stderr", stderr)
        weights = np.ones_like(lx)
        if given is not None and given.ndim:
            weights = (values / _like(values, "stderr", given)) ** 2
        fitted, residuals, spread = _line(lx, np.log(values), weights)
        straight = True  # beside the slope, the points must lie on a line
        if given is None:
            se, unit, factor = None, self._within("atol", atol, MAX_ATOL, slack), 1.0
            parts = [np.arange(lx.size) != k for k in range(lx.size) if lx.size > 3]
            slopes = [_line(lx[part], np.log(values[part]), weights[part])[0] for part in parts]
            straight = all(abs(each - slope) <= unit for each in slopes)
        elif given.ndim == 0:
            se, unit, factor = float(given), float(given), _sidak(1)
        else:  # half of α for the slope, half for the residuals
            se, unit, factor = spread, spread, _sidak(2)
            chi2 = float((weights * residuals**2).sum())
            straight = bool(chdtrc(lx.size - 2, chi2) > ALPHA / 2)
        judged = []
        for name, t in self._shaped(twins, np.asarray(slope, float)):
            wrong = float(t)
            if se is not None and abs(wrong - slope) < (factor + _POWER) * se:
                power = abs(wrong - slope) / se
                raise Underpowered(_shortage(self.claim, name, power, factor + _POWER, draws))
            distance = abs(fitted - wrong) / unit
            apart = 2 * abs(wrong - slope)
            judged.append(_twin(name, wrong, slope, fitted, distance, apart, distance > factor))
        return self._conclude(
            kind="rate",
            what=what,
            measured=fitted,
            predicted=slope,
            largest=abs(slope),
            tolerance=factor * unit,
            rtol=None,
            slack=slack,
            stderr=se,
            z=None if se is None else (fitted - slope) / se,
            draws=draws,
            shape=lx.shape,
            index=(),
            twins=judged,
            accepted=straight and abs(fitted - slope) <= factor * unit,
            like=y,
        )

    def bound(
        self,
        values: ArrayLike | Tensor,
        bound: ArrayLike | Tensor,
        *,
        side: str,
        rtol: float,
        twins: Mapping[str, Any] | None = None,
        what: str = "",
        slack: str = "",
    ) -> Record:
        """values ≤ bound (``side="upper"``) or ≥ bound ("lower"), up to rounding ``rtol``.

        Some value must come within 5 % of its bound, unless ``slack`` says why none does; a
        bound of 0 counts only where all are 0. Twins are stronger bounds; each must be violated
        by some value.
        """
        if side not in ("upper", "lower"):
            raise ValueError(f"side is {side!r}; 'upper' or 'lower' is needed")
        sign = 1.0 if side == "upper" else -1.0
        v = _array("values", values)
        b = _like(v, "bound", bound)
        unit = np.abs(b) * self._within("rtol", rtol, MAX_RTOL, slack)
        excess = _relative_excess(sign * (v - b), np.abs(b))
        worst = _argmax(excess)
        near = excess[worst] >= -ATTAINED * (1 + 1e-12)
        judged = []
        for name, t in self._shaped(twins, b):
            stronger = sign * (b - t)
            if not ((stronger >= 0).all() and (stronger > 0).any()):
                raise ValueError(f"twin {name!r} is not a stronger {side} bound")
            over = sign * (v - t) - unit
            at = _argmax(over)
            z = _cap(sign * (v - t)[at] / unit[at]) if unit[at] else None
            distance = _distances(t, b, b == 0).max()
            judged.append(_twin(name, t[at], b[at], v[at], z, distance, over[at] > 0))
        return self._conclude(
            kind="bound",
            what=what,
            measured=v[worst],
            predicted=b[worst],
            largest=np.abs(b).max(),
            tolerance=unit[worst],
            rtol=rtol,
            slack=slack,
            stderr=None,
            z=None,
            draws=None,
            shape=v.shape,
            index=worst,
            twins=judged,
            accepted=bool(excess[worst] <= rtol),
            why=""
            if near or slack
            else "no value comes within 5 % of the bound: tighten it, add a"
            ' case that attains it, or say slack="why none does"',
            like=values,
        )

    def count(
        self,
        measured: Any,
        predicted: Any,
        *,
        twins: Mapping[str, Any] | None = None,
        what: str = "",
    ) -> Record:
        """measured = predicted for integers (or integer arrays), exactly.

        A twin is near where each of its entries is off by one at most or within a factor 2.
        """
        if not (_is_integer(measured) and _is_integer(predicted)):
            raise TypeError(f"count compares integers; got {measured!r} and {predicted!r}")
        m, p = _integers(measured), _integers(predicted)
        p = np.broadcast_to(p, m.shape)
        worst = _argmax(np.abs(m - p))
        judged = []
        for name, t in _named(self.claim, twins):
            if not _is_integer(t):
                raise TypeError(f"twin {name!r} is {t!r}; integers are compared with integers")
            wrong = np.broadcast_to(_integers(t), m.shape)
            at = _argmax(np.abs(m - wrong))
            steps = np.abs(wrong - p).astype(float)
            distance = np.minimum(steps, _distances(wrong, p, p == 0)).max()
            refuted = bool(np.any(m != wrong))
            judged.append(_twin(name, wrong[at], p[at], m[at], None, distance, refuted))
        return self._conclude(
            kind="count",
            what=what,
            measured=m[worst],
            predicted=p[worst],
            largest=np.max(np.abs(p)),
            tolerance=0.0,
            rtol=None,
            slack="",
            stderr=None,
            z=None,
            draws=None,
            shape=m.shape,
            index=worst,
            twins=judged,
            accepted=bool(np.all(m == p)),
            like=measured,
        )

    def _within(self, name: str, value: float | None, most: float, slack: str) -> float:
        """A tolerance, positive, and up to ``most`` unless ``slack`` gives a reason."""
        given = _tolerance(name, value)
        if slack and len(slack.split()) < 4:
            raise ValueError(f"{self.claim}: slack is {slack!r}; a reason in words is needed")
        if given > most and not slack:
            raise ValueError(
                f'{self.claim}: {name} is {given:g}, over {most:g}; say slack="why" if need be'
            )
        return given

    def _shaped(self, twins: Mapping[str, Any] | None, p: Floats) -> list[tuple[str, Floats]]:
        named = _named(self.claim, twins)
        return [(name, _like(p, f"twins[{name!r}]", t)) for name, t in named]

    def _conclude(
        self, *, accepted: bool, twins: list[Twin], like: Any, why: str = "", **facts: Any
    ) -> Record:
        """Record, card, and CheckFailed; ``why`` is one more reason to fail."""
        now = time.perf_counter()
        for key in ("measured", "predicted", "largest", "tolerance"):
            facts[key] = float(facts[key])
        record = Record(
            id=self.claim,
            alpha=ALPHA if facts["stderr"] is not None else 0.0,
            twins=tuple(twins),
            passed=accepted and not why and all(t.rejected for t in twins),
            seconds=now - self._start,
            device=like.device.type if isinstance(like, Tensor) else "cpu",
            dtype=str(like.dtype).removeprefix("torch.") if hasattr(like, "dtype") else "float64",
            seed=self.seed,
            **facts,
        )
        self._start = now
        show(record)
        if not accepted:
            raise CheckFailed(
                f"{self.claim}: measured {record.measured:.9g}, predicted {record.predicted:.9g}, "
                f"tolerance {record.tolerance:.3g} at index {record.index}"
            )
        if why:
            raise CheckFailed(
                f"{self.claim}: {why} (nearest: {record.measured:.6g}, bound "
                f"{record.predicted:.6g}, at index {record.index})"
            )
        for twin in twins:
            if not twin.rejected:
                raise CheckFailed(
                    f"{self.claim}: twin {twin.name!r} ({twin.predicted:.9g}) is not rejected by "
                    f"{twin.measured:.9g}"
                )
        return record


def _named(claim: str, twins: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    if not isinstance(twins, Mapping) or not twins:
        raise ValueError(f"{claim}: a check without twins cannot fail; a dict of them is needed")
    return list(twins.items())


def _array(name: str, value: Any) -> Floats:
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise TypeError(f"{name} is {value!r}; real numbers are needed")
    array = array.astype(np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} is empty or has an entry that is not finite: {array}")
    return array


def _like(array: Floats, name: str, value: Any) -> Floats:
    """``value``, with the shape of ``array``."""
    found = _array(name, value)
    try:
        return np.broadcast_to(found, array.shape)
    except ValueError as error:
        raise ValueError(f"{name} has shape {found.shape}; {array.shape} is needed") from error


def _integers(value: Any) -> NDArray[Any]:
    """Python integers, which no float rounds."""
    return np.asarray(value.cpu() if isinstance(value, Tensor) else value).astype(object)


def _line(lx: Floats, ly: Floats, weights: Floats) -> tuple[float, Floats, float]:
    """Slope of the weighted least-squares line, residuals, and the slope's standard error."""
    cx = lx - np.average(lx, weights=weights)
    cy = ly - np.average(ly, weights=weights)
    norm = float((weights * cx**2).sum())
    slope = float((weights * cx * cy).sum()) / norm
    return slope, cy - slope * cx, norm**-0.5


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
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.dtype == object:  # Python integers beyond 64 bits
        return all(isinstance(v, int) for v in array.flat)
    return bool(np.issubdtype(array.dtype, np.integer))


def _sidak(entries: int) -> float:
    """Critical |z| so that all ``entries`` together raise a false alarm with probability α."""
    each = -math.expm1(math.log1p(-ALPHA) / entries)
    return float(-ndtri(each / 2))


def _ratio(difference: Floats, unit: Floats) -> Floats:
    """difference / unit, with 0/0 = 0: an entry without noise must agree exactly."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / unit)


def _distances(twin: NDArray[Any], claim: NDArray[Any], small: NDArray[Any]) -> Floats:
    """|log₂(twin/claim)| of each entry; ``small`` ones: |twin − claim| over the largest claimed."""
    top = np.max(np.abs(claim))
    far = np.zeros(claim.shape)
    for i in np.ndindex(claim.shape):
        t, c = twin[i], claim[i]
        if t == c:
            continue
        if small[i]:
            far[i] = abs(t - c) / top if top else math.inf
        else:
            far[i] = abs(math.log2(t / c)) if t / c > 0 else math.inf
    return far


def _relative_excess(excess: Floats, size: Floats) -> Floats:
    """excess / size; what is exactly 0 of 0 attains a bound only where every bound is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = excess / size
    return np.where(np.isnan(ratio), -math.inf if size.any() else 0.0, ratio)


def _argmax(a: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(a)), np.shape(a)))


def _cap(z: float) -> float:
    return min(float(z), 1e300)  # a noise-free entry refutes by an infinite z, which JSON lacks


def _twin(
    name: str,
    predicted: float,
    claim: float,
    measured: float,
    z: float | None,
    distance: float,
    rejected: bool,
) -> Twin:
    distance = min(float(distance), _FAR)
    # the last term lets 2c pass as "a factor 2 of c" when its logarithm rounds up
    near = distance <= 1 + 1e-12
    wrong, right, seen = float(predicted), float(claim), float(measured)
    return Twin(name, wrong, right, seen, z, distance, near, bool(rejected))


def _shortage(claim: str, name: str, power: float, needed: float, draws: int | None) -> str:
    factor = (needed / power) ** 2 if power else math.inf
    want = f"{factor:.3g} times the draws"
    if draws is not None and math.isfinite(factor):
        want = f"{math.ceil(draws * factor):,} draws, has {draws:,}"
    return (
        f"{claim}: twin {name!r} lies {power:.2f} standard errors from the claim, "
        f"{needed:.2f} are needed to reject it surely: needs {want}"
    )
