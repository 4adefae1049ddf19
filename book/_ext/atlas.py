"""Generated pages: ``{atlas}``, ``{errata}``, ``{statistics}``,
``{evidence-summary}``, ``{prerequisites}``.

A directive leaves a slot; slots are filled when a page is written, when all claims are known.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import prerequisites
from atlas_graph import Vertex, svg
from atlas_html import Cell, code, html, joined, number, scroller, seconds, table, text
from atlas_html import setup as setup_html
from atlas_mutants import report_tables
from claim_domain import Placed, detached, domain, evidence_of, sources_path, transplanted
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from ci import evidence, sources

log = logging.getLogger(__name__)

SUSPECT = ("corrected", "not-supported")  # verdicts that the errata list


class slot(nodes.General, nodes.Element):
    """A place for generated content; children: the texts of sources.yml, parsed, by ``key``."""


class status_slot(nodes.Inline, nodes.TextElement):
    """A place for the status of the claim named in ``claim``."""


class links_slot(nodes.Inline, nodes.TextElement):
    """A place for the links of the claim named in ``claim``: to itself, evidence, atlas row."""


class seconds_slot(nodes.Inline, nodes.TextElement):
    """A place for the seconds that ``chapter`` took."""


class View:
    """What generated content can see: claims, evidence, sources, and the page it is for."""

    def __init__(self, app: Sphinx, docname: str, texts: Mapping[str, nodes.Element]) -> None:
        self.app = app
        self.docname = docname
        self.placed = domain(app.env).placed()
        self.claims = [placed.claim for placed in self.placed]
        self.by_id = {claim.id: claim for claim in self.claims}
        self.evidence = evidence_of(app)
        self.records = self.evidence.records
        self.sources = sources.readable(self.evidence.sources or {})
        self._texts = texts

    def said(self, *key: object) -> Cell:
        """A text of sources.yml, by source, item, field and place."""
        return detached(self._texts["/".join(map(str, key))].children)

    def number(self, claim: str) -> Cell:
        """Kind and number of a claim, linked to it."""
        return [self._reference("prf", "ref", claim)] if claim in self.by_id else [code(claim)]

    def title(self, placed: Placed) -> Cell:
        """The title of a claim."""
        return transplanted(placed.title, self.docname)

    def source(self, placed: Placed) -> Cell:
        """The source of a claim, cited."""
        return transplanted(placed.source, self.docname)

    def chapter(self, docname: str) -> Cell:
        """The title of a page, linked to it."""
        return [self._reference("std", "doc", f"/{docname}")]

    def figure(self, label: str) -> Cell:
        """The number of a figure, linked to it."""
        return [self._reference("std", "numref", label)]

    def run_time(self, name: str) -> str:
        """The whole seconds that a chapter's last run took."""
        for chapter in self.evidence.chapters:
            if chapter.name == name and chapter.seconds is not None:
                return f"{chapter.seconds:.0f}"
        like = evidence.meant(name, [chapter.name for chapter in self.evidence.chapters])
        log.warning("chapter-seconds: no timed run of %r%s", name, like, location=self.docname)
        return "?"

    def href(self, placed: Placed) -> str:
        """The address of a claim, relative to this page."""
        page = self.app.builder.get_relative_uri(self.docname, placed.docname)
        return f"{page}#{placed.claim.id}"

    def links(self, name: str) -> nodes.Node:
        """Links of a claim on its own page."""
        links = [("#", f"#{name}", "Link to this claim")]
        if any(record.get("id") == name for record in self.records):
            links.append(("evidence", f"#evidence-{name}", "Code and cards of its checks"))
        if "atlas" in self.app.env.found_docs:
            atlas = self.app.builder.get_relative_uri(self.docname, "atlas")
            links.append(("atlas", f"{atlas}#row-{name}", "Its row in the atlas"))
        parts: list[nodes.Node] = []
        for words, href, title in links:
            parts += [nodes.Text(" · "), html("a", nodes.Text(words), href=href, title=title)]
        return html("span", *parts, classes=["claim-links"])

    def status(self, claim: evidence.Claim) -> nodes.Node:
        """The derived status: a mark, words and a colour."""
        good = evidence.verified(claim, self.records)
        words = evidence.status(claim, self.records)
        mark = html("span", nodes.Text("✓ " if good else "✗ "), aria_hidden="true")
        return nodes.inline("", "", mark, nodes.Text(words), classes=["claim-status", _style(good)])

    def _reference(self, refdomain: str, kind: str, target: str) -> nodes.Node:
        return addnodes.pending_xref(
            target,
            nodes.inline(target, target, classes=["xref", refdomain]),
            refdomain=refdomain,
            reftype=kind,
            reftarget=target,
            refexplicit=False,
            refwarn=True,
            refdoc=self.docname,
        )


