"""Claims: numbered statements whose status is derived from evidence, and the guards around them.

The guards run in ``env-updated``, in every build, whether or not a page changed.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import atlas
from claim_domain import (
    ClaimDomain,
    Placed,
    detached,
    domain,
    evidence_of,
    read_evidence,
    sources_path,
)
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx_proof.directive import ElementDirective
from sphinx_proof.domain import ProofDomain
from sphinx_proof.nodes import proof_node

from ci import evidence, sources

log = logging.getLogger(__name__)

KINDS = ("theorem", "lemma", "proposition", "corollary", "property")  # each with a proof
MEASUREMENT = "measurement"  # of a model or a fit: evidence alone, and a look of its own
TAGS = ("equality", "bound", "rate", "count", "counterexample")
VERDICTS = ("holds", "holds-with-hypothesis", "corrected", "not-supported")
ID = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_WORD = re.compile(r"[\w:+/-]+")


def cite_source(source: str, keys: Collection[str]) -> str:
    """``KEY, place`` | ``ours`` | ``folklore, KEY`` as MyST, bibliography keys as citations.

    More keys and words may follow. Raises ValueError when the source starts otherwise, when no
    key tells the folklore, or when no word says where in the cited work.
    """
    first, *rest = _WORD.findall(source)
    known = [word for word in (first, *rest) if word in keys]
    if first == "folklore" and not known:
        raise ValueError(f"source {source!r}: folklore needs a bibliography key that tells it")
    if first not in (*keys, "ours", "folklore"):
        raise ValueError(
            f"source {source!r} starts with neither a bibliography key, 'ours' nor 'folklore'"
        )
    if first in keys and not [word for word in rest if word not in (*keys, "and")]:
        raise ValueError(f"source {source!r} does not say where in {first}")
    return _WORD.sub(lambda m: f"{{cite:t}}`{m[0]}`" if m[0] in keys else m[0], source)


class ClaimDirective(ElementDirective):
    """``{claim} permanent.id Title``: a numbered statement with source, tag and verdict."""

    required_arguments = 1
    optional_arguments = 1
    option_spec = {  # noqa: RUF012
        "kind": lambda text: directives.choice(text, (*KINDS, MEASUREMENT)),
        "source": directives.unchanged_required,
        "tag": lambda text: directives.choice(text, TAGS),
        "verdict": lambda text: directives.choice(text, VERDICTS),
        "uses": directives.unchanged,
        "class": directives.class_option,
    }

    def run(self) -> list[nodes.Node]:
        """The box of sphinx-proof, with a foot line; the claim is noted in the environment."""
        claim = self._claim()
        keys = self.env.get_domain("cite").bibdata.data.entries.keys()
        try:
            source = cite_source(claim.source, keys)
        except ValueError as error:
            raise self.error(str(error)) from error
        self.arguments = [claim.title]
        self.options["label"] = claim.id
        box = self._box(claim)
        box["claim"] = claim.id
        source_nodes, messages = self.state.inline_text(source, self.lineno)
        title_nodes, _ = self.state.inline_text(claim.title, self.lineno)
        placed = Placed(
            claim, self.env.docname, self.lineno, detached(title_nodes), detached(source_nodes)
        )
        domain(self.env).note("claims", placed)
        cast(nodes.Element, box[-1]).append(_foot(claim, source_nodes))
        return [box, *messages]

    def _box(self, claim: evidence.Claim) -> nodes.Element:
        # sphinx-proof knows no measurements: a property under another name
        shown = "property" if claim.kind == MEASUREMENT else claim.kind
        self.name = f"prf:{shown}"
        (box,) = super().run()
        box["realtype"] = self.env.proof_list[claim.id]["realtype"] = claim.kind
        box["classes"][box["classes"].index(shown)] = claim.kind
        return box

    def _claim(self) -> evidence.Claim:
        name, *title = self.arguments
        if not ID.fullmatch(name):
            raise self.error(f"claim id {name!r}: words of a-z and 0-9 joined by '.' or '-' needed")
        if not title:
            raise self.error(f"claim {name!r} has no title")
        for option in ("source", "tag", "verdict"):
            if option not in self.options:
                raise self.error(f"claim {name!r} needs the option :{option}:")
        return evidence.Claim(
            id=name,
            title=" ".join(title[0].split()),
            kind=self.options.get("kind", "theorem"),
            source=self.options["source"],
            tag=self.options["tag"],
            verdict=self.options["verdict"],
            uses=tuple(re.findall(r"[^\s,]+", self.options.get("uses", ""))),
            chapter=Path(self.env.docname).name,
        )


def _foot(claim: evidence.Claim, source: list[nodes.Node]) -> nodes.Node:
    foot = nodes.paragraph(classes=["claim-foot"])
    foot += nodes.inline("", "Source: ", *source, classes=["claim-source"])
    foot += nodes.Text(" · ")
    foot += nodes.inline("", claim.tag, classes=["claim-tag"])
    foot += nodes.Text(" · ")
    foot += nodes.inline("", claim.verdict, classes=["claim-verdict"])
    foot += nodes.Text(" · ")
    foot += atlas.status_slot(claim=claim.id)
    foot += atlas.links_slot(claim=claim.id)
    return foot


class MergedProofDomain(ProofDomain):
    """The domain of sphinx-proof, which keeps nothing that parallel readers need to merge."""

    def merge_domaindata(self, docnames: list[str], otherdata: dict[str, Any]) -> None:
        """Merge nothing: sphinx-proof itself merges its list of boxes, kept elsewhere."""


class TidyProofs(SphinxTransform):
    """Unique ids for the boxes of sphinx-proof.

    Noted are theorems outside claims, claims that no proof follows, and figures.
    """

    default_priority = 870  # names and labels are settled; the doctree is not yet stored

    def apply(self, **kwargs: Any) -> None:
        """Walk the page once."""
        notes = domain(self.env)
        for box in self.document.findall(nodes.Element):
            if not isinstance(box, nodes.Admonition) or "proof" not in box["classes"]:
                continue
            if "proof" in box["ids"]:
                box["ids"].remove("proof")  # the same on every proof
                box["classes"].append("proof-text")
            for part in box.children:
                if isinstance(part, nodes.section):  # "proof-content", on every box
                    part["ids"] = [f"{box['label']}-content"]
            if box.get("realtype") in KINDS and "claim" not in box:
                notes.note("bare", (box.line, box["realtype"], box["label"]))
        for part in self.document.findall(nodes.section):  # sphinx-exercise does the same
            if part["ids"] in (["exercise-content"], ["solution-content"]):
                part["ids"] = [f"{part.parent['label']}-content"]
        for name in _unproved(self.document):
            notes.note("unproved", name)
        for figure in self.document.findall(nodes.figure):
            for name in figure["names"]:
                notes.note("figures", name)


def _unproved(document: nodes.document) -> Iterator[str]:
    """Claims, measurements apart, without a proof before the next claim or the page's end."""
    waiting = ""
    for part in document.findall(nodes.Element):
        if isinstance(part, proof_node):
            waiting = ""
        elif "claim" in part and isinstance(part, nodes.Admonition):
            if waiting:
                yield waiting
            waiting = "" if part["realtype"] == MEASUREMENT else part["claim"]
    if waiting:
        yield waiting


