"""Hierarchical gradients against autograd, enumeration and counted calls."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune

import zotk

F = nn.functional
ARITIES = (1, 2, 3, "chain")
WORDS = "Linear, Conv1d, Conv2d, pooling, Flatten, BatchNorm, LayerNorm, GroupNorm, Dropout"


@pytest.fixture(autouse=True)
def _float64() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def draw(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def mixed(act: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    """Every kind of unit, widths that differ, units with an inside."""
    inner = nn.Sequential(nn.Linear(7, 5), act(), nn.Linear(5, 7))
    units = (
        *(nn.Flatten(), nn.Linear(12, 7), act(), zotk.Residual(inner)),
        *(nn.Sequential(nn.Linear(7, 4, bias=False), act()), nn.Linear(4, 3)),
    )
    net = nn.Sequential(*units)
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(0.5 * draw(*p.shape, seed=10 + k))
    return net


X, Y = draw(5, 3, 4), torch.tensor([0, 2, 1, 1, 0])


def autograd(net: nn.Module, x: Tensor, y: Tensor, loss: Any) -> list[Tensor]:
    return list(torch.autograd.grad(loss(net(x), y), list(net.parameters())))


def grads(net: nn.Module) -> list[Tensor]:
    found = [p.grad for p in net.parameters()]
    assert all(g is not None for g in found)
    return [g for g in found if g is not None]


def error(found: list[Tensor], true: list[Tensor]) -> float:
    flat = [torch.cat([g.reshape(-1) for g in each]) for each in (found, true)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize("act", [nn.Tanh, nn.GELU, nn.Softplus])
def test_gradients_are_those_of_autograd_to_second_order(arity: Any, act: Any) -> None:
    net = mixed(act)
    true = autograd(net, X, Y, F.cross_entropy)
    errors = []
    for eps in (4e-3, 2e-3, 1e-3):
        net.zero_grad()
        zotk.hzo_backward(net, X, Y, F.cross_entropy, arity=arity, eps=eps)
        errors.append(error(grads(net), true))
    assert errors[-1] < 1e-5
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=1e-2)


@pytest.mark.parametrize("arity", ARITIES)
def test_affine_units_and_a_quadratic_loss_are_exact_for_any_step(arity: Any) -> None:
    net = mixed(nn.Identity)
    y = draw(5, 3, seed=2)
    true = autograd(net, X, y, F.mse_loss)
    zotk.hzo_backward(net, X, y, F.mse_loss, arity=arity, eps=0.7)
    assert error(grads(net), true) < 1e-12


@pytest.mark.parametrize("act", [nn.ReLU, nn.Hardtanh, nn.LeakyReLU, nn.Hardswish])
def test_away_from_kinks_piecewise_linear_units_are_exact(act: Any) -> None:
    net = mixed(act)
    y = draw(5, 3, seed=2)
    true = autograd(net, X, y, F.mse_loss)
    zotk.hzo_backward(net, X, y, F.mse_loss, eps=1e-6)
    assert error(grads(net), true) < 1e-7


def test_targets_are_the_gradients_of_the_states() -> None:
    net = mixed()
    found = zotk.hzo_gradients(net, X, Y, F.cross_entropy, eps=1e-4)
    states = [X.clone().requires_grad_()]
    for unit in net:
        states.append(unit(states[-1]))
    true = torch.autograd.grad(F.cross_entropy(states[-1], Y), states[1:])
    assert [d.shape for d in found] == [t.shape for t in true]
    assert max(float((d - t).abs().max()) for d, t in zip(found, true, strict=True)) < 1e-8
    found[0].requires_grad_().sum().backward()  # an ordinary tensor


@pytest.mark.parametrize("arity", ARITIES)
def test_every_row_is_counted(arity: Any) -> None:
    net, depth, n = zotk.tower(4, 7), 7, 3
    with zotk.count_queries(net) as q:
        made = zotk.hzo_backward(net, draw(n, 4), draw(n, 4, seed=2), F.mse_loss, arity=arity)
    cost = zotk.hzo_cost(4, depth, arity)
    assert made.perturbed_rows == n * cost.layer_evaluations
    assert made.queries == n * cost.queries and made.rounds == cost.rounds
    assert made.base_rows == n * depth and made.loss_evaluations == 1 + 2 * n * 4
    linear = sum(rows for name, rows in q.layer_rows.items() if name.endswith("0"))
    tanh = sum(rows for name, rows in q.layer_rows.items() if name.endswith("1"))
    passes = made.base_rows + made.perturbed_rows  # through whole units
    assert linear + tanh == 2 * passes + made.leaf_rows
    assert made.leaf_rows == depth * n * (1 + 2)  # the linear part again, then a pair


def test_rows_held_at_a_time_are_bounded_and_change_nothing() -> None:
    net, x, y = zotk.tower(6, 5), draw(7, 6), draw(7, 6, seed=2)
    results = []
    for limit in (2, 5, 13, 4096):
        sizes: list[int] = []
        note: Any = partial(lambda sizes, _, a: sizes.append(len(a[0])), sizes)
        hooks = [part.register_forward_pre_hook(note) for part in net.modules()]
        net.zero_grad()
        zotk.hzo_backward(net, x, y, F.mse_loss, max_rows=limit)
        for hook in hooks:
            hook.remove()
        assert max(sizes) <= max(limit, len(x))  # unperturbed passes hold the rows there are
        results.append(grads(net))
    for other in results[1:]:
        assert error(other, results[0]) < 1e-12


class Perturbed:
    """The numbers of rows in the perturbed passes of a network's units."""

    def __init__(self, net: nn.Sequential, base: int) -> None:
        self.rows: list[int] = []
        self._left = base  # passes without perturbation come first, one for each unit
        for unit in net:
            unit.register_forward_pre_hook(self._note)

    def _note(self, _: nn.Module, args: Any) -> None:
        if self._left > 0:
            self._left -= 1
        else:
            self.rows.append(len(args[0]))


