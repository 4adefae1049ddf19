"""Evidence: what executed chapters recorded, judged against what the book claims.

Records are written by ``zotk.Check``, but a record can be edited by hand and a notebook can be
stale, so nothing is taken on its word that the numbers in the record can decide.
"""

import difflib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

MIME = "application/vnd.zotk.evidence+json"
LEFT_OUT = "application/vnd.zotk.left-out+json"  # a data set that zotk could not read, and why
ALPHA_BUDGET = 1e-3  # false alarms, two-sided, of all checks of one build together
KINDS = ("equal", "rate", "bound", "count")
MAX_RTOL, MAX_ATOL, ATTAINED = 0.05, 0.1, 0.05  # wider ones say why (zotk.evidence.checks)

Record = dict[str, Any]

_NUMBER = (int, float)
_FIELDS: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "what": (str,),
    "kind": (str,),
    "measured": _NUMBER,
    "predicted": _NUMBER,
    "largest": _NUMBER,
    "tolerance": _NUMBER,
    "rtol": (*_NUMBER, type(None)),
    "slack": (str,),
    "stderr": (*_NUMBER, type(None)),
    "z": (*_NUMBER, type(None)),
    "draws": (int, type(None)),
    "alpha": _NUMBER,
    "shape": (list,),
    "index": (list,),
    "twins": (list,),
    "passed": (bool,),
    "seconds": _NUMBER,
    "device": (str,),
    "dtype": (str,),
    "seed": (int,),
}
_TWIN_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "predicted": _NUMBER,
    "claim": _NUMBER,
    "measured": _NUMBER,
    "z": (*_NUMBER, type(None)),
    "distance": _NUMBER,
    "near": (bool,),
    "rejected": (bool,),
}
_SLACK = 1 + 1e-9  # numbers at the edge were compared in another order of operations


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'other'?``, or nothing where no known name is like it."""
    like = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {like[0]!r}?" if like else ""


@dataclass(frozen=True)
class Claim:
    """A ``{claim}`` box. ``chapter``: file name, without suffix, of the page that holds it."""

    id: str
    title: str
    kind: str
    source: str
    tag: str
    verdict: str
    uses: tuple[str, ...]
    chapter: str


@dataclass(frozen=True)
class Chapter:
    """An executed notebook; ``seconds`` is None when nobody timed it."""

    name: str
    cells: int
    seconds: float | None
    by_cell: Mapping[int, tuple[Record, ...]]  # by the number of the cell, from 0

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, in the order of the cells."""
        return tuple(record for records in self.by_cell.values() for record in records)


class Problem(NamedTuple):
    """A reason to fail the build; ``claim`` names the box it is about, where there is one."""

    text: str
    claim: str = ""


def read_chapters(folder: Path) -> list[Chapter]:
    """Executed notebooks of ``folder``, by name, with the times in NAME.json beside them."""
    notebooks = sorted(p for p in folder.glob("*.ipynb") if not p.name.startswith("."))
    return [_read_chapter(path) for path in notebooks]


def read_records(folder: Path) -> list[Record]:
    """All evidence records of ``folder``, each with the name of its ``chapter`` added."""
    return [record for chapter in read_chapters(folder) for record in chapter.records]


def _read_chapter(path: Path) -> Chapter:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a notebook: {error!r}") from error
    by_cell = {}
    for number, cell in enumerate(cells):
        found = [o["data"][MIME] for o in cell.get("outputs", []) if MIME in o.get("data", {})]
        if found:
            by_cell[number] = tuple(
                {**(record if isinstance(record, dict) else {}), "chapter": path.stem}
                for record in found
            )
    code = sum(cell.get("cell_type") == "code" for cell in cells)
    timing = path.with_suffix(".json")
    seconds = json.loads(timing.read_text())["seconds"] if timing.exists() else None
    return Chapter(path.stem, code, seconds, by_cell)


def faults(record: Record) -> list[str]:
    """Everything wrong with one record by itself, in words; empty for sound evidence."""
    broken = _malformed(record)
    if broken:
        return broken
    found = []
    if not record["passed"]:
        found.append("failed")
    elif not _accepted(record):
        found.append(
            f"says it passed, but measured {record['measured']:.6g} lies further than "
            f"{record['tolerance']:.3g} from {record['predicted']:.6g}"
        )
    found += [] if record["slack"] else list(_loose(record))
    if record["stderr"] is not None and record["alpha"] <= 0:
        found.append("is statistical but spends no false-alarm probability")
    twins = record["twins"]
    if not twins:
        found.append("has no twins, so it could not have failed")
    elif not any(is_near(record, twin) or is_printed(twin) for twin in twins):
        found.append("has far twins only; one must lie within a factor 2 (a rate: within 1/2)")
    found += [f"does not reject its twin {t['name']!r}" for t in twins if not rejects(record, t)]
    return found


