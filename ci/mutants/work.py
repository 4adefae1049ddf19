"""Processes that judge mutants side by side until a deadline."""

import contextlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ci.mutants import chapters, tests
from ci.mutants.child import Dead, ask
from ci.mutants.operators import Mutant
from ci.mutants.plan import Plan
from ci.mutants.report import CODE, NOBODY, identity
from ci.run import THREADS
from ci.tied import tie

BATCH = 60  # mutants of a chapter in one run of it
SHARE = 0.5  # of a sample, in chapters


class Work:
    """What is to be judged, shared by the processes."""

    def __init__(self, plan: Plan, deadline: float) -> None:
        self.plan, self.deadline = plan, deadline
        self.code: list[tuple[str, Mutant]] = []
        self.chapters: list[tuple[str, set[str]]] = []
        fork = multiprocessing.get_context("fork")
        self._next = {"code": fork.Value("i", 0), "chapters": fork.Value("i", 0)}
        self._number = 0  # of this process

    @property
    def scratch(self) -> Path:
        return self.plan.root / f"build/scratch/mutants/{self._number}"

    def go(self, jobs: int) -> None:
        """Judge what is open in some processes."""
        os.environ.update(dict.fromkeys(THREADS, "1"))
        self.code, self.chapters = self.plan.open_code(), self.plan.open_chapters(BATCH)
        started, total = time.monotonic(), len(self.code) + sum(len(n) for _, n in self.chapters)
        print(f"{total} mutants to judge", flush=True)
        if not total or started > self.deadline:
            return
        tests.preload()
        before = len(self.plan.results.read())
        running, parent = set(), os.getpid()
        for number in range(jobs):
            child = os.fork()
            if child == 0:
                self._number = number
                try:
                    tie(parent)
                    self._live()
                finally:
                    os._exit(0)
            running.add(child)
        shown = started
        while running:
            for child in list(running):
                if os.waitpid(child, os.WNOHANG)[0]:
                    running.remove(child)
            time.sleep(0.5)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                done = len(self.plan.results.read()) - before
                print(f"{done} of {total} judged, {shown - started:.0f} s", flush=True)

    def _take(self, kind: str) -> Any:
        """The next piece of work of a kind, or None."""
        listed: Sequence[Any] = self.code if kind == "code" else self.chapters
        with self._next[kind].get_lock():
            number = self._next[kind].value
            self._next[kind].value += 1
        late = time.monotonic() > self.deadline
        return listed[number] if number < len(listed) and not late else None

    def _live(self) -> None:
        """One process: chapters first or modules first, then the other."""
        order = ("code", "chapters") if self._number % 2 == 0 else ("chapters", "code")
        for kind in order:
            while (piece := self._take(kind)) is not None:
                if kind == "chapters":
                    self._chapter(*piece)
                else:
                    self._module(*piece)
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ---- chapters ----

    def _chapter(self, file: str, names: set[str]) -> None:
        """Judge some mutants of a chapter in a process of its own."""
        left = max(1.0, self.deadline - time.monotonic()) + 600
        try:
            trouble = ask(lambda: self._run_chapter(file, names), left)
        except Dead as error:
            trouble = str(error)
        if trouble:
            (self.scratch.parent / f"{Path(file).stem}.log").write_text(trouble)

    def _run_chapter(self, file: str, names: set[str]) -> str | None:
        started = time.monotonic()

        def record(_: object, mutant: Mutant, killer: str | None) -> None:
            nonlocal started
            now = time.monotonic()
            self.plan.results.add(identity(file, mutant), file, killer, now - started)
            started = now

        found = self.plan.cells(file)
        self.scratch.mkdir(parents=True, exist_ok=True)
        os.chdir(self.scratch)
        try:
            chapters.judge(
                file, found, lambda _, m: identity(file, m) in names, record, self.deadline
            )
        except chapters.Broken as error:
            return str(error)
        return None

    # ---- modules ----

    @cached_property
    def _judge(self) -> tests.Judge | None:
        """A copy of the repository and which tests run what in it; None if time runs out before.

        A mutant is judged by all its tests or not at all: kills by a part of them, without the
        survivals, would make the share too good.
        """
        judge = tests.Judge(tests.copy(self.plan.root, self.scratch / "copy"))
        kept = self.plan.root / ".cache/mutants/traces"
        for test in tests.judges(judge.place):
            if time.monotonic() > self.deadline:
                return None
            with contextlib.suppress(Dead):
                judge.learn(tests.traced(judge.place, kept, test))
        return judge

    def _module(self, file: str, mutant: Mutant) -> None:
        """Judge one mutant of a module by the tests that run it."""
        judge = self._judge
        if judge is None or time.monotonic() > self.deadline:
            return
        listed = judge.covering(file, mutant)
        started = time.monotonic()
        killer = judge.judge(file, mutant, listed) if listed else NOBODY
        seconds = time.monotonic() - started
        self.plan.results.add(identity(file, mutant), file, killer, seconds)

    # ---- a sample ----

    def again(
        self, order: Sequence[str], caught: Mapping[str, str], count: int
    ) -> tuple[list[tuple[str, Mutant]], int]:
        """Judge `count` caught mutants again, half of them in one chapter, as `order` has them.

        Returns those that survive, each with its place, and how many were judged.
        """
        os.environ.update(dict.fromkeys(THREADS, "1"))
        tests.preload()
        here = {
            identity(file, mutant): (file, line, mutant)
            for file in self.plan.files
            for line, mutant in self.plan.mutants(file)
        }
        listed = [(name, *here[name]) for name in order if name in here]
        modules = [entry for entry in listed if entry[1].startswith(CODE)][: count - count // 2]
        written = [entry for entry in listed if not entry[1].startswith(CODE)]
        written = [entry for entry in written if entry[1] == written[0][1]][: count // 2]
        survive = [
            (f"{file}:{line}", mutant)
            for name, file, line, mutant in modules
            if not self._noticed(file, mutant, caught[name], set(caught.values()))
        ]
        if written:
            file = written[0][1]
            names = {name for name, *_ in written}
            verdicts = ask(lambda: self._verdicts(file, names), 900) or {}
            survive += [
                (f"{file}:{line}", mutant)
                for name, _, line, mutant in written
                if verdicts.get(name) is None
            ]
        shutil.rmtree(self.scratch, ignore_errors=True)
        return survive, len(modules) + len(written)

    def _noticed(self, file: str, mutant: Mutant, killer: str, killers: set[str]) -> bool:
        """Does the test that caught it do so again, or if it has gone, another of its file?"""
        files = {name.partition("::")[0] for name in killers if name.startswith("tests/")}
        here = [name for name in sorted(files) if (self.plan.root / name).is_file()]
        chosen = [killer] if killer.startswith("tests/") else here
        for asked in (chosen, [name for name in here if killer.startswith(name)] or here):
            with contextlib.suppress(ValueError):
                if self._copy.judge(file, mutant, asked) is not None:
                    return True
        return False

    @cached_property
    def _copy(self) -> tests.Judge:
        """A copy of the repository, without knowledge of what runs what."""
        return tests.Judge(tests.copy(self.plan.root, self.scratch / "copy"))

    def _verdicts(self, file: str, names: set[str]) -> dict[str, str | None]:
        found: dict[str, str | None] = {}

        def record(_: object, mutant: Mutant, killer: str | None) -> None:
            found[identity(file, mutant)] = killer

        cells = self.plan.cells(file)
        chapters.judge(file, cells, lambda _, m: identity(file, m) in names, record, self.deadline)
        return found
