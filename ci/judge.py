"""Why a chapter's executed notebook cannot be accepted, each reason with its place in the source.

A notebook comes from papermill, with the line of the chapter in each code cell's metadata. The
report comes from `ci.watch`, one entry for each code cell that ran, in their order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ci.evidence import MIME, faults, meant

LINE = "line"  # metadata of a code cell: where its code begins in the chapter
REPORT, SEED = "ZOTK_WATCH_REPORT", "ZOTK_WATCH_SEED"  # the watcher's environment
ANSI = re.compile(r"\x1b\[[0-9;]*m")
FRAME = re.compile(r"Cell In\[(\d+)\], line (\d+)")
CLAIM = re.compile(r"^[`:]{3,}\{claim\}[ \t]+(\S+)", re.MULTILINE)
SHOWN_LINES = 40

Report = Sequence[Mapping[str, Any]]


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def tail(text: str) -> str:
    """The last lines, indented, without terminal colours."""
    lines = ANSI.sub("", text).rstrip().splitlines()
    cut = ["…"] if len(lines) > SHOWN_LINES else []
    return "\n".join("    " + line for line in [*cut, *lines[-SHOWN_LINES:]])


def last(log: str) -> str:
    """The end of papermill's log: what the kernel said, and of papermill's traceback its reason."""
    before, trace, after = log.rpartition("Traceback (most recent call last):\n")
    if not trace:
        return tail(log)
    return tail(before + after.rstrip().rpartition("\n")[2])


def place(chapter: str, cell: Mapping[str, Any], line: int = 1) -> str:
    """Where a line of a cell (its first: 1) stands: `chapters/NAME.md:LINE`."""
    start = cell["metadata"].get(LINE)
    if start is None:  # of values put in from outside
        return f"chapters/{chapter}.md (injected parameters)"
    return f"chapters/{chapter}.md:{start + line - 1}"


def evidence(notebook: Any) -> list[dict[str, Any]]:
    """The records of the checks in an executed notebook."""
    return [record for cell in code_cells(notebook) for record in records(cell)]


def records(cell: Any) -> list[dict[str, Any]]:
    bundles = [output.get("data", {}) for output in cell.outputs]
    return [bundle[MIME] for bundle in bundles if MIME in bundle]


def judge(
    chapter: str,
    profile: str,
    notebook: Any,
    report: Report | None,
    *,
    status: int = 0,
    log: str = "",
    defaults: bool = True,
) -> str | None:
    """Why a run cannot be accepted, None for a good one; `status` and `log` are papermill's.

    With values of its parameters that are not the `defaults`, a figure may have no need of its
    excuses.
    """
    wrong = raised(chapter, notebook)
    if wrong is None and status:
        wrong = (
            f"papermill ended with status {status}{reached(chapter, notebook, report)}\n{last(log)}"
        )
    if wrong is None and (rest := left_out(notebook)):
        wrong = f"{place(chapter, rest[0])}: was not executed\n" + tail(rest[0].source)
    if wrong is None and not agree(notebook, report):
        wrong = (
            f"the watcher in its kernel (ci/watch.py) did not see the cells that ran\n{last(log)}"
        )
    if wrong is not None:
        return wrong
    assert report is not None
    found = [*unsound(chapter, notebook), *unclaimed(chapter, notebook)]
    found += [*stale(chapter, notebook, report), *watched(chapter, notebook, report, defaults)]
    if profile == "checks" and claims(notebook) and not evidence(notebook):
        found.append(f"chapters/{chapter}.md: it states claims, and there is not one check in it")
    return "\n".join(found) or None


# ---- did it run? ----


def raised(chapter: str, notebook: Any) -> str | None:
    """The first error or output to stderr, its traceback in lines of the chapter."""
    cells = code_cells(notebook)
    numbered = {cell.execution_count: cell for cell in cells}

    def frame(match: re.Match[str]) -> str:
        cell = numbered.get(int(match[1]))
        return match[0] if cell is None else place(chapter, cell, int(match[2]))

    for cell in cells:
        for output in cell.outputs:
            if output.output_type == "error":
                trace = FRAME.sub(frame, ANSI.sub("", "\n".join(output.traceback)))
                first = re.search(rf"chapters/{re.escape(chapter)}\.md:\d+", trace)
                where = first[0] if first else place(chapter, cell)
                return f"{where}: raised {output.ename}\n" + tail(trace)
            if output.output_type == "stream" and output.name == "stderr":
                return f"{place(chapter, cell)}: wrote to stderr\n" + tail(output.text)
    return None


def left_out(notebook: Any) -> list[Any]:
    return [cell for cell in code_cells(notebook) if cell.execution_count is None]


def reached(chapter: str, notebook: Any, report: Report | None) -> str:
    """Where a run that ended without an error in a cell had come to; the watcher counts cells."""
    rest = code_cells(notebook)[len(report or []) :]
    return f" before {place(chapter, rest[0])} was done" if rest else ""


def agree(notebook: Any, report: Report | None) -> bool:
    """Does the report speak of the cells of the notebook?"""
    sources = [cell.source for cell in code_cells(notebook)]
    return report is not None and [entry["source"] for entry in report] == sources


# ---- records ----


def claims(notebook: Any) -> list[str]:
    """The ids of the claim boxes of a chapter."""
    texts = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [name for text in texts for name in CLAIM.findall(text)]


def unsound(chapter: str, notebook: Any) -> Iterator[str]:
    """Records that are no evidence."""
    for cell in code_cells(notebook):
        for record in records(cell):
            label = " ".join(filter(None, [str(record.get("id")), record.get("what")]))
            for fault in faults(record):
                yield f"{place(chapter, cell)}: the check of {label} {fault}"


def unclaimed(chapter: str, notebook: Any) -> Iterator[str]:
    """Checks of claims that no box of the chapter states."""
    stated = claims(notebook)
    for cell in code_cells(notebook):
        for name in dict.fromkeys(str(record.get("id")) for record in records(cell)):
            if name not in stated:
                like = meant(name, stated)
                yield f"{place(chapter, cell)}: no claim box here states {name!r}{like}"


# ---- what the watcher saw ----


def stale(chapter: str, notebook: Any, report: Report) -> Iterator[str]:
    """Names that a figure reads and a check has bound anew since the chapter made them.

    Only where the value then is of another kind or shape: a figure of what a check measured is
    fine, one that takes a check's leftovers for the chapter's own is not.
    """
    cells = code_cells(notebook)
    own: dict[str, tuple[Any, str]] = {}  # last bound by a cell without checks
    check: dict[str, tuple[Any, str]] = {}  # bound by a check since
    for cell, entry in zip(cells, report, strict=True):
        if "figure" in cell.metadata.get("tags", []):
            for name in entry["reads"]:
                if name in own and name in check and own[name][1] != check[name][1]:
                    (first, had), (then, has) = own[name], check[name]
                    yield (
                        f"{place(chapter, cell)}: this figure reads `{name}` ({had}, of"
                        f" {place(chapter, first)}), but the check at {place(chapter, then)} has"
                        f" bound it anew ({has}); give the check's a name of its own"
                    )
        for name, kind in entry["binds"].items():
            if records(cell):
                check[name] = (cell, kind)
            else:
                own[name] = (cell, kind)
                check.pop(name, None)


def watched(chapter: str, notebook: Any, report: Report, defaults: bool) -> Iterator[str]:
    """Faults of figures, and cells that draw from a global random state or set it."""
    for cell, entry in zip(code_cells(notebook), report, strict=True):
        here = place(chapter, cell)
        for text in [*entry["wrong"], *(entry["idle"] if defaults else [])]:
            yield f"{here}: {text}"
        for name in entry["moved"]:
            yield (
                f"{here}: the global random state of {name} is not as before; draw from"
                " `check.generator()` or a generator of your own"
            )
