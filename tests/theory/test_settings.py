"""Settings from measured numbers: safe, refused where a number is missing, and watched."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

import zotk
from zotk.theory.shaken import Reach, Shaken

ROOT = Path(__file__).parent.parent.parent
X, Y = (t[:300] for t in zotk.digits())
X, Y = X.float() / X.std().item(), Y.long()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def run(loss, params, settings, lr, draw, steps, seed, after=lambda made, lr: lr):
    """The steps of a run; ``after`` each it says with which rate to go on, or None."""
    directions, data, chance = seeded(seed), seeded(seed + 1000), seeded(seed + 2000)
    for _ in range(steps):
        b = draw(data)
        made = zotk.measure(
            lambda b=b: loss(b), params, directions=settings.directions, eps=settings.eps,
            queries=settings.queries, scheme=settings.scheme, memory=settings.memory,
            generator=directions,
        )  # fmt: skip
        zotk.replay_(params, made, -lr, rounding=settings.rounding, generator=chance)
        lr = after(made, lr)
        if lr is None:
            break


def indices(population, size):
    return lambda generator: torch.randint(population, (size,), generator=generator)


def drawn(population, size, count, generator):
    """Batches for the probe."""
    draw = indices(population, size)
    return [draw(generator) for _ in range(count)]


def linear(d, power, rows=4000):
    """A linear model with Gaussian inputs, its loss on batches, and its spectrum."""
    values = torch.arange(1.0, d + 1, dtype=torch.float64) ** -power
    x = torch.randn(rows, d, generator=seeded(d), dtype=torch.float64) * values.sqrt()
    theta = torch.ones(d, dtype=torch.float64, requires_grad=True)
    return theta, lambda b: 0.5 * (x[b] @ theta).square().mean(), values


def measured_linear(d, power, n=40):
    theta, loss, values = linear(d, power)
    batches = drawn(4000, n, 600, seeded(1))
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
    batches = drawn(300, 100, 128, draw)
    found = zotk.probe(loss, net, batches, probes=64, generator=draw)
    settings = zotk.suggest(found, budget=400, horizon=200, dtype=torch.float32, batch=8)
    start = {k: v.clone() for k, v in net.state_dict().items()}
    whole = slice(None)
    before = loss(whole).item()
    ends = []
    for lr in (settings.lr, 2 / (found.trace + 2 * found.second**0.5)):
        net.load_state_dict(start)
        run(loss, net, settings, lr, indices(300, 8), 200, seed=2)
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
    batches = drawn(4000, 8, 400, seeded(1))
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


EXAMPLES = 1000


def shaky(d, idle, bend=2e4, noise=0.15):
    """½(1 + bend |v|⁴/n²)|w|² and noise u'v/√1000 Σ±1; n = d - idle - 2, idle ones only move.

    Batches shake v, which the mean loss hardly sees; with |v| the curvature along w grows, and
    nothing of it is seen at the start. Returns θ, the loss of a batch of 1,000 signs (0: the mean
    loss), and tr H at θ + s z in mean over z.
    """
    n = d - idle - 2
    u = torch.randn(n, generator=seeded(9), dtype=torch.float64)
    u /= u.norm()
    theta = torch.cat([torch.full((2,), 0.1), torch.zeros(n), torch.full((idle,), 0.3)]).double()
    theta.requires_grad_()

    def loss(sign):
        w, v = theta[:2], theta[2 : 2 + n]
        curvature = 1 + bend * v.square().mean() ** 2
        return 0.5 * curvature * w.square().sum() + noise * EXAMPLES**0.5 * sign.mean() * (u @ v)

    whole = bend * (1 + 2 / n)
    return theta, loss, lambda s: 2 + 2 * whole * s**4 + 4 * whole * s**2 * (0.01 + s**2)


def signs(generator):
    return 2.0 * torch.randint(2, (EXAMPLES,), generator=generator) - 1


def probed(theta, loss, probes=200):
    draw = seeded(3)
    batches = [signs(draw) for _ in range(2 * probes)]
    return zotk.probe(loss, [theta], batches, probes=probes, eps=1e-3, generator=draw)


@pytest.mark.parametrize("d", [200, 400])
def test_shaken_traces_slopes_and_noise_are_those_of_the_formula(d):
    theta, loss, trace = shaky(d, idle=d // 2)
    found = probed(theta, loss, probes=400)
    lengths = [each.length for each in found.shaken]
    assert lengths == pytest.approx([found.norm * share for share in (1 / 4, 1 / 2, 1, 2)])
    start = theta.detach().clone()
    for each in found.shaken:
        s = each.length / d**0.5
        assert abs(each.trace - trace(s)) < 4.5 * each.stderr["trace"] < 1.2 * trace(s)
        assert each.scatter == pytest.approx(
            0.15**2 * EXAMPLES, abs=4.5 * each.stderr["scatter"] + 1e-6
        )
        squares = []
        for k in range(200):
            z = torch.randn(d, generator=seeded(k), dtype=torch.float64)
            with torch.no_grad():
                theta.copy_(start + s * z)
            squares.append(torch.autograd.grad(loss(torch.zeros(1)), theta)[0].square().sum())
        squares = torch.stack(squares)
        chance = (squares.std().item() ** 2 / 200 + each.stderr["grad2"] ** 2) ** 0.5
        assert abs(each.grad2 - squares.mean().item()) < 4.5 * chance
        with torch.no_grad():
            theta.copy_(start)


@pytest.mark.parametrize("d", [200, 400])
def test_the_rate_holds_where_the_walk_raises_the_trace(d):
    """That of the start's curvature alone is lost; every run at the suggested one ends lower."""
    theta, loss, trace = shaky(d, idle=d // 2)
    found, start = probed(theta, loss), theta.detach().clone()
    settings = zotk.suggest(found, budget=1200, horizon=600, dtype=torch.float64)
    assert "walk" in settings.reasons["lr"].why
    before, mean, of_start = loss(torch.zeros(1)).item(), torch.zeros(1), []
    assert settings.lr < 0.6 * settings.share * settings.edge
    grown = trace(settings.walk / d**0.5) / trace(0)
    assert 0.2 < settings.lr * grown / (settings.edge / 2) <= 1.05
    for seed in range(5):
        for lr in (settings.lr, settings.share * settings.edge):
            with torch.no_grad():
                theta.copy_(start)
            goes_on = lambda made, lr: lr if loss(mean).item() < 1e6 else None  # noqa: E731
            run(loss, [theta], settings, lr, signs, 600, seed, after=goes_on)
            if lr == settings.lr:
                assert loss(mean).item() < before
                moved = (theta.detach() - start).norm().item()
                assert moved < 1.3 * settings.walk
            else:
                of_start.append(loss(mean).item() / before)
    assert max(of_start) > 10


def shaken(lengths, traces, grad2, scatter):
    stderr = {"trace": 0.0, "grad2": 0.0, "scatter": 0.0}
    return tuple(
        Shaken(*row, stderr=stderr) for row in zip(lengths, traces, grad2, scatter, strict=True)
    )


@pytest.mark.parametrize(
    ("queries", "steps", "batch"), [(1, 500, 4), (4, 2000, 16), (2, 900, None)]
)
def test_reach_is_the_walk_step_by_step(queries, steps, batch):
    """One step after the other, against the area; and the rate is the edge's at the end."""
    d, grad2, scatter, noise = 50, 2.0, 12.0, 0.3
    lengths = (1.0, 2.0, 4.0)
    far = shaken(lengths, (12.0, 9.0, 40.0), (2.5, 4.0, 9.0), (12.0, 20.0, 60.0))
    share = 1 / batch if batch else 0.0
    reach = Reach.of(
        far, 0.0, d=d, trace=10.0, square=grad2 + share * scatter, batch=batch, noise=noise
    )
    g = [grad2, 2.5, 4.0, 9.0]
    c = [scatter, 12.0, 20.0, 60.0]
    slopes = [a + share * b + noise for a, b in zip(g, c, strict=True)]

    def walked(lr):
        square = 0.0
        for _ in range(steps):
            M = np.interp(square**0.5, (0.0, *lengths), slopes)
            square += lr**2 * d * M / queries
        return square**0.5

    for most in (0.02, 0.005):
        lr, longest = reach.rate(most, queries, steps)
        ends = walked(lr)
        assert reach.walk(lr, queries, steps) == pytest.approx(ends, rel=0.01)
        growth = np.interp(ends, (0.0, *lengths), (1.0, 1.2, 1.2, 4.0))  # 9 is no way back
        assert not longest and lr * growth == pytest.approx(most, rel=0.02)
    lr, longest = reach.rate(1e3, queries, steps)
    assert longest and walked(lr) == pytest.approx(4.0, rel=0.02)
    none = Reach.of((), 0.5, d=d, trace=10.0, square=grad2, batch=batch, noise=0.0)
    lr, longest = none.rate(1e3, queries, steps)
    assert longest and lr == pytest.approx(0.5 * (queries / (steps * d * grad2)) ** 0.5)


def test_where_the_loss_ends_no_walk_goes():
    """A wall below a quarter of the parameters' length: the lines alone say how far."""
    theta = torch.ones(30, dtype=torch.float64, requires_grad=True)

    def loss():
        off = (theta - 1).norm()
        return 0.5 * theta.square().sum() / (1 if off < 0.5 else 0 * off)

    found = zotk.probe(loss, [theta], None, probes=32, eps=1e-3)
    assert found.shaken == ()
    settings = zotk.suggest(found, budget=400, horizon=200, dtype=torch.float64)
    assert "looked at" in settings.reasons["lr"].why
    assert any("not finite" in each for each in settings.warnings)
    assert settings.walk <= 2 * found.eps * 30**0.5 * 1.001


def test_watch_counts_the_walk_and_lowers_a_rate_that_has_become_unsafe():
    """A rate that is as the start would bear it: alone, and watched."""
    ends = []
    for watched in (False, True):
        theta, loss, _ = shaky(200, idle=100)
        found = probed(theta, loss, probes=32)
        settings = zotk.suggest(found, budget=1200, horizon=600, dtype=torch.float64)
        mean = torch.zeros(1)
        watch = zotk.Watch(
            found, settings, lambda b, loss=loss: loss(0 * b), [theta], [mean], every=5, probes=16
        )
        start, before, seen = theta.detach().clone(), loss(mean).item(), []

        def after(made, lr, theta=theta, loss=loss, watch=watch, watched=watched):
            seen.append(watch.step(made, lr))  # noqa: B023
            if len(seen) == 10:  # noqa: B023
                moved = (theta.detach() - start).norm().item()  # noqa: B023
                assert seen[-1].walk == pytest.approx(moved, rel=0.3)  # noqa: B023
            if not loss(mean).item() < 1e6:  # noqa: B023
                return None
            return seen[-1].lr if watched else lr  # noqa: B023

        run(loss, [theta], settings, settings.share * settings.edge, signs, 600, 4, after)
        ends.append(loss(mean).item() / before)
    assert ends[0] > 100 and ends[1] < 10
    assert seen[-1].lr < settings.share * settings.edge
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


def transformer(dtype):
    """One of the library's smallest, its loss of tokens (400), and what was measured."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = Transformer().to(dtype)
    tokens = torch.randint(12, (400, 8), generator=seeded(1))
    answers = (tokens == 0).any(1).long()
    loss = lambda b: nn.functional.cross_entropy(net(tokens[b]).float(), answers[b])  # noqa: E731
    draw = seeded(1)
    found = zotk.probe(loss, net, drawn(400, 100, 128, draw), probes=64, generator=draw)
    return net, loss, found, zotk.suggest(found, budget=400, horizon=200, dtype=dtype, batch=8)


def test_watch_tells_before_a_transformer_explodes():
    """At the rate that its start would bear the walk raises tr H, and the loss explodes."""
    net, loss, found, settings = transformer(torch.float32)
    of_start = settings.share * settings.edge
    assert settings.lr < 0.6 * of_start and "walk" in settings.reasons["lr"].why
    start = {k: v.clone() for k, v in net.state_dict().items()}
    everything = torch.arange(400)
    before, ends, told = loss(everything).item(), [], []
    batches = drawn(400, 100, 8, seeded(6))
    for watched in (False, True):
        net.load_state_dict(start)
        watch = zotk.Watch(found, settings, loss, net, batches, every=10, generator=seeded(5))
        last = []

        def after(made, lr, watch=watch, watched=watched, last=last):
            last.append(loss(everything).item() / before)
            if not last[-1] < 2:
                return None
            report = watch.step(made, lr)
            if report.lr < lr:
                told.append(len(last))
            return report.lr if watched else lr

        run(loss, net, settings, of_start, indices(400, 8), 100, 11, after)
        ends.append((len(last), last[-1]))
    assert not ends[0][1] < 2 and told[0] <= ends[0][0] - 20
    assert ends[1][1] < 0.9


def test_a_transformer_in_half_precision_holds_at_the_rate_with_every_seed():
    """200 steps of batch 8 in bfloat16, six runs at once; at the start's rate some are lost."""
    net, _, _, settings = transformer(torch.bfloat16)
    tokens = torch.randint(12, (400, 8), generator=seeded(1))
    answers = (tokens == 0).any(1).long()
    theta = torch.cat([p.detach().flatten() for p in net.parameters()])

    def one(t, tokens, answers):
        parts = t.split([p.numel() for p in net.parameters()])
        named = zip(net.named_parameters(), parts, strict=True)
        out = functional_call(net, {k: part.view_as(p) for (k, p), part in named}, (tokens,))
        return nn.functional.cross_entropy(out.float(), answers)

    each, whole = vmap(one), vmap(one, (0, None, None))
    runs, ends = 6, []
    with torch.no_grad():
        for lr in (settings.lr, settings.share * settings.edge):
            draw, t = seeded(8), theta.repeat(runs, 1)
            for _ in range(200):
                z = settings.directions.sample(runs, len(theta), generator=draw)
                b = torch.randint(400, (runs, 8), generator=draw)
                up, down = (
                    each((t + side * settings.eps * z).bfloat16(), tokens[b], answers[b])
                    for side in (1, -1)
                )
                moved = t - lr * ((up - down) / (2 * settings.eps))[:, None] * z
                chance = torch.randint(2**16, moved.shape, generator=draw, dtype=torch.int32)
                # rounded at random: the lower half of a float32 decides
                bits = (moved.float().view(torch.int32) + chance) & -(2**16)
                t = bits.view(torch.float32).bfloat16()
            ends.append(whole(t, tokens, answers) / one(theta, tokens, answers))
    assert bool((ends[0] < 0.9).all())
    assert not bool((ends[1] < 2).all())
