"""The book's figure style, and explorers that work without a kernel."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time imported where used: heavy, and not needed to estimate gradients
    import ipywidgets as widgets
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from torch import Tensor

__all__ = ["COLOURS", "frame_player", "heat_map", "use_style"]

# After Okabe and Ito, darkened until each has a contrast of 3 to 1 with white. The site turns
# figures over in dark mode (lightness inverted, hues kept), so one rendering serves both.
COLOURS = ("#0072b2", "#d55e00", "#00805e", "#a6518c", "#7a6000", "#4d4d4d")
_DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)))

MOST_FRAMES, MOST_BYTES = 300, 4_000_000


def use_style() -> None:
    """Set matplotlib up for the book: vector figures, no reliance on colour alone."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib_inline.backend_inline import set_matplotlib_formats

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
            "image.interpolation": "none",  # one pixel is one value, also in a vector figure
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "savefig.facecolor": "white",
            "svg.hashsalt": "zotk",
        }
    )
    # without a date, the same figure is the same file
    set_matplotlib_formats("svg", metadata={"Date": None})


def heat_map(ax: "Axes", values: "Tensor", *, title: str = "") -> "AxesImage":
    """Draw a matrix with a colour bar that says what its scale begins and ends with.

    ``values`` (rows, columns), on any device. A cell that draws colours with a meaning has the tag
    ``colour-scale``: the dark theme leaves its figure as it is.
    """
    image = ax.imshow(values.detach().cpu().numpy(), cmap="viridis")
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(visible=False)
    low, high = image.get_clim()
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", fraction=0.05, pad=0.03, shrink=0.9)
    bar.set_ticks([low, high], labels=[f"{low:.4g}", f"{high:.4g}"])
    bar.ax.tick_params(labelsize=7, length=2)
    return image


def frame_player(
    draw: Callable[..., "Figure"],
    knobs: Mapping[str, Sequence[Any]],
    *,
    alt: Callable[..., str],
    start: Sequence[int] | None = None,
    dpi: int = 110,
) -> "widgets.VBox":
    """An explorer of every combination of the knobs, alive in a page without a kernel.

    ``knobs`` maps a slider's name to its values (shown by ``str``); ``draw(*values)`` makes
    the figure of one combination and ``alt(*values)`` says what it shows. ``start``: the
    initial positions. Frames are drawn now and nested in stacks, one slider per level.

    Raises ValueError above 300 frames or 4 MB, for a knob without values, for a start that is
    not a position of each knob, and for a frame without a text alternative.
    """
    import ipywidgets as widgets

    knobs = {name: list(values) for name, values in knobs.items()}
    counts = [len(values) for values in knobs.values()]
    if not counts or min(counts) < 1:
        raise ValueError(f"knobs have {counts} values; each needs at least one")
    if prod(counts) > MOST_FRAMES:
        raise ValueError(f"knobs make {prod(counts)} frames; at most {MOST_FRAMES} fit a page")
    at = [0] * len(counts) if start is None else list(start)
    if len(at) != len(counts) or not all(0 <= k < n for k, n in zip(at, counts, strict=True)):
        raise ValueError(f"start is {at}; a position of each of {counts} values is needed")
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
    images = []
    for v in product(*knobs.values()):
        figure = draw(*v)
        images.append(_image(figure, alt(*v), dpi))
        figure.set_layout_engine("none")  # of a figure drawn again, nothing jumps
    if sum(map(len, images)) > MOST_BYTES:
        raise ValueError(f"the frames take {sum(map(len, images)):,} bytes; {MOST_BYTES:,} fit")
    frames = iter(images)

    def stack(level: int) -> "widgets.Widget":
        if level == len(counts):
            return widgets.HTML(next(frames))
        inner = [stack(level + 1) for _ in range(counts[level])]
        level_stack = widgets.Stack(inner, selected_index=at[level])
        widgets.jslink((sliders[level], "index"), (level_stack, "selected_index"))
        return level_stack

    return widgets.VBox([*sliders, stack(0)])


def _image(figure: "Figure", alt: str, dpi: int) -> str:
    """An <img> with its data inside: ``widgets.Image`` has no alternative text."""
    import matplotlib.pyplot as plt
    from PIL import Image

    raw, packed = io.BytesIO(), io.BytesIO()
    try:
        figure.savefig(raw, format="png", dpi=dpi)
    finally:
        plt.close(figure)
    if not alt.strip():
        raise ValueError("alt gave an empty text for a frame; say what the frame shows")
    # 32 colours are enough for lines and text, at a third of the size; rare ones count, too
    few = Image.open(raw).convert("RGB").quantize(32, method=Image.Quantize.MAXCOVERAGE)
    few.save(packed, format="png", optimize=True)
    data = base64.b64encode(packed.getvalue()).decode()
    source = f"data:image/png;base64,{data}"
    return f'<img alt="{escape(alt)}" style="max-width:100%" src="{source}">'
