"""Which mutants there are, and in which order they are judged: all files advance together."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ci.chapters import digest
from ci.mutants import chapters
from ci.mutants.operators import Mutant, formulas
from ci.mutants.predictions import Cell
from ci.mutants.report import CODE, identity
from ci.mutants.results import Results
from ci.mutants.tests import judges, sources

LEFT_OUT = {
    "zotk/lessons/figures.py": "the looks of figures",
    "ci/bench.py": "times, which no test asks for",
    "ci/bench_steps.py": "times, which no test asks for",
    "ci/bench_tools.py": "times, which no test asks for",
    "ci/browse.py": "runs in Chromium",
    "ci/lab.py": "starts JupyterLab",
    "ci/mutants/": "the judge itself",
    "ci/tied.py": "seen by other processes only",
}
Listed = list[tuple[int, Mutant]]  # with the line in the file


class Plan:
    """The mutants of a repository, or of some of its files."""

    def __init__(self, root: Path, only: Sequence[str] = ()) -> None:
        self.root = root
        self.results = Results(root, root / ".cache/mutants/results.jsonl")
        code = [path.relative_to(root).as_posix() for path in sources(root)]
        written = sorted(p.relative_to(root).as_posix() for p in (root / "chapters").glob("*.md"))
        named = [file for file in [*code, *written] if file not in LEFT_OUT]
        if unknown := set(only) - set(named):
            raise SystemExit(f"no mutants of {', '.join(sorted(unknown))}")
        self.files = [file for file in named if not only or file in only]
        self.cells = cache(self._cells)
        self.mutants = cache(self._mutants)

    def _cells(self, file: str) -> list[Cell]:
        return chapters.load(self.root, Path(file).stem)

    def _mutants(self, file: str) -> Listed:
        if file.startswith("chapters/"):
            return [(c.line + m.line - 1, m) for c in self.cells(file) for m in c.mutants]
        source = (self.root / file).read_text(encoding="utf-8")
        return [(mutant.line, mutant) for mutant in formulas(source)]

    def state(self) -> str:
        """A digest of all files that have mutants, and the tests."""
        files = [self.root / file for file in self.files]
        return digest([*files, *judges(self.root)], self.root)

    def open_code(self) -> list[tuple[str, Mutant]]:
        """Mutants of modules without a verdict, so that every prefix is spread over the files.

        Those with a verdict on an earlier state of their module come after all others.
        """
        done, older, found = self.results.read(), self.results.older(), []
        for file in self.files:
            if file.startswith(CODE):
                listed = sorted(self.mutants(file), key=lambda pair: identity(file, pair[1]))
                for k, (_, mutant) in enumerate(listed):
                    name = identity(file, mutant)
                    if name not in done:
                        found.append(((name in older) + (k + 0.5) / len(listed), file, mutant))
        return [(file, mutant) for _, file, mutant in sorted(found, key=lambda entry: entry[:2])]

    def open_chapters(self, batch: int) -> list[tuple[str, set[str]]]:
        """For chapters with mutants without a verdict: the next ones by name, in turn.

        Those with a verdict on an earlier state of their chapter come after all others.
        """
        done, older, found = self.results.read(), self.results.older(), []
        for file in self.files:
            if file.startswith("chapters/"):
                names = sorted({identity(file, mutant) for _, mutant in self.mutants(file)})
                left = [name for name in names if name not in done]
                never = [name for name in left if name not in older]
                for again, listed in ((0, never), (1, [name for name in left if name in older])):
                    judged = 1 - len(listed) / len(names) if names else 1.0
                    for k in range(0, len(listed), batch):
                        rank = again + judged + k / len(names)
                        found.append((rank, file, set(listed[k : k + batch])))
        return [(file, names) for _, file, names in sorted(found, key=lambda e: e[:2])]
