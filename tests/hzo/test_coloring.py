"""Colours of coordinates against Jacobians by autograd, and gradients of convolutional networks."""

from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev

import zotk

F = nn.functional
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # a copy, with even sizes


@pytest.fixture(autouse=True)
def _float64() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(*layers: nn.Module) -> nn.Sequential:
    """The layers with drawn parameters, none of them 0."""
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(0.4 * draw(*p.shape, seed=20 + k))
    return net


def conv(before: int, after: int, kernel: Any = 3, **kind: Any) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, **{"padding": 1, **kind})


Residual = zotk.Residual
SEGMENTS: dict[str, tuple[tuple[nn.Module, ...], tuple[int, ...], int]] = {
    # layers, shape of the state, colours by hand
    "one": ((conv(2, 3), nn.Tanh()), (2, 8, 7), 2 * 3 * 3),
    "three": ((conv(2, 2), nn.Tanh(), conv(2, 2), conv(2, 1)), (2, 16, 6), 2 * 7 * 6),
    "stride 2": ((conv(1, 2, stride=2), nn.Tanh(), conv(2, 2, stride=2)), (1, 16, 16), 7 * 7),
    "no padding": ((conv(1, 1, (3, 5), padding=0),), (1, 9, 9), 15),
    "dilation": ((conv(1, 2, padding=2, dilation=2),), (1, 9, 9), 3 * 3),
    "groups": ((conv(4, 6, groups=2), nn.Tanh()), (4, 6, 6), 2 * 9),
    "depthwise": ((conv(4, 4, groups=4), conv(4, 4, groups=4)), (4, 8, 8), 25),
    "same": ((conv(1, 1, (2, 4), padding="same"),), (1, 6, 6), 8),
    "average": ((nn.AvgPool2d(2), nn.Tanh()), (3, 8, 8), 4),
    "overlapping": ((nn.AvgPool2d(3, 2, 1), conv(1, 1)), (1, 16, 16), 49),
    "maximum": ((nn.MaxPool2d(2),), (2, 6, 6), 4),
    "ceiling": ((nn.MaxPool2d((2, 3), ceil_mode=True),), (2, 5, 5), 6),
    "adaptive": ((nn.AdaptiveAvgPool2d((2, None)),), (2, 5, 3), 3),
    "global": ((nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 4, 4), 16),
    "elementwise": ((nn.Tanh(), nn.GELU()), (3, 4, 4), 1),
    "residual": ((Residual(nn.Sequential(conv(2, 2), nn.Tanh())), conv(2, 2)), (2, 8, 8), 50),
    "projection": (
        (Residual(conv(2, 3, stride=2), nn.Conv2d(2, 3, 1, 2)), nn.Tanh()),
        (2, 8, 8),
        18,
    ),
    "nested": ((Residual(nn.Sequential(conv(1, 1), Residual(conv(1, 1)))),), (1, 9, 9), 25),
    "flat": ((conv(2, 2), nn.Flatten(), nn.Linear(32, 3)), (2, 4, 4), 32),
    "flat only": ((nn.Flatten(), nn.Tanh()), (2, 4, 4), 1),
    "flat residual": ((nn.Flatten(), Residual(nn.Linear(12, 12)), nn.Tanh()), (3, 2, 2), 12),
    "flat shortcut": ((nn.Flatten(), Residual(nn.Tanh())), (3, 2, 2), 1),
    "flat projection": (
        (
            Residual(
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5)),
                nn.Sequential(nn.Flatten(), nn.Linear(18, 5)),
            ),
        ),
        (2, 3, 3),
        18,
    ),
    "pool beside linear": (
        (
            Residual(
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                nn.Sequential(nn.Flatten(), nn.Linear(18, 2)),
            ),
        ),
        (2, 3, 3),
        18,
    ),
    "positions": ((nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)), (5, 4), 4),
    "pixels": ((nn.Linear(6, 6), conv(2, 2)), (2, 5, 6), 2 * 3 * 6),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_colours_and_patterns_are_right(name: str) -> None:
    layers, shape, colours = SEGMENTS[name]
    net = filled(*layers)
    found = zotk.coloring(net, shape)
    assert found.shape == shape and found.count == colours == prod(found.counts)
    x = draw(*shape)
    jacobian = jacrev(lambda v: net(v[None])[0])(x).reshape(-1, *shape)
    seen = found.patterns[0]
    for pattern in found.patterns[1:]:
        seen = torch.einsum("oi,pj->opij", seen, pattern).reshape(
            len(seen) * len(pattern), *seen.shape[1:], -1
        )
        seen = seen.flatten(1)
    assert not (jacobian.flatten(1) != 0)[~seen].any()
    seeds = zotk.compress(found)
    assert torch.equal(seeds.sum(0), torch.ones(shape))
    if "maximum" not in name and "ceiling" not in name:
        assert (seeds.flatten(1) @ (jacobian != 0).double().flatten(1).T).max() == 1
        full = torch.tensor([int((row != 0).sum()) for row in jacobian.flatten(1)]).max()
        assert found.count >= full  # as many numbers in a row as passes
    delta = draw(*net(x[None]).shape, seed=3)
    products = torch.einsum("of,pf->po", jacobian.flatten(1), seeds.flatten(1)) * delta.flatten()
    for start, stop in ((0, None), (0, 1), (1, 3)):
        part = seeds[start:stop]
        assert torch.equal(zotk.compress(found, start, stop), part)
        read = zotk.decompress(found, products[None, start:stop], part)[0]
        true = torch.einsum("o,ofgh->fgh" if len(shape) == 3 else "o,ofg->fg",
                            delta.flatten(), jacobian)  # fmt: skip
        assert torch.allclose(read, true * part.sum(0), atol=1e-12)


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("colored", [True, False])
def test_gradients_are_those_of_autograd(name: str, colored: bool) -> None:
    layers, shape, _ = SEGMENTS[name]
    first = nn.Identity() if len(shape) < 3 else conv(shape[0], shape[0])
    net = nn.Sequential(first, nn.Tanh(), *layers)
    filled(net)
    x = draw(3, *shape, seed=5)
    y = draw(*net(x).shape, seed=6)
    true = torch.autograd.grad(F.mse_loss(net(x), y), list(net.parameters()))
    for arity in (1, 2, "chain"):
        net.zero_grad()
        made = zotk.hzo_backward(
            net, x, y, F.mse_loss, eps=1e-4, arity=arity, coloring=colored, max_rows=60
        )
        for p, g in zip(net.parameters(), true, strict=True):
            assert p.grad is not None
            assert (p.grad - g).norm() <= 2e-7 * max(g.norm(), 1e-2)
        with torch.no_grad():
            states = [x]
            for unit in net:
                states.append(unit(states[-1]))
        assert made.queries == sum(2 * s.numel() for s in states[1:-1])


