"""The graph of claims as it is drawn: boxes apart, edges from box to box, nothing cut off."""

import random
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from atlas_graph import Vertex, columns, depths, svg
from atlas_html import number, seconds

SMALL = {"a": [], "bb": [], "c": ["a", "bb"], "d": ["c", "a"]}


def chance(seed):
    """A random graph without cycles: names of many lengths, edges to earlier ones."""
    draw = random.Random(seed)
    names = [f"{'x' * draw.randint(0, 30)}{i}" for i in range(draw.randint(2, 25))]
    uses = {n: draw.sample(names[:i], draw.randint(0, min(i, 3))) for i, n in enumerate(names)}
    shuffled = list(uses)
    draw.shuffle(shuffled)
    return {name: uses[name] for name in shuffled}


GRAPHS = [SMALL, *map(chance, range(8))]


class Box:
    """A drawn box: its sides, and where its label starts."""

    def __init__(self, link):
        rect, text = link.find("{*}rect"), link.find("{*}text")
        self.left, self.top = float(rect.get("x")), float(rect.get("y"))
        self.width, self.height = float(rect.get("width")), float(rect.get("height"))
        self.right, self.bottom = self.left + self.width, self.top + self.height
        self.middle = (self.top + self.bottom) / 2
        self.label, self.x, self.y = text.text, float(text.get("x")), float(text.get("y"))


class Drawing:
    """What `svg` drew of a graph."""

    def __init__(self, uses):
        vertices = {n: Vertex(n, f"p.html#{n}", f"about {n}", "claim-verified") for n in uses}
        self.root = ElementTree.fromstring(svg(uses, vertices, "Title"))
        self.boxes = {box.label: box for box in map(Box, self.root.findall(".//{*}a"))}
        paths = (path.get("d") for path in self.root.findall(".//{*}path"))
        self.paths = [[float(x) for x in re.findall(r"-?[\d.]+", d)] for d in paths]
        self.size = [float(x) for x in self.root.get("viewBox").split()]


@pytest.fixture(params=range(len(GRAPHS)))
def uses(request):
    return GRAPHS[request.param]


def longest(uses, node):
    """Longest chain below a node, by walking all of them."""
    return max((1 + longest(uses, other) for other in uses[node]), default=0)


def test_depths_are_the_longest_chains(uses):
    assert depths(uses) == {node: longest(uses, node) for node in uses}


def test_a_cycle_ends():
    assert set(depths({"a": ["b"], "b": ["a"]}).values()) == {0, 1}
    assert depths({"a": ["a"]}) == {"a": 0}


def test_columns_hold_the_nodes_by_depth(uses):
    levels = columns(uses)
    assert sorted(node for level in levels for node in level) == sorted(uses)
    for at, level in enumerate(levels):
        assert {longest(uses, node) for node in level} == {at}


def test_a_column_follows_the_mean_height_of_what_it_uses(uses):
    row = {node: at for level in columns(uses) for at, node in enumerate(level)}
    for level in columns(uses)[1:]:
        means = [sum(row[o] for o in uses[n]) / len(uses[n]) for n in level]
        assert means == sorted(means)


def test_crossed_uses_are_uncrossed():
    levels = columns({"a": [], "b": [], "c": [], "u": ["c"], "v": ["a", "b"], "w": ["a"]})
    assert levels == [["a", "b", "c"], ["w", "v", "u"]]


def test_every_node_has_one_box_and_every_use_one_edge(uses):
    drawing = Drawing(uses)
    assert drawing.boxes.keys() == uses.keys()
    assert len(drawing.root.findall(".//{*}a")) == len(uses)
    assert len(drawing.paths) == sum(map(len, uses.values()))


def test_no_two_boxes_touch(uses):
    boxes = list(Drawing(uses).boxes.values())
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            across = max(one.left, other.left) - min(one.right, other.right)
            down = max(one.top, other.top) - min(one.bottom, other.bottom)
            assert across >= 40 or down >= 10