def _style(good: bool) -> str:
    return "claim-verified" if good else "claim-unverified"


def _below(*children: nodes.Node) -> nodes.Node:
    return html("span", *children, classes=["claims-below"])


def claims_table(view: View) -> list[nodes.Node]:
    """``{atlas} claims``: one row for each claim."""
    total = evidence.tally(view.claims, view.records)
    rows = [
        (
            [
                *view.number(placed.claim.id),
                _below(nodes.strong("", "", *view.title(placed))),
                _below(code(placed.claim.id)),
            ],
            [view.status(placed.claim)],
            [nodes.Text(placed.claim.tag), _below(nodes.Text(placed.claim.verdict))],
            view.source(placed),
            view.chapter(placed.docname),
            joined(view.number(other) for other in placed.claim.uses) or text("–"),
        )
        for placed in view.placed
    ]
    head = ("Claim", "Status", "Tag and verdict", "Source", "Chapter", "Rests on")
    counts = nodes.paragraph(
        "",
        f"{total.verified} of {evidence.counted(total.claims, 'claim')} verified, "
        f"by {evidence.counted(total.checks, 'check')} "
        f"that reject {evidence.counted(total.rejected, 'twin')}.",
    )
    facts = [
        {
            "id": f"row-{placed.claim.id}",
            "data_tag": placed.claim.tag,
            "data_verdict": placed.claim.verdict,
            "data_source": re.split(r"[,; ]", placed.claim.source)[0],
            "data_chapter": placed.claim.chapter,
        }
        for placed in view.placed
    ]
    return [counts, table("All claims, in reading order", head, rows, facts)]


def claims_graph(view: View) -> list[nodes.Node]:
    """``{atlas} graph``: what rests on what."""
    used = {other for claim in view.claims for other in claim.uses} & view.by_id.keys()
    joint = [p for p in view.placed if p.claim.id in used or used.intersection(p.claim.uses)]
    if not joint:
        return [nodes.paragraph("", "No claim rests on another.")]
    uses = {p.claim.id: [o for o in p.claim.uses if o in view.by_id] for p in joint}
    vertices = {}
    for placed in joint:
        claim, good = placed.claim, evidence.verified(placed.claim, view.records)
        vertices[claim.id] = Vertex(
            label=f"{'✓' if good else '✗'} {claim.id}",
            href=view.href(placed),
            description=f"{claim.title}; {evidence.status(claim, view.records)}",
            style=_style(good),
        )
    title = "Which claims rest on which: foundations on the left"
    found: list[nodes.Node] = [
        scroller(title, nodes.raw("", svg(uses, vertices, title), format="html"))
    ]
    alone = len(view.claims) - len(joint)
    if alone:
        words = f"Not drawn: {evidence.counted(alone, 'claim')} with no such link."
        found.append(nodes.paragraph("", words))
    return found