def small(residual: bool = True, **kind: Any) -> nn.Sequential:
    return zotk.cnn(2, [3, 4], 2, 5, residual=residual, **kind)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("arity", [1, 2, "chain"])
def test_small_networks_to_second_order(residual: bool, arity: Any) -> None:
    net = small(residual)
    x, y = draw(4, 2, 8, 8), torch.tensor([0, 4, 2, 2])
    true = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    errors = []
    for eps in (8e-3, 4e-3):
        net.zero_grad()
        zotk.hzo_backward(net, x, y, F.cross_entropy, eps=eps, arity=arity)
        pairs = zip(net.parameters(), true, strict=True)
        errors.append(sum(float((p.grad - g).square().sum()) for p, g in pairs) ** 0.5)  # type: ignore[operator]
    assert errors[0] / errors[1] == pytest.approx(4, rel=2e-2)


def test_rows_are_counted_and_bounded() -> None:
    net = small()
    x, y = draw(4, 2, 8, 8), torch.tensor([0, 4, 2, 2])
    results, sizes = [], []
    for limit in (20, 4096):
        held: list[int] = []
        hooks = [
            unit.register_forward_pre_hook(lambda _, a, held=held: held.append(len(a[0])))  # type: ignore[misc]
            for unit in net
        ]
        net.zero_grad()
        made = zotk.hzo_backward(net, x, y, F.cross_entropy, arity="chain", max_rows=limit)
        for hook in hooks:
            hook.remove()
        assert sum(held) == made.base_rows + made.perturbed_rows
        # colours before each unit: 3×3 windows, and pooling all of a channel
        colours = [3 * 9, 3 * 9, 3 * 9, 4 * 9, 16, 4]
        assert made.perturbed_rows == 2 * len(x) * sum(colours)
        results.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        sizes.append(max(held))
    assert sizes[0] <= 20 < sizes[1]
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def test_activations_in_place_leave_the_states_alone() -> None:
    layers = (conv(1, 2), nn.ReLU(inplace=True), conv(2, 2), nn.SiLU(inplace=True), nn.Flatten())
    net = filled(*layers, nn.Linear(32, 2))
    x, y = draw(3, 1, 4, 4), draw(3, 2, seed=2)
    kept = x.clone()
    true = torch.autograd.grad(F.mse_loss(net(x), y), list(net.parameters()))
    for each in (net, nn.Sequential(net[:3], net[3:])):
        net.zero_grad()
        zotk.hzo_backward(each, x, y, F.mse_loss, eps=1e-6)
        for p, g in zip(net.parameters(), true, strict=True):
            assert p.grad is not None and torch.allclose(p.grad, g, atol=1e-7)
    assert torch.equal(x, kept)


