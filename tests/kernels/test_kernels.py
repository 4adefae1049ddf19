"""Kernels against enumeration, cubature and the definition, entry by entry."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import zotk

X = torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.4, -0.2]], dtype=torch.float64)
Y = torch.tensor([[0.5, 0.5, -1.0], [2.0, 0.1, 0.3], [0.0, 1.0, 1.0]], dtype=torch.float64)


def nodes(mean=0.0, std=1.0, d=3):
    """Points and weights of R³, exact to degree 9 in each coordinate of N(mean, std²)."""
    x, w = np.polynomial.hermite_e.hermegauss(5)
    grid = torch.tensor(list(itertools.product(mean + std * x, repeat=d)))
    weights = [math.prod(p) for p in itertools.product(w / w.sum(), repeat=d)]
    return grid, torch.tensor(weights)


def by_definition(zeta, z):
    """K_ij of Eq 5 for one pair of directions."""
    return torch.einsum("id,d,e,e,f,jf->ij", X, zeta, zeta, z, z, Y)


@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_independent_gaussians(mean):
    z, wz = nodes(mean, 1.3, 3)
    zeta, wzeta = nodes(0.2, 0.8, 3)
    second = torch.einsum("n,nd,ne->de", wz, z, z)
    other = torch.einsum("n,nd,ne->de", wzeta, zeta, zeta)
    truth = X @ other @ second @ Y.T
    law, law2 = zotk.Gaussian(mean, 1.3), zotk.Gaussian(0.2, 0.8)
    assert torch.allclose(zotk.nzk(X, Y, directions=law, other=law2), truth, rtol=1e-12)
    assert torch.allclose(zotk.zo_kernel(X, Y, directions=law), X @ second @ Y.T, rtol=1e-12)


@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_shared_gaussian(mean):
    z, w = nodes(mean, 1.3, 3)
    truth = torch.einsum("n,id,nd,n,ne,je->ij", w, X, z, z.square().sum(1), z, Y)
    kernel = zotk.nzk(X, Y, directions=zotk.Gaussian(mean, 1.3), shared=True)
    assert torch.allclose(kernel, truth, rtol=1e-12)


def test_signs_by_enumeration():
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    shared = sum(by_definition(z, z) for z in signs) / 8
    apart = sum(by_definition(a, b) for a in signs for b in signs) / 64
    law = zotk.Rademacher()
    assert torch.allclose(zotk.nzk(X, Y, directions=law, shared=True), shared)
    assert torch.allclose(zotk.nzk(X, Y, directions=law), apart)
    assert torch.allclose(zotk.zo_kernel(X, Y, directions=law), X @ Y.T)


@pytest.mark.parametrize("n", [2, 5])
def test_sphere_of_radius_one_divides_by_the_dimension_not_by_the_examples(n):
    """E[zz'] = I/d from the octahedron, whose vertices are a design of degree 3."""
    for d in (3, 4):
        x = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        y = torch.randn(3, d, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        vertices = torch.cat([torch.eye(d), -torch.eye(d)]).double()
        second = vertices.T @ vertices / (2 * d)
        law = zotk.Sphere(1.0)
        for right in (None, y):
            gram = x @ second @ (x if right is None else right).T
            assert torch.allclose(zotk.zo_kernel(x, right, directions=law), gram, rtol=1e-13)
            apart = zotk.nzk(x, right, directions=law)
            assert torch.allclose(apart, gram / d, rtol=1e-13)
            shared = zotk.nzk(x, right, directions=law, shared=True)  # |z| = 1
            assert torch.allclose(shared, gram, rtol=1e-13)
            unlike = zotk.nzk(x, right, directions=law, other=zotk.Gaussian(0.5, 1.0))
            mean = torch.eye(d, dtype=x.dtype) + 0.25
            truth = x @ mean @ second @ (x if right is None else right).T
            assert torch.allclose(unlike, truth, rtol=1e-13)


LAWS = [
    zotk.Gaussian(0.3, 0.9),
    zotk.Rademacher(),
    zotk.Laplace(0.6),
    zotk.StudentT(30.0),
    zotk.Sphere(1.0),
    zotk.Coordinate(),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("shared", [False, True])
def test_samples_agree_with_the_expectation(law, shared):
    g = torch.Generator().manual_seed(2)
    estimate = zotk.nzk_samples(X, Y, directions=law, draws=200_000, shared=shared, generator=g)
    z = (estimate.matrix - zotk.nzk(X, Y, directions=law, shared=shared)) / estimate.stderr
    assert estimate.draws == 200_000
    assert z.abs().max() < 5.5


def test_samples_average_the_definition(monkeypatch):
    """Mean and standard error against the list of all draws, whatever the chunks."""
    g = torch.Generator().manual_seed(7)
    law = zotk.Gaussian()
    z = torch.cat([law.sample(10, 3, generator=g, dtype=torch.float64) for _ in range(5)])
    every = torch.stack([by_definition(v, v) for v in z])
    monkeypatch.setattr("zotk.kernels.linear._ENTRIES", 170)  # chunks of ten draws
    g = torch.Generator().manual_seed(7)
    estimate = zotk.nzk_samples(
        X, Y, directions=zotk.Gaussian(), draws=50, shared=True, generator=g
    )
    assert torch.allclose(estimate.matrix, every.mean(0), rtol=1e-12)
    assert torch.allclose(estimate.stderr, every.std(0) / math.sqrt(50), rtol=1e-9)


def test_draws_that_are_all_equal_have_no_error():
    """In one dimension every sign gives x_i x_j: rounding must not make a variance negative."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(40, 1, generator=g, dtype=torch.float64)
    for draws in (2, 3, 1000):
        estimate = zotk.nzk_samples(x, directions=zotk.Rademacher(), draws=draws, shared=True)
        exact = x @ x.T
        assert torch.allclose(estimate.matrix, exact, rtol=1e-13)
        assert (estimate.stderr <= 1e-7 * exact.abs()).all()


def test_standard_errors_cover():
    """The spread of independent estimates is what the standard error says."""
    g = torch.Generator().manual_seed(3)
    runs = [
        zotk.nzk_samples(X, directions=zotk.Rademacher(), draws=500, generator=g)
        for _ in range(400)
    ]
    spread = torch.stack([r.matrix for r in runs]).std(0)
    said = torch.stack([r.stderr for r in runs]).mean(0)
    assert ((spread / said - 1).abs() < 0.2).all()


def wide(d):
    """Features of few examples in many dimensions, where only their span is sampled."""
    g = torch.Generator().manual_seed(4)
    return [torch.randn(n, d, generator=g, dtype=torch.float64) / d**0.5 for n in (2, 3)]


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_wide_gaussian_samples_have_the_exact_mean_and_variance(shared, square):
    """Fourth moments of (ζ, z) by Isserlis; the spread of 200 runs judges their variances."""
    d, draws, law, other = 9, 2000, zotk.Gaussian(0.0, 1.3), zotk.Gaussian(0.0, 0.8)
    a, b = wide(d)
    b = a if square else b
    second = None if shared else other
    g = torch.Generator().manual_seed(8)
    runs = [
        zotk.nzk_samples(
            a, b, directions=law, other=second, shared=shared, draws=draws, generator=g
        )
        for _ in range(200)
    ]
    inner = a @ b.T
    norms = torch.outer(a.square().sum(1), b.square().sum(1))
    if shared:
        spread = (d + 4) * (d + 6) * (norms + 2 * inner.square()) - (d + 2) ** 2 * inner.square()
        truth = 1.3**8 * spread
    else:
        truth = (1.3 * 0.8) ** 4 * ((d + 4) * norms + 3 * inner.square())
    expected = zotk.nzk(a, b, directions=law, other=second, shared=shared)
    for measured, exact in (
        (torch.stack([run.matrix for run in runs]), expected),
        (torch.stack([run.stderr.square() * draws for run in runs]), truth),
    ):
        stderr = measured.std(0) / 200**0.5
        assert ((measured.mean(0) - exact) / stderr).abs().max() < 4.5


@pytest.mark.parametrize("shared", [True, False])
def test_wide_gaussian_draws_have_the_law_of_the_definition(shared):
    """Two draws are mean ± standard error: their law against that of K_ij in full."""
    x = wide(4)[0][:1]
    g = torch.Generator().manual_seed(9)
    drawn = []
    for _ in range(6000):
        k = zotk.nzk_samples(x, directions=zotk.Gaussian(), draws=2, shared=shared, generator=g)
        drawn += [(k.matrix + k.stderr).item(), (k.matrix - k.stderr).item()]
    z = torch.randn(200_000, 4, generator=g, dtype=torch.float64)
    zeta = z if shared else torch.randn(200_000, 4, generator=g, dtype=torch.float64)
    full = (zeta @ x[0]) * (zeta * z).sum(1) * (z @ x[0])
    assert stats.ks_2samp(drawn, full.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: zotk.nzk(X[0], directions=zotk.Gaussian()), ValueError, "x1 has shape"),
        (lambda: zotk.nzk(X, Y[:, :2], directions=zotk.Gaussian()), ValueError, "x2 has shape"),
        (lambda: zotk.nzk(X.long(), directions=zotk.Gaussian()), TypeError, "x1"),
        (lambda: zotk.nzk(X, directions=zotk.StudentT(3), shared=True), ValueError, "df is 3"),
        (
            lambda: zotk.nzk(X, directions=zotk.Sphere(), shared=True, other=zotk.Sphere()),
            ValueError,
            "other",
        ),
        (lambda: zotk.nzk_samples(X, directions=zotk.Sphere(), draws=1), ValueError, "draws is 1"),
        (
            lambda: zotk.nzk_samples(X, directions=zotk.Orthogonal(), draws=9),
            ValueError,
            "Orthogonal",
        ),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