@pytest.mark.parametrize("directions", [None, zotk.Rademacher()])
@pytest.mark.parametrize("width", [1, 2, 6])
@pytest.mark.parametrize("rows, limit", [(3, 2), (3, 3), (40, 50), (40, 7), (40, 13), (7, 4096)])
def test_the_cap_on_perturbed_rows_holds_and_is_used(
    rows: int, limit: int, width: int, directions: Any
) -> None:
    """The most rows at a time, whatever the rows and directions; no less than half of them."""
    net = zotk.tower(width, 3)
    seen = Perturbed(net, len(net))
    kind = {} if directions is None else {"directions": directions, "queries": width}
    made = zotk.hzo_gradients(
        net, draw(rows, width), draw(rows, width, seed=2), F.mse_loss, max_rows=limit, **kind
    )
    assert len(made) == 3
    assert max(seen.rows) <= limit
    assert 2 * max(seen.rows) > min(limit, 2 * width * rows)
    assert sum(seen.rows) == 2 * width * rows * 2  # two boundaries, each through one unit


def test_rows_inside_units_are_counted() -> None:
    """Units of four parts: their inside is run once more, and each part by itself."""
    parts = [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), nn.Tanh()]
    net, n = nn.Sequential(nn.Sequential(*parts), nn.Linear(2, 2)), 4
    rows = [0] * 4
    for k, part in enumerate(parts):
        part.register_forward_pre_hook(lambda _, a, k=k: rows.__setitem__(k, rows[k] + len(a[0])))
    made = zotk.hzo_backward(net, draw(n, 3), draw(n, 2, seed=2), F.mse_loss)
    # n rows without perturbation and 2·2 perturbed through the second unit alone
    assert (made.base_rows, made.perturbed_rows) == (2 * n, 2 * 2 * n)
    # again up to the last part; a pair for each Tanh; 2·5 through the second Linear
    assert rows == [2 * n, 2 * n + 2 * n, 2 * n + 2 * 5 * n, n + 2 * n]
    assert made.leaf_rows == sum(rows) - 4 * n