def test_paths_of_a_shortcut_do_not_spoil_each_other() -> None:
    opened = Residual(conv(2, 2), nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1)))
    net = filled(nn.Conv2d(2, 2, 1), opened, nn.Flatten(), nn.Linear(32, 2))
    x, y = draw(3, 2, 4, 4), draw(3, 2, seed=2)
    true = torch.autograd.grad(F.mse_loss(net(x), y), list(net.parameters()))
    zotk.hzo_backward(net, x, y, F.mse_loss, eps=1e-6)
    for p, g in zip(net.parameters(), true, strict=True):
        assert p.grad is not None and torch.allclose(p.grad, g, atol=1e-7)
    assert Residual(nn.ReLU(inplace=True))(torch.tensor([[-1.0]])) == -1.0


@pytest.mark.parametrize("kind", ["inputs", "weights", "permuted"])
def test_memory_may_lie_in_any_order(kind: str) -> None:
    net = filled(conv(2, 3), nn.Tanh(), conv(3, 2))
    x, y = draw(3, 2, 6, 6), draw(3, 2, 6, 6, seed=2)
    zotk.hzo_backward(net, x, y, F.mse_loss)
    plain = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    if kind == "inputs":
        x = x.to(memory_format=torch.channels_last)
    elif kind == "weights":
        net = net.to(memory_format=torch.channels_last)
    else:
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    zotk.hzo_backward(net, x, y, F.mse_loss)
    for p, g in zip(net.parameters(), plain, strict=True):
        # sums in another order, rounded, over ε = 1e-3
        assert p.grad is not None and torch.allclose(p.grad, g, rtol=0, atol=1e-10)


def test_equal_maxima_count_a_half_each() -> None:
    net = nn.Sequential(nn.Identity(), nn.MaxPool2d(2), nn.Flatten())
    x = torch.tensor([[3.0, 1, 3, 3], [0, 2, 3, 0]]).view(1, 1, 2, 4)  # one maximum, and three
    found = zotk.hzo_gradients(net, x, torch.zeros(1, 2), lambda h, y: h.sum(), eps=1e-3)[0]
    wanted = torch.tensor([[1.0, 0, 0.5, 0.5], [0, 0, 0.5, 0]])
    assert torch.allclose(found[0, 0], wanted, atol=1e-9)


def test_random_directions_are_unbiased_on_a_grid() -> None:
    net = filled(conv(1, 1), nn.Identity(), nn.Flatten(), nn.Linear(9, 1))
    x, y = draw(2, 1, 3, 3), draw(2, 1, seed=2)
    true = zotk.hzo_gradients(net, x, y, F.mse_loss)[0]
    generator = torch.Generator().manual_seed(5)
    kind: Any = {"directions": zotk.Gaussian(), "queries": 3, "generator": generator}
    draws = torch.stack([zotk.hzo_gradients(net, x, y, F.mse_loss, **kind)[0] for _ in range(2000)])
    z = (draws.mean(0) - true) / (draws.std(0) / 2000**0.5)
    assert draws.shape == (2000, 2, 1, 3, 3) and z.abs().max() < 5.5


