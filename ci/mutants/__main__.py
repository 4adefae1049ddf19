"""Plant small faults in formulas and predictions, and report which of them go unnoticed.

    python -m ci.mutants [--minutes 30] [--jobs 2] [--only FILE …] [--sample N]

Modules are judged by the tests, the predicted sides of checks by their chapters. A run goes on
where the last one ended, and writes `ci/mutants/report.json`. `--sample N` asks again for N
mutants that the report calls caught, and fails if one of them now survives.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Mapping, Sequence

from ci.chapters import ROOT
from ci.console import any_locale
from ci.mutants import report
from ci.mutants.plan import LEFT_OUT, Plan
from ci.mutants.work import Work


def campaign(plan: Plan, minutes: float, jobs: int) -> int:
    """Judge for some minutes, then report on everything judged so far, in other files, too."""
    Work(plan, time.monotonic() + 60 * minutes).go(jobs)
    chosen, plan = plan.files, Plan(plan.root)
    older = plan.results.older()
    verdicts = older | plan.results.read()
    because = report.explanations(plan.root)

    def row(file: str) -> report.Row:
        digest = report.content(plan.root / file)
        return report.row(file, digest, plan.mutants(file), verdicts, because, older)

    rows = [row(file) for file in plan.files]
    killers = {file: _killers(plan, file, verdicts) for file in plan.files}
    report.write(plan.root, rows, killers, LEFT_OUT, older)
    summary([row for row in rows if row.file in chosen])
    return 0


def _killers(plan: Plan, file: str, verdicts: Mapping[str, str | None]) -> dict[str, str]:
    names = [report.identity(file, mutant) for _, mutant in plan.mutants(file)]
    found = {name: verdicts.get(name) for name in names}
    return {name: by for name, by in found.items() if by is not None and by != report.NOBODY}


def summary(rows: Sequence[report.Row]) -> None:
    for row in rows:
        if row.judged:
            print(report.words(row))
        for s in row.survivors:
            if s.because is None:
                untested = "" if s.run else "  (no test runs it)"
                print(f"  {row.file}:{s.line}{untested}\n    {s.was}\n    {s.now}")
    for name in ("modules", "chapters"):
        chosen = [row for row in rows if row.file.startswith(report.CODE) == (name == "modules")]
        print(report.words(report.total(chosen, name)))


def sample(plan: Plan, count: int) -> int:
    """Ask again for some mutants that the committed report calls caught."""
    known = report.load(plan.root)
    if known is None:
        print("there is no report yet: `make mutants` writes it", file=sys.stderr)
        return 1
    killed = (entry for by_file in known["killed"].values() for entry in by_file.items())
    caught = {name: by for name, by in killed if by not in ("time", "memory")}
    # chosen by what is here, so that the same state of the repository gives the same sample
    salt = plan.state()
    order = sorted(caught, key=lambda name: hashlib.sha256((salt + name).encode()).hexdigest())
    escaped, asked = Work(plan, time.monotonic() + 3600).again(order, caught, count)
    for place, mutant in escaped:
        print(f"{place}: this fault was caught before and is not now\n    {mutant.was}\n    "
              f"{mutant.now}", file=sys.stderr)  # fmt: skip
    print(f"{asked} faults asked again, {asked - len(escaped)} caught")
    return 1 if escaped or not asked else 0


def main(argv: Sequence[str] | None = None) -> int:
    any_locale()
    parser = argparse.ArgumentParser(prog="python -m ci.mutants", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", nargs="+", default=[], metavar="FILE", help="as zotk/hzo/cost.py")
    parser.add_argument("--sample", type=int, metavar="N")
    args = parser.parse_args(argv)
    plan = Plan(ROOT, args.only)
    if args.sample is not None:
        return sample(plan, args.sample)
    return campaign(plan, args.minutes, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