def one_counter(app: Sphinx, config: Config) -> None:
    """At ``config-inited``: number all kinds of claims by the counter of theorems."""
    config.prf_realtyp_to_countertyp = {
        **config.prf_realtyp_to_countertyp,
        **dict.fromkeys(KINDS[1:], "theorem"),
    }


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """At ``env-get-outdated``: pages whose evidence changed; all, after a build that failed.

    Sphinx repeats no warning about a page it does not read again, so an unclean build leaves
    a mark and the next one starts over.
    """
    notes, now = domain(env), evidence_of(app).digests()
    before = notes.data["seen"]
    notes.data["seen"] = now
    mark = _unclean(app)
    if mark.exists():
        return sorted(env.found_docs)
    mark.touch()
    return {
        docname
        for docname, placed in notes.noted("claims")
        if before.get(placed.claim.id) != now.get(placed.claim.id)
    }


def _unclean(app: Sphinx) -> Path:
    return Path(app.doctreedir, "unclean")


def guard(app: Sphinx, env: BuildEnvironment) -> Iterable[str]:
    """At ``env-updated``, in every build: warn of each problem; rewrite the generated pages."""
    notes, found = domain(env), evidence_of(app)
    placed = notes.placed()
    where = {p.claim.id: (p.docname, p.line) for p in placed}
    decided = {e.decided_by for e in sources.errata(sources.readable(found.sources or {}))}
    problems = evidence.judge([p.claim for p in placed], found.records)
    for problem in [*problems, *evidence.unlisted(found.records, decided)]:
        log.warning("%s", problem.text, location=where.get(problem.claim))
    for _, name in notes.noted("unproved"):
        log.warning("claim %r has no proof", name, location=where[name])
    for docname, (line, kind, label) in notes.noted("bare"):
        log.warning("%s %r is not a {claim}", kind, label, location=(docname, line))
    for text in _holes(app, notes, set(where)):
        log.warning("%s", text)
    maths = env.get_domain("math")
    for docname in notes.data["generated"]:
        maths.data["has_equations"][docname] = True  # titles and sources may hold some
    return list(notes.data["generated"])


def _holes(app: Sphinx, notes: ClaimDomain, claims: set[str]) -> list[str]:
    listed = evidence_of(app).sources
    if listed is None:
        return [f"{sources_path(app).name} is missing"]
    figures = {label for _, label in notes.noted("figures")}
    chapters = {Path(d).name for d in notes.env.found_docs if Path(d).parent.name == "chapters"}
    return sources.audit(listed, claims, figures, chapters)


def finish(app: Sphinx, error: Exception | None) -> None:
    """At ``build-finished``: write ``claims.json``; lift the mark of an unclean build."""
    if error is not None:
        return
    if not app._warncount:
        _unclean(app).unlink(missing_ok=True)
    if app.builder.format != "html":
        return
    found = evidence_of(app)
    claims = [placed.claim for placed in domain(app.env).placed()]
    content = evidence.as_json(claims, found.records, found.meta())
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    Path(app.outdir, "claims.json").write_text(text + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives, the guards and the style sheet ``claims.css``."""
    app.setup_extension("sphinx_proof")
    app.setup_extension("sphinxcontrib.bibtex")
    app.add_domain(MergedProofDomain, override=True)
    app.add_domain(ClaimDomain)
    app.add_directive("claim", ClaimDirective)
    app.add_transform(TidyProofs)
    atlas.setup(app)
    app.add_css_file("claims.css")
    app.connect("config-inited", one_counter)
    app.connect("builder-inited", read_evidence)
    app.connect("env-get-outdated", outdated)
    app.connect("env-updated", guard)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
