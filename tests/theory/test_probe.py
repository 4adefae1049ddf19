"""What probe measures, against exact Hessians and gradients, and what it refuses."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, vmap
from torch.func import grad as first_order

import zotk
from zotk.theory.lines import lines_of, sigma_of

X, Y = (t[:240] for t in zotk.digits())
X, Y = X.double() / X.std().item(), Y.long()


def network(width, act=nn.Tanh, dtype=torch.float64):
    net = zotk.mlp([64, width, 10], act, generator=torch.Generator().manual_seed(7))
    return net.to(dtype)


def flat_loss(net):
    """L of all parameters as one vector, per example."""
    shapes = dict(net.named_parameters())

    def each(t):
        parts = t.split([p.numel() for p in shapes.values()])
        named = {k: a.view_as(p) for (k, p), a in zip(shapes.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(net, named, (X,)), Y, reduction="none")

    start = torch.cat([p.detach().flatten() for p in shapes.values()])
    return each, start


def exact(net):
    each, t = flat_loss(net)
    H = hessian(lambda t: each(t).mean())(t)
    g = first_order(lambda t: each(t).mean())(t)
    per_example = torch.func.jacrev(each)(t)
    scatter = (per_example - g).square().sum(1).mean()
    return {
        "trace": H.trace().item(),
        "second": H.square().sum().item(),
        "grad2": g.square().sum().item(),
        "noise_scale": (scatter / g.square().sum()).item(),
    }


def whole(net, x=X):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return lambda: nn.functional.cross_entropy(net(x).to(wide), Y)


def probe_on_batches(net, size, count, draw, **more):
    """Of so many batches drawn with replacement."""
    batches = [torch.randint(len(X), (size,), generator=draw) for _ in range(count)]
    loss = lambda b: nn.functional.cross_entropy(net(X[b]), Y[b])  # noqa: E731
    return zotk.probe(loss, net, batches, **{"generator": draw, **more})


@pytest.mark.parametrize("width", [2, 5])  # d = 160, 385
def test_one_loss_against_the_exact_hessian(width):
    net = network(width)
    truth = exact(net)
    found = zotk.probe(whole(net), net, None, probes=400, generator=seeded(1))
    for name in ("trace", "second", "grad2"):
        value, error = getattr(found, name), found.stderr[name]
        assert error < 0.25 * truth[name]
        assert abs(value - truth[name]) < 4.5 * error, name
    assert found.noise_scale == 0 and found.repeatable and not found.unresolved
    assert found.d == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("width", [2, 5])
def test_third_is_the_rms_of_the_third_derivative(width):
    net = network(width)
    each, t = flat_loss(net)

    def f(t):
        return each(t).mean()

    z = torch.randn(300, len(t), generator=seeded(5), dtype=torch.float64)

    def along(z):
        return lambda s: f(t + s * z)

    zero = torch.zeros((), dtype=torch.float64)
    third = vmap(lambda z: first_order(first_order(first_order(along(z))))(zero))(z) / 6
    found = zotk.probe(whole(net), net, None, probes=300, eps=1e-3, generator=seeded(2))
    rms = third.square().mean().sqrt().item()
    spread = third.square().std().item() / math.sqrt(300) / (2 * rms)
    assert abs(found.third - rms) < 4.5 * math.hypot(spread, found.stderr["third"])
    assert found.kink is None


def test_batches_give_the_noise_scale_and_not_a_larger_second_moment():
    net = network(3)
    truth = exact(net)
    found = probe_on_batches(net, 60, 1000, seeded(3), probes=500, generator=seeded(4))
    assert found.examples == 60
    for name in truth:
        value, error = getattr(found, name), found.stderr[name]
        assert abs(value - truth[name]) < 4.5 * error, name
        assert error < 0.3 * abs(value), name


def test_batches_used_again_have_standard_errors_between_them():
    """With 12 batches and many lines, the error of |g|² is that of the batches."""
    net = network(2)
    truth = exact(net)["grad2"]
    off = []
    for k in range(20):
        found = probe_on_batches(net, 30, 12, seeded(k), probes=48, eps=1e-3)
        value = found.grad2 if found.grad2 is not None else math.nan
        if not math.isnan(value):
            off.append((value - truth) / found.stderr["grad2"])
    assert len(off) > 10
    assert sum(abs(z) < 3 for z in off) >= 0.85 * len(off)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [4, 32])
def test_the_error_of_an_evaluation(dtype, width):
    """Against the same network at the same points in float64."""
    net, wide = network(width, dtype=dtype), network(width).to(dtype).double()
    found = zotk.probe(whole(net, X.to(dtype)), net, None, probes=16, generator=seeded(6))
    low, high = whole(net, X.to(dtype)), whole(wide)
    starts = [p.detach().clone() for p in net.parameters()]
    errors = []
    with torch.no_grad():
        for k in range(40):
            draw = seeded(100 + k)
            for p, q, start in zip(net.parameters(), wide.parameters(), starts, strict=True):
                z = torch.randn(p.shape, generator=draw, dtype=torch.float64)
                q.copy_(start.double() + found.eps * z)
                p.copy_(q)
            errors.append(float(low()) - float(high()))
    truth = torch.tensor(errors, dtype=torch.float64).square().mean().sqrt().item()
    assert truth / 2.5 < found.sigma < 2.5 * truth


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("seed", [1, 2])
def test_half_precision_resolves_what_it_can(width, seed):
    net = network(width, dtype=torch.bfloat16)
    truth = exact(network(width).to(torch.bfloat16).double())
    found = zotk.probe(whole(net, X.bfloat16()), net, None, probes=200, generator=seeded(seed))
    assert found.dtype == torch.bfloat16 and found.grad2 is not None
    for name in ("trace", "second", "grad2"):
        if (value := getattr(found, name)) is not None:
            assert abs(value - truth[name]) < 4.5 * found.stderr[name], name
        else:
            assert truth[name] < 2 * found.limits[name], name


def test_a_loss_rounded_in_half_precision_is_unresolved_and_not_wrong():
    """At a step where differences drown, nothing is claimed."""
    net = network(5, dtype=torch.bfloat16)

    def loss():
        return nn.functional.cross_entropy(net(X.bfloat16()), Y).bfloat16()

    found = zotk.probe(loss, net, None, probes=24, eps=1e-3, generator=seeded(1))
    assert "second" in found.unresolved and found.second is None
    assert "unresolved" in str(found) and "unresolved" in repr(found)


def test_noise_of_its_own_is_sigma():
    """A black box with noise on a quadratic: the noise, and the numbers beneath it."""
    for d, size in ((20, 0.01), (80, 0.1)):
        h = torch.linspace(0.2, 2.0, d, dtype=torch.float64)
        theta = torch.ones(d, dtype=torch.float64, requires_grad=True)
        noise = seeded(d)

        def loss(h=h, theta=theta, noise=noise, size=size):
            error = size * torch.randn((), generator=noise, dtype=torch.float64)
            return 0.5 * (h * theta**2).sum() + error

        found = zotk.probe(loss, [theta], None, probes=300, generator=seeded(8))
        assert not found.repeatable
        assert size / 1.6 < found.sigma < 1.6 * size
        for name, truth in (
            ("trace", h.sum()), ("second", h.square().sum()), ("grad2", h.square().sum())
        ):  # fmt: skip
            assert abs(getattr(found, name) - truth.item()) < 4.5 * found.stderr[name], name


def test_a_loss_that_draws_its_own_batch():
    """Drawn from torch's generator: one batch on a line, and the noise scale is seen."""
    net = network(3)
    truth = exact(net)["noise_scale"]

    def loss():
        chosen = torch.randint(len(X), (60,))
        return nn.functional.cross_entropy(net(X[chosen]), Y[chosen])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = zotk.probe(loss, net, None, probes=400, generator=seeded(9))
    assert found.repeatable and found.examples is None
    assert abs(60 * found.noise_scale - truth) < 4.5 * 60 * found.stderr["noise_scale"]


