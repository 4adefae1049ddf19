"""Mean-square recursion against cubature of its definition; radius and threshold without it."""

import itertools
import math

import numpy as np
import pytest
import torch

import zotk

SCHEMES = ["plain", "shared", "independent", "sphere", "first-order"]
SPECTRA = {2: [0.9, 0.2], 3: [1.3, 0.6, 0.1]}


def gaussian(d):
    """Nodes and weights exact for polynomials of degree 9 in each coordinate of N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(5)
    z = np.array(list(itertools.product(x, repeat=d)))
    return z, np.array([math.prod(p) for p in itertools.product(w / w.sum(), repeat=d)])


def sphere(d):
    """Nodes and weights exact for polynomials of degree 5 on the sphere of radius √d."""
    angle = 2 * np.pi * np.arange(7) / 7
    if d == 2:
        return math.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], 1), np.full(7, 1 / 7)
    height, w = np.polynomial.legendre.leggauss(4)
    around = np.sqrt(1 - height**2)
    z = [(r * np.cos(a), r * np.sin(a), h) for h, r in zip(height, around, strict=True)
         for a in angle]  # fmt: skip
    return math.sqrt(3) * np.array(z), np.repeat(w / 2, 7) / 7


def step_matrices(scheme, d):
    """All S of a cubature, (n, d, d), and their weights."""
    if scheme == "first-order":
        return np.eye(d)[None], np.ones(1)
    z, w = sphere(d) if scheme == "sphere" else gaussian(d)
    zz = np.einsum("ni,nj->nij", z, z)
    if scheme == "shared":
        return zz @ zz, w
    if scheme == "independent":
        pairs = np.einsum("aij,bjk->abik", zz, zz).reshape(-1, d, d)
        return pairs, np.outer(w, w).ravel()
    return zz, w


def by_cubature(scheme, queries, spectrum, lr):
    """Second moments after one step from a full covariance A, and those of A itself."""
    d = len(spectrum)
    rng = np.random.default_rng(5)
    q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    root = rng.standard_normal((d, d))
    hessian, a = q @ np.diag(spectrum) @ q.T, root @ root.T
    s, w = step_matrices(scheme, d)
    if queries == 2:
        s = (s[:, None] + s[None]).reshape(-1, d, d) / 2
        w = np.outer(w, w).ravel()
    steps = np.eye(d) - lr * s @ hessian
    after = np.einsum("n,nij,jk,nlk->il", w, steps, a, steps, optimize=True)
    moments = [np.einsum("ij,jk,ki->i", q.T, m, q) for m in (a, after)]
    return [torch.from_numpy(m) for m in moments]


def dense(ms):
    """The matrix of step, by its columns, on the directions with λ > 0."""
    kept = ms.eigenvalues > 0
    full = ms.step(torch.eye(len(kept), dtype=torch.float64)).T
    return full[kept][:, kept].numpy()


def dense_radius(spectrum, lr, **kind):
    return max(abs(np.linalg.eigvals(dense(zotk.mean_square(spectrum, lr, **kind)))))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("d, queries", [(2, 1), (3, 1), (2, 2)])
def test_one_step_by_cubature(scheme, d, queries):
    before, after = by_cubature(scheme, queries, SPECTRA[d], 0.3)
    spectrum = torch.tensor(SPECTRA[d], dtype=torch.float64)
    ms = zotk.mean_square(spectrum, 0.3, scheme=scheme, queries=queries)
    assert torch.allclose(ms.step(before), after, rtol=1e-12)
    batch = torch.stack([before, 2 * after]).expand(4, 2, d)
    assert torch.allclose(ms.step(batch)[3, 1], 2 * ms.step(after))


def test_a_null_direction_by_cubature():
    before, after = by_cubature("plain", 1, [0.8, 0.0, 0.3], 0.4)
    ms = zotk.mean_square(torch.tensor([0.8, 0.0, 0.3], dtype=torch.float64), 0.4)
    assert torch.allclose(ms.step(before), after, rtol=1e-12)
    assert after[1] > before[1]


WIDE = torch.tensor([1.0, 0.5, 0.25, 0.1, 0.05, 0.02], dtype=torch.float64)
NULL = torch.tensor([0.5, 0.0, 1.0, 1e-17, -1e-17, 0.02], dtype=torch.float64)


@pytest.mark.parametrize("spectrum", [WIDE, NULL], ids=["full", "null"])
@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_radius_and_threshold(scheme, queries, spectrum):
    kind = {"scheme": scheme, "queries": queries}
    threshold = zotk.mean_square(spectrum, 1.0, **kind).threshold
    for share in (0.01, 0.5, 0.999, 1.001, 3.0):
        radius = zotk.mean_square(spectrum, share * threshold, **kind).radius
        assert radius == pytest.approx(dense_radius(spectrum, share * threshold, **kind), rel=1e-12)
        assert (radius < 1) == (share < 1)
    low, high = 1e-9, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        below = dense_radius(spectrum, middle, **kind) < 1
        low, high = (middle, high) if below else (low, middle)
    assert threshold == pytest.approx(low, rel=1e-11)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_isotropic_thresholds(d):
    """Closed forms for H = λI; in one dimension the sphere is gradient descent."""
    b = 3
    truth = {
        ("plain", 1): 2 / (d + 2),
        ("plain", b): 2 * b / (d + b + 1),
        ("shared", 1): 2 / ((d + 4) * (d + 6)),
        ("independent", 1): 2 / (d + 2) ** 2,
        ("sphere", 1): 2 / d,
        ("first-order", b): 2.0,
    }
    spectrum = torch.full((d,), 0.7, dtype=torch.float64)
    for (scheme, queries), expected in truth.items():
        ms = zotk.mean_square(spectrum, 0.1, scheme=scheme, queries=queries)
        assert 0.7 * ms.threshold == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("spectrum", [WIDE, NULL], ids=["full", "null"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("share", [0.5, 1.2])
def test_loss_is_the_repeated_step(scheme, spectrum, share):
    threshold = zotk.mean_square(spectrum, 1.0, scheme=scheme).threshold
    ms = zotk.mean_square(spectrum, share * threshold, scheme=scheme)
    m0 = torch.tensor([0.3, 2.0, 0.1, 5.0, 0.0, 1.0], dtype=torch.float64)
    m, losses = m0, []
    for _ in range(300):
        losses.append(0.5 * (ms.eigenvalues * m).sum())
        m = ms.step(m)
    losses = torch.stack(losses)
    assert torch.allclose(ms.loss(torch.arange(300), m0), losses, rtol=1e-10, atol=0)
    t = torch.tensor([[0, 299], [7, 7]], dtype=torch.int32)
    assert torch.allclose(ms.loss(t, m0), losses[t], rtol=1e-10, atol=0)
    assert ms.loss(3, m0).shape == ()


def test_without_noise_it_is_gradient_descent():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(5, 3, generator=g, dtype=torch.float64)
    theta = torch.randn(3, generator=g, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(x.T @ x / 5)
    ms = zotk.mean_square(values, 0.4, scheme="first-order")
    curve = zotk.gradient_descent(x @ x.T, x @ theta, torch.zeros_like(x[:, 0]), 0.4)
    t = torch.arange(40)
    assert torch.allclose(ms.loss(t, (vectors.T @ theta).square()), curve.loss(t), rtol=1e-10)


def test_growth_beyond_all_floats_is_infinite_not_undefined():
    m0 = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    for scheme in SCHEMES:
        ms = zotk.mean_square(WIDE, 50.0, scheme=scheme)
        losses = ms.loss(torch.tensor([0, 10, 10_000, 2**40]), m0)
        assert losses[:2].isfinite().all() and losses[2:].isinf().all()
        assert (ms.loss(torch.tensor([10, 2**40]), 0 * m0) == 0).all()


def test_nothing_to_learn():
    ms = zotk.mean_square(torch.zeros(3, dtype=torch.float64), 0.1)
    m = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert (ms.radius, ms.threshold) == (0.0, math.inf)
    assert torch.equal(ms.step(m), m)
    assert ms.loss(5, m) == 0


def test_dtypes():
    ms = zotk.mean_square(WIDE.float(), 0.1)
    double = zotk.mean_square(WIDE, 0.1)
    m = torch.ones(6, dtype=torch.float64)
    assert ms.step(m.float()).dtype == ms.loss(3, m.float()).dtype == torch.float32
    assert ms.step(m).dtype == torch.float64
    assert torch.allclose(ms.loss(torch.arange(9), m).double(), double.loss(torch.arange(9), m))
    assert ms.threshold == pytest.approx(double.threshold, rel=1e-6)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: zotk.mean_square([1.0], 0.1), TypeError, "eigenvalues is"),
        (lambda: zotk.mean_square(torch.arange(3), 0.1), TypeError, "eigenvalues is"),
        (lambda: zotk.mean_square(torch.ones(2, 2), 0.1), ValueError, "eigenvalues has shape"),
        (lambda: zotk.mean_square(torch.ones(0), 0.1), ValueError, "eigenvalues has shape"),
        (lambda: zotk.mean_square(torch.ones(2, 1), 0.1), ValueError, r"shape \(2, 1\); \(2,\)"),
        (lambda: zotk.mean_square(torch.tensor(1.0), 0.1), ValueError, r"shape \(\); \(1,\)"),
        (
            lambda: zotk.MeanSquare(torch.ones(2, 1), 0.1, 1.0, 2.0, 1.0),
            ValueError,
            r"eigenvalues has shape \(2, 1\); \(2,\)",
        ),
        (lambda: zotk.mean_square(torch.tensor([1.0, -0.1]), 0.1), ValueError, "-0.1 to 1"),
        (lambda: zotk.mean_square(torch.tensor([1.0, math.nan]), 0.1), ValueError, "nan"),
        (lambda: zotk.mean_square(torch.ones(2), -0.1), ValueError, "lr is -0.1"),
        (lambda: zotk.mean_square(torch.ones(2), 0.1, queries=0), ValueError, "queries is 0"),
        (lambda: zotk.mean_square(torch.ones(2), 0.1, queries=1.5), TypeError, "queries is 1.5"),
        (lambda: zotk.mean_square(torch.ones(2), 0.1, scheme="x"), ValueError, "scheme is 'x'"),
        (lambda: zotk.mean_square(torch.ones(2), 0.1).step(torch.ones(3)), ValueError, "m has"),
        (lambda: zotk.mean_square(torch.ones(2), 0.1).step([1, 2]), TypeError, "m is"),
        (
            lambda: zotk.mean_square(torch.ones(2), 0.1).loss(1, torch.ones(1, 2)),
            ValueError,
            "m0 has shape",
        ),
        (
            lambda: zotk.mean_square(torch.ones(2), 0.1).loss(1, torch.ones(2, 1)),
            ValueError,
            "m0 has shape",
        ),
        (
            lambda: zotk.mean_square(torch.ones(2), 0.1).step(torch.ones(2, 1)),
            ValueError,
            r"m has shape \(2, 1\)",
        ),
        (
            lambda: zotk.mean_square(torch.ones(2), 0.1).loss(-1, torch.ones(2)),
            ValueError,
            "t is -1",
        ),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
