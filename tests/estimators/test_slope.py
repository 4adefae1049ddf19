"""What the slopes of an estimate say: how steep the loss is, and how sure that is."""

import math

import pytest
import torch
from torch import nn

import zotk

F64 = torch.float64


def estimate(coefficients, law=None):
    count = len(coefficients)
    return zotk.Estimate(
        loss=0.0, coefficients=coefficients, evaluations=2 * count, seeds=tuple(range(count)),
        directions=law or zotk.Gaussian(), shapes=(torch.Size([3]),), dtypes=(F64,),
        device_type="cpu",
    )  # fmt: skip


def test_by_hand():
    """Slopes 1 and -2: squares 1 and 4, mean 5/2, s² = 9/2; s/(2·√(5/2)·√2) = 3/(2√10)."""
    made = estimate((0.5, -1.0))
    assert made.slope == pytest.approx(math.sqrt(2.5), rel=1e-15)
    assert made.stderr == pytest.approx(3 / (2 * math.sqrt(10)), rel=1e-14)
    assert estimate((3.0,)).slope == 3.0 and estimate((3.0,)).stderr is None
    assert estimate((0.0, 0.0)).stderr == 0.0
    assert estimate((1.0, 2.0), zotk.Orthogonal()).stderr is None
    assert estimate((1.0, 2.0), zotk.Guided(zotk.Gaussian(), [torch.ones(3)])).stderr is None


@pytest.mark.parametrize("law", [zotk.Gaussian(), zotk.Sphere(), zotk.Rademacher()], ids=repr)
@pytest.mark.parametrize("queries", [16, 48])
def test_the_spread_of_many_estimates(law, queries):
    """|g| = 5 from `queries` slopes: what the slopes vary by is what each says of itself."""
    g = torch.tensor([3.0, 0, 4, 0, 0, 0, 0, 0, 0], dtype=F64)
    g = g[torch.randperm(9, generator=torch.Generator().manual_seed(3))]
    p, generator = nn.Parameter(torch.zeros(9, dtype=F64)), torch.Generator().manual_seed(6)
    made = [
        zotk.measure(lambda: p @ g, [p], directions=law, queries=queries, generator=generator)
        for _ in range(250)
    ]
    slopes = torch.tensor([m.slope for m in made], dtype=F64)
    squares = slopes.square()
    assert abs(squares.mean() - 25) < 6 * squares.std() / 250**0.5
    declared = torch.tensor([m.stderr for m in made], dtype=F64).square().mean().sqrt()
    spread = slopes.std()  # known to 6/√500 = 27 %
    assert 0.73 < spread / declared < 1.27 + 1 / queries
    assert not 0.73 < spread / (2 * declared) < 1.27  # of the mean of the squares' root alone
    if law == zotk.Gaussian():
        assert declared == pytest.approx(5 / math.sqrt(2 * queries), rel=0.15)


def test_the_slope_is_the_change_along_the_estimate():
    """-g'ĝ = -mean c²: the derivative of the loss along the step of an optimiser."""
    net = zotk.mlp([3, 4, 1], generator=torch.Generator().manual_seed(1)).double()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=F64)

    def loss():
        return net(x).square().mean()

    grads = torch.autograd.grad(loss(), list(net.parameters()))
    made = zotk.backward(loss, net, queries=4, eps=1e-5)
    along = sum(float((p.grad * g).sum()) for p, g in zip(net.parameters(), grads, strict=True))
    assert along == pytest.approx(made.slope**2, rel=1e-6)