@pytest.mark.parametrize(
    ("shape", "layers", "colours"),
    [
        ((4,), (nn.Tanh(), nn.Linear(4, 2)), (4, 4)),  # one axis: one coordinate at a time
        ((5, 4), (nn.Tanh(), nn.Linear(4, 2)), (1, 4)),  # two: positions move together
    ],
)
@pytest.mark.parametrize("colored", [True, False])
def test_which_states_are_coloured(
    shape: tuple[int, ...], layers: Any, colours: tuple[int, ...], colored: bool
) -> None:
    net, x = nn.Sequential(nn.Linear(4, 4), *layers).double(), draw(3, *shape)
    y = draw(*net(x).shape, seed=2)
    made = zotk.hzo_backward(net, x, y, F.mse_loss, arity="chain", coloring=colored)
    size = x[0].numel()
    assert made.perturbed_rows == 2 * 3 * (sum(colours) if colored else 2 * size)


def test_random_directions_are_the_mean_over_directions_of_the_definition() -> None:
    """(1/P) Σ z ⟨δ, Jz⟩ along the same z, row by row, on a grid too: no colours come in."""
    conv = nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(draw(2, 1, 3, 3, seed=4))
    net = nn.Sequential(nn.Identity(), conv)
    x, y = draw(2, 1, 3, 3), draw(2, 2, 3, 3, seed=2)
    law, queries = zotk.Gaussian(), 5
    found = zotk.hzo_gradients(net, x, y, F.mse_loss, directions=law, queries=queries)[0]
    generator = torch.Generator().manual_seed(0)
    leaf = x.clone().requires_grad_()
    (true,) = torch.autograd.grad(F.mse_loss(conv(leaf), y), leaf)
    for row in range(2):
        z = law.sample(queries, 9, generator=generator)
        expected = z.T @ (z @ true[row].flatten()) / queries
        assert torch.allclose(found[row].flatten(), expected, rtol=1e-9)


