"""The tangent kernel from directions: enumerations, closed variances, repeated estimates."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import jacrev

import zotk

G = torch.Generator().manual_seed(0)
X = torch.randn(4, 2, generator=G, dtype=torch.float64)
Y = torch.randn(3, 2, generator=G, dtype=torch.float64)
F, PARAMS = zotk.functional(zotk.mlp((2, 2, 2), generator=G, dtype=torch.float64))
for _bias in (PARAMS["0.bias"], PARAMS["2.bias"]):
    _bias.copy_(torch.randn(2, generator=G, dtype=torch.float64))
D = 12


def scalar(params, x):
    return F(params, x).square().sum(1)


def jacobian(x, f=F):
    """(n, c, d), or (n, d) for one output without an axis."""
    parts = jacrev(lambda p: f(p, x))(PARAMS).values()
    axes = f(PARAMS, x).ndim
    return torch.cat([j.flatten(axes) for j in parts], -1)


def products(z, x, y):
    """(J_x z)(J_y z)' of every direction: (P, n1, n2, c, c)."""
    u, v = (torch.einsum("nad,pd->pna", jacobian(t), z) for t in (x, y))
    return torch.einsum("pia,pjb->pijab", u, v)


class Listed(zotk.Law):
    """Gives out the rows of a list, in order, to whoever asks for some."""

    def __init__(self, rows):
        self.rows, self.at = rows, 0

    def _draw(self, n, d, generator, dtype, device):
        self.at += n
        return self.rows[self.at - n : self.at].to(dtype)

    def second_moment(self, d):
        return 1.0

    kurtosis = second_moment

    def standardized(self):
        return self


SIGNS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=D)), dtype=torch.float64)


@pytest.mark.parametrize("entries", [60, 1000, 2**20])
@pytest.mark.parametrize("y", [None, Y], ids=["symmetric", "rectangular"])
def test_all_sign_vectors_give_the_kernel_and_its_spread(y, entries, monkeypatch):
    """The mean over all 2^d is K itself; the standard error is that of the listed products."""
    monkeypatch.setattr("zotk.kernels.tangent._ENTRIES", entries)
    right = X if y is None else y
    found = zotk.zo_entk(F, PARAMS, X, y, directions=Listed(SIGNS), queries=2**D)
    assert torch.allclose(found.matrix, zotk.ntk(F, PARAMS, X, y), rtol=1e-11, atol=1e-12)
    each = products(SIGNS, X, right)
    assert torch.allclose(found.stderr, each.std(0) / 2 ** (D / 2), rtol=1e-6, atol=1e-12)
    assert found.draws == 2**D


def test_every_coordinate_once_gives_the_kernel():
    law = Listed(D**0.5 * torch.eye(D, dtype=torch.float64))
    found = zotk.zo_entk(scalar, PARAMS, X, Y, directions=law, queries=D)
    assert found.matrix.shape == found.stderr.shape == (4, 3)
    expected = jacobian(X, scalar) @ jacobian(Y, scalar).T
    assert torch.allclose(found.matrix, expected, rtol=1e-12)


def test_an_orthogonal_block_gives_the_kernel():
    """Blocks are the draws: one says nothing about its error, equal ones say there is none."""
    law, exact = zotk.Orthogonal(), zotk.ntk(F, PARAMS, X, Y)
    for queries, blocks in ((D, 1), (3 * D, 3)):
        found = zotk.zo_entk(F, PARAMS, X, Y, directions=law, queries=queries)
        assert torch.allclose(found.matrix, exact, rtol=1e-12, atol=1e-13)
        assert found.draws == blocks
        if blocks == 1:
            assert found.stderr.isnan().all()
        else:
            assert found.stderr.max() < 1e-12
    part = zotk.zo_entk(F, PARAMS, X, Y, directions=law, queries=D - 1)
    assert part.draws == 1 and part.stderr.isnan().all()
    assert 1e-3 < (part.matrix - exact).norm() / exact.norm() < 1
    with pytest.raises(ValueError, match=r"queries is 13 .* R\^12; at most 12 or a multiple"):
        zotk.zo_entk(F, PARAMS, X, directions=law, queries=D + 1)


def test_gaussian_directions_have_the_variance_of_isserlis():
    """Var of <a, z><b, z> is |a|²|b|² + <a, b>², so of the mean over P, that over P."""
    P = 40_000
    found = zotk.zo_entk(scalar, PARAMS, X, Y, queries=P)
    a, b = jacobian(X, scalar), jacobian(Y, scalar)
    exact = a @ b.T
    lengths = torch.outer(a.square().sum(1), b.square().sum(1))
    stderr = ((lengths + exact.square()) / P).sqrt()
    assert ((found.matrix - exact) / stderr).abs().max() < 5
    # the variance's own relative error is about √(eighth moments / P), some per cent
    assert torch.allclose(found.stderr, stderr, rtol=0.1)
    single = zotk.zo_entk(scalar, PARAMS, X, Y, queries=1)
    assert single.draws == 1 and single.stderr.isnan().all()


@pytest.mark.parametrize("law", [zotk.Gaussian(), zotk.Rademacher(), zotk.Sphere()], ids=repr)
def test_standard_errors_are_calibrated(law):
    """Squared errors of repeated estimates, over the squared standard errors: 1 in mean."""
    generator, exact = torch.Generator().manual_seed(3), zotk.ntk(F, PARAMS, X)
    errors, claimed = [], []
    for _ in range(300):
        found = zotk.zo_entk(F, PARAMS, X, directions=law, queries=60, generator=generator)
        errors.append((found.matrix - exact).square())
        claimed.append(found.stderr.square())
    ratio = torch.stack(errors).mean(0) / torch.stack(claimed).mean(0)
    assert abs(ratio.mean() - 1) < 0.15 and ratio.min() > 0.6 and ratio.max() < 1.6