def coverage_tables(view: View) -> list[nodes.Node]:
    """``{atlas} sources``: where each item of each source went."""
    found: list[nodes.Node] = []
    for name, source in view.sources.items():
        counts = sources.coverage(source["items"])
        words = ", ".join(f"{count} {fate}" for fate, count in counts.items())
        found.append(nodes.paragraph("", "", *view.said(name, "cited"), nodes.Text(f" — {words}.")))
        rows = [
            ([code(str(item))], view.said(name, item, "what"), _fate(view, name, item, entry))
            for item, entry in source["items"].items()
        ]
        found.append(table(source["title"], ("Item", "What it says", "Where it went"), rows))
    return found


def _fate(view: View, name: str, item: str, entry: Mapping[str, Any]) -> Cell:
    if "planned" in entry:
        return [nodes.Text("planned: "), code(entry["planned"])]
    if "because" in entry:
        return [nodes.Text("left out: "), *view.said(name, item, "because")]
    claims = [_judged(view, claim) for claim in entry.get("claims", [])]
    return joined([*claims, *(view.figure(label) for label in entry.get("figures", []))])


def _judged(view: View, name: str) -> Cell:
    if name not in view.by_id:
        return [code(name)]
    return [*view.number(name), nodes.Text(" ("), view.status(view.by_id[name]), nodes.Text(")")]


def errata_page(view: View) -> list[nodes.Node]:
    """``{errata}``: what sources print and we hold otherwise, then claims that say so."""
    listed = sources.errata(view.sources)
    found: list[nodes.Node] = []
    if listed:
        rows = [
            (
                [*view.said(e.source, "cited"), _below(*view.said(e.source, e.item, "what"))],
                view.said(e.source, e.item, "prints", e.place),
                view.said(e.source, e.item, "ours", e.place),
                _judged(view, e.decided_by) if e.decided_by else text("not decided yet"),
            )
            for e in listed
        ]
        head = ("Where", "The source says, in our words", "We hold", "Decided by")
        found.append(table("Printed statements that differ from ours", head, rows))
    suspects = [p for p in view.placed if p.claim.verdict in SUSPECT]
    if suspects:
        claims = [
            (
                [*view.number(p.claim.id), nodes.Text(" "), *view.title(p)],
                text(p.claim.verdict),
                view.source(p),
                [view.status(p.claim)],
            )
            for p in suspects
        ]
        head = ("Claim", "Verdict on the source", "Source", "Status of our statement")
        found.append(table("Claims that correct a source or find it unsupported", head, claims))
    return found or [nodes.paragraph("", "No source has been found to err so far.")]


def chapter_table(view: View) -> list[nodes.Node]:
    """``{statistics} chapters``: what each chapter took and gave."""
    rows = []
    for chapter in view.evidence.chapters:
        own = [claim for claim in view.claims if claim.chapter == chapter.name]
        docname = f"chapters/{chapter.name}"
        known = docname in view.app.env.found_docs
        rows.append(
            _tally_row(
                view.chapter(docname) if known else [code(chapter.name)],
                seconds(chapter.seconds) if chapter.seconds is not None else "not timed",
                chapter.cells,
                evidence.tally(own, chapter.records),
            )
        )
    spent = sum(c.seconds for c in view.evidence.chapters if c.seconds is not None)
    cells = sum(c.cells for c in view.evidence.chapters)
    total = evidence.tally(view.claims, view.records)
    rows.append(_tally_row(text("All"), seconds(spent), cells, total))
    head = ("Chapter", "Executed in", "Code cells", "Claims", "Checks", "Twins rejected", "α")
    budget = nodes.paragraph(
        "",
        f"All checks together raise a false alarm with probability at most {number(total.alpha)}; "
        f"the build allows {number(evidence.ALPHA_BUDGET)}.",
    )
    return [table("Chapters", head, rows), budget]


def _tally_row(first: Cell, time: str, cells: int, t: evidence.Tally) -> list[Cell]:
    twins = f"{t.rejected} of {t.twins}"
    claims = f"{t.verified} of {t.claims}"
    rest = (time, str(cells), claims, str(t.checks), twins, number(t.alpha))
    return [first, *map(text, rest)]


