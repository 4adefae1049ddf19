"""Settings from measured numbers: safe, refused where a number is missing, and watched."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import zotk

ROOT = Path(__file__).parent.parent.parent
X, Y = (t[:300] for t in zotk.digits())
X, Y = X.float() / X.std().item(), Y.long()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def linear(d, power, rows=4000):
    """A linear model with Gaussian inputs, its loss on batches, and its spectrum."""
    values = torch.arange(1.0, d + 1, dtype=torch.float64) ** -power
    x = torch.randn(rows, d, generator=seeded(d), dtype=torch.float64) * values.sqrt()
    theta = torch.ones(d, dtype=torch.float64, requires_grad=True)
    return theta, lambda b: 0.5 * (x[b] @ theta).square().mean(), values


def measured_linear(d, power, n=40):
    theta, loss, values = linear(d, power)
    draw = seeded(1)
    batches = [torch.randint(4000, (n,), generator=draw) for _ in range(600)]
    return zotk.probe(loss, [theta], batches, probes=300, generator=seeded(2)), values


@pytest.mark.parametrize("d", [20, 120])
@pytest.mark.parametrize("power", [0.5, 1.5])
@pytest.mark.parametrize("batch", [4, 40])
def test_the_rate_is_below_the_edge_of_the_exact_model(d, power, batch):
    """For Gaussian inputs the edge over the run is known; the rate is a fair share of it."""
    found, values = measured_linear(d, power)
    for queries in (1, 4):
        settings = zotk.suggest(
            found, budget=2 * queries * 200, horizon=200, dtype=torch.float64, batch=batch
        )
        scheme = "orthogonal" if settings.directions == zotk.Orthogonal() else "sphere"
        theory = zotk.mean_square(
            values, 1.0, scheme=scheme, queries=settings.queries, minibatch=batch
        )
        edge = theory.horizon_threshold(200, torch.ones(d, dtype=torch.float64))
        assert 0.05 * edge < settings.lr < 0.8 * edge
        assert settings.batch == batch and settings.evaluations <= 2 * queries * 200


def test_a_network_trains_at_the_rate_and_explodes_at_that_of_the_full_batch():
    net = zotk.mlp([64, 16, 10], nn.Tanh, generator=seeded(5)).float()
    loss = lambda b: nn.functional.cross_entropy(net(X[b]), Y[b])  # noqa: E731
    draw = seeded(1)
    batches = [torch.randint(300, (100,), generator=draw) for _ in range(128)]
    found = zotk.probe(loss, net, batches, probes=64, generator=draw)
    settings = zotk.suggest(found, budget=400, horizon=200, dtype=torch.float32, batch=8)
    start = {k: v.clone() for k, v in net.state_dict().items()}
    whole = slice(None)
    before = loss(whole).item()
    ends = []
    for lr in (settings.lr, 2 / (found.trace + 2 * found.second**0.5)):
        net.load_state_dict(start)
        directions, data = seeded(2), seeded(3)
        for _ in range(200):
            b = torch.randint(300, (8,), generator=data)
            made = zotk.measure(
                lambda b=b: loss(b), net, directions=settings.directions, eps=settings.eps,
                generator=directions,
            )  # fmt: skip
            zotk.replay_(net, made, -lr)
        ends.append(loss(whole).item() / before)
    assert ends[0] < 0.95 and ends[1] > 1


def test_every_claim_named_is_one_of_the_book():
    text = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "chapters").glob("*.md"))
    known = set(re.findall(r"^`{3,}\{claim\} (\S+)", text, re.MULTILINE))
    source = (ROOT / "zotk" / "theory" / "settings.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"([a-z]+(?:-[a-z]+)*\.[a-z]+(?:-[a-z]+)*)"', source))
    assert len(named) > 12 and named <= known, named - known


@pytest.mark.parametrize("factor", [1, 30])
def test_adam_goes_down_and_stays_down(factor):
    """At its α; thirty times it ends above the loss of the start."""
    theta, loss, _ = linear(60, 1.0)
    draw = seeded(1)
    batches = [torch.randint(4000, (8,), generator=draw) for _ in range(400)]
    found = zotk.probe(loss, [theta], batches, probes=200, generator=seeded(2))
    settings = zotk.suggest(
        found, budget=600, horizon=300, dtype=torch.float64, batch=8, optimizer="adam"
    )
    everything, directions, data = torch.arange(4000), seeded(4), seeded(3)
    before = loss(everything).item()
    rule = torch.optim.Adam([theta], lr=factor * settings.lr, betas=(settings.momentum, 0.99))
    for _ in range(300):
        b = torch.randint(4000, (8,), generator=data)
        rule.zero_grad()
        zotk.backward(
            lambda b=b: loss(b), [theta], directions=settings.directions, eps=settings.eps,
            generator=directions,
        )  # fmt: skip
        rule.step()
    assert (loss(everything).item() < 0.8 * before) == (factor == 1)


def one(**changes):
    theta, _, values = linear(30, 1.0)
    loss = lambda: 0.5 * (values * theta**2).sum()  # noqa: E731
    found = zotk.probe(loss, [theta], None, probes=64)
    return dataclasses.replace(found, **changes)


def test_refusals_say_what_to_measure():
    good = one()
    args = {"budget": 100, "horizon": 10, "dtype": torch.float32}
    batches = one(noise_scale=3.0, stderr={**good.stderr, "noise_scale": 1.0}, examples=None)
    for measured, more, error, words in (
        (3, {}, TypeError, "zotk.probe"),
        (good, {"budget": 19}, ValueError, "budget"),
        (good, {"dtype": "float32"}, TypeError, "dtype"),
        (good, {"batch": 8}, ValueError, "pass batches"),
        (batches, {"batch": 8}, ValueError, "unknown size"),
        (good, {"optimizer": "lion"}, ValueError, "optimizer"),
        (
            one(trace=None, second=None, limits={"trace": 3.0, "second": 3.0}),
            {},
            ValueError,
            "probes",
        ),
        (one(trace=-1.0), {}, ValueError, "is -1"),
        (one(grad2=None, limits={"grad2": 3.0}), {}, ValueError, "larger batches"),
        (one(sigma=None, limits={"sigma": 3.0}), {}, ValueError, "smoother"),
    ):
        with pytest.raises(error, match=words):
            zotk.suggest(measured, **{**args, **more})


def test_the_table_and_the_reasons():
    settings = zotk.suggest(one(), budget=400, horizon=100, dtype=torch.float32)
    table = str(settings)
    for name, _, reason in settings.rows():
        assert name in table and reason.kind in ("claim", "extrapolated", "library")
        assert reason.claims or reason.kind == "library" or name == "lr"
    assert len(repr(settings)) < 200
    assert settings.tries[1] == settings.lr


def test_formats_and_sizes():
    found = one()
    low = zotk.suggest(found, budget=400, horizon=100, dtype=torch.bfloat16)
    high = zotk.suggest(found, budget=400, horizon=100, dtype=torch.float64)
    assert high.eps < low.eps <= 4 * found.eps  # no step beyond what was looked at
    assert low.eps >= found.largest * 2**-8
    assert (low.memory, low.rounding) == ("layerwise", "stochastic")
    assert (high.memory, high.rounding) == ("store", "nearest")
    block = zotk.suggest(found, budget=100 * 60, horizon=100, dtype=torch.float64)
    assert block.directions == zotk.Orthogonal() and block.queries == 30
    adam = zotk.suggest(found, budget=400, horizon=100, dtype=torch.float64, optimizer="adam")
    assert adam.directions == zotk.Rademacher() and adam.lr > 0
    assert adam.queries == 1 and "one query" in adam.warnings[0] and adam.momentum == 0.9
    assert high.momentum == block.momentum == 0  # no claim states that it pays here


def test_a_large_model_takes_no_large_memory():
    found = dataclasses.replace(
        one(noise_scale=50.0, examples=16), d=10**9, stderr={**one().stderr, "noise_scale": 5.0}
    )
    settings = zotk.suggest(found, budget=2000, horizon=1000, dtype=torch.bfloat16)
    assert 0 < settings.lr < 1


def test_watch_counts_the_walk_and_lowers_a_rate_that_has_become_unsafe():
    """Batches shake v, which the mean loss hardly sees; with |v| the curvature along w grows."""
    d, ends = 200, []
    u = torch.randn(180, generator=seeded(9), dtype=torch.float64) / 180**0.5
    for watched in (False, True):
        theta = torch.zeros(d, dtype=torch.float64)
        theta[:20] = 0.1
        theta.requires_grad_()

        def loss(sign=0.0, theta=theta):
            w, v = theta[:20], theta[20:]
            return 0.5 * (1 + 40 * v.square().mean()) * w.square().sum() + 3 * sign * (u @ v)

        found = zotk.probe(loss, [theta], None, probes=32, eps=1e-3)
        settings = zotk.suggest(found, budget=4000, horizon=2000, dtype=torch.float64)
        watch = zotk.Watch(found, settings, loss, [theta], None, every=10, probes=16)
        start, directions, draw = theta.detach().clone(), seeded(4), seeded(5)
        seen, before, lr = [], loss().item(), settings.lr
        for _ in range(200):
            sign = 2.0 * int(torch.randint(2, (), generator=draw)) - 1
            made = zotk.measure(
                lambda sign=sign: loss(sign), [theta], eps=1e-3, generator=directions
            )
            zotk.replay_([theta], made, -lr)
            seen.append(watch.step(made, lr))
            if len(seen) == 10:
                moved = (theta.detach() - start).norm().item()
                assert seen[-1].walk == pytest.approx(moved, rel=0.3)
            lr = seen[-1].lr if watched else lr
            if not loss().item() < 1e6:
                break
        ends.append(loss().item() / before)
    assert ends[0] > 100 and ends[1] < 10
    assert seen[-1].edge < settings.edge and lr < settings.lr
    assert "edge" in str(seen[9]) and "edge" not in str(seen[8])
    with pytest.raises(TypeError):
        watch.step(3, 0.1)


class Transformer(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.words = nn.Embedding(12, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, tokens):
        x = self.words(tokens)
        z = self.norm(x)
        x = x + torch.softmax(self.query(z) @ self.key(z).mT / 4, -1) @ self.value(z)
        x = x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))
        return self.head(x.mean(1))


def test_watch_tells_before_a_transformer_explodes():
    """The suggested rate is safe at the start; the walk raises tr H, and the loss explodes."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = Transformer().float()
    tokens = torch.randint(12, (400, 8), generator=seeded(1))
    answers, everything = (tokens == 0).any(1).long(), torch.arange(400)
    loss = lambda b: nn.functional.cross_entropy(net(tokens[b]), answers[b])  # noqa: E731
    draw = seeded(1)
    batches = [torch.randint(400, (100,), generator=draw) for _ in range(128)]
    found = zotk.probe(loss, net, batches, probes=64, generator=draw)
    settings = zotk.suggest(found, budget=400, horizon=200, dtype=torch.float32, batch=8)
    assert any("walks" in warning for warning in settings.warnings)
    start = {k: v.clone() for k, v in net.state_dict().items()}
    before, ends, told = loss(everything).item(), [], []
    for watched in (False, True):
        net.load_state_dict(start)
        watch = zotk.Watch(found, settings, loss, net, batches, every=10, generator=seeded(5))
        directions, data, lr = seeded(11), seeded(21), settings.lr
        for step in range(60):
            b = torch.randint(400, (8,), generator=data)
            made = zotk.measure(
                lambda b=b: loss(b), net, directions=settings.directions, eps=settings.eps,
                generator=directions,
            )  # fmt: skip
            zotk.replay_(net, made, -lr)
            now = loss(everything).item() / before
            if not now < 2:
                break
            report = watch.step(made, lr)
            if report.lr < lr:
                told.append(step)
            lr = report.lr if watched else lr
        ends.append((step, now))
    assert not ends[0][1] < 2 and told[0] <= ends[0][0] - 20
    assert ends[1][1] < 0.9 and lr < settings.lr