def test_columns_stand_side_by_side(uses):
    boxes = Drawing(uses).boxes
    levels = [[boxes[node] for node in level] for level in columns(uses)]
    for level in levels:
        assert len({(box.left, box.width) for box in level}) == 1
        assert all(one.bottom < other.top for one, other in pairwise(level))
        gaps = {round(other.top - one.bottom, 6) for one, other in pairwise(level)}
        assert gaps <= {14}
    for one, other in pairwise(levels):
        assert other[0].left - one[0].right == pytest.approx(56, abs=0.11)  # printed to 0.1


def test_labels_fit_into_their_boxes(uses):
    boxes = Drawing(uses).boxes
    for level in columns(uses):
        room = max(len(node) for node in level) * 7.4  # px: the widest letters of 12 px monospace
        for node in level:
            box = boxes[node]
            assert box.width == pytest.approx(room + 28, abs=0.06)
            assert box.x == pytest.approx(box.left + 14, abs=0.11)
            assert box.height == 30 and box.y - box.top == pytest.approx(19.5)


def test_edges_run_from_the_used_box_to_the_user(uses):
    drawing = Drawing(uses)
    wanted = [(below, node) for node, found in uses.items() for below in found]
    for path, (below, node) in zip(drawing.paths, wanted, strict=True):
        start, end = drawing.boxes[below], drawing.boxes[node]
        x1, y1, x2, y2, x3, y3, x4, y4, *tip = path
        near = lambda value: pytest.approx(value, abs=0.11)  # noqa: E731
        assert (x1, y1) == (near(start.right), near(start.middle))
        assert (x4, y4) == (near(end.left), near(end.middle))
        assert (y2, y3) == (y1, y4) and x2 == x3 == near((x1 + x4) / 2)  # level at both ends
        assert x1 < x2 < x4
        assert tip == [near(v) for v in (x4 - 6, y4 - 4, x4, y4, x4 - 6, y4 + 4)]


def test_the_picture_holds_all_and_no_more(uses):
    drawing = Drawing(uses)
    left, top, width, height = drawing.size
    boxes = drawing.boxes.values()
    assert (left, top) == (0, 0)
    assert min(b.left for b in boxes) == min(b.top for b in boxes) == 8
    assert width - max(b.right for b in boxes) == pytest.approx(8, abs=0.61)  # a whole number of px
    assert height - max(b.bottom for b in boxes) == pytest.approx(8, abs=0.51)
    assert [float(drawing.root.get(key)) for key in ("width", "height")] == [width, height]


def test_the_small_graph_to_the_pixel():
    boxes = Drawing(SMALL).boxes
    assert [(n, b.left, b.top, b.width) for n, b in sorted(boxes.items())] == [
        ("a", 8, 8, 42.8),
        ("bb", 8, 52, 42.8),
        ("c", 106.8, 8, 35.4),
        ("d", 198.2, 8, 35.4),
    ]
    assert Drawing(SMALL).size == [0, 0, 242, 90]


def test_names_are_escaped():
    vertex = Vertex("a<b", "p.html#a&b", 'says "<>"', "claim-unverified")
    text = svg({"n": []}, {"n": vertex}, "<title>")
    root = ElementTree.fromstring(text)
    link = root.find("{*}a")
    assert root.get("aria-label") == "<title>" and root.get("role") == "group"
    assert link.get("href") == "p.html#a&b" and link.get("class") == "claim-unverified"
    assert link.find("{*}title").text == 'says "<>"' and link.find("{*}text").text == "a<b"


# ---- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (-2.5, "-2.5"),
        (0.0123456, "0.0123"),
        (0.001, "0.001"),
        (0.00099949, "9.99·10⁻⁴"),
        (0.0009999, "0.001"),
        (123.4, "123"),
        (999.7, "1000"),
        (1234.0, "1230"),
        (9994, "9990"),
        (9999, "10⁴"),
        (1e4, "10⁴"),
        (-1.2e-5, "-1.2·10⁻⁵"),
        (1e-12, "10⁻¹²"),
        (6.0221e23, "6.02·10²³"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00 s"),
        (0.04, "0.04 s"),
        (1.0, "1.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (60.0, "1 min 0 s"),
        (119.7, "2 min 0 s"),
        (125.2, "2 min 5 s"),
        (3725.0, "62 min 5 s"),
    ],
)
def test_seconds(value, text):
    assert seconds(value) == text
