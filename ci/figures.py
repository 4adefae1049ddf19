"""What is wrong with a drawn figure, as far as the figure itself can tell.

A figure is judged by what it holds: axes that show nothing, lines outside their axis, lines that
cover little of it, data without one finite point, equal lines, axes that do not say what they
measure. A figure cannot tell that its axes are swapped, that its values are a thousand times too
large, that a label stands at the wrong line, or that it shows another P than its caption says:
for these there are only checks, and eyes.

What is in MAY can be meant. The cell then says so, with a reason:

    # figure may have equal lines: the two curves coincide, that is the claim
    # figure may sometimes have short line: with other parameters the run stops early
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FuncFormatter
from numpy.typing import NDArray

FATAL = ("empty axes", "line outside")
MAY = ("short line", "no finite point", "equal lines", "no label")  # a figure may, with a reason
NO_LINE = ("None", "none", "", " ")
SHORT = 0.1  # of the x axis
EXCUSE = re.compile(r"^[ \t]*#[ \t]*figure may (sometimes )?have\b(.*)$", re.MULTILINE)


class Fault(NamedTuple):
    """What is wrong (`rule`, one of FATAL or MAY), and where in the figure."""

    rule: str
    text: str


def faults(figure: Figure) -> list[Fault]:
    """Everything wrong with a figure; empty for a sound one."""
    shown = [axes for axes in figure.axes if axes.get_visible()]
    if not shown:
        return [Fault("empty axes", "the figure has no axes")]
    found: list[Fault] = []
    for number, axes in enumerate(shown, 1):
        if _is_colorbar(axes):
            continue
        axes.get_xlim(), axes.get_ylim()  # limits are found when asked for,
        axes.apply_aspect()  # and moved when drawn
        where = f"axes {number} of {len(shown)}" + (
            f" ({title})" if (title := _title(axes)) else ""
        )
        found += [Fault(rule, f"{where}: {text}") for rule, text in _axes_faults(figure, axes)]
    found += _equal_images(shown)
    return found


def excused(source: str, found: Sequence[Fault]) -> tuple[list[str], list[str]]:
    """What is wrong with the figures of a cell whose `source` may excuse some of it; idle excuses.

    An excuse without a reason, or of what no figure may have, is wrong itself. Of each rule the
    first fault is told, and how many more there are: an explorer has many frames.
    """
    wrong, idle = [], []
    excuses: set[str] = set()
    sometimes: set[str] = set()  # needed with some parameters only, so never idle
    for at_times, text in EXCUSE.findall(source):
        rule, _, reason = (part.strip() for part in text.partition(":"))
        if rule not in MAY:
            wrong.append(f"a figure may have {', '.join(MAY)}; not {rule!r}")
        elif not reason:
            wrong.append(f"say why: `# figure may have {rule}: …`")
        else:
            (sometimes if at_times else excuses).add(rule)
    for rule in [rule for rule in (*FATAL, *MAY) if rule not in excuses | sometimes]:
        if texts := [text for broken, text in found if broken == rule]:
            more = f" (and {len(texts) - 1} more like it)" if len(texts) > 1 else ""
            hint = f"; if this is meant, `# figure may have {rule}: why`" if rule in MAY else ""
            wrong.append(f"{texts[0]}{more}{hint}")
    for rule in sorted(excuses - {rule for rule, _ in found}):
        idle.append(f"no figure here has {rule}: take the comment away")
    return wrong, idle


def _axes_faults(figure: Figure, axes: Axes) -> Iterator[tuple[str, str]]:
    lines = [line for line in axes.lines if line.get_visible()]
    artists = [one for one in (*axes.collections, *axes.images) if one.get_visible()]
    if axes.axison and not _content(axes):
        yield "empty axes", "nothing is drawn here"
        return
    for line in lines:
        yield from _line_faults(axes, line)
    for artist in artists:
        if not _has_finite(artist):
            yield "no finite point", f"{_name(artist)} has no finite point"
        elif isinstance(artist, PathCollection) and _outside(axes, artist):
            yield "line outside", f"{_name(artist)} lies outside the axis"
    for one, other in combinations(lines, 2):
        if _equal(one, other):
            yield "equal lines", f"{_name(one)} and {_name(other)} have the same data"
    if axes.axison and axes.name == "rectilinear":
        for which in "xy":
            if not _told(figure, axes, which):
                yield "no label", f"the {which} axis has no label"


def _line_faults(axes: Axes, line: Line2D) -> Iterator[tuple[str, str]]:
    points = _points(line)
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite):
        yield "no finite point", f"{_name(line)} has no finite point"
        return
    if line.get_clip_on() and _outside(axes, line):
        yield "line outside", f"{_name(line)} lies outside the axis"
        return
    in_data = line.get_transform().contains_branch_seperately(axes.transData)[0]
    upright = len(finite) == 2 and finite[0, 0] == finite[1, 0]  # marks a place on the axis
    drawn = len(finite) > 1 and line.get_linestyle() not in NO_LINE  # more than a point, or points
    plain = axes.axison and axes.name == "rectilinear" and in_data
    if not (drawn and plain) or upright:
        return
    x = line.get_transform().transform(finite)[:, 0]
    share = (min(x.max(), axes.bbox.x1) - max(x.min(), axes.bbox.x0)) / axes.bbox.width
    if share < SHORT:
        yield "short line", f"{_name(line)} covers {max(share, 0):.0%} of the x axis"


# ---- data of artists ----


def _points(line: Line2D) -> NDArray[np.float64]:
    """The points of a line in its own coordinates, (n, 2)."""
    return np.ma.filled(np.ma.asarray(line.get_xydata(), float), np.nan)


def _has_finite(artist: Any) -> bool:
    values = artist.get_array()
    if values is not None:
        return bool(np.isfinite(np.ma.filled(np.ma.asarray(values, float), np.nan)).any())
    if isinstance(artist, PathCollection):
        return bool(np.isfinite(np.ma.filled(artist.get_offsets(), np.nan)).all(axis=1).any())
    return any(np.isfinite(path.vertices).all(axis=1).any() for path in artist.get_paths())


def _outside(axes: Axes, artist: Line2D | PathCollection) -> bool:
    """Does no point of a scatter, no part of a line lie in the view?"""
    view = axes.bbox.padded(1.0)  # a point on the border is half visible; in pixels
    if isinstance(artist, PathCollection):
        offsets = np.ma.filled(artist.get_offsets(), np.nan)
        points = artist.get_offset_transform().transform(offsets)
    else:
        path = artist.get_transform().transform_path(artist.get_path())
        if artist.get_linestyle() not in NO_LINE:
            return not path.intersects_bbox(view, filled=False)
        points = np.asarray(path.vertices)
    points = points[np.isfinite(points).all(axis=1)]
    low, high = view.min, view.max
    return not bool(((points >= low) & (points <= high)).all(axis=1).any())


def _equal(one: Line2D, other: Line2D) -> bool:
    a, b = _points(one), _points(other)
    same_place = one.get_transform() == other.get_transform()
    return bool(len(a) and same_place and np.array_equal(a, b, equal_nan=True))


def _equal_images(shown: Iterable[Axes]) -> Iterator[Fault]:
    """Images of one figure that show the same values, in whatever axes."""
    images: list[tuple[int, NDArray[np.float64]]] = [
        (number, np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan))
        for number, axes in enumerate(shown, 1)
        for image in axes.images
        if not _is_colorbar(axes)
    ]
    for (here, one), (there, other) in combinations(images, 2):
        if np.array_equal(one, other, equal_nan=True):
            yield Fault("equal lines", f"the images in axes {here} and {there} have the same data")


def _content(axes: Axes) -> bool:
    """Is anything drawn in the axes but their frame, ticks and legend?"""
    parts = (axes.lines, axes.collections, axes.images, axes.patches, axes.texts, axes.tables)
    return any(part for part in (*parts, axes.artists, axes.child_axes))


# ---- labels ----


def _told(figure: Figure, axes: Axes, which: str) -> bool:
    """Does an axis say what it measures, itself or through a label that stands for several?

    It needs none without ticks or where the ticks are words. The label of the outer axes of its
    row or column counts, that of an axes which shares this axis, and one of the whole figure.
    """
    axis: Axis = getattr(axes, f"{which}axis")
    if not axis.get_visible() or not len(axis.get_ticklocs()) or _in_words(axis):
        return True
    if any(getattr(one, f"get_sup{which}label")().strip() for one in (figure, axes.figure)):
        return True
    shared = getattr(axes, f"get_shared_{which}_axes")().get_siblings(axes)
    standing = [*shared, *(one for one in figure.axes if _outer(one, axes, which))]
    return any(getattr(one, f"{which}axis").get_label_text().strip() for one in standing)


def _outer(one: Axes, other: Axes, which: str) -> bool:
    """Does `one` begin the row (for x: end the column) of panels in which `other` stands?"""
    a, b = one.get_subplotspec(), other.get_subplotspec()
    if a is None or b is None or a == b or a.get_gridspec() != b.get_gridspec():
        return False  # equal: twins, which have axes of their own
    if which == "y":
        return bool(a.is_first_col() and a.rowspan == b.rowspan)
    return bool(a.is_last_row() and a.colspan == b.colspan)


def _in_words(axis: Axis) -> bool:
    formatter = axis.get_major_formatter()
    if not isinstance(formatter, FixedFormatter | FuncFormatter | StrCategoryFormatter):
        return False
    return any(
        word.isalpha()
        for text in formatter.format_ticks(list(axis.get_ticklocs()))
        for word in str(text)
    )


# ---- names ----


def _is_colorbar(axes: Axes) -> bool:
    return hasattr(axes, "_colorbar")


def _title(axes: Axes) -> str:
    return axes.get_title() or axes.get_title("left") or axes.get_title("right")


def _name(artist: Any) -> str:
    """Kind and label of an artist; without a label, its number in its axes."""
    label = str(artist.get_label())
    kind = "line" if isinstance(artist, Line2D) else type(artist).__name__
    if label and not label.startswith("_"):
        return f"{kind} {label!r}"
    axes = artist.axes
    owner = next(own for own in (axes.lines, axes.collections, axes.images) if artist in list(own))
    return f"{kind} {list(owner).index(artist) + 1}"
