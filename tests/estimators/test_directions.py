"""Each law's mean, covariance, kurtosis and gain against quadrature, enumeration or designs."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

import zotk

LAWS = [
    zotk.Gaussian(),
    zotk.Gaussian(std=1.5),
    zotk.Rademacher(),
    zotk.Laplace(0.6),
    zotk.StudentT(9.0, 0.8),
    zotk.Sphere(),
    zotk.Sphere(1.0),
    zotk.Coordinate(),
    zotk.Orthogonal(),
]


def ids(law):
    return repr(law)


def entry_moments(law):
    """E z², E z⁴ by adaptive quadrature of the law's density, from scipy's parametrisation."""
    density = {
        zotk.Gaussian: lambda law: stats.norm(law.mean, law.std).pdf,
        zotk.Laplace: lambda law: stats.laplace(0, law.scale).pdf,
        zotk.StudentT: lambda law: stats.t(law.df, 0, law.scale).pdf,
    }[type(law)](law)
    return [quad(lambda z, k=k: z**k * density(z), -np.inf, np.inf)[0] for k in (2, 4)]


def weighted_vectors(law, d):
    """Finitely many weighted vectors with the law's moments up to degree 4, found elsewhere."""
    if isinstance(law, zotk.Rademacher):
        z = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    elif isinstance(law, zotk.Coordinate):
        z = math.sqrt(d) * np.eye(d)
    elif isinstance(law, (zotk.Sphere, zotk.Orthogonal)):
        phi = (1 + math.sqrt(5)) / 2  # the icosahedron is a spherical 5-design
        base = [(0, a, b * phi) for a in (-1, 1) for b in (-1, 1)]
        z = np.array([np.roll(v, k) for v in base for k in range(3)], dtype=float)
        assert d == 3
        z *= (getattr(law, "radius", None) or math.sqrt(3)) / np.linalg.norm(z[0])
    else:  # three nodes per axis carry E z², E z⁴ of a symmetric law
        second, fourth = entry_moments(law)
        a = math.sqrt(fourth / second)
        w = second / (2 * a * a)
        axis = [(-a, w), (0.0, 1 - 2 * w), (a, w)]
        grid = list(itertools.product(axis, repeat=d))
        z = np.array([[node for node, _ in point] for point in grid])
        weights = np.array([math.prod(weight for _, weight in point) for point in grid])
        return z, weights
    return z, np.full(len(z), 1 / len(z))


def mean(law, d):
    """Every law is symmetric but Coordinate, which has no sign."""
    return 1 / math.sqrt(d) if isinstance(law, zotk.Coordinate) else 0.0


@pytest.mark.parametrize("law", LAWS, ids=ids)
def test_moments_against_finite_designs(law):
    d = 3
    z, w = weighted_vectors(law, d)
    assert np.allclose(w @ z, mean(law, d))
    assert np.allclose(np.einsum("n,ni,nj", w, z, z), law.second_moment(d) * np.eye(d))
    assert np.allclose(w @ z**4, law.kurtosis(d) * law.second_moment(d) ** 2)
    gain = np.einsum("n,ni,nj", w * (z**2).sum(1), z, z)
    assert np.allclose(gain, law.gain(d) * np.eye(d), rtol=1e-9)


