"""What the tests and the chapters catch: results, explanations, and the committed report.

`ci/mutants/report.json` holds for each module and chapter how many mutants there are, how many
were judged, the survivors, and what killed each of the others. `ci/mutants/explained.yml` says of
survivors why they are no fault; a mutant is named by its file, its function or claim, and its line
before and after, so that explanations outlive changes elsewhere.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ci.mutants.operators import Mutant

REPORT = "ci/mutants/report.json"
EXPLAINED = "ci/mutants/explained.yml"
CODE = ("zotk/", "ci/", "book/_ext/")  # other files are chapters
NOBODY = "no test"  # in place of what killed a mutant: no test runs its line


def identity(file: str, mutant: Mutant) -> str:
    """The name of a mutant: the same as long as its line and its function are."""
    return named(file, mutant.scope, mutant.was, mutant.now)


def named(file: str, scope: str, was: str, now: str) -> str:
    """The name of the mutant of a file that makes a line of a function or claim another."""
    text = "\0".join((file, scope, was, now))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Survivor:
    """A fault that nothing noticed. `because`: why it is none, if somebody has said so."""

    line: int
    scope: str
    was: str
    now: str
    run: bool  # by a test at all; chapters always run
    because: str | None


@dataclass(frozen=True)
class Row:
    """A module or a chapter."""

    file: str
    digest: str  # of its text
    mutants: int
    killed: int
    explained: int
    survivors: tuple[Survivor, ...]  # the explained ones too
    older: int = 0  # of the verdicts, those on an earlier state of the file

    @property
    def judged(self) -> int:
        return self.killed + len(self.survivors)

    @property
    def share(self) -> float | None:
        """Killed ones among those judged that are faults."""
        faults = self.judged - self.explained
        return self.killed / faults if faults else None


def explanations(root: Path) -> dict[tuple[str, str, str, str], str]:
    """Why survivors are no faults, by (file, scope, was, now)."""
    path = root / EXPLAINED
    listed = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    found = {}
    for file, entries in (listed or {}).items():
        for entry in entries:
            key = (file, entry.get("in", ""), *(" ".join(entry[k].split()) for k in ("was", "now")))
            if not str(entry.get("because", "")).strip():
                raise ValueError(f"{path.name}: {file}, {entry['was']!r}: `because` is missing")
            found[key] = entry["because"]
    return found


def content(path: Path) -> str:
    """A short digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def row(
    file: str,
    digest: str,
    mutants: Iterable[tuple[int, Mutant]],
    verdicts: Mapping[str, str | None],
    because: Mapping[tuple[str, str, str, str], str],
    older: Collection[str] = (),
) -> Row:
    """The row of a file: its mutants with their lines, and what killed those judged.

    `older` names those whose verdict is on an earlier state of the file.
    """
    total = killed = explained = before = 0
    survivors = []
    for line, mutant in mutants:
        total += 1
        name = identity(file, mutant)
        if name not in verdicts:
            continue
        before += name in older
        killer = verdicts[name]
        if killer is not None and killer != NOBODY:
            killed += 1
            continue
        reason = because.get((file, mutant.scope, mutant.was, mutant.now))
        explained += reason is not None
        known = (line, mutant.scope, mutant.was, mutant.now, killer is None, reason)
        survivors.append(Survivor(*known))
    return Row(file, digest, total, killed, explained, tuple(survivors), before)


def write(
    root: Path,
    rows: Iterable[Row],
    killers: Mapping[str, Mapping[str, str]],
    left_out: Mapping[str, str],
    older: Collection[str] = (),
) -> None:
    """Write the report: rows, what killed which mutant of a file, what is left out and why.

    `older` names mutants whose verdict is on an earlier state of their file.
    """
    names = sorted({name for by_file in killers.values() for name in by_file.values()})
    place = {name: k for k, name in enumerate(names)}
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "left_out": dict(left_out),
        "rows": [asdict(each) for each in rows],
        "killers": names,
        "older": " ".join(sorted({name for by in killers.values() for name in by} & {*older})),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)[:-2]
    lines = (  # one for each file
        f"  {json.dumps(file)}: " + json.dumps({name: place[by[name]] for name in sorted(by)})
        for file, by in killers.items()
    )
    (root / REPORT).write_text(
        text + ',\n "killed": {\n' + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8"
    )


def load(root: Path) -> dict[str, Any] | None:
    """The report, its rows as `Row`; `killed` names what killed each mutant of each file.

    `older` are the names of killed mutants whose verdict is on an earlier state of their file.
    """
    path = root / REPORT
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content["rows"] = [
        Row(**{**entry, "survivors": tuple(Survivor(**s) for s in entry["survivors"])})
        for entry in content["rows"]
    ]
    content["older"] = frozenset(content.get("older", "").split())
    killers = content.pop("killers")
    content["killed"] = {
        file: {name: killers[k] for name, k in by.items()} for file, by in content["killed"].items()
    }
    return content


def total(rows: Iterable[Row], name: str) -> Row:
    """Rows added up, with their survivors."""
    listed = list(rows)
    return Row(
        name,
        "",
        sum(each.mutants for each in listed),
        sum(each.killed for each in listed),
        sum(each.explained for each in listed),
        tuple(survivor for each in listed for survivor in each.survivors),
        sum(each.older for each in listed),
    )


def words(each: Row) -> str:
    """A row in one line."""
    share = "" if each.share is None else f" {100 * each.share:.0f} %"
    explained = f", {each.explained} explained" if each.explained else ""
    older = f" ({each.older} before it changed)" if each.older else ""
    return (
        f"{each.file}:{share} caught, {each.killed} of {each.judged} judged{older}"
        f"{explained}, {each.mutants} in all"
    )