@pytest.mark.parametrize("depth", range(1, 40))
@pytest.mark.parametrize("arity", [1, 2, 3, 5, 50, "chain"])
def test_cost_is_that_of_the_tree(depth: int, arity: Any) -> None:
    def tree(n: int) -> tuple[int, int]:
        """Sum of right sizes, and the number of splits above the first leaf."""
        if n == 1:
            return 0, 0
        k = n if arity == "chain" else min(arity, n)
        if arity == 1:
            return sum(range(n)), 1
        sizes = [n // k + (j < n % k) for j in range(k)]
        below = sum(tree(s)[0] for s in sizes)
        return below + n - sizes[0], tree(sizes[0])[1] + k - 1

    units, nesting = tree(depth)
    cost = zotk.hzo_cost(6, depth, arity)
    assert cost == zotk.HZOCost(12 * units, 12 * (depth - 1), nesting, nesting)


def test_binary_cost_at_powers_of_two() -> None:
    for q in range(1, 12):
        assert zotk.hzo_cost(1, 2**q, 2).layer_evaluations == q * 2**q
        assert zotk.hzo_cost(1, 2**q, 2).rounds == q
    assert zotk.hzo_cost(3, 64, 1).layer_evaluations == 3 * 64 * 63
    assert zotk.hzo_cost(3, 64, "chain").layer_evaluations == 6 * 63


def test_orthogonal_directions_as_many_as_coordinates_are_exact() -> None:
    net, x, y = zotk.tower(5, 4), draw(3, 5), draw(3, 5, seed=2)
    kind = {"directions": zotk.Orthogonal(), "queries": 5, "eps": 1e-4}
    zotk.hzo_backward(net, x, y, F.mse_loss, **kind)
    assert error(grads(net), autograd(net, x, y, F.mse_loss)) < 1e-7


def test_random_directions_are_unbiased_and_repeatable() -> None:
    net, x, y = zotk.tower(3, 4, nn.Identity), draw(2, 3), draw(2, 3, seed=2)
    true = zotk.hzo_gradients(net, x, y, F.mse_loss)[0]
    generator = torch.Generator().manual_seed(5)

    def once(generator: torch.Generator | None, limit: int = 4096) -> Tensor:
        kind = {"directions": zotk.Gaussian(), "queries": 4, "max_rows": limit}
        return zotk.hzo_gradients(net, x, y, F.mse_loss, generator=generator, **kind)[0]

    draws = torch.stack([once(generator) for _ in range(3000)])
    z = (draws.mean(0) - true) / (draws.std(0) / 3000**0.5)
    assert z.abs().max() < 5.5
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(once(None), once(None))
    assert torch.allclose(once(None), once(None, 5), rtol=1e-12)
    rows = [once(None, 4096)[k] / true[k].norm() for k in range(2)]
    assert not torch.allclose(rows[0], rows[1])


def test_gradients_accumulate_and_serve_optimisers_also_from_inference_mode() -> None:
    net = mixed()
    with torch.inference_mode():
        zotk.hzo_backward(net, X, Y, F.cross_entropy)
    once = [g.clone() for g in grads(net)]
    zotk.hzo_backward(net, X, Y, F.cross_entropy)
    for twice, g in zip(grads(net), once, strict=True):
        assert torch.allclose(twice, 2 * g)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    before = F.cross_entropy(net(X), Y).item()
    for _ in range(20):
        optimizer.zero_grad()
        zotk.hzo_backward(net, X, Y, F.cross_entropy)
        optimizer.step()
    assert F.cross_entropy(net(X), Y).item() < 0.8 * before


def test_nothing_is_differentiated() -> None:
    net = mixed()
    for unit in net.modules():
        unit.register_forward_hook(lambda *a: _no_graph(a[-1]))
    zotk.hzo_backward(net, X, Y, lambda h, y: _no_graph(F.cross_entropy(h, y)))


def _no_graph(out: Tensor) -> Tensor:
    assert torch.is_inference_mode_enabled() and out.grad_fn is None
    return out


def test_frozen_and_tied_parameters() -> None:
    tied = nn.Linear(4, 4)
    net = nn.Sequential(tied, nn.Tanh(), nn.Sequential(tied, nn.Tanh()), nn.Linear(4, 2))
    net[3].weight.requires_grad_(False)
    y = draw(3, 2, seed=2)
    true = torch.autograd.grad(
        F.mse_loss(net(draw(3, 4)), y), [tied.weight, tied.bias, net[3].bias]
    )
    zotk.hzo_backward(net, draw(3, 4), y, F.mse_loss, eps=1e-4)
    assert net[3].weight.grad is None
    assert tied.weight.grad is not None and tied.bias.grad is not None
    found = [tied.weight.grad, tied.bias.grad, net[3].bias.grad]
    assert error(found, list(true)) < 1e-7


def test_a_loss_may_be_any_function_that_returns_a_number() -> None:
    net, y = mixed(), draw(5, 3, seed=2)
    zotk.hzo_backward(net, X, y, lambda h, y: float(((h - y) ** 2).mean().numpy()))
    assert error(grads(net), autograd(net, X, y, F.mse_loss)) < 1e-5


def test_rows_of_more_dimensions() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    y = draw(5, 3, 2, seed=2)
    zotk.hzo_backward(net, X, y, F.mse_loss, eps=1e-4)
    assert error(grads(net), autograd(net, X, y, F.mse_loss)) < 1e-7


def test_float32_with_a_mean_over_many_rows() -> None:
    net = zotk.tower(8, 6, dtype=torch.float32)
    x, y = draw(256, 8).float(), draw(256, 8, seed=2).float()
    true = autograd(net, x, y, F.mse_loss)
    zotk.hzo_backward(net, x, y, F.mse_loss, eps=2.0**-7)
    assert all(g.dtype == torch.float32 for g in grads(net))
    assert error(grads(net), true) < 1e-3


def test_residual_and_tower() -> None:
    net = zotk.tower(5, 3, residual=True, gain=0.7, generator=torch.Generator().manual_seed(3))
    x = draw(2, 5)
    expected = x
    for k in range(3):
        w = net[k].inner[0].weight
        assert torch.allclose(w @ w.T, 0.49 * torch.eye(5), atol=1e-12)
        expected = expected + torch.tanh(expected @ w.T)
    assert torch.allclose(net(x), expected)
    again = zotk.tower(5, 3, residual=True, gain=0.7, generator=torch.Generator().manual_seed(3))
    params = dict(again.named_parameters())
    assert torch.equal(functional_call(net, params, (x,)), net(x))
    with pytest.raises(ValueError, match="inner makes"):
        zotk.Residual(nn.Linear(5, 4))(x)


def pruned() -> nn.Sequential:
    return nn.Sequential(prune.random_unstructured(nn.Linear(4, 4), "weight", 2), nn.Flatten())


def doubled() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(4, 4), nn.Flatten())
    net[0].forward = lambda v: 2 * F.linear(v, net[0].weight, net[0].bias)  # type: ignore[assignment]
    return net