@pytest.mark.parametrize("mean, std", [(0.7, 1.3), (-2.0, 0.5), (0.1, 1.0)])
def test_gaussian_entries_with_a_mean(mean, std):
    """E z² and E z⁴ about zero, by quadrature of the density; the sampler draws from it."""
    law = zotk.Gaussian(mean, std)
    second, fourth = entry_moments(law)
    for d in (1, 4):
        assert law.second_moment(d) == pytest.approx(second, rel=1e-7)
        assert law.kurtosis(d) == pytest.approx(fourth / second**2, rel=1e-7)
        assert not law.is_standard(d)
        for method in (lambda law, d=d: law.gain(d), zotk.Gaussian.standardized):
            with pytest.raises(ValueError, match=f"mean is {mean}"):
                method(law)
    z = law.sample(60_000, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    within(z, torch.full((2,), mean, dtype=z.dtype))
    outer = z[:, :, None] * z[:, None, :]
    within(outer, std**2 * torch.eye(2, dtype=z.dtype) + mean**2)


@pytest.mark.parametrize("law", LAWS, ids=ids)
def test_one_dimension(law):
    """Sphere, blocks and coordinates have one or two points there; the rest keeps its density."""
    points = {zotk.Sphere: (-1.0, 1.0), zotk.Orthogonal: (-1.0, 1.0), zotk.Rademacher: (-1.0, 1.0),
              zotk.Coordinate: (1.0,)}.get(type(law))  # fmt: skip
    second, fourth = (1.0, 1.0) if points else entry_moments(law)
    assert law.second_moment(1) == pytest.approx(second)
    assert law.kurtosis(1) == pytest.approx(fourth / second**2)
    assert law.gain(1) == pytest.approx(fourth)
    assert law.is_standard(1) == math.isclose(second, 1.0, rel_tol=1e-9)
    if points:
        z = law.sample(60, 1, dtype=torch.float64)
        assert {round(v, 12) for v in z.flatten().tolist()} == set(points)
    if not isinstance(law, zotk.Orthogonal):
        (piece,) = law.pieces([torch.empty((), dtype=torch.float64)], 3)
        assert piece.shape == () and (not points or round(piece.item(), 12) in points)


@pytest.mark.parametrize("law", LAWS, ids=ids)
def test_no_dimension(law):
    with pytest.raises(ValueError, match="d is 0"):
        law.gain(0)
    with pytest.raises(ValueError, match="d is 0"):
        law.sample(1, 0)
    if isinstance(law, (zotk.Sphere, zotk.Coordinate, zotk.Orthogonal)):
        with pytest.raises(ValueError, match="d is 0"):
            law.kurtosis(0)
    if isinstance(law, zotk.Sphere):
        with pytest.raises(ValueError, match="d is 0"):
            law.second_moment(0)


@pytest.mark.parametrize("d", [2, 10, 50])
def test_gains_of_the_literature(d):
    assert zotk.Gaussian(std=1.3).gain(d) == pytest.approx((d + 2) * 1.3**4)
    assert zotk.Laplace(0.7).gain(d) == pytest.approx((20 + 4 * d) * 0.7**4)
    nu = 10
    t = 3 * nu**2 / ((nu - 2) * (nu - 4)) + (d - 1) * (nu / (nu - 2)) ** 2
    assert zotk.StudentT(nu).gain(d) == pytest.approx(t)
    assert zotk.Sphere(1.0).gain(d) == pytest.approx(1 / d)
    for law in (zotk.Rademacher(), zotk.Coordinate(), zotk.Orthogonal(), zotk.Sphere()):
        assert law.gain(d) == pytest.approx(d)


def within(sample, truth):
    """Mean over rows equals truth, entry by entry: false alarms below 1e-6 for all entries."""
    mean, se = sample.mean(0), sample.std(0) / math.sqrt(len(sample))
    exact = se == 0
    assert torch.allclose(mean[exact], truth[exact])
    z = ((mean - truth) / se)[~exact].abs()
    assert z.numel() == 0 or z.max() < 6, z


@pytest.mark.parametrize("law", LAWS, ids=ids)
@pytest.mark.parametrize("draw", ["sample", "pieces"])
def test_samplers_have_the_stated_moments(law, draw):
    d, g = 3, torch.Generator().manual_seed(5)
    if draw == "sample":
        z = law.sample(60_000, d, generator=g, dtype=torch.float64)
    elif isinstance(law, zotk.Orthogonal):
        pytest.skip("drawn in blocks only")
    else:
        like = [torch.empty(2, dtype=torch.float64), torch.empty(1, 1, dtype=torch.float64)]
        z = torch.stack(
            [torch.cat([p.flatten() for p in law.pieces(like, s)]) for s in range(9000)]
        )
    s = law.second_moment(d)
    if isinstance(law, zotk.Orthogonal):  # blocks are independent, rows of a block are not
        z = z.view(-1, d, d)
        assert torch.allclose(z @ z.mT, d * torch.eye(d, dtype=z.dtype).expand(len(z), d, d))
        z = z[:, 1]
    within(z, torch.full((d,), mean(law, d), dtype=z.dtype))
    outer = z[:, :, None] * z[:, None, :]
    within(outer, s * torch.eye(d, dtype=z.dtype))
    if law != zotk.StudentT(9.0, 0.8):  # E z⁸ of t with 9 degrees is too heavy for a normal test
        gain = outer * z.square().sum(1)[:, None, None]
        within(gain, law.gain(d) * torch.eye(d, dtype=z.dtype))


def test_orthogonal_rows_are_haar_and_blocks_independent():
    g = torch.Generator().manual_seed(1)
    z = zotk.Orthogonal().sample(5, 3, generator=g, dtype=torch.float64)
    gram = z @ z.T
    assert torch.allclose(gram[:3, :3], 3 * torch.eye(3, dtype=z.dtype))
    assert torch.allclose(gram[3:, 3:], 3 * torch.eye(2, dtype=z.dtype))
    assert gram[:3, 3:].abs().max() > 1e-3
    # a Haar matrix has a symmetric diagonal; QR without the sign repair has not
    z = torch.stack([zotk.Orthogonal().sample(2, 2, generator=g) for _ in range(2000)])
    within(z[:, 0, 0, None], torch.zeros(1))
    within(z[:, 1, 1, None], torch.zeros(1))


@pytest.mark.parametrize("law", [zotk.Laplace(2.0), zotk.StudentT(3.0), zotk.Gaussian(std=7)])
def test_standardized(law):
    assert not law.is_standard(4)
    assert law.standardized().is_standard(4)
    assert law.standardized().second_moment(4) == pytest.approx(1)


def test_what_does_not_exist_raises():
    with pytest.raises(ValueError, match="mean"):
        zotk.Gaussian(mean=0.1).gain(3)
    with pytest.raises(ValueError, match="mean"):
        zotk.Gaussian(mean=0.1).standardized()
    assert not zotk.Gaussian(mean=0.6, std=0.8).is_standard(3)
    for df in (4.0, 3.0):
        with pytest.raises(ValueError, match=f"df is {df}"):
            zotk.StudentT(df).gain(3)
    with pytest.raises(ValueError, match="variance"):
        zotk.StudentT(2.0).standardized()


@pytest.mark.parametrize("law", LAWS, ids=ids)
def test_randomness_is_the_generators_alone(law):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    a, b = law.sample(4, 3), law.sample(4, 3)
    assert torch.equal(a, b)  # None is a fresh generator seeded 0
    assert torch.equal(a, law.sample(4, 3, generator=torch.Generator().manual_seed(0)))
    g = torch.Generator().manual_seed(0)
    assert not torch.equal(law.sample(4, 3, generator=g), law.sample(4, 3, generator=g))
    assert torch.equal(before, torch.get_rng_state())


@given(
    n=st.integers(0, 7),
    d=st.integers(1, 9),
    law=st.sampled_from(LAWS),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_shapes_and_dtypes(n, d, law, dtype):
    z = law.sample(n, d, dtype=dtype)
    assert z.shape == (n, d)
    assert z.dtype == dtype
    assert z.isfinite().all()


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: zotk.Gaussian(std=0), ValueError),
        (lambda: zotk.Gaussian(std=math.nan), ValueError),
        (lambda: zotk.Gaussian(mean=math.inf), ValueError),
        (lambda: zotk.Laplace(-1), ValueError),
        (lambda: zotk.StudentT(0), ValueError),
        (lambda: zotk.Sphere(0), ValueError),
        (lambda: zotk.Rademacher().sample(-1, 3), ValueError),
        (lambda: zotk.Rademacher().sample(1, 0), ValueError),
        (lambda: zotk.Rademacher().sample(1.5, 2), TypeError),
        (lambda: zotk.Rademacher().sample(1, 2, dtype=torch.int64), TypeError),
        (
            lambda: zotk.Rademacher().sample(1, 2, device="meta", generator=torch.Generator()),
            ValueError,
        ),
    ],
)
def test_bad_input(call, error):
    with pytest.raises(error, match=r"is|lives"):
        call()
