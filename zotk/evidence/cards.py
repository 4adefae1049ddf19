"""Evidence records, and the cards that show them in a notebook."""

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

MIME = "application/vnd.zotk.evidence+json"
LEFT_OUT = "application/vnd.zotk.left-out+json"  # a data set that could not be read, and why


@dataclass(frozen=True)
class Twin:
    """A wrong prediction, beside the claim's and the measured value at the entry refuting it best.

    ``z``: how far it lies from the measured, in standard errors or, for exact checks, in
    tolerances (None for counts). ``distance`` from the claim: |log₂ ratio| at its largest, or
    twice the difference of exponents; up to 1 is ``near``.
    """

    name: str
    predicted: float
    claim: float
    measured: float
    z: float | None
    distance: float
    near: bool
    rejected: bool


@dataclass(frozen=True)
class Record:
    """The evidence of one check; ``measured`` and ``predicted`` at the worst entry.

    For a bound that is the entry nearest to it, or furthest over it, in proportion. ``largest``
    is the largest |predicted| of all entries, ``slack`` why a wide ``rtol`` or a bound out of
    reach still is evidence ("": neither is).
    """

    id: str
    what: str
    kind: str
    measured: float
    predicted: float
    largest: float
    tolerance: float
    rtol: float | None
    slack: str
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


def show(record: Record) -> None:
    """Display a record's card; in a notebook its cell keeps the record beside it."""
    from IPython.display import display

    display(_Card(record))


def show_left_out(name: str, why: str) -> None:
    """In a notebook: the cell says that a data set could not be read, and keeps {name, why}."""
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is not None:
        text = f"{name} is left out: {why}"
        display({LEFT_OUT: {"name": name, "why": why}, "text/plain": text}, raw=True)


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
        lines += [f"  slack: {r.slack}"] if r.slack else []
        lines += [
            f"  twin {t.name}: {t.predicted:.6g} for {t.claim:.6g}, {_refutation(r, t)}"
            for t in r.twins
        ]
        return "\n".join(lines)


def _verdict(r: Record) -> str:
    verdict = "passed" if r.passed else "FAILED"
    return verdict if any(t.near for t in r.twins) else f"{verdict} (but no twin is near)"


def _comparison(r: Record) -> str:
    relation = "slope " if r.kind == "rate" else ""
    text = f"measured {r.measured:.6g}, predicted {relation}{r.predicted:.6g}"
    if r.kind == "bound":
        text = f"nearest value {r.measured:.6g}, bound {r.predicted:.6g}"
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
        f"<tr><td>{escape(t.name)}</td><td>{t.predicted:.6g}</td><td>{t.claim:.6g}</td>"
        f"<td>{escape(_refutation(r, t))}</td></tr>"
        for t in r.twins
    )
    what = f" · {escape(r.what)}" if r.what else ""
    slack = f"<br>Slack: {escape(r.slack)}" if r.slack else ""
    mark = "✓" if r.passed else "✗"
    return (
        f'<div class="zotk-card {"ok" if r.passed else "bad"}">'
        f"<p><strong>{mark} {_verdict(r)}</strong> <code>{escape(r.id)}</code>{what}<br>"
        f"{escape(_comparison(r))}{slack}</p>"
        '<table><thead><tr><th scope="col">wrong twin</th><th scope="col">would be</th>'
        '<th scope="col">the claim says</th>'
        f'<th scope="col">verdict</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
