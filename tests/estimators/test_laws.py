"""Laws for matrices and masks, and the check of what a law declares."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import zotk

SHAPES = [(3, 2), (4,), (2, 2, 2)]
LAWS = [zotk.Gaussian(), zotk.Gaussian(std=2.0), zotk.Rademacher(), zotk.Laplace(), zotk.Sphere(),
        zotk.StudentT(30), zotk.Sphere(3.0), zotk.Coordinate(),
        zotk.LowRank(1), zotk.LowRank(4), zotk.Subspace(1), zotk.Subspace(2, every=3, seed=5),
        zotk.Subspace(1, every=10).at(7), zotk.Orthogonal()]  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_laws_keep_what_they_declare(law):
    zotk.check_law(law, SHAPES, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Wide(zotk.Gaussian):
    """Inherits `is_standard` and draws twice as far."""

    def _draw(self, n, d, generator, dtype, device):
        return 2 * super()._draw(n, d, generator, dtype, device)


@dataclass(frozen=True)
class Correlated(zotk.Gaussian):
    def _draw(self, n, d, generator, dtype, device):
        z = super()._draw(n, d, generator, dtype, device)
        if d > 1:
            z[:, 1] = 0.8 * z[:, 0] + 0.6 * z[:, 1]
        return z


@dataclass(frozen=True)
class Unstretched(zotk.Subspace):
    """UV' for √(n/r) UV'."""

    def pieces(self, like, seed):
        inner = super().pieces(like, seed)
        share = [1.0 if t.dim() < 2 else math.sqrt(self.rank / t[0].numel()) for t in like]
        return [z * share[k] for k, z in enumerate(inner)]


@dataclass(frozen=True)
class Peaked(zotk.Rademacher):
    def kurtosis(self, d):
        return 1.5


@dataclass(frozen=True)
class Forgetful(zotk.Gaussian):
    def _draw(self, n, d, generator, dtype, device):
        return torch.randn(n, d, dtype=dtype, device=device)


@pytest.mark.parametrize(
    ("law", "match"),
    [
        (Wide(), r"declares 1 for E\[zz'\], entry by entry and draws [34]\."),
        (Correlated(), r"declares 0 for E\[zz'\], entry by entry and draws 0\."),
        (Peaked(), r"declares 1.5 for E z_i⁴ and draws 1 "),
        (Unstretched(1), r"declares 1 for E\[zz'\], entry by entry and draws 0\."),
        (Forgetful(), "piece 2 of a seed differs"),
    ],
    ids=["wide", "correlated", "peaked", "unstretched", "forgetful"],
)
def test_a_law_that_does_not_is_named_with_both_numbers(law, match):
    with torch.random.fork_rng(), pytest.raises(ValueError, match=match):
        zotk.check_law(law, SHAPES)


def test_what_cannot_be_checked():
    with pytest.raises(TypeError, match="law is 3"):
        zotk.check_law(3, SHAPES)
    with pytest.raises(ValueError, match="draws is 10"):
        zotk.check_law(zotk.Gaussian(), SHAPES, draws=10)


@pytest.mark.parametrize("rank", [1, 2])
def test_low_rank_pieces(rank):
    """The rank, and the kurtosis 3(1 + 2/r) of an entry, with a standard error."""
    like = [torch.empty(6, 5, dtype=torch.float64), torch.empty(7, dtype=torch.float64)]
    law = zotk.LowRank(rank)
    z = torch.stack([law.pieces(like, seed)[0] for seed in range(20_000)])
    assert int(torch.linalg.matrix_rank(z[0])) == rank
    fourth = z[:, 0, 0] ** 4
    expected = 3 * (1 + 2 / rank)
    assert abs(fourth.mean() - expected) < 5 * fourth.std() / len(z) ** 0.5
    assert not abs(fourth.mean() - 3) < 5 * fourth.std() / len(z) ** 0.5
    with pytest.raises(ValueError, match="depends on the shapes"):
        law.kurtosis(30)


@pytest.mark.parametrize("memory", ["store", "replay", "exact", "layerwise"])
def test_a_masked_estimate_is_of_the_masked_gradient(memory):
    net = zotk.mlp([3, 4, 1], generator=torch.Generator().manual_seed(2)).double()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    masks = [torch.rand(p.shape, generator=torch.Generator().manual_seed(k)) < 0.5
             for k, p in enumerate(net.parameters())]  # fmt: skip
    law = zotk.Masked(zotk.Rademacher(), masks)
    before = [p.detach().clone() for p in net.parameters()]
    made = zotk.backward(lambda: net(x).square().mean(), net, directions=law, queries=4000,
                         eps=1e-5, memory=memory)  # fmt: skip
    grads = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    moving = sum(int(m.sum()) for m in masks)
    size = sum((g * m).square().sum() for g, m in zip(grads, masks, strict=True)) ** 0.5
    for p, g, m in zip(net.parameters(), grads, masks, strict=True):
        assert not p.grad[~m].any()
        assert (p.grad - g * m).abs().max() < 6 * size * (moving / 4000) ** 0.5
    zotk.replay_(net, made, -0.1)
    for p, old, m in zip(net.parameters(), before, masks, strict=True):
        assert torch.allclose(p[~m], old[~m], rtol=0, atol=1e-15)


def test_masks_that_do_not_fit():
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"mask has the shapes \[\(2,\)\]; the parameters have"):
        zotk.measure(lambda: 0.0, [p], directions=zotk.Masked(zotk.Gaussian(), [torch.ones(2) > 0]))
    with pytest.raises(ValueError, match="False everywhere"):
        zotk.Masked(zotk.Gaussian(), [torch.zeros(3) > 0])
    with pytest.raises(TypeError, match="tensors of bools"):
        zotk.Masked(zotk.Gaussian(), [torch.ones(3)])
    law = zotk.Masked(zotk.Gaussian(), [torch.tensor([True, False, True])])
    assert repr(law).startswith("Masked(Gaussian(mean=0.0, std=1.0), 2 of 3 entries #")
    assert len(repr(law)) < 75
    assert not law.sample(4, 3)[:, 1].any() and law == zotk.Masked(zotk.Gaussian(), law.mask)
