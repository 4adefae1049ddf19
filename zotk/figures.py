"""The book's figure style, and explorers that work without a kernel."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["COLOURS", "frame_player", "use_style"]

# After Okabe and Ito, darkened until each has a contrast of 3 to 1 with white. The site turns
# figures over in dark mode (lightness inverted, hues kept), so one rendering serves both.
COLOURS = ("#0072b2", "#d55e00", "#00805e", "#a6518c", "#7a6000", "#4d4d4d")
_DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)))

MOST_FRAMES = 300


def use_style() -> None:
    """Set matplotlib up for the book: vector figures, no reliance on colour alone."""
    cycle = cycler(color=COLOURS) + cycler(linestyle=_DASHES)
    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycle,
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "figure.figsize": (7.0, 3.6),
            "font.size": 10.5,
            "grid.color": "#dddddd",
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "savefig.facecolor": "white",
            "svg.hashsalt": "zotk",
        }
    )
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    # without a date, the same figure is the same file
    set_matplotlib_formats("svg", metadata={"Date": None})


def frame_player(
    draw: Callable[..., Figure],
    knobs: Mapping[str, Sequence[Any]],
    *,
    alt: Callable[..., str],
    start: Sequence[int] | None = None,
    dpi: int = 110,
) -> widgets.VBox:
    """An explorer of every combination of the knobs, alive in a page without a kernel.

    ``knobs`` maps a slider's name to its values (shown by ``str``); ``draw(*values)`` makes
    the figure of one combination and ``alt(*values)`` says what it shows. ``start``: the
    initial positions. Frames are drawn now and nested in stacks, one slider per level.

    Raises ValueError above 300 frames, or for a knob without values.
    """
    counts = [len(values) for values in knobs.values()]
    if not counts or min(counts) < 1:
        raise ValueError(f"knobs have {counts} values; each needs at least one")
    if prod(counts) > MOST_FRAMES:
        raise ValueError(f"knobs make {prod(counts)} frames; at most {MOST_FRAMES} fit a page")
    at = [0] * len(counts) if start is None else list(start)
    sliders = [
        widgets.SelectionSlider(
            options=[(str(v), i) for i, v in enumerate(values)],
            index=position,
            description=name,
            continuous_update=True,
            style={"description_width": "initial"},
            layout={"width": "min(100%, 32em)"},
        )
        for (name, values), position in zip(knobs.items(), at, strict=True)
    ]
    frames = iter([_image(draw(*v), alt(*v), dpi) for v in product(*knobs.values())])

    def stack(level: int) -> widgets.Widget:
        if level == len(counts):
            return next(frames)
        inner = [stack(level + 1) for _ in range(counts[level])]
        level_stack = widgets.Stack(inner, selected_index=at[level])
        widgets.jslink((sliders[level], "index"), (level_stack, "selected_index"))
        return level_stack

    return widgets.VBox([*sliders, stack(0)])


def _image(figure: Figure, alt: str, dpi: int) -> widgets.HTML:
    """An <img> with its data inside: ``widgets.Image`` has no alternative text."""
    raw, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi)
    plt.close(figure)
    # 32 colours are enough for lines and text, at a third of the size; rare ones count, too
    few = Image.open(raw).convert("RGB").quantize(32, method=Image.Quantize.MAXCOVERAGE)
    few.save(packed, format="png", optimize=True)
    data = base64.b64encode(packed.getvalue()).decode()
    text = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return widgets.HTML(
        f'<img alt="{text}" style="max-width:100%" src="data:image/png;base64,{data}">'
    )
