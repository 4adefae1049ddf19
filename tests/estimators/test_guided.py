"""One query along a guess of the gradient: exact there, unbiased and known in error beside it."""

import math

import pytest
import torch
from torch import nn

import zotk

F64 = torch.float64
SHAPES = [(3, 2), (4,), ()]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def tensors(seed, dtype=F64):
    g = gen(seed)
    return [torch.randn(shape, generator=g, dtype=dtype) for shape in SHAPES]


def flat(values):
    return torch.cat([v.reshape(-1) for v in values])


LAWS = [zotk.Gaussian(), zotk.Rademacher(), zotk.Sphere(), zotk.Orthogonal(),
        zotk.Subspace(1, every=2), zotk.LowRank(1)]  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("queries", [2, 5])
def test_the_mean_over_the_queries_is_the_identity(law, queries):
    zotk.check_law(zotk.Guided(law, tensors(1)), SHAPES, queries=queries, draws=400)


class Unscaled(zotk.Guided):
    """The guess at the length of one query of one."""

    def directions(self, like, seeds):
        inner = super().directions(like, seeds)
        share = 1 / math.sqrt(len(seeds))
        return lambda p: [z.mul(share) for z in inner(p)] if p == 0 else inner(p)


def test_check_law_sees_a_guess_of_another_length():
    with pytest.raises(ValueError, match=r"for E\[zz'\], entry by entry"):
        zotk.check_law(Unscaled(zotk.Gaussian(), tensors(1)), SHAPES)


@pytest.mark.parametrize("queries", [2, 4])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_error_on_a_linear_loss(queries, share):
    """E|ĝ-g|² = (1-c²) d/(P-1) |g|², c the cosine of the guess; ĝ'u = g'u exactly."""
    g = flat(tensors(1))
    d, side = len(g), flat(tensors(2))
    side -= (side @ g) / (g @ g) * g
    guess = share * g / g.norm() + math.sqrt(1 - share**2) * side / side.norm()
    law = zotk.Guided(zotk.Gaussian(), [3.0 * guess])
    estimate = zotk.grad(lambda t: t @ g, directions=law, queries=queries, generator=gen(4))
    made = torch.stack([estimate(torch.zeros(d, dtype=F64)) for _ in range(1000)])
    assert torch.allclose(made @ guess, (g @ guess).expand(1000), rtol=1e-9)
    errors = (made - g).square().sum(1) / (g @ g)
    stderr = errors.std() / 1000**0.5
    assert abs(errors.mean() - (1 - share**2) * d / (queries - 1)) < 6 * stderr
    twin = (1 - share**2) * d / queries
    assert not abs(errors.mean() - twin) < 6 * stderr
    assert ((made.mean(0) - g).abs() / (made.std(0) / 1000**0.5)).max() < 6


def test_rows_are_the_same_law():
    """`sample` draws the queries of one estimate as rows."""
    law = zotk.Guided(zotk.Gaussian(), tensors(1))
    rows = law.sample(4, 11, generator=gen(1), dtype=F64)
    u = flat(tensors(1))
    assert torch.allclose(rows[0], 2 * u / u.norm())
    assert (rows[1:] @ u).abs().max() < 1e-12
    with pytest.raises(ValueError, match="estimate, is 1"):
        law.sample(1, 11)
    with pytest.raises(ValueError, match="d is 12 and the direction has 11"):
        law.sample(2, 12)


X = torch.randn(12, 4, generator=gen(2), dtype=F64)


def network(dtype=F64):
    return zotk.mlp([4, 6, 2], generator=gen(3)).to(dtype)


def loss_of(net):
    return lambda: net(X.to(next(net.parameters()).dtype)).double().square().mean()


def guess_of(net):
    return [torch.randn(p.shape, generator=gen(5)) for p in net.parameters()]


@pytest.mark.parametrize("inner", [zotk.Gaussian(), zotk.Sphere(), zotk.Orthogonal()], ids=repr)
@pytest.mark.parametrize("memory", ["store", "replay", "exact", "layerwise"])
def test_every_memory_makes_the_same_step(inner, memory):
    law = zotk.Guided(inner, guess_of(network()))
    net, other = network(), network()
    if inner == zotk.Orthogonal() and memory in ("replay", "layerwise"):
        with pytest.raises(ValueError, match="rows are drawn together"):
            zotk.measure(loss_of(net), net, directions=law, queries=3, memory=memory)
        return
    made = zotk.measure(loss_of(net), net, directions=law, queries=3, memory=memory)
    plain = zotk.backward(loss_of(other), other, directions=law, queries=3, memory="exact")
    assert made.coefficients == pytest.approx(plain.coefficients, rel=1e-8, abs=1e-10)
    zotk.replay_(net, plain, -0.1)
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-11, atol=1e-13)


