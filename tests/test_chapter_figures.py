"""Figures as evidence: each fault of a figure is planted, and sound figures stay unblamed."""

from collections.abc import Callable, Iterator

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ci.figures import FATAL, MAY, Fault, excused, faults

matplotlib.use("Agg")
import matplotlib.pyplot as plt

X = np.linspace(0.0, 10.0, 50)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def figure(draw: Callable[[Axes], object]) -> Figure:
    fig, ax = plt.subplots()
    ax.set(xlabel="x", ylabel="y")
    draw(ax)
    return fig


def rules(fig: Figure) -> list[str]:
    return [fault.rule for fault in faults(fig)]


def log_axes(ax: Axes) -> None:
    ax.loglog(X + 1e-3, np.exp(-X))


SOUND: dict[str, Callable[[Axes], object]] = {
    "a line": lambda ax: ax.plot(X, X**2),
    "logarithmic": log_axes,
    "a scatter": lambda ax: ax.scatter(X, X),
    "bars": lambda ax: ax.bar(["a", "b"], [1, 2]),
    "a point and guides": lambda ax: (
        ax.plot(X, X), ax.plot(5, 5, "*"), ax.axvline(3), ax.axhline(2), ax.plot([2, 2], [0, 9])
    ),
    "close dots": lambda ax: (ax.plot(X, X), ax.plot([1, 1.1, 1.2], [3, 4, 5], "o")),
    "some NaN": lambda ax: ax.plot(X, np.where(X > 4, np.nan, X)),
    "shifted": lambda ax: (ax.plot(X, X), ax.plot(X, X + 1e-9)),
    "half outside": lambda ax: (ax.plot(X, X), ax.set_xlim(5, 30)),
    "crosses the view between its points": lambda ax: (
        ax.plot([-100, 100], [0, 1]), ax.set_xlim(-1, 1)
    ),
    "an image": lambda ax: ax.imshow(np.eye(3)),
    "ticks in words": lambda ax: (
        ax.plot(X, X), ax.set(ylabel=""), ax.set_yticks([0, 5], ["low", "high"])
    ),
    "drawing without axes": lambda ax: (ax.plot([0, 0.1, 0.2], [0, 1, 0]), ax.axis("off")),
}  # fmt: skip

BROKEN: dict[str, tuple[str, Callable[[Axes], object]]] = {
    "empty": ("empty axes", lambda ax: None),
    "beyond the axis": ("line outside", lambda ax: (ax.plot(X, X), ax.set_xlim(20, 30))),
    "above the axis": ("line outside", lambda ax: (ax.plot(X, X + 100), ax.set_ylim(0, 1))),
    "scatter outside": ("line outside", lambda ax: (ax.scatter(X, X), ax.set_xlim(20, 30))),
    "a stub": ("short line", lambda ax: (ax.plot(X, X), ax.plot(X[:4], X[:4] + 1))),
    "a stub, logarithmic": (
        "short line", lambda ax: (ax.semilogx(X + 1e-3, X), ax.plot(X[30:35], X[:5]))
    ),
    "all NaN": ("no finite point", lambda ax: ax.plot(X, X * np.nan)),
    "no data": ("no finite point", lambda ax: (ax.plot(X, X), ax.plot([], [], label="b"))),
    "NaN image": ("no finite point", lambda ax: ax.imshow(np.full((2, 2), np.nan))),
    "NaN scatter": ("no finite point", lambda ax: ax.scatter(X, X * np.nan)),
    "twice": ("equal lines", lambda ax: (ax.plot(X, X), ax.plot(X, X.copy()))),
    "unlabelled": ("no label", lambda ax: (ax.plot(X, X), ax.set_ylabel(""))),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_sound_figures(name: str) -> None:
    assert faults(figure(SOUND[name])) == []


@pytest.mark.parametrize("name", BROKEN)
def test_broken_figures(name: str) -> None:
    rule, draw = BROKEN[name]
    assert rules(figure(draw)) == [rule]


def test_the_same_array_three_times() -> None:
    assert rules(figure(lambda ax: [ax.plot(X, X) for _ in range(3)])) == 3 * ["equal lines"]
    fig, axes = plt.subplots(1, 3)
    for ax in axes:
        ax.imshow(np.eye(4))
        ax.set(xticks=[], yticks=[])
    assert rules(fig) == 3 * ["equal lines"]


def test_panels() -> None:
    fig, axes = plt.subplots(2, 2)
    axes[0, 0].plot(X, X)
    assert rules(fig).count("empty axes") == 3
    for ax in axes.flat:
        ax.clear()
        ax.plot(X, X)
    assert rules(fig) == 8 * ["no label"]
    for ax in axes[:, 0]:
        ax.set_ylabel("y")  # of its row
    assert rules(fig) == 4 * ["no label"]
    fig.supxlabel("x")
    assert rules(fig) == []
    axes[1, 1].clear()
    axes[1, 1].axis("off")  # a place left free
    assert rules(fig) == []


def test_twin_axes_need_the_label_of_their_own_axis() -> None:
    fig = figure(lambda ax: ax.plot(X, X))
    twin = fig.axes[0].twinx()
    twin.plot(X, -X)
    assert rules(fig) == ["no label"]
    twin.set_ylabel("z")
    assert rules(fig) == []


def test_a_colour_bar_and_a_figure_without_axes() -> None:
    fig = figure(lambda ax: ax.figure.colorbar(ax.imshow(np.eye(3))))
    assert faults(fig) == []
    assert rules(plt.figure()) == ["empty axes"]


def test_the_fault_says_where() -> None:
    fig = figure(lambda ax: (ax.plot(X, X, label="a"), ax.plot(X, X, label="b")))
    fig.axes[0].set_title("Losses")
    (fault,) = faults(fig)
    assert fault.text == "axes 1 of 1 (Losses): line 'a' and line 'b' have the same data"


# ---- excuses ----


@pytest.mark.parametrize("rule", MAY)
def test_an_excuse_with_a_reason(rule: str) -> None:
    found = [Fault(rule, "text")]
    source = f"x = 1\n# figure may have {rule}: it is meant\nplt.show()"
    assert excused(source, found) == ([], [])
    (told,), _ = excused("x = 1", found)
    assert told == f"text; if this is meant, `# figure may have {rule}: why`"


@pytest.mark.parametrize("rule", FATAL)
def test_what_no_figure_may_have(rule: str) -> None:
    wrong, _ = excused(f"# figure may have {rule}: it is meant", [Fault(rule, "text")])
    assert "text" in wrong and any("may have short line" in text for text in wrong)


def test_an_excuse_without_a_reason_or_use() -> None:
    wrong, _ = excused("# figure may have no label:  ", [Fault("no label", "text")])
    assert wrong[0] == "say why: `# figure may have no label: …`" and len(wrong) == 2
    assert excused("# figure may have no label: drawn by hand", []) == (
        [], ["no figure here has no label: take the comment away"],
    )  # fmt: skip


def test_the_frames_of_an_explorer_are_told_once() -> None:
    (told,), _ = excused("", [Fault("empty axes", f"frame {n}") for n in range(30)])
    assert told == "frame 0 (and 29 more like it)"


def test_an_excuse_that_some_parameters_need_is_never_idle() -> None:
    source = "# figure may sometimes have equal lines: accuracies often agree"
    assert excused(source, []) == ([], [])
    assert excused(source, [Fault("equal lines", "text")]) == ([], [])
    assert excused(source.partition(":")[0], [])[0] == [
        "say why: `# figure may have equal lines: …`"
    ]
