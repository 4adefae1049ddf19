"""``{prerequisites}``: the chapters in the order of the book, arcs from each to those that need it.

What a chapter needs are the chapters that its paragraph "**You need** …" refers to. One that comes
later in the book is no prerequisite, and what follows from other arcs is not drawn. Pages without a
number, such as those of the first course, are read in their order and are not listed.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape

from atlas_html import Cell, html
from claim_domain import domain
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_WIDTH, _ROW = 100, 40  # of the drawing, in its own units: a page stretches it to its list


def note(app: Sphinx, document: nodes.document) -> None:
    """At ``doctree-read``: remember the labels that a page says it needs."""
    for paragraph in document.findall(nodes.paragraph):
        if paragraph.astext().startswith("You need") and next(
            paragraph.findall(nodes.strong), None
        ):
            for reference in paragraph.findall(addnodes.pending_xref):
                if reference["reftype"] == "ref":
                    domain(app.env).note("needs", reference["reftarget"])


def needs(env: BuildEnvironment) -> dict[str, list[str]]:
    """For each numbered chapter, in the order of the book, the chapters that it needs at once."""
    labels = env.get_domain("std").data["anonlabels"]
    noted = domain(env).data["needs"]
    order = [
        page
        for page in domain(env).reading_order()
        if page.startswith("chapters/") and _number(env, page)
    ]
    return direct(
        {page: [labels[x][0] for x in noted.get(page, []) if x in labels] for page in order}
    )


def direct(stated: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What is needed from earlier on, without what another need brings along.

    ``stated`` has its keys in the order of the book.
    """
    found: dict[str, list[str]] = {}
    all_of: dict[str, set[str]] = {}  # with the needs of needs
    for page, wanted in stated.items():
        earlier = [other for other in dict.fromkeys(wanted) if other in found]
        brought = set().union(*(all_of[other] for other in earlier))
        found[page] = [other for other in found if other in earlier and other not in brought]
        all_of[page] = brought | set(earlier)
    return found


def _number(env: BuildEnvironment, page: str) -> str:
    """The printed number of a page, "" for one without."""
    return ".".join(map(str, env.toc_secnumbers.get(page, {}).get("", ())))


def arcs(found: Mapping[str, Sequence[str]]) -> str:
    """The drawing beside a list of the pages, a row each: hidden from those who hear the list."""
    row = {page: (number + 0.5) * _ROW for number, page in enumerate(found)}
    paths = []
    for page, wanted in found.items():
        for other in wanted:
            start, end = row[other], row[page]
            depth = _WIDTH * (1 - ((end - start) / _ROW / max(len(row), 2)) ** 0.5)
            curve = f"C{depth:.0f} {start} {depth:.0f} {end} {_WIDTH} {end}"
            paths.append(f'<path d="M{_WIDTH} {start}{curve}"/>')
    dots = "".join(f'<path class="dot" d="M{_WIDTH} {y}h0"/>' for y in row.values())
    size = f"0 0 {_WIDTH + 4} {len(row) * _ROW}"
    return (
        f'<svg aria-hidden="true" viewBox="{escape(size)}" preserveAspectRatio="none" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(paths)}{dots}</svg>'
    )


def listed(env: BuildEnvironment, title: Callable[[str], Cell]) -> list[nodes.Node]:
    """The content of ``{prerequisites}``; ``title`` makes a link to a page."""
    found = needs(env)

    rows = []
    for page, wanted in found.items():
        after = " after " + ", ".join(_number(env, each) for each in wanted) if wanted else ""
        words = html("span", nodes.Text(after), classes=["after"])
        rows.append(
            html("li", html("span", nodes.Text(f"{_number(env, page)} "), *title(page), words))
        )
    drawing = nodes.raw("", arcs(found), format="html")
    return [html("div", drawing, html("ol", *rows), classes=["prerequisites"])]


def setup(app: Sphinx) -> None:
    """Register what reads."""
    app.connect("doctree-read", note)