def far_inside() -> nn.Sequential:
    """A unit whose inner state is so large that eps is lost in it."""
    inside = nn.Sequential(nn.Linear(12, 4), nn.Tanhshrink())
    with torch.no_grad():
        inside[0].bias.fill_(1e15)
    return nn.Sequential(nn.Flatten(), inside).double()


def tiny() -> nn.Sequential:
    """Weights so small that only their gradients overflow."""
    net = nn.Sequential(nn.Linear(4, 4, bias=False)).double()
    with torch.no_grad():
        net[0].weight.fill_(1e-200)
    return net


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "pruned": ({"net": pruned()}, TypeError, "unit '0', a Linear, has other parameters"),
    "forward": ({"net": doubled()}, TypeError, "another forward"),
    "lost inside": ({"net": far_inside()}, ValueError, "a larger eps is needed"),
    "one axis": ({"x": torch.ones(5)}, ValueError, "x has shape (5,)"),
    "one image": (
        {
            "net": nn.Sequential(nn.Conv2d(3, 2, 3)),
            "x": torch.ones(3, 4, 4),
            "loss": lambda h, y: h.sum(),
        },
        ValueError,
        "(n, C, H, W) is needed",
    ),
    "indices": (
        {"net": nn.Sequential(nn.MaxPool2d(2, return_indices=True))},
        ValueError,
        "return_indices",
    ),
    "no loss": ({"loss": None}, TypeError, "loss is None"),
    "infinite": (
        {
            "net": tiny(),
            "x": torch.full((5, 4), 1e200, dtype=torch.float64),
            "loss": lambda h, y: 1e200 * torch.tanh(h).sum(),
        },
        ValueError,
        "a gradient of shape (4, 4) is not finite",
    ),
    "eps": ({"eps": 0.0}, ValueError, "eps is 0.0"),
    "eps too small": ({"eps": 1e-300}, ValueError, "a larger eps is needed"),
    "arity": ({"arity": 0}, ValueError, "arity is 0"),
    "arity word": ({"arity": "tree"}, ValueError, "an integer or 'chain'"),
    "arity kind": ({"arity": 2.0}, TypeError, "arity is 2.0"),
    "queries alone": ({"queries": 3}, ValueError, "both are needed"),
    "law alone": ({"directions": zotk.Gaussian()}, ValueError, "both are needed"),
    "law kind": ({"directions": "gaussian", "queries": 3}, TypeError, "directions is 'gaussian'"),
    "law": ({"directions": zotk.Gaussian(std=2.0), "queries": 3}, ValueError, "E[zz'] = I"),
    "queries": ({"directions": zotk.Gaussian(), "queries": 0}, ValueError, "queries is 0"),
    "rows": ({"max_rows": 1}, ValueError, "max_rows is 1"),
    "x": ({"x": torch.ones(5, 3, 4, dtype=torch.long)}, TypeError, "floating-point"),
    "no rows": ({"x": torch.ones(0, 3, 4)}, ValueError, "with rows"),
    "net": ({"net": nn.Linear(4, 4)}, TypeError, "net is a Linear"),
    "no units": ({"net": nn.Sequential()}, ValueError, "at least one unit"),
    "softmax": ({"net": nn.Sequential(nn.Flatten(), nn.Softmax(1))}, TypeError, WORDS),
    "convolution": (
        {"net": nn.Sequential(nn.ConvTranspose2d(1, 1, 3))},
        TypeError,
        "'0' is a ConvTranspose2d",
    ),
    "one line": (
        {
            "net": nn.Sequential(nn.Conv1d(3, 2, 3)),
            "x": torch.ones(3, 4),
            "loss": lambda h, y: h.sum(),
        },
        ValueError,
        "(n, C, L) is needed",
    ),
    "a grid for a line": (
        {
            "net": nn.Sequential(nn.Identity(), nn.Conv1d(3, 2, 3)),
            "x": torch.ones(2, 3, 4, 4),
            "loss": lambda h, y: h.sum(),
        },
        RuntimeError,
        "conv1d",
    ),
    "circular line": (
        {"net": nn.Sequential(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"))},
        ValueError,
        "pads by 'circular'",
    ),
    "circular": (
        {"net": nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))},
        ValueError,
        "pads by 'circular'",
    ),
    "inside": (
        {"net": nn.Sequential(zotk.Residual(nn.Sequential(nn.Softmax(1))))},
        TypeError,
        "'0.inner.0' is a Softmax",
    ),
    "flatten": ({"net": nn.Sequential(nn.Flatten(0))}, ValueError, "flattens axes (0, -1)"),
    "loss": ({"loss": lambda h, y: h}, TypeError, "one real number"),
    "nan": ({"loss": lambda h, y: float("nan")}, ValueError, "nan"),
}