def test_cnn_is_drawn_as_it_says() -> None:
    net = small(gain=0.5, generator=torch.Generator().manual_seed(3))
    again = small(gain=0.5, generator=torch.Generator().manual_seed(3))
    assert len(net) == 1 + 2 * 2 + 2
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    wide = zotk.cnn(1, [64], 1, 3, residual=False, gain=2.0)
    assert isinstance(wide[1], nn.Sequential) and isinstance(wide[1][0], nn.Conv2d)
    weight = wide[1][0].weight.detach()
    assert float(weight.square().mean()) == pytest.approx(4 / (64 * 9), rel=0.05)
    assert wide[1][0].bias is not None
    assert float(wide[1][0].bias.detach().square().mean()) == pytest.approx(1 / (64 * 9), rel=0.8)
    images = torch.zeros(3, 2, 8, 8)  # empty patches: ReLU would be at its kink without biases
    kinked = small(activation=nn.ReLU)
    true = torch.autograd.grad(F.mse_loss(kinked(images), draw(3, 5)), list(kinked.parameters()))
    zotk.hzo_backward(kinked, images, draw(3, 5), F.mse_loss, eps=1e-6)
    for p, g in zip(kinked.parameters(), true, strict=True):
        assert p.grad is not None and torch.allclose(p.grad, g, atol=1e-7)
    shortcuts = [u.shortcut for u in net if isinstance(u, Residual)]
    assert [s is None for s in shortcuts] == [True, True, False, True]
    for call, word in (
        ((0, [2], 1, 1), "channels"),
        ((1, [], 1, 1), "widths"),
        ((1, [2], 0, 1), "blocks"),
        ((1, [2], 1, 0), "outputs"),
        ((1, [2, 0], 1, 1), "widths is 0"),
        ((1, [0, 2], 1, 1), "widths is 0"),
    ):
        with pytest.raises(ValueError, match=word):
            zotk.cnn(*call)
    with pytest.raises(TypeError, match=r"widths is 2\.5"):
        zotk.cnn(1, [2, 2.5], 1, 1)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="gain is 0"):
        zotk.cnn(1, [2], 1, 1, gain=0.0)


@pytest.mark.parametrize(
    ("units", "shape", "kind", "word"),
    [
        (nn.Softmax(1), (4,), TypeError, "Softmax"),
        (nn.Conv2d(2, 2, 3), (3, 8, 8), ValueError, "channels"),
        (nn.Conv2d(2, 2, 3, padding_mode="reflect", padding=1), (2, 8, 8), ValueError, "reflect"),
        (nn.Conv2d(2, 2, 3), (8, 8), ValueError, r"\(C, H, W\)"),
        (nn.Conv2d(1, 1, 9), (1, 4, 4), ValueError, "4 points"),
        (nn.AvgPool2d(5), (1, 4, 4), ValueError, "4 points"),
        (nn.MaxPool2d(2, return_indices=True), (1, 4, 4), ValueError, "return_indices"),
        (nn.Flatten(2), (2, 4, 4), ValueError, r"\(1, -1\)"),
        (nn.Linear(5, 3), (4,), ValueError, "4 features"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), (2, 4), ValueError, "8 features"),
        (nn.Tanh(), 4, TypeError, "shape is 4"),
        (nn.Tanh(), (0, 4), ValueError, "shape"),
        (nn.Tanh(), (2.0, 4), TypeError, "shape"),
        (Residual(nn.Conv2d(2, 3, 1)), (2, 4, 4), ValueError, "differ in shape"),
    ],
)
def test_bad_input_is_named(units: Any, shape: Any, kind: type[Exception], word: str) -> None:
    with pytest.raises(kind, match=word):
        zotk.coloring(units, shape)
