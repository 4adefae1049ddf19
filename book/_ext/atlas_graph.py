"""A dependency graph as an inline SVG: columns by depth, foundations on the left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_ROW, _BOX, _GAP, _MARGIN, _CHAR, _PAD = 44, 30, 56, 8, 7.4, 14


@dataclass(frozen=True)
class Vertex:
    """A box: its label, the page it links to, a longer description, and a style class."""

    label: str
    href: str
    description: str
    style: str


def depths(uses: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Length of the longest chain of dependencies below each node (edges of cycles are cut)."""
    found: dict[str, int] = {}

    def depth(node: str, above: tuple[str, ...]) -> int:
        if node not in found:
            below = [other for other in uses.get(node, ()) if other not in above]
            found[node] = 1 + max((depth(b, (*above, b)) for b in below), default=-1)
        return found[node]

    for node in uses:
        depth(node, (node,))
    return found


def columns(uses: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Nodes by depth; within a column, near the mean height of what they use."""
    depth = depths(uses)
    levels: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for node, at in depth.items():
        levels[at].append(node)
    height: dict[str, float] = {}
    for level in levels:
        level.sort(key=lambda node: _mean([height[o] for o in uses[node] if o in height]))
        height |= {node: float(row) for row, node in enumerate(level)}
    return levels


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def svg(uses: Mapping[str, Sequence[str]], vertices: Mapping[str, Vertex], title: str) -> str:
    """The drawing. ``uses`` and ``vertices`` have the same keys; all uses are among them."""
    place: dict[str, tuple[float, float, float]] = {}  # left, top, width of each box
    left = float(_MARGIN)
    levels = columns(uses)
    for level in levels:
        width = max(len(vertices[node].label) for node in level) * _CHAR + 2 * _PAD
        for row, node in enumerate(level):
            place[node] = (left, _MARGIN + row * _ROW, width)
        left += width + _GAP
    width = left - _GAP + _MARGIN
    height = 2 * _MARGIN + max(map(len, levels), default=0) * _ROW - (_ROW - _BOX)
    edges = "".join(_edge(place[a], place[b]) for b, below in uses.items() for a in below)
    boxes = "".join(_box(vertices[node], place[node]) for node in place)
    return (
        f'<svg class="claims-graph" role="group" aria-label="{escape(title)}" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'xmlns="http://www.w3.org/2000/svg">{edges}{boxes}</svg>'
    )


def _edge(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x1, y1, x2, y2 = start[0] + start[2], start[1] + _BOX / 2, end[0], end[1] + _BOX / 2
    middle = (x1 + x2) / 2
    curve = f"M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    tip = f"M{x2 - 6:.1f} {y2 - 4:.1f}L{x2:.1f} {y2:.1f}L{x2 - 6:.1f} {y2 + 4:.1f}"
    return f'<path d="{curve}{tip}"/>'


def _box(vertex: Vertex, place: tuple[float, float, float]) -> str:
    left, top, width = place
    return (
        f'<a href="{escape(vertex.href)}" class="{vertex.style}">'
        f"<title>{escape(vertex.description)}</title>"
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BOX}" rx="6"/>'
        f'<text x="{left + _PAD:.1f}" y="{top + 19.5:.1f}">{escape(vertex.label)}</text></a>'
    )