@pytest.mark.parametrize(("change", "kind", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_named_and_changes_nothing(
    change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    call: dict[str, Any] = {"net": mixed(), "x": X, "y": Y, "loss": F.cross_entropy, **change}
    net = call["net"]
    for p in net.parameters():
        p.grad = torch.full_like(p, 3.0)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(kind) as raised:
        zotk.hzo_backward(**call)
    assert words in str(raised.value)
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old) and p.grad is not None and bool((p.grad == 3).all())


def test_gradients_of_inference_mode_are_refused_before_any_is_written() -> None:
    net = mixed()
    first, *others = net.parameters()
    with torch.inference_mode():
        made = torch.ones_like(others[-1])
    others[-1].grad = made
    with pytest.raises(ValueError, match="inference mode"):
        zotk.hzo_backward(net, X, Y, F.cross_entropy)
    assert first.grad is None and bool((others[-1].grad == 1).all())


@pytest.mark.parametrize("call", [(0, 3, 2), (3, 0, 2), (3, 3, 0), (3, 3, "tree")])
def test_bad_costs(call: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ValueError, match="is"):
        zotk.hzo_cost(*call)


def normal_units() -> list[tuple[nn.Sequential, tuple[int, ...]]]:
    """Networks with units that have statistics, scales or slopes, and the shape of a row."""
    conv = lambda: nn.Conv2d(2, 4, 3, padding=1)  # noqa: E731
    grid = [
        nn.Sequential(conv(), nn.BatchNorm2d(4), nn.Tanh()),
        nn.Sequential(conv(), nn.GroupNorm(2, 4), nn.Tanh()),
        nn.Sequential(conv(), nn.LayerNorm([4, 4, 4]), nn.Tanh()),
        nn.Sequential(conv(), nn.PReLU(4), nn.Dropout(0.5), nn.Dropout2d(0.5)),
    ]
    tail = lambda: [nn.Flatten(), nn.Linear(64, 3)]  # noqa: E731
    whole = [nn.Sequential(unit, nn.Sequential(*tail())) for unit in grid]
    apart = [nn.Sequential(*unit, nn.Sequential(*tail())) for unit in grid]  # each a unit
    rows = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.LayerNorm(6), nn.PReLU(), nn.Linear(6, 3)
    )
    return [(net, (2, 4, 4)) for net in whole + apart] + [(rows, (5,))]


@pytest.mark.parametrize("case", range(9))
def test_normalisations_dropout_and_prelu_agree_with_autograd(case: int) -> None:
    net, shape = normal_units()[case]
    net.double()
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(0.4 * draw(*p.shape, seed=k + 10) + 0.1)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.copy_(draw(*module.running_mean.shape, seed=7))
                module.running_var.copy_(0.5 + draw(*module.running_var.shape, seed=8).square())
    net.eval()
    x, y = draw(3, *shape), draw(3, 3, seed=2)
    for arity in (1, 2, "chain"):
        net.zero_grad()
        zotk.hzo_backward(net, x, y, F.mse_loss, eps=1e-5, arity=arity)
        assert error(grads(net), autograd(net, x, y, F.mse_loss)) < 1e-7


@pytest.mark.parametrize("unit", [nn.BatchNorm1d(4), nn.Dropout(0.5)])
def test_units_that_need_eval_say_so(unit: nn.Module) -> None:
    net, x, y = nn.Sequential(nn.Linear(4, 4), unit).double(), draw(3, 4), draw(3, 4)
    with pytest.raises(ValueError, match=r"unit '1'.*eval\(\)"):
        zotk.hzo_backward(net, x, y, F.mse_loss)


def test_a_blurred_step_is_named_with_one_that_serves() -> None:
    def read(eps: float) -> float:
        net = zotk.tower(8, 8).half()
        x, y = draw(4, 8).half(), draw(4, 8, seed=2).half()
        found = zotk.hzo_gradients(net, x, y, F.mse_loss, eps=eps, arity="chain")[0].double()
        states = [x.double().requires_grad_()]
        for layer in net.double():
            states.append(layer(states[-1]))
        (true,) = torch.autograd.grad(F.mse_loss(states[-1], y.double()), states[1])
        return float((found * true).sum() / (found.norm() * true.norm()))

    with pytest.warns(UserWarning, match=r"off 2ε by .*eps = [0-9.]+ serves") as caught:
        blurred = read(1e-3)
    serves = max(float(str(w.message).split("eps = ")[-1].split()[0]) for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(serves) > 0.97 > 0.9 > blurred


def test_queries_are_counted_where_they_are_read() -> None:
    net, x, y = zotk.tower(3, 4), draw(2, 3), draw(2, 3, seed=2)
    pull, seen = zotk.hzo.probe.Probe._products, []

    def watch(self: Any, units: Any, h: Tensor, delta: Tensor, seeds: Tensor) -> Tensor:
        seen.append(2 * len(h) * seeds.shape[0])
        return pull(self, units, h, delta, seeds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zotk.hzo.probe.Probe, "_products", watch)
        made = zotk.hzo_backward(net, x, y, F.mse_loss, max_rows=4)
    assert made.queries == sum(seen) == 2 * 2 * 3 * 3
    with pytest.MonkeyPatch.context() as patch:  # a pull that reads nothing is not counted
        patch.setattr(
            zotk.hzo.probe.Probe, "pull", lambda self, units, h, delta: torch.zeros_like(h)
        )
        assert zotk.hzo_backward(net, x, y, F.mse_loss).queries == 0


def test_class_weights_get_a_clear_message() -> None:
    net, x, y = zotk.tower(3, 2), draw(2, 3), torch.tensor([0, 2])
    weighted = nn.CrossEntropyLoss(torch.ones(3, dtype=torch.float32))
    with pytest.raises(TypeError, match=r"outputs in float64.*must be float64"):
        zotk.hzo_backward(net, x, y, weighted)


LINES: dict[str, dict[str, Any]] = {
    "same": {"kernel_size": 3, "padding": "same"},
    "even, same": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "no bias": {"kernel_size": 1, "bias": False},
}


def on_lines(settings: dict[str, Any], norm: bool = True) -> nn.Sequential:
    """Convolutions along one axis: a unit of its own, one with an inside, one with a shortcut."""
    inner = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.Tanh())
    net = nn.Sequential(
        nn.Conv1d(2, 4, 5, padding=2),
        nn.Sequential(nn.Conv1d(4, 4, **settings), nn.BatchNorm1d(4) if norm else nn.Tanh()),
        zotk.Residual(inner),
        nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
    ).double()
    net(draw(1, 2, 9))
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(0.4 * draw(*p.shape, seed=k + 20))
    return net.eval()


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", LINES)
@pytest.mark.parametrize("arity", ARITIES)
def test_convolutions_along_a_line_agree_with_autograd(case: str, arity: Any) -> None:
    net, x, y = on_lines(LINES[case]), draw(3, 2, 9), draw(3, 3, seed=2)
    true = autograd(net, x, y, F.mse_loss)
    for colored in (True, False):
        net.zero_grad()
        zotk.hzo_backward(net, x, y, F.mse_loss, eps=1e-5, arity=arity, coloring=colored)
        assert error(grads(net), true) < 1e-7


def test_points_of_a_line_move_together() -> None:
    """One colour for each channel and point of a window, for each boundary under convolutions."""
    net = nn.Sequential(nn.Identity(), nn.Conv1d(2, 3, 3, padding=1), nn.Conv1d(3, 1, 3, padding=1))
    x, y = draw(2, 2, 20), draw(2, 1, 20, seed=2)
    made = zotk.hzo_backward(net.double(), x, y, F.mse_loss, arity="chain")
    assert made.perturbed_rows == 2 * 2 * (2 * 3 + 3 * 3)
    assert error(grads(net), autograd(net, x, y, F.mse_loss)) < 1e-8


def grown(_: nn.Module, args: Any, out: Tensor) -> Tensor:
    return 2 * out


def shifted(_: nn.Module, args: Any) -> tuple[Tensor]:
    return (args[0] + 1,)


def in_place(_: nn.Module, args: Any, out: Tensor) -> None:
    out.mul_(2)


@pytest.mark.parametrize("hook", [grown, shifted, in_place])
@pytest.mark.parametrize("where", ["1", "2.inner", "2.inner.0", "3.0"])
def test_a_hook_that_changes_values_is_named(hook: Any, where: str) -> None:
    inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    last = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    net = nn.Sequential(nn.Tanh(), nn.Linear(4, 4), zotk.Residual(inner), last).double()
    module = net.get_submodule(where)
    if hook is shifted:
        module.register_forward_pre_hook(hook)
    else:
        module.register_forward_hook(hook)
    with pytest.warns(UserWarning, match=f"hook of unit '{where}', a {type(module).__name__}"):
        zotk.hzo_backward(net, draw(3, 4), draw(3, 3, seed=2), F.mse_loss)
    x = draw(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the targets are right, whatever hooks do
        found = zotk.hzo_gradients(net, x, draw(3, 3, seed=2), F.mse_loss, eps=1e-5)
    if hook is not in_place:  # autograd refuses it
        states = [x.requires_grad_()]
        for unit in net:
            states.append(unit(states[-1]))
        true = torch.autograd.grad(F.mse_loss(states[-1], draw(3, 3, seed=2)), states[1:])
        assert error(found, list(true)) < 1e-8


@pytest.mark.parametrize("watched", [True, False])
def test_hooks_that_only_look_and_hooks_of_units_without_weights_are_no_fault(
    watched: bool,
) -> None:
    net, x, y = mixed(), X, Y
    if watched:
        for module in net.modules():
            module.register_forward_hook(lambda *_: None)
            module.register_forward_pre_hook(lambda *_: None)
    else:
        net[2].register_forward_hook(grown)  # a Tanh: readings go through it, hook and all
    true = autograd(net, x, y, F.cross_entropy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zotk.hzo_backward(net, x, y, F.cross_entropy, eps=1e-4)
    assert error(grads(net), true) < 1e-6


def test_autocast_around_a_call_changes_nothing() -> None:
    net = zotk.tower(8, 6, dtype=torch.float32)
    x, y = draw(4, 8).float(), draw(4, 8, seed=2).float()
    true = autograd(net, x, y, F.mse_loss)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16  # what it does elsewhere
        zotk.hzo_backward(net, x, y, F.mse_loss, eps=2.0**-7)
        targets = zotk.hzo_gradients(net, x, y, F.mse_loss, eps=2.0**-7)
    assert error(grads(net), true) < 1e-3
    assert all(t.dtype == torch.float32 for t in targets)


@pytest.mark.parametrize("unit", [nn.Hardshrink(), nn.Threshold(0.1, 3.0)])
def test_units_that_jump_are_refused_without_contradiction(unit: nn.Module) -> None:
    with pytest.raises(TypeError, match="do not jump"):
        zotk.hzo_backward(nn.Sequential(unit), draw(2, 3), draw(2, 3), F.mse_loss)