def twins_tables(view: View) -> list[nodes.Node]:
    """``{statistics} twins``: where the evidence is weakest."""
    far = [
        (*_twin_cells(view, margin), text(number(margin.value)))
        for margin in evidence.loosest(view.records)
    ]
    close = [
        (*_twin_cells(view, margin), text(number(margin.value)))
        for margin in evidence.narrowest(view.records)
    ]
    head = ("Check", "Twin", "It predicts", "Measured")
    return [
        table("Loosest checks: the nearest twin, by its distance", (*head, "Distance"), far),
        table("Narrowest rejections", (*head, "z over its critical value"), close),
    ]


def _twin_cells(view: View, margin: evidence.Margin) -> list[Cell]:
    record, twin = margin.record, margin.twin
    label = [nodes.Text(f": {record['what']}")] if record["what"] else []
    return [
        [*view.number(record["id"]), *label],
        text(twin["name"]),
        text(number(twin["predicted"])),
        text(number(twin["measured"])),
    ]


def cost_table(view: View) -> list[nodes.Node]:
    """``{statistics} claims``: what the checks of each claim cost."""
    spent = evidence.seconds_by_claim(view.records)
    rows = []
    for claim in view.claims:
        own = evidence.supporting(claim, view.records)
        t = evidence.tally([claim], own)
        cells = (str(t.checks), str(t.rejected), seconds(spent.get(claim.id, 0)), number(t.alpha))
        rows.append([[*view.number(claim.id), nodes.Text(" "), code(claim.id)], *map(text, cells)])
    head = ("Claim", "Checks", "Twins rejected", "Time to the check", "α")
    return [table("Claims", head, rows)]


def build_table(view: View) -> list[nodes.Node]:
    """``{statistics} build``: versions, device, date, seed."""
    meta = view.evidence.meta()
    facts = {**meta.pop("versions"), **{key: _listed(value) for key, value in meta.items()}}
    rows = [(text(name), text(value)) for name, value in facts.items()]
    return [table("This build", ("What", "Value"), rows)]


def elsewhere_table(view: View) -> list[nodes.Node]:
    """``{statistics} elsewhere``: checks on other devices, which lift no status."""
    rows = []
    for row in view.evidence.elsewhere:
        docname = f"chapters/{row['chapter']}"
        known = docname in view.app.env.found_docs
        checks = f"{row['checks']}, {row['on_device']} of them on its tensors"
        words = "same chapter and library" if row["current"] else "stale: changed since"
        cells = (row["device"], row["date"], checks, str(row["twins"]), words)
        first = view.chapter(docname) if known else [code(row["chapter"])]
        rows.append([first, *map(text, cells)])
    if not rows:
        return [nodes.paragraph("", "No run on another device is on record yet.")]
    head = ("Chapter", "Device", "Date", "Checks", "Twins rejected", "What has changed")
    return [table("Checked on other devices, at paper scale", head, rows)]


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def summary(view: View) -> list[nodes.Node]:
    """``{evidence-summary}``: the numbers of this build in one line."""
    t = evidence.tally(view.claims, view.records)
    day = view.evidence.date.partition("T")[0]
    facts = (
        (f"{t.verified} of {t.claims}", "claims verified"),
        (f"{t.checks:,}", "checks"),
        (f"{t.rejected:,} of {t.twins:,}", "wrong twins rejected"),
        (number(t.alpha), "false-alarm probability, in all"),
        (day, "built and checked"),
    )
    items = [
        html("li", html("strong", nodes.Text(value)), nodes.Text(f" {name}"))
        for value, name in facts
    ]
    return [html("ul", *items, classes=["evidence-summary"])]


