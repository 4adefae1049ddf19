"""What is shown of `make mutants`: shares by module and chapter, and each survivor."""

from collections.abc import Sequence

from atlas_html import Cell, code, html, table, text
from docutils import nodes

from ci.chapters import ROOT
from ci.mutants.report import CODE, Row, Survivor, content, load, total


def mutant_tables(report: dict[str, object] | None) -> list[nodes.Node]:
    """Tables of a report; a sentence where there is none."""
    if report is None:
        return [nodes.paragraph("", "No report is on record yet: `make mutants` writes one.")]
    rows: list[Row] = report["rows"]  # type: ignore[assignment]
    modules = [row for row in rows if row.file.startswith(CODE) and row.mutants]
    chapters = [row for row in rows if not row.file.startswith(CODE) and row.mutants]
    when = f"Last run: {report['date']}. {_since([*modules, *chapters])}"
    found: list[nodes.Node] = [nodes.paragraph("", when)]
    head = ("Where", "Faults there are", "Tried", "Caught", "No fault", "Unnoticed", "Share caught")
    for caption, listed in (
        ("Formulas, judged by the tests", modules),
        ("Predictions, judged by their chapter", chapters),
    ):
        cells = [_cells(row) for row in [*listed, total(listed, "all")]]
        found.append(table(caption, head, cells))
    left_out: dict[str, str] = report["left_out"]  # type: ignore[assignment]
    words = "; ".join(f"{file}: {because}" for file, because in left_out.items())
    found.append(nodes.paragraph("", f"Left out: {words}."))
    survivors = [(row, survivor) for row in rows for survivor in row.survivors]
    if survivors:
        listing = table(
            "Faults that nothing noticed",
            ("Where", "The line", "With the fault", "Why"),
            [_survivor(row, survivor) for row, survivor in survivors],
        )
        title = html("summary", nodes.Text(f"The {len(survivors)} faults that nothing noticed"))
        found.append(html("details", title, listing))
    return found


def _since(rows: Sequence[Row]) -> str:
    """How many files are no longer what was judged."""
    paths = [(ROOT / row.file, row.digest) for row in rows]
    changed = sum(not path.is_file() or content(path) != digest for path, digest in paths)
    older = sum(row.older for row in rows)
    words = f" Verdicts from before the file changed: {older:,}." if older else ""
    return f"Changed or moved since: {changed} of {len(rows)} files.{words}"


def report_tables() -> list[nodes.Node]:
    """Tables of the committed report."""
    return mutant_tables(load(ROOT))


def _cells(row: Row) -> Sequence[Cell]:
    share = "–" if row.share is None else f"{100 * row.share:.1f} %"
    unnoticed = len(row.survivors) - row.explained
    counts = (row.mutants, row.judged, row.killed, row.explained, unnoticed)
    return [[code(row.file)], *(text(f"{count:,}") for count in counts), text(share)]


def _survivor(row: Row, survivor: Survivor) -> Sequence[Cell]:
    why = survivor.because or ("not explained yet" if survivor.run else "no test runs the line")
    place = f"{row.file}:{survivor.line}"
    return [[code(place)], [code(survivor.was)], [code(survivor.now)], text(why)]
