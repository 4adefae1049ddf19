"""Code folds away: a cell that checks becomes a line of evidence, a cell that prepares a title.
So does what is long and technical in a proof, a `{dropdown}` in it.

The folds are ``<details>``: they open by mouse and keyboard, without a script. ``reading.js`` adds
a switch for all of them. A page that leaves more lines unfolded than it may fails the build.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas import View
from atlas_html import element, fold, html
from claim_domain import evidence_of
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx_proof.nodes import proof_node

from ci import evidence

log = logging.getLogger(__name__)

MOST = 60  # lines of code that a chapter with checks may show unfolded
FEW = 40  # and a page without: those of the first course
SWITCHED = {"fold-code", "fold-checks", "fold-proof"}  # by reading.js
SHOWN = "show-input"  # the tag of a cell that shows nothing and is to be read all the same
SWITCH = (  # of reading.js; in the page from the start, so that nothing below it moves
    '<label class="show-code pst-js-only"><input type="checkbox"> show all code, cards and proofs'
    "</label>"
)
TITLES = {"parameters": "Parameters", "figure": "Code of the figure"}  # by a cell's tag


class FoldCells(SphinxPostTransform):
    """Fold the cells of a page that is about to be written."""

    default_priority = 6  # after myst-nb chose the outputs (4), before references resolve (10)
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Fold, then count what is left."""
        chapter = Path(self.env.docname)
        view = View(self.app, self.env.docname, {})
        records = _records(self.app, chapter.name) if chapter.parent.name == "chapters" else {}
        seen: set[str] = set()  # claims whose evidence began further up
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code":
                _fold(cell, records.get(cell["cell_index"], ()), view, seen)
        for proof in self.document.findall(proof_node):
            for part in list(proof.findall(nodes.container)):
                if part.get("design_component") == "dropdown":
                    _fold_details(part)
        folds = any(SWITCHED & set(part["classes"]) for part in self.document.findall(element))
        if (records or folds) and (title := next(self.document.findall(nodes.title), None)):
            after = title.parent.index(title) + 1
            title.parent.insert(after, nodes.raw("", SWITCH, format="html"))
        lines = sum(map(_lines, _unfolded(self.document)))
        most = MOST if records else FEW
        if chapter.parent.name == "chapters" and lines > most:
            log.warning(
                "%d lines of code are unfolded, at most %d may be: tag a cell hide-input",
                lines,
                most,
                location=self.env.docname,
            )


class UnlinkSummaries(SphinxPostTransform):
    """A summary is itself what one presses: the names of claims in it stay, as words."""

    default_priority = 11  # after references resolved (10)
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Put what a link says in its place."""
        for part in self.document.findall(element):
            if part["tag"] == "summary":
                for link in list(part.findall(nodes.reference)):
                    link.replace_self(link.children)


def _records(app: Sphinx, name: str) -> Mapping[int, Sequence[evidence.Record]]:
    """The records of a chapter, by the number of their cell."""
    return next((c.by_cell for c in evidence_of(app).chapters if c.name == name), {})


def _fold(
    cell: nodes.container, records: Sequence[evidence.Record], view: View, seen: set[str]
) -> None:
    parts = {part.get("nb_element"): part for part in cell.findall(nodes.Element)}
    source, output = parts.get("cell_code_source"), parts.get("cell_code_output")
    if source is None:
        return
    cards = [part for part in (output.children if output else ()) if _is_card(part)]
    if output is not None:
        output.children = [part for part in output.children if part not in cards]
    silent = output is None or not output.children
    tags = cell["cell_metadata"].get("tags", [])
    if records:
        folded = fold(_evidence(records, view, seen), source, *cards, style="checks")
    elif cell.get("hide_mode") or (silent and SHOWN not in tags):
        title = next((TITLES[tag] for tag in tags if tag in TITLES), "Set-up" if silent else "Code")
        count = nodes.Text(f"{title} · {evidence.counted(_lines(source), 'line')}")
        folded = fold([count], source, style="code")
    else:
        return
    cell["hide_mode"] = ""
    cell.children.clear()
    cell += folded
    if output is not None and not silent:
        cell += output


def _fold_details(dropdown: nodes.container) -> None:
    """A dropdown of sphinx-design in a proof becomes a fold like the others."""
    titled = dropdown["has_title"]
    summary = dropdown.children[0].children if titled else [nodes.Text("The details")]
    dropdown.replace_self(fold(summary, *dropdown.children[titled:], style="proof"))


def _evidence(records: Sequence[evidence.Record], view: View, seen: set[str]) -> list[nodes.Node]:
    """One line for each claim that a cell checks."""
    lines: list[nodes.Node] = []
    for name in dict.fromkeys(str(record.get("id")) for record in records):
        own = [record for record in records if str(record.get("id")) == name]
        good = not any(map(evidence.faults, own))
        mark = html("span", nodes.Text("✓ " if good else "✗ "), aria_hidden="true")
        style = "claim-verified" if good else "claim-unverified"
        lines.append(
            html(
                "span",
                html("span", mark, *view.number(name), classes=["fold-claim", style]),
                nodes.Text(f" {evidence.line(own)}"),
                classes=["fold-line"],
                id="" if name in seen else f"evidence-{name}",
            )
        )
        seen.add(name)
    return lines


def _is_card(part: nodes.Node) -> bool:
    raw = part if isinstance(part, nodes.raw) else next(iter(part.findall(nodes.raw)), None)
    return raw is not None and "zotk-card" in raw.astext()


def _unfolded(document: nodes.document) -> Iterator[nodes.literal_block]:
    folded = {
        id(block)
        for part in document.findall(nodes.Element)
        if "fold" in part.get("classes", []) or "dropdown" in part.get("classes", [])
        for block in part.findall(nodes.literal_block)
    }
    for block in document.findall(nodes.literal_block):
        if "python" in block.get("language", "") and id(block) not in folded:
            yield block


def _lines(part: nodes.Node) -> int:
    return sum(bool(line.strip()) for line in part.astext().splitlines())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transforms."""
    app.add_post_transform(FoldCells)
    app.add_post_transform(UnlinkSummaries)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
