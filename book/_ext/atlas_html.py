"""HTML that docutils has no node for, and numbers as readers like them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

Cell = Sequence[nodes.Node]


class element(nodes.General, nodes.Inline, nodes.TextElement):
    """Any HTML element; Sphinx still resolves the references, maths and citations inside."""


def html(
    tag: str, *children: nodes.Node, classes: Sequence[str] = (), id: str = "", **attributes: str
) -> element:
    """An element; underscores in attribute names stand for hyphens."""
    node = element("", "", *children, classes=list(classes), ids=[id] if id else [])
    node["tag"] = tag
    node["attributes"] = {name.replace("_", "-"): value for name, value in attributes.items()}
    return node


def text(words: str) -> Cell:
    """A cell of plain text."""
    return [nodes.Text(words)]


def code(words: str) -> nodes.literal:
    """Inline code."""
    return nodes.literal(words, words)


def joined(cells: Iterable[Cell], glue: str = ", ") -> list[nodes.Node]:
    """Cells in one, with ``glue`` between them."""
    found: list[nodes.Node] = []
    for cell in cells:
        found += [nodes.Text(glue), *cell] if found else cell
    return found


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    facts: Sequence[Mapping[str, str]] = (),
) -> element:
    """A table that scrolls inside its own box; the first cell of a row is its header.

    ``facts`` are attributes of the rows, such as an id for links to it. A cell knows the title of
    its column, which a narrow page shows beside it.
    """
    body = [
        html(
            "tr",
            html("th", *first, scope="row"),
            *(html("td", *cell, data_head=of) for cell, of in zip(rest, head[1:], strict=True)),
            **fact,
        )
        for (first, *rest), fact in zip(rows, chain(facts, repeat({})), strict=False)
    ]
    titles = [html("th", nodes.Text(title), scope="col") for title in head]
    grid = html(
        "table",
        html("caption", nodes.Text(caption)),
        html("thead", html("tr", *titles)),
        html("tbody", *body),
        classes=["table", "claims-table"],
    )
    return scroller(caption, grid)


def scroller(label: str, *children: nodes.Node) -> element:
    """A box that scrolls sideways, also by keyboard, so that the page need not."""
    return html(
        "div", *children, classes=["claims-scroll"], role="region", tabindex="0", aria_label=label
    )


def fold(summary: Sequence[nodes.Node], *parts: nodes.Node, style: str) -> element:
    """What opens by mouse and keyboard, without a script; ``summary`` is what one presses."""
    return html("details", html("summary", *summary), *parts, classes=["fold", f"fold-{style}"])


def number(value: float) -> str:
    """Three significant digits: ``0.0123``, ``1230``, ``1.2·10⁻⁵``, ``0``."""
    rounded = f"{value:.2e}"
    mantissa, exponent = rounded.split("e")
    if value == 0 or -3 <= int(exponent) <= 3:
        return f"{float(rounded):g}"
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"10{digits}" if mantissa == "1" else f"{mantissa}·10{digits}"


def seconds(value: float) -> str:
    """A duration: ``0.04 s``, ``12.3 s``, ``2 min 5 s``."""
    if round(value, 1) >= 60:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def _visit(self: HTML5Translator, node: element) -> None:
    self.body.append(self.starttag(node, node["tag"], "", **node["attributes"]))


def _depart(self: HTML5Translator, node: element) -> None:
    self.body.append(f"</{node['tag']}>")


def setup(app: Sphinx) -> None:
    """Register the node."""
    app.add_node(element, html=(_visit, _depart))