def _loose(record: Record) -> Iterator[str]:
    """What a record may be only if its slack says why."""
    kind, tolerance = record["kind"], record["tolerance"]
    far = abs(record["measured"] - record["predicted"])
    if kind == "bound" and far > ATTAINED * abs(record["predicted"]) * _SLACK:
        yield (
            f"has a bound {record['predicted']:.6g} that no value attains within {ATTAINED:.0%} "
            f"(nearest: {record['measured']:.6g}); tighten it, or say why by slack="
        )
    if record["stderr"] is not None:
        return
    rtol = math.inf if record["rtol"] is None else record["rtol"]
    wide = rtol > MAX_RTOL or tolerance > MAX_RTOL * record["largest"] * _SLACK
    if kind in ("equal", "bound") and wide:
        yield f"has an rtol over {MAX_RTOL:g}; tighten it, or say why by slack="
    if kind == "rate" and tolerance > MAX_ATOL * _SLACK:
        yield f"has an atol over {MAX_ATOL:g}; tighten it, or say why by slack="


def is_near(record: Record, twin: Mapping[str, Any]) -> bool:
    """Is the twin within a factor 2 of the claim (rates: within 1/2; counts: or off by one)?

    The flag is not believed. Of an array the record holds the entry that refutes the twin best;
    what other entries add to the ``distance`` is believed, that it is less than this one is not.
    """
    claim, wrong = twin["claim"], twin["predicted"]
    if record["kind"] == "rate":
        return bool(abs(wrong - claim) <= 0.5 * _SLACK)
    if record["kind"] == "count" and abs(wrong - claim) <= 1:
        seen = 0.0
    elif claim and wrong / claim > 0:
        seen = abs(math.log2(wrong / claim))
    else:
        seen = math.inf
    if not _is_array(record):
        return seen <= 1 + 1e-9
    if abs(claim) < 0.5 * record["largest"]:  # a small entry may be measured by the largest one
        seen = min(seen, abs(wrong - claim) / record["largest"])
    return bool(seen <= twin["distance"] * _SLACK + 1e-9 and twin["distance"] <= _SLACK)


def _is_array(record: Record) -> bool:
    return record["kind"] != "rate" and math.prod(record["shape"]) > 1


def is_printed(twin: Mapping[str, Any]) -> bool:
    """Is the twin what a source prints? Its distance is the source's own, and may be large."""
    return str(twin["name"]).startswith("printed")


def rejects(record: Record, twin: Mapping[str, Any]) -> bool:
    """Is the twin rejected, by its flag and by its numbers?"""
    wrong, seen, z = twin["predicted"], twin["measured"], twin["z"]
    far = wrong != seen and (z is None or z * _SLACK > critical(record))
    if not _is_array(record):  # the tolerance is this entry's own
        far = far and abs(wrong - seen) * _SLACK > record["tolerance"]
    if record["kind"] == "bound":  # a stronger bound, and the value is beyond it
        far = far and (seen - wrong) * _side(record) > 0
    return bool(twin["rejected"] and far)


def critical(record: Record) -> float:
    """Beyond how many standard errors (exact checks: tolerances) a value is rejected."""
    return float(record["tolerance"] / record["stderr"]) if record["stderr"] else 1.0


def _side(record: Record) -> float:
    """1 for an upper bound, −1 for a lower one: its twins are stronger bounds (0: they differ)."""
    signs = {math.copysign(1, t["claim"] - t["predicted"]) for t in record["twins"]}
    return signs.pop() if len(signs) == 1 else 0.0


def _accepted(record: Record) -> bool:
    gap = record["measured"] - record["predicted"]
    gap = gap * _side(record) if record["kind"] == "bound" else abs(gap)
    return bool(gap <= record["tolerance"] * _SLACK)