@pytest.mark.parametrize("seed", range(3))
def test_kinks_are_seen_and_smooth_networks_have_none(seed):
    for act, kinks in ((nn.ReLU, True), (nn.Tanh, False)):
        net = network(24, act, torch.float32)
        x = X.float()
        found = zotk.probe(
            lambda net=net, x=x: nn.functional.cross_entropy(net(x), Y),
            net, None, probes=16, generator=seeded(20 + seed),
        )  # fmt: skip
        if not kinks:
            assert found.kink is None


def test_kink_is_the_error_of_a_slope():
    """f = Σ v relu(a + p t): squared errors κ²ε, by differences and by hand."""
    d = 400
    draw = seeded(11)
    a = (torch.rand(d, generator=draw, dtype=torch.float64) - 0.5) * 4
    theta = a.clone().requires_grad_()

    def loss():
        return theta.relu().sum()

    found = zotk.probe(loss, [theta], None, probes=300, generator=seeded(12))
    assert found.third is None and found.kink is not None
    # bounded density 1/4 at 0, v = 1, p normal: κ² = (d/6)(1/4) E|p|³ by two-point.kinks
    law = math.sqrt(d / 24 * math.sqrt(8 / math.pi))
    assert found.kink == pytest.approx(law, rel=0.25)


def test_parameters_buffers_and_generators_are_left_as_they_were():
    net = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 10))
    net = net.double().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    mine = seeded(1)
    try:
        zotk.probe(whole(net), net, None, probes=4, eps=1e-3, generator=mine)
    finally:
        torch.set_rng_state(state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())

    def breaks():
        breaks.calls += 1
        if breaks.calls == 60:
            raise KeyboardInterrupt
        return whole(net)()

    breaks.calls = 0
    with pytest.raises(KeyboardInterrupt):
        zotk.probe(breaks, net, None, probes=4)
    torch.set_rng_state(state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_refusals():
    net = network(2)
    good = whole(net)

    def each(b):
        return nn.functional.cross_entropy(net(X[b]), Y[b])

    index = [torch.arange(k, k + 8) for k in range(8)]
    for arguments, more, error, words in (
        ((3, net, None), {}, TypeError, "function"),
        ((good, net, None), {"probes": 3}, ValueError, "at least 4"),
        ((good, net, None), {"probes": 4.0}, TypeError, "integer"),
        ((good, net, None), {"eps": -1.0}, ValueError, "positive"),
        ((good, net, 5), {}, TypeError, "iterable"),
        ((each, net, index[:7]), {}, ValueError, "at least 8"),
        ((each, net, [*index, torch.arange(5)] * 2), {"probes": 9}, ValueError, "one size"),
        ((good, [], None), {}, ValueError, "no tensor"),
        ((lambda: torch.tensor(float("nan")), net, None), {}, ValueError, "finite"),
        ((lambda: net(X), net, None), {}, TypeError, "one real number"),
        ((lambda: 1.0, net, None), {}, ValueError, "does not see params"),
    ):
        with pytest.raises(error, match=words):
            zotk.probe(*arguments, **{"probes": 4, **more})


def test_the_record_is_frozen_short_and_a_table():
    net = network(2)
    found = zotk.probe(whole(net), net, None, probes=8)
    with pytest.raises(FrozenInstanceError):
        found.trace = 0.0
    assert len(repr(found)) < 200
    assert all(words in str(found) for words in ("tr H", "|g|²", "evaluations"))
    again = zotk.probe(whole(net), net, None, probes=8)
    assert again == found


def test_calls_are_counted():
    net = network(2)
    calls = 0

    def loss():
        nonlocal calls
        calls += 1
        return whole(net)()

    assert zotk.probe(loss, net, None, probes=8).evaluations == calls


def test_shaken_parameters_cost_what_the_docstring_says():
    """Half of what the lines cost, and nothing is moved by it for the numbers of the start."""
    net = network(2)
    many = zotk.probe(whole(net), net, None, probes=64, eps=1e-3, generator=seeded(1))
    assert [each.length for each in many.shaken] == pytest.approx(
        [share * many.norm for share in (1 / 4, 1 / 2, 1, 2)]
    )
    few = zotk.probe(whole(net), net, None, probes=32, eps=1e-3, generator=seeded(1))
    assert many.evaluations - few.evaluations == 4 * 32 * 3 // 2


@pytest.mark.parametrize("width", [2, 5])
def test_shaken_traces_are_those_of_exact_hessians(width):
    net = network(width)
    each, t = flat_loss(net)
    found = zotk.probe(whole(net), net, None, probes=400, generator=seeded(1))
    draw = seeded(5)
    for far in found.shaken:
        traces = []
        for _ in range(12):
            z = torch.randn(len(t), generator=draw, dtype=torch.float64)
            H = hessian(lambda t: each(t).mean())(t + far.length / len(t) ** 0.5 * z)
            traces.append(H.trace())
        traces = torch.stack(traces)
        chance = math.hypot(far.stderr["trace"], traces.std().item() / 12**0.5)
        assert abs(far.trace - traces.mean().item()) < 4.5 * chance < 2 * abs(traces.mean().item())


def test_sigma_of_a_quantised_function():
    """Steps of the controls: the error of rounding them, at spacings above the grid."""
    slope = torch.linspace(0.5, 1.5, 30, dtype=torch.float64)
    theta = torch.rand(30, generator=seeded(1), dtype=torch.float64).requires_grad_()
    grid = 2.0**-9

    def loss():
        return (slope * (theta / grid).round() * grid).sum()

    with lines_of(loss, [theta], tuple(range(4)), None, None) as lines:
        found = sigma_of(lines, 0.6, 2.0**-52)
    truth = grid / math.sqrt(12) * slope.norm().item()
    assert truth / 2.5 < found[0] < 2.5 * truth


def seeded(seed):
    return torch.Generator().manual_seed(seed)