def test_a_law_that_is_not_standard_gives_the_kernel_of_its_moments():
    """The same mean as zo_kernel has on the linearised model's features."""
    for law in (zotk.Laplace(0.5), zotk.Gaussian(0.3, 0.8)):
        found = zotk.zo_entk(scalar, PARAMS, X, Y, directions=law, queries=20_000)
        features = jacobian(X, scalar), jacobian(Y, scalar)
        expected = zotk.zo_kernel(*features, directions=law)
        assert ((found.matrix - expected) / found.stderr).abs().max() < 5


def test_central_differences_approach_forward_mode():
    """With the same directions the difference falls as ε²."""
    exact = zotk.zo_entk(F, PARAMS, X, queries=50).matrix
    errors = [
        (zotk.zo_entk(F, PARAMS, X, queries=50, scheme="central", eps=eps).matrix - exact).norm()
        for eps in (4e-2, 2e-2, 1e-2)
    ]
    assert 3.8 < errors[0] / errors[1] < 4.2 and 3.9 < errors[1] / errors[2] < 4.1


def test_central_differences_need_function_values_alone():
    """A step has no derivative to speak of, its differences do."""

    def step(params, x):
        return torch.sign(x @ params["w"]).detach()

    w = {"w": torch.tensor([1e-4, 0.0], dtype=torch.float64)}
    assert not zotk.zo_entk(step, w, X, queries=20).matrix.any()
    assert zotk.zo_entk(step, w, X, queries=20, scheme="central", eps=0.1).matrix.diag().min() > 0


def test_generators():
    state = torch.random.get_rng_state()

    def matrix(generator=None):
        return zotk.zo_entk(F, PARAMS, X, queries=9, generator=generator).matrix

    kept = torch.Generator().manual_seed(0)
    first = matrix(kept)
    assert torch.equal(matrix(), first) and torch.equal(matrix(), first)
    assert not torch.allclose(matrix(kept), first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_both_sets_see_the_same_directions():
    """The kernel of a set with a part of itself is part of its kernel with itself."""
    found = zotk.zo_entk(F, PARAMS, X, X[:2], queries=5).matrix
    whole = zotk.zo_entk(F, PARAMS, X, queries=5).matrix
    assert torch.allclose(found, whole[:, :2], rtol=1e-12, atol=1e-13)
    flat = found[:2].permute(0, 2, 1, 3).reshape(4, 4)
    assert torch.linalg.eigvalsh(flat).min() > -1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_follow_the_model(dtype):
    params = {k: v.to(dtype).requires_grad_() for k, v in PARAMS.items()}
    found = zotk.zo_entk(F, params, X.to(dtype), queries=4000)
    assert found.matrix.dtype == found.stderr.dtype == dtype
    assert not found.matrix.requires_grad
    rounded = zotk.ntk(F, {k: v.detach().double() for k, v in params.items()}, X.to(dtype).double())
    error = (found.matrix.double() - rounded).norm() / rounded.norm()
    assert error < 0.1
    assert all(p.grad is None for p in params.values())


def test_evaluations_are_counted():
    net = zotk.mlp((2, 3, 2), nn.ReLU, dtype=torch.float64)
    f, params = zotk.functional(net)
    for scheme, rows, tangents in (("jvp", 50 * 7, 50 * 7), ("central", 100 * 7, 0)):
        with zotk.count_queries(net) as q:
            zotk.zo_entk(f, params, X, Y, queries=50, scheme=scheme)
        assert q.tangent_rows == tangents
        assert rows <= q.rows + tangents and q.rows <= rows + 1


MEMORY = """
import resource, torch, zotk
torch.set_num_threads(1)
f, params = zotk.functional(zotk.mlp((500, 400, 2)))
x = torch.rand(8, 500, generator=torch.Generator().manual_seed(0))
for queries in (20, 20, 400):
    zotk.zo_entk(f, params, x, queries=queries)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_queries():
    """400 directions of 200,000 entries are 320 MB, of which none but a few are ever held."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEMORY], capture_output=True, text=True, check=True
    )
    _, few, many = map(int, out.stdout.split())  # kB
    assert many - few < 16_000


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"directions": "gaussian"}, TypeError, "directions is 'gaussian'"),
        ({"queries": 0}, ValueError, "queries is 0"),
        ({"queries": 2.0}, TypeError, "queries is 2.0"),
        ({"scheme": "forward"}, ValueError, "scheme is 'forward'"),
        ({"eps": 0.0}, ValueError, "eps is 0.0"),
        ({"eps": "small"}, TypeError, "eps is 'small'"),
        ({"eps": 1e-30, "scheme": "central"}, ValueError, "eps is 1e-30: θ"),
        ({"generator": 0}, TypeError, "generator is 0"),
        ({"params": list(PARAMS)}, TypeError, "params is"),
        ({"x1": X.tolist()}, TypeError, "x1 is"),
        ({"x2": Y[:, :1]}, ValueError, "x2 has shape"),
        ({"f": lambda p, x: F(p, x).sum()}, ValueError, "f gives shape"),
    ],
)
def test_bad_input(change, error, match):
    call = {"f": F, "params": PARAMS, "x1": X, "queries": 4} | change
    with pytest.raises(error, match=match):
        zotk.zo_entk(**call)