def _malformed(record: Record) -> list[str]:
    found = _wrong_fields(record, _FIELDS, "")
    if not found and record["kind"] not in KINDS:
        found.append(f"has the kind {record['kind']!r}, not one of {', '.join(KINDS)}")
    if not found and not all(type(n) is int and n > 0 for n in record["shape"]):
        found.append(f"is malformed: shape is {record['shape']!r}")
    if not found and not 0 <= record["alpha"] < 1:
        found.append(f"spends the probability {record['alpha']}")
    for i, twin in enumerate(record["twins"] if not found else []):
        found += _wrong_fields(twin, _TWIN_FIELDS, f"twins[{i}].")
    if not found:
        sizes = [record["predicted"], *(twin["claim"] for twin in record["twins"])]
        if max(map(abs, sizes)) > record["largest"] * _SLACK:
            found.append(f"is malformed: largest is {record['largest']!r}, less than one predicted")
    return found


def _wrong_fields(data: Any, fields: Mapping[str, tuple[type, ...]], prefix: str) -> list[str]:
    if not isinstance(data, dict):
        return [f"is malformed: {prefix.rstrip('.')} is {data!r}"]
    found = []
    for name, types in fields.items():
        if name not in data:
            found.append(f"is malformed: {prefix}{name} is missing")
            continue
        value = data[name]
        is_flag = isinstance(value, bool) and bool not in types  # bool is an int to Python
        infinite = isinstance(value, float) and not math.isfinite(value)
        if is_flag or infinite or not isinstance(value, types):
            found.append(f"is malformed: {prefix}{name} is {value!r}")
    return found


def judge(claims: Sequence[Claim], records: Sequence[Record]) -> list[Problem]:
    """Every reason why the records do not carry the claims; empty for a sound book."""
    by_id = {claim.id: claim for claim in claims}
    checked = {record.get("id") for record in records}
    problems = []
    if not records:
        problems.append(Problem("there is no evidence record in the whole book"))
    for name, count in Counter(claim.id for claim in claims).items():
        if count > 1:
            places = ", ".join(sorted({c.chapter for c in claims if c.id == name}))
            problems.append(Problem(f"claim {name!r} is stated {count} times, in {places}", name))
        if name not in checked:
            problems.append(Problem(f"claim {name!r} has no check", name))
    for record in records:
        problems += _judge_record(record, by_id)
    spent = total_alpha(records)
    if spent > ALPHA_BUDGET * _SLACK:
        problems.append(
            Problem(f"the checks spend {spent:.3g} of false alarms, over {ALPHA_BUDGET:g}")
        )
    for claim in claims:
        for other in claim.uses:
            if other not in by_id:
                text = f"claim {claim.id!r} uses unknown {other!r}{meant(other, by_id)}"
                problems.append(Problem(text, claim.id))
    for cycle in cycles({claim.id: claim.uses for claim in claims}):
        problems.append(Problem(f"claims use each other: {' → '.join(cycle)}", cycle[0]))
    return problems


def _judge_record(record: Record, claims: Mapping[str, Claim]) -> list[Problem]:
    name = str(record.get("id"))
    label = f"{name!r} ({record['what']})" if record.get("what") else repr(name)
    text = f"check of {label} in {record.get('chapter')}"
    problems = [Problem(f"{text} {fault}", name) for fault in faults(record)]
    if name not in claims:
        problems.append(Problem(f"{text} belongs to no claim{meant(name, claims)}"))
    elif record.get("chapter") != claims[name].chapter:
        problems.append(Problem(f"{text} is not in {claims[name].chapter}, beside its claim", name))
    return problems


def unlisted(records: Iterable[Record], decided: Collection[str]) -> list[Problem]:
    """Twins named "printed" whose claim decides no erratum; ``decided``: the claims that do."""
    twins = [
        (str(record["id"]), record["chapter"], twin["name"])
        for record in records
        if not _malformed(record) and record["id"] not in decided
        for twin in record["twins"]
        if is_printed(twin)
    ]
    return [
        Problem(
            f"check of {name!r} in {chapter} has the twin {twin!r}, but no erratum in sources.yml "
            f"is decided_by {name!r}",
            name,
        )
        for name, chapter, twin in twins
    ]


