"""What Sphinx remembers about claims between builds, and the evidence it reads at each."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, cast

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains import Domain
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from ci import evidence, sources

_PACKAGES = ("zotk", "torch", "numpy", "papermill", "jupyter-book", "Sphinx", "myst-nb")


@dataclass(frozen=True)
class Placed:
    """A claim where it stands, with its title and source as parsed nodes."""

    claim: evidence.Claim
    docname: str
    line: int
    title: list[nodes.Node]
    source: list[nodes.Node]


class ClaimDomain(Domain):
    """Claims, what is amiss with them, figure labels, generated pages: by document name."""

    name = "claim"
    label = "Claims"
    data_version = 3
    initial_data: dict[str, Any] = {  # noqa: RUF012
        "claims": {},  # docname: [Placed]
        "bare": {},  # docname: [(line, kind, label)]
        "unproved": {},  # docname: [claim id]
        "figures": {},  # docname: [label]
        "generated": {},  # docname: [directive]
        "needs": {},  # docname: [label of a page it needs]
        "seen": {},  # claim id: its evidence at the last build
    }
    _BY_DOCUMENT = ("claims", "bare", "unproved", "figures", "generated", "needs")

    def note(self, key: str, item: Any) -> None:
        """Remember ``item`` under ``key`` for the document being read."""
        self.data[key].setdefault(self.env.docname, []).append(item)

    def clear_doc(self, docname: str) -> None:
        """Forget a document that is about to be read again or is gone."""
        for key in self._BY_DOCUMENT:
            self.data[key].pop(docname, None)

    def merge_domaindata(self, docnames: list[str], otherdata: dict[str, Any]) -> None:
        """Take over what a parallel reader noted about its documents."""
        for key in self._BY_DOCUMENT:
            self.data[key].update({d: v for d, v in otherdata[key].items() if d in docnames})

    def placed(self) -> list[Placed]:
        """All claims in reading order."""
        return [p for docname in self.reading_order() for p in self.data["claims"].get(docname, [])]

    def reading_order(self) -> list[str]:
        """All documents: those of the table of contents in its order, then the others."""
        order: dict[str, None] = {}

        def visit(docname: str) -> None:
            if docname not in order:
                order[docname] = None
                for child in self.env.toctree_includes.get(docname, []):
                    visit(child)

        visit(self.env.config.root_doc)
        return [*order, *sorted(self.env.found_docs - order.keys())]

    def noted(self, key: str) -> Iterator[tuple[str, Any]]:
        """(document, item) for everything noted under ``key``."""
        for docname in sorted(self.data[key]):
            for item in self.data[key][docname]:
                yield docname, item


def domain(env: BuildEnvironment) -> ClaimDomain:
    """The domain, typed."""
    return cast(ClaimDomain, env.get_domain(ClaimDomain.name))


@dataclass(frozen=True)
class Evidence:
    """What the executed notebooks and ``sources.yml`` hold at the start of a build."""

    chapters: list[evidence.Chapter]
    sources: sources.Sources | None
    elsewhere: list[dict[str, Any]]  # checks on other devices: rows of `ci.gpu.elsewhere`
    date: str
    records: list[evidence.Record] = field(init=False)

    def __post_init__(self) -> None:
        found = [record for chapter in self.chapters for record in chapter.records]
        object.__setattr__(self, "records", found)

    def meta(self) -> dict[str, Any]:
        """Versions, device, date and seed; several devices or seeds are listed."""
        return {
            "versions": {"python": python_version(), **dict(_versions())},
            "device": _one_or_all(record.get("device") for record in self.records),
            "date": self.date,
            "seed": _one_or_all(record.get("seed") for record in self.records),
        }

    def digests(self) -> dict[str, str]:
        """The evidence of each claim id as text, to tell whether it changed."""
        ids = {str(record.get("id")) for record in self.records}
        return {
            name: json.dumps([r for r in self.records if str(r.get("id")) == name], sort_keys=True)
            for name in ids
        }


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _one_or_all(values: Iterable[Any]) -> Any:
    distinct = sorted({value for value in values if value is not None}, key=str)
    return distinct[0] if len(distinct) == 1 else distinct


def read_evidence(app: Sphinx) -> None:
    """At ``builder-inited``: fresh evidence for this build, kept with the application."""
    path, others = sources_path(app), Path(app.srcdir, "elsewhere.json")
    try:
        found = Evidence(
            chapters=evidence.read_chapters(Path(app.srcdir, "chapters")),
            sources=sources.load(path) if path.exists() else None,
            elsewhere=json.loads(others.read_text("utf-8")) if others.exists() else [],
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except ValueError as error:
        raise ExtensionError(str(error)) from error
    app.zotk_evidence = found  # type: ignore[attr-defined]


def evidence_of(app: Sphinx) -> Evidence:
    """The evidence read at the start of this build."""
    return cast(Evidence, app.zotk_evidence)  # type: ignore[attr-defined]


def sources_path(app: Sphinx) -> Path:
    """Where the list of source items lies."""
    return Path(app.srcdir, "sources.yml")


def detached(parsed: Iterable[nodes.Node]) -> list[nodes.Node]:
    """Copies without ids or document, to be kept apart from the page they stood on."""
    copies = [node.deepcopy() for node in parsed]
    for copy in copies:
        for node in copy.findall():
            node.document = None  # type: ignore[assignment]
            if isinstance(node, nodes.Element):
                for key in ("ids", "names", "backrefs"):
                    node[key] = []
    return copies


def transplanted(kept: Iterable[nodes.Node], docname: str) -> list[nodes.Node]:
    """Copies of detached nodes whose references resolve from another page."""
    copies = [node.deepcopy() for node in kept]
    for copy in copies:
        for reference in copy.findall(pending_xref):
            reference["refdoc"] = docname
    return copies