PARTS: dict[str, Callable[[View], list[nodes.Node]]] = {
    "atlas claims": claims_table,
    "atlas graph": claims_graph,
    "atlas sources": coverage_tables,
    "errata": errata_page,
    "statistics chapters": chapter_table,
    "statistics claims": cost_table,
    "statistics twins": twins_tables,
    "statistics mutants": lambda view: report_tables(),
    "statistics elsewhere": elsewhere_table,
    "statistics build": build_table,
    "evidence-summary": summary,
    "prerequisites": lambda view: prerequisites.listed(view.app.env, view.chapter),
}


class Generated(SphinxDirective):
    """A slot for each part of a page: all of them, or the one named in the argument."""

    optional_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Leave the slots; parse the texts of sources.yml, which may hold maths and citations."""
        domain(self.env).note("generated", self.name)
        parts = [part for part in PARTS if part.split()[0] == self.name]
        if self.arguments:
            names = [part.removeprefix(f"{self.name} ") for part in parts]
            parts = [f"{self.name} {directives.choice(self.arguments[0], names)}"]
        return [self._slot(part) for part in parts]

    def _slot(self, part: str) -> slot:
        found = slot(part=part)
        if part in ("atlas sources", "errata"):
            self.env.note_dependency(str(sources_path(self.env.app)))
            listed = evidence_of(self.env.app).sources or {}
            for key, words in _texts(sources.readable(listed)):
                parsed, messages = self.state.inline_text(words, self.lineno)
                found += nodes.inline("", "", *parsed, *messages, key=key)
        return found


def _texts(listed: sources.Sources) -> Iterable[tuple[str, str]]:
    for name, source in listed.items():
        yield f"{name}/cited", f"{{cite:t}}`{source['key']}`"
        for item, entry in source["items"].items():
            yield f"{name}/{item}/what", entry["what"]
            if "because" in entry:
                yield f"{name}/{item}/because", entry["because"]
    for e in sources.errata(listed):
        yield f"{e.source}/{e.item}/prints/{e.place}", e.prints
        yield f"{e.source}/{e.item}/ours/{e.place}", e.ours


class FillSlots(SphinxPostTransform):
    """Fill the slots of a page that is about to be written, before references are resolved."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Replace status slots and generated slots."""
        view = View(self.app, self.env.docname, {})
        for mark in list(self.document.findall(status_slot)):
            if claim := view.by_id.get(mark["claim"]):
                mark.replace_self(view.status(claim))
            else:
                like = evidence.meant(mark["claim"], view.by_id)
                log.warning("no claim has the id %r%s", mark["claim"], like, location=mark)
        for links in list(self.document.findall(links_slot)):
            links.replace_self(view.links(links["claim"]))
        for timed in list(self.document.findall(seconds_slot)):
            timed.replace_self(nodes.Text(view.run_time(timed["chapter"])))
        for place in list(self.document.findall(slot)):
            texts = {child["key"]: child for child in place.findall(nodes.inline) if "key" in child}
            view = View(self.app, self.env.docname, texts)
            place.replace_self(PARTS[place["part"]](view))


def chapter_seconds(
    name: str, rawtext: str, words: str, lineno: int, inliner: Any, *_: Any
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """``{chapter-seconds}`CHAPTER```: what its last run took, a number to stand in prose."""
    return [seconds_slot(chapter=words)], []


def claim_status(
    name: str, rawtext: str, words: str, lineno: int, inliner: Any, *_: Any
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """``{status}`ID```: the status of a claim in this build."""
    domain(inliner.document.settings.env).note("generated", name)
    return [status_slot(claim=words)], []


def setup(app: Sphinx) -> None:
    """Register directives and slots."""
    setup_html(app)
    prerequisites.setup(app)
    for name in {part.split()[0] for part in PARTS}:
        app.add_directive(name, Generated)
    app.add_node(slot)
    app.add_node(status_slot)
    app.add_node(links_slot)
    app.add_node(seconds_slot)
    app.add_role("chapter-seconds", chapter_seconds)
    app.add_role("status", claim_status)
    app.add_post_transform(FillSlots)