def test_half_precision():
    net = network(torch.bfloat16)
    law = zotk.Guided(zotk.Gaussian(), guess_of(net))
    made = zotk.backward(loss_of(net), net, directions=law, queries=3, eps=0.1, memory="layerwise")
    assert all(p.grad.dtype == torch.bfloat16 for p in net.parameters())
    assert len(made.coefficients) == 3


def test_a_record_has_the_direction_or_its_fingerprint(tmp_path):
    net = network()
    law = zotk.Guided(zotk.Gaussian(), guess_of(net))
    made = zotk.measure(loss_of(net), net, directions=law, queries=2)
    text = made.to_json()
    assert zotk.Estimate.from_json(text, directions=law) == made
    with pytest.raises(ValueError, match=r"direction of Guided by its fingerprint \w{16} only"):
        zotk.Estimate.from_json(text)
    other = zotk.Guided(zotk.Gaussian(), [2 * u for u in law.direction])
    with pytest.raises(ValueError, match="the record was made with directions"):
        zotk.Estimate.from_json(text, directions=other)
    torch.save(made, tmp_path / "made.pt")
    with torch.serialization.safe_globals(zotk.Estimate.safe_globals()):
        assert torch.load(tmp_path / "made.pt", weights_only=True) == made
    assert len(repr(made)) < 200 and "tensor(" not in repr(law)
    with pytest.raises(ValueError, match="belong together; replay them one by one"):
        zotk.join([made, made])


def test_a_log_of_masked_steps_needs_the_mask(tmp_path):
    net, twin = network(), network()
    masks = [torch.rand(p.shape, generator=gen(k)) < 0.5 for k, p in enumerate(net.parameters())]
    law = zotk.Masked(zotk.Gaussian(), masks)
    log = zotk.Log(tmp_path / "run.jsonl", directions=law)
    for _ in range(3):
        made = zotk.measure(loss_of(net), net, directions=law)
        log.append(made, -0.1)
        zotk.replay_(net, made, -0.1)
    assert log.restore_(twin) == 3
    assert all(map(torch.equal, net.parameters(), twin.parameters()))
    with pytest.raises(ValueError, match="mask of Masked by its fingerprint"):
        len(zotk.Log(log.path))
    assert zotk.Masked(zotk.Gaussian(), [m.clone() for m in masks]) == law


def test_the_direction_is_a_copy():
    guess = [torch.ones(3)]
    law = zotk.Guided(zotk.Gaussian(), guess)
    guess[0].zero_()
    assert torch.equal(law.direction[0], torch.ones(3))


def test_what_cannot_be_guided():
    p = nn.Parameter(torch.ones(3))
    law = zotk.Guided(zotk.Gaussian(), [torch.ones(3)])
    for directions, queries, match in (
        (law, 1, "queries is 1 with directions=Guided"),
        (zotk.Guided(zotk.Gaussian(), [torch.ones(2)]), 2, r"has the shapes \[\(2,\)\]; the para"),
        (zotk.Guided(zotk.Gaussian(std=2.0), [torch.ones(3)]), 2, "is not I"),
    ):
        with pytest.raises(ValueError, match=match):
            zotk.measure(lambda: pytest.fail("evaluated"), [p], directions=directions,
                         queries=queries)  # fmt: skip
    assert zotk.Guided(zotk.Gaussian(std=2.0), [torch.ones(3)]).standardized() == law
    for wrong, error, match in (
        ((zotk.Gaussian(), [torch.zeros(3)]), ValueError, "the length 0.0"),
        ((zotk.Gaussian(), [torch.full((3,), math.inf)]), ValueError, "the length inf"),
        ((zotk.Gaussian(), [torch.ones(3, dtype=torch.int64)]), TypeError, "floating-point"),
        ((3, [torch.ones(3)]), TypeError, "law is 3"),
        ((zotk.Masked(zotk.Gaussian(), [torch.ones(3) > 0]), [torch.ones(3)]), ValueError, "alike"),
    ):
        with pytest.raises(error, match=match):
            zotk.Guided(*wrong)
    with pytest.raises(ValueError, match="belong together"):
        zotk.Masked(law, [torch.ones(3) > 0])
    with pytest.raises(ValueError, match="different laws"):
        law.kurtosis(3)
    with pytest.raises(ValueError, match="no multiple of I"):
        law.gain(3)
