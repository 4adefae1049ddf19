"""Evaluations of one function: planted caches and random numbers."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import zotk

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
MEMORIES = ["store", "replay", "exact"]


def network() -> nn.Sequential:
    return zotk.mlp([6, 8, 1], generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("scheme", ["central", "forward"])
def test_autocast_around_the_call_is_autocast_inside(memory, scheme):
    """Its cache of casts would make both ends equal: coefficients exactly 0."""
    options = {"eps": 0.1, "queries": 3, "memory": memory, "scheme": scheme}
    net = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(X).sum()  # the cache is full before
        outside = zotk.backward(lambda: net(X).float().square().mean(), net.parameters(), **options)
        after = net(X)

    def inside():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return other(X).float().square().mean()

    other = network()
    here = zotk.backward(inside, other.parameters(), **options)
    assert outside.coefficients == here.coefficients and all(outside.coefficients)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(after, net(X), atol=1e-2)  # nothing of θ ± εz was left behind


class Doubled(nn.Module):
    def forward(self, w):
        return 2 * w


def parametrized() -> nn.Linear:
    net = nn.Linear(6, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.arange(6.0))
    return parametrize.register_parametrization(net, "weight", Doubled())


def test_cached_parametrizations_are_forgotten():
    x, net = X.double(), parametrized()
    options = {"eps": 0.1, "queries": 4, "memory": "exact"}
    plain = zotk.backward(lambda: net(x).square().mean(), net.parameters(), **options)
    f, params = zotk.functional(net)
    kernel = zotk.ntk(f, params, x)

    def drawn(scheme):
        return zotk.zo_entk(f, params, x, queries=4, scheme=scheme).matrix

    before = {scheme: drawn(scheme) for scheme in ("jvp", "central")}
    slope = zotk.grad(lambda p: f(p, x).square().mean())(params)
    true = net(x)
    with parametrize.cached():
        net(x)
        made = zotk.backward(lambda: net(x).square().mean(), net.parameters(), **options)
        assert torch.equal(net(x), true)
        assert torch.equal(zotk.ntk(f, params, x), kernel)
        assert all(torch.equal(drawn(scheme), made) for scheme, made in before.items())
        again = zotk.grad(lambda p: f(p, x).square().mean())(params)
        assert torch.equal(net(x), true)
    assert made.coefficients == plain.coefficients and all(made.coefficients)
    assert all(torch.equal(again[k], slope[k]) for k in slope)
    assert all(k.abs().max() > 0 for k in (kernel, *before.values()))


@pytest.mark.parametrize("memory", MEMORIES)
def test_one_dropout_mask_per_step_and_a_new_one_at_the_next(memory):
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 1)).double()
    x = X.double()

    def closure():
        return net(x).square().mean()

    torch.manual_seed(3)
    state = torch.get_rng_state()
    made = zotk.backward(closure, net.parameters(), queries=2, memory=memory)
    left = torch.get_rng_state()
    torch.set_rng_state(state)
    loss = closure()
    assert torch.equal(torch.get_rng_state(), left)  # moved on by one call
    assert made.loss == pytest.approx(loss.item(), rel=1e-4)  # to ε²: the mask of that call
    # along each direction the slope of the network with that mask
    grads = torch.autograd.grad(loss, list(net.parameters()))
    for c, seed in zip(made.coefficients, made.seeds, strict=True):
        pieces = zotk.Gaussian().pieces(list(net.parameters()), seed)
        slope = sum((g * z).sum() for g, z in zip(grads, pieces, strict=True)).item()
        assert 2 * c == pytest.approx(slope, rel=1e-5)
    assert zotk.backward(closure, net.parameters(), queries=2).loss != made.loss


def test_free_random_numbers_are_free():
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 1)).double()
    seen = []

    def closure():
        seen.append(torch.get_rng_state())
        return net(X.double()).square().mean()

    zotk.backward(closure, net.parameters(), rng="free")
    assert not torch.equal(*seen)
    with pytest.raises(ValueError, match="rng is 'other'; 'same' or 'free'"):
        zotk.backward(closure, net.parameters(), rng="other")


def test_hzo_reads_in_the_networks_own_precision():
    net, plain = network(), network()
    y = X[:, :1]
    zotk.hzo_backward(plain, X, y, nn.functional.mse_loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        zotk.hzo_backward(net, X, y, nn.functional.mse_loss)
        targets = zotk.hzo_gradients(net, X, y, nn.functional.mse_loss)
    pairs = zip(net.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)
    assert torch.equal(targets[0], zotk.hzo_gradients(net, X, y, nn.functional.mse_loss)[0])
