"""Verdicts kept from run to run, valid as long as what they depend on has not changed.

A line of `.cache/mutants/results.jsonl` is written when a mutant has been judged, so that a run
that is cut off goes on. A kill by a test holds while the module and the file of that test are the
same, a survival while no test and no module changes; a kill by a chapter while it is the same, a
survival there while zotk is, too. Kills of the committed report stand while their file is the same.

A verdict that no longer holds so is an older one. It is about the same line of the same function or
claim, for that is what names a mutant, and is reported as older until the mutant is judged again.
"""

import contextlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ci.chapters import digest, files_under
from ci.mutants import report
from ci.mutants.tests import judges, sources


class Results:
    """Verdicts on the mutants of a repository: what killed each, or None."""

    def __init__(self, root: Path, file: Path) -> None:
        self.root, self.file = root, file
        self._keys: dict[tuple[str, str], str] = {}

    @cached_property
    def _all_code(self) -> str:
        return digest([*sources(self.root), *judges(self.root)], self.root)

    @cached_property
    def _zotk(self) -> str:
        return digest(files_under(self.root / "zotk"), self.root)

    @cached_property
    def _report(self) -> dict[str, Any]:
        """The committed report."""
        return report.load(self.root) or {"rows": [], "killed": {}, "older": []}

    @cached_property
    def _reported(self) -> dict[str, str]:
        """Kills of the committed report in files that are as they were."""
        known = self._report
        same = {
            row.file
            for row in known["rows"]
            if (path := self.root / row.file).is_file() and report.content(path) == row.digest
        }
        return {
            name: killer
            for file, killed in known["killed"].items()
            if file in same
            for name, killer in killed.items()
            if name not in known["older"]
        }

    def key(self, file: str, killer: str | None) -> str:
        """A digest of what a verdict depends on."""
        test = (killer or "").partition("::")[0]
        if (file, test) not in self._keys:
            self._keys[file, test] = self._key(file, test)
        return self._keys[file, test]

    def _key(self, file: str, test: str) -> str:
        paths = [self.root / file]
        if file.startswith("chapters/"):
            return digest(paths, self.root)[:16] + ("" if test else self._zotk[:16])
        if test.startswith("tests/") and (self.root / test).is_file():
            return digest([*paths, self.root / test], self.root)[:16]
        return digest(paths, self.root)[:16] + self._all_code[:16]

    def add(self, name: str, file: str, killer: str | None, seconds: float) -> None:
        entry = {"id": name, "file": file, "by": killer, "seconds": round(seconds, 2)}
        line = json.dumps(entry | {"key": self.key(file, killer)}) + "\n"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(line)  # short, so that processes do not mix their lines

    def read(self) -> dict[str, str | None]:
        """What killed each mutant that has a valid verdict."""
        return self._reported | {
            entry["id"]: entry["by"]
            for entry in self._lines()
            if entry["key"] == self.key(entry["file"], entry["by"])
        }

    def older(self) -> dict[str, str | None]:
        """What killed each mutant that was judged on an earlier state, and not since."""
        found: dict[str, str | None] = {}
        for row in self._report["rows"]:
            found |= self._report["killed"].get(row.file, {})
            for s in row.survivors:
                killer = None if s.run else report.NOBODY
                found[report.named(row.file, s.scope, s.was, s.now)] = killer
        found |= {entry["id"]: entry["by"] for entry in self._lines()}
        valid = self.read()
        return {name: killer for name, killer in found.items() if name not in valid}

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The verdicts on this machine, in the order in which they were found."""
        if not self.file.exists():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # a line that was cut off
                entry: dict[str, Any] = json.loads(line)
                if {"id", "file", "by", "key"} <= entry.keys():
                    yield entry