def cycles(uses: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Closed walks ``[a, b, …, a]`` of a dependency map: one for each edge that closes one."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
        elif node not in done:
            for other in uses.get(node, ()):
                visit(other, [*path, node])
            done.add(node)

    for node in uses:
        visit(node, [])
    return found


def total_alpha(records: Iterable[Record]) -> float:
    """False-alarm probability of all records together (union bound; broken records: none)."""
    return math.fsum(record["alpha"] for record in records if not _malformed(record))


def supporting(claim: Claim, records: Iterable[Record]) -> list[Record]:
    """The records that speak about a claim."""
    return [record for record in records if record.get("id") == claim.id]


def verified(claim: Claim, records: Iterable[Record]) -> bool:
    """Does the claim have checks, all of them sound and in its own chapter?"""
    own = supporting(claim, records)
    return bool(own) and all(not faults(r) and r["chapter"] == claim.chapter for r in own)


def status(claim: Claim, records: Iterable[Record]) -> str:
    """The derived status in words: ``verified: 2 checks, 5 twins rejected`` or why not."""
    own = supporting(claim, records)
    if verified(claim, own):
        twins = sum(len(record["twins"]) for record in own)
        return f"verified: {counted(len(own), 'check')}, {counted(twins, 'twin')} rejected"
    if not own:
        return "NOT VERIFIED: no check"
    bad = sum(bool(faults(r)) or r["chapter"] != claim.chapter for r in own)
    return f"NOT VERIFIED: {bad} of {counted(len(own), 'check')} unsound"


def line(records: Sequence[Record]) -> str:
    """The first of some checks in words, with a count of all and of the twins they reject."""
    first = records[0]
    if _malformed(first):
        return "the record is malformed"
    pair = {"bound": ("nearest value", "bound"), "rate": ("measured slope", "predicted")}
    measured, predicted = pair.get(first["kind"], ("measured", "predicted"))
    what = f"{first['what']}: " if first["what"] else ""
    sound = [record for record in records if not _malformed(record)]
    rejected = sum(rejects(record, twin) for record in sound for twin in record["twins"])
    return (
        f"{what}{measured} {first['measured']:.5g}, {predicted} {first['predicted']:.5g}; "
        f"{counted(len(records), 'check')}, {counted(rejected, 'twin')} rejected"
    )


def counted(n: int, noun: str) -> str:
    """``1 check``, ``2 checks``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


@dataclass(frozen=True)
class Tally:
    """Counts over some claims and their records; ``seconds`` is the time of the checks."""

    claims: int
    verified: int
    checks: int
    twins: int
    rejected: int
    alpha: float
    seconds: float


def tally(claims: Sequence[Claim], records: Sequence[Record]) -> Tally:
    """Count claims, checks and twins; broken records count as checks and nothing else."""
    sound = [record for record in records if not _malformed(record)]
    twins = [(record, twin) for record in sound for twin in record["twins"]]
    return Tally(
        claims=len(claims),
        verified=sum(verified(claim, records) for claim in claims),
        checks=len(records),
        twins=len(twins),
        rejected=sum(rejects(record, twin) for record, twin in twins),
        alpha=total_alpha(records),
        seconds=math.fsum(record["seconds"] for record in sound),
    )


class Margin(NamedTuple):
    """A twin and how loose or tight its rejection is."""

    value: float
    record: Record
    twin: Mapping[str, Any]


def loosest(records: Iterable[Record], n: int = 10) -> list[Margin]:
    """The checks whose nearest twin is farthest: (distance, record, twin), loosest first."""
    nearest = [
        min((Margin(t["distance"], record, t) for t in record["twins"]), key=lambda m: m.value)
        for record in records
        if not _malformed(record) and record["twins"]
    ]
    return sorted(nearest, key=lambda m: -m.value)[:n]


def narrowest(records: Iterable[Record], n: int = 10) -> list[Margin]:
    """The twins rejected by least: (z over its critical value, record, twin), narrowest first."""
    margins = [
        Margin(twin["z"] / critical(record), record, twin)
        for record in records
        if not _malformed(record)
        for twin in record["twins"]
        if twin["z"] is not None
    ]
    return sorted(margins, key=lambda m: m.value)[:n]


def seconds_by_claim(records: Iterable[Record]) -> dict[str, float]:
    """Seconds spent in the checks of each claim."""
    spent: dict[str, float] = defaultdict(float)
    for record in records:
        if not _malformed(record):
            spent[record["id"]] += record["seconds"]
    return dict(spent)


def as_json(
    claims: Sequence[Claim], records: Sequence[Record], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``claims.json``: strict JSON, numbers that are not finite become null."""
    entries = [
        {
            "id": claim.id,
            "title": claim.title,
            "source": claim.source,
            "tag": claim.tag,
            "verdict": claim.verdict,
            "kind": claim.kind,
            "chapter": claim.chapter,
            "uses": list(claim.uses),
            "passed": verified(claim, records),
            "checks": [
                {key: value for key, value in record.items() if key != "chapter"}
                for record in supporting(claim, records)
            ],
        }
        for claim in claims
    ]
    content: dict[str, Any] = _finite({"meta": meta, "claims": entries})
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
