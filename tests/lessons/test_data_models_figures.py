"""Data, networks and explorers."""

import re

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

import zotk


def test_digits():
    x, y = zotk.digits()
    assert x.shape == (1797, 64) and y.shape == (1797,) and y.dtype == torch.int64
    assert x.min() == 0 and x.max() == 1
    assert sorted(set(y.tolist())) == list(range(10))
    x3, y3 = zotk.digits([5, 3], dtype=torch.float64)
    assert x3.dtype == torch.float64
    assert torch.equal(x3, x[(y == 5) | (y == 3)].double())
    assert torch.equal(y3, (y[(y == 5) | (y == 3)] == 3).long())
    for dtype in (torch.int64, "float32"):
        with pytest.raises(TypeError, match="dtype"):
            zotk.digits(dtype=dtype)
    for bad in ([], [3, 3], [10], [-1], [1.5], 3, None):
        with pytest.raises(ValueError, match="classes"):
            zotk.digits(bad)


def test_sphere():
    g = torch.Generator().manual_seed(1)
    x = zotk.sphere(500, 4, generator=g, dtype=torch.float64)
    assert torch.allclose(x.norm(dim=1), torch.ones(500, dtype=x.dtype))
    assert x.mean(0).abs().max() < 0.15


def test_mlp_and_functional():
    state = torch.get_rng_state()
    net = zotk.mlp([6, 5, 3], nn.ReLU, generator=torch.Generator().manual_seed(2))
    assert [type(m) for m in net] == [nn.Linear, nn.ReLU, nn.Linear]
    again = zotk.mlp([6, 5, 3], nn.ReLU, generator=torch.Generator().manual_seed(2))
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    wide = zotk.mlp([400, 300], dtype=torch.float64)
    assert wide[0].weight.std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert torch.equal(state, torch.get_rng_state())
    f, params = zotk.functional(net)
    x = torch.ones(4, 6)
    assert torch.equal(f(params, x), net(x))
    doubled = {k: 2 * v for k, v in params.items()}
    before = net(x)
    assert not torch.equal(f(doubled, x), before) and torch.equal(net(x), before)
    with pytest.raises(TypeError, match="Module"):
        zotk.functional(f)
    for bad, error in (([3], ValueError), ([3, 0], ValueError), ([3, 2.5], TypeError)):
        with pytest.raises(error, match="widths"):
            zotk.mlp(bad)


def draw(a, b):
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, a], [0, b])
    return fig


def test_frame_player_links_every_stack_to_its_slider(monkeypatch):
    zotk.use_style()
    linked = []
    monkeypatch.setattr("ipywidgets.jslink", lambda source, target: linked.append((source, target)))
    player = zotk.frame_player(
        draw, {"a": [1, 2, 3], "b": [4, 5]}, alt=lambda a, b: f'a "{a}", b < {b}', start=[1, 0]
    )
    slider_a, slider_b, outer = player.children
    assert [o[0] for o in slider_a.options] == ["1", "2", "3"]
    assert slider_a.index == 1 and outer.selected_index == 1
    assert len(outer.children) == 3 and all(len(s.children) == 2 for s in outer.children)
    frame = outer.children[2].children[1].value
    assert 'alt="a &quot;3&quot;, b &lt; 5"' in frame and "max-width:100%" in frame
    assert len(re.findall("data:image/png;base64", frame)) == 1
    assert linked == [
        *(((slider_b, "index"), (inner, "selected_index")) for inner in outer.children),
        ((slider_a, "index"), (outer, "selected_index")),
    ]
    assert plt.get_fignums() == []


def test_frame_player_refuses_too_many_or_none():
    with pytest.raises(ValueError, match="frames"):
        zotk.frame_player(draw, {"a": range(100), "b": range(4)}, alt=str)
    with pytest.raises(ValueError, match="at least one"):
        zotk.frame_player(draw, {"a": []}, alt=str)
    for start in ([0], [2, 0], [-1, 0]):
        with pytest.raises(ValueError, match="start"):
            zotk.frame_player(draw, {"a": [1, 2], "b": [1]}, alt=str, start=start)
    with pytest.raises(ValueError, match="alt"):
        zotk.frame_player(lambda a: draw(a, 1), {"a": iter([1])}, alt=lambda a: " ")
    assert plt.get_fignums() == []


def test_a_heat_map_says_its_scale():
    fig, ax = plt.subplots()
    image = zotk.heat_map(ax, torch.tensor([[0.0, 2.0], [-0.5, 1.0]]), title="K")
    assert image.get_array().tolist() == [[0.0, 2.0], [-0.5, 1.0]] and ax.get_title() == "K"
    (bar,) = [axes for axes in fig.axes if axes is not ax]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["-0.5", "2"]
    plt.close(fig)


# ---- prose ----


@pytest.mark.parametrize("display", [True, False])
@pytest.mark.parametrize("value", [0.25, "words"])
def test_glue_keeps_what_myst_nb_reads(value, display):
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from myst_nb import glue

    InteractiveShell.instance()
    try:
        kept = []
        for each in (zotk.glue, glue):
            with capture_output() as found:
                each("name", value, display=display)
            kept += [(output.data, output.metadata) for output in found.outputs]
    finally:
        InteractiveShell.clear_instance()
    assert kept[0] == kept[1]
