"""Estimates against closed forms on a quadratic, with autograd as the truth for gradients."""

import gc
import itertools
import math
import weakref
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zotk

D = 3
A = torch.tensor([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 3.0]], dtype=torch.float64)
B = torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)
THETA = torch.tensor([0.3, -0.6, 1.2], dtype=torch.float64)
G = A @ THETA + B
LAWS = [
    zotk.Gaussian(),
    zotk.Rademacher(),
    zotk.Laplace().standardized(),
    zotk.StudentT(7.0).standardized(),
    zotk.Sphere(),
    zotk.Coordinate(),
    zotk.Orthogonal(),
]


def quadratic(theta):
    return 0.5 * theta @ A @ theta + B @ theta


@dataclass(frozen=True)
class Given(zotk.Law):
    """A user's own law: the rows of a table, one after the other."""

    rows: tuple

    def _draw(self, n, d, generator, dtype, device):
        return torch.tensor(self.rows, dtype=dtype, device=device)

    def second_moment(self, d):
        return 1.0

    def kurtosis(self, d):
        raise NotImplementedError

    def standardized(self):
        return self


def cubature(law):
    """Nodes and weights of R³ that integrate the polynomials of degree ≤ 7 of the law exactly."""
    if isinstance(law, zotk.Rademacher):
        nodes = np.array(list(itertools.product((-1.0, 1.0), repeat=D)))
        return nodes, np.full(len(nodes), 1 / len(nodes))
    x, w = np.polynomial.hermite_e.hermegauss(5)
    w = w / w.sum()
    grid = list(itertools.product(range(5), repeat=D))
    return np.array([[x[i] for i in g] for g in grid]), np.array(
        [math.prod(w[i] for i in g) for g in grid]
    )


@pytest.mark.filterwarnings("ignore:the loss is")  # one node is z = 0
@pytest.mark.parametrize("scheme", ["central", "forward"])
@pytest.mark.parametrize("law", [zotk.Gaussian(), zotk.Rademacher()])
def test_mean_and_covariance_on_a_quadratic_exactly(law, scheme):
    """E ĝ = g and Cov ĝ = |g|²I + gg' + (κ-3)diag(g²) for central differences; forward adds
    (ε²/4) E[(z'Az)² zz'], here from Isserlis' formula, or by the identity z_i² = 1."""
    eps = 0.1
    nodes, weights = cubature(law)
    single = torch.stack(
        [
            zotk.grad(quadratic, directions=Given((tuple(z),)), eps=eps, scheme=scheme)(THETA)
            for z in nodes
        ]
    ).numpy()
    g, eye = G.numpy(), np.eye(D)
    mean = weights @ single
    assert np.allclose(mean, g, rtol=1e-12)
    covariance = np.einsum("n,ni,nj", weights, single, single) - np.outer(mean, mean)
    kappa = law.kurtosis(D)
    predicted = g @ g * eye + np.outer(g, g) + (kappa - 3) * np.diag(g * g)
    if scheme == "forward":
        a = A.numpy()
        tr, tr2 = np.trace(a), np.trace(a @ a)
        sixth = (tr**2 + 2 * tr2) * eye + 4 * tr * a + 8 * a @ a  # Gaussian
        if kappa == 1:  # signs: Σ a_ij a_kl E[z_i z_j z_k z_l z_m z_n]
            off = a - np.diag(np.diag(a))
            sixth = (tr**2 + 2 * (off**2).sum()) * eye
            sixth += 4 * tr * off + 8 * (off @ off - np.diag(np.diag(off @ off)))
        predicted = predicted + eps**2 / 4 * sixth
    assert np.allclose(covariance, predicted, rtol=1e-11)


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("queries", [1, 2])
def test_sampled_mean_and_error_on_a_quadratic(law, queries):
    """The same through the sampler: E ĝ = g, E|ĝ-g|² = (gain-1)|g|²/P, (d-P)/P orthogonal."""
    n, generator = 6000, torch.Generator().manual_seed(2)
    estimate = zotk.grad(quadratic, directions=law, queries=queries, generator=generator)
    draws = torch.stack([estimate(THETA) for _ in range(n)])
    z = (draws.mean(0) - G) / (draws.std(0) / math.sqrt(n))
    assert z.abs().max() < 5.5
    factor = (law.gain(D) - 1) / queries
    if isinstance(law, zotk.Orthogonal):
        factor = (D - queries) / queries
    errors = (draws - G).square().sum(1) / (G @ G)
    spread = errors.std() / math.sqrt(n)
    assert abs(errors.mean() - factor) < 5.5 * spread + 1e-9


def test_d_orthogonal_directions_are_exact_on_a_quadratic():
    g = zotk.grad(quadratic, directions=zotk.Orthogonal(), queries=D)(THETA)
    assert torch.allclose(g, G, rtol=1e-9)


@pytest.mark.parametrize("scheme", ["central", "forward"])
def test_converges_to_autograd_on_a_network(scheme):
    net, loss = network(torch.float64)
    d = sum(p.numel() for p in net.parameters())
    loss().backward()
    truth = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    zotk.backward(
        loss, net.parameters(), directions=zotk.Orthogonal(), queries=d, eps=1e-6, scheme=scheme
    )
    tolerance = 1e-8 if scheme == "central" else 1e-4
    for p, t in zip(net.parameters(), truth, strict=True):
        assert torch.allclose(p.grad, t, atol=tolerance)


def network(dtype, seed=0):
    g = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.5)
    x = torch.randn(7, 4, generator=g).to(dtype)
    return net, lambda: net(x).square().mean()


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("scheme", ["central", "forward"])
@pytest.mark.parametrize("queries", [1, 3])
def test_memory_modes_and_grad_agree(law, scheme, queries):
    options = {"directions": law, "scheme": scheme, "queries": queries, "eps": 1e-4}
    net, _ = network(torch.float64)
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    f, params = zotk.functional(net)

    def pure(p):
        return f(p, x).square().mean()

    pure_grad = zotk.grad(pure, generator=torch.Generator().manual_seed(9), **options)(params)
    for memory in ("store", "replay", "exact"):
        if memory == "replay" and isinstance(law, zotk.Orthogonal):
            continue
        net.zero_grad()
        before = [p.detach().clone() for p in net.parameters()]
        estimate = zotk.backward(
            lambda: net(x).square().mean(),
            net.parameters(),
            memory=memory,
            generator=torch.Generator().manual_seed(9),
            **options,
        )
        assert estimate.evaluations == (2 * queries if scheme == "central" else queries + 1)
        assert estimate.loss == pytest.approx(pure(params).item(), abs=1e-4)
        for (name, p), old in zip(net.named_parameters(), before, strict=True):
            assert torch.allclose(p.grad, pure_grad[name], rtol=1e-9, atol=1e-9)
            if memory == "exact":
                assert torch.equal(p, old)
            else:
                ulp = torch.finfo(p.dtype).eps * torch.maximum(old.abs(), torch.tensor(1e-3))
                assert ((p - old).abs() <= queries * ulp).all()


def test_accumulates_like_backward():
    net, loss = network(torch.float64)
    kwargs = {"queries": 2}
    zotk.backward(loss, net.parameters(), generator=torch.Generator().manual_seed(1), **kwargs)
    first = [p.grad.clone() for p in net.parameters()]
    zotk.backward(loss, net.parameters(), generator=torch.Generator().manual_seed(1), **kwargs)
    for p, g in zip(net.parameters(), first, strict=True):
        assert torch.allclose(p.grad, 2 * g, rtol=1e-9, atol=1e-9)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SLOPES = torch.tensor([1.0, -0.5, 2.0, 0.25, -1.5])  # of a linear loss


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", ["central", "forward"])
@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("memory", ["store", "replay", "exact"])
def test_adds_the_estimate_to_what_is_there(memory, queries, scheme, dtype):
    """(1/P) Σ (z·a) z on top of .grad, bit by bit: signs and slopes of few binary digits.

    As of autograd, the old .grad is the tensor that grows, and None becomes the estimate.
    """
    if memory != "exact" and dtype.itemsize == 2:
        pytest.skip("refused")
    params = [nn.Parameter(torch.ones(2, 1, dtype=dtype)), nn.Parameter(torch.ones(3, dtype=dtype))]
    parts = SLOPES.to(dtype).split([2, 3])
    slopes = [part.view_as(p) for part, p in zip(parts, params, strict=True)]
    old = torch.tensor([[0.5], [-3.0]], dtype=dtype)
    for which in ([], [0], [0, 1]):
        start = [old.clone() if k in which else None for k in range(2)]
        start[1] = torch.full((3,), 2.0, dtype=dtype) if 1 in which else None
        for p, g in zip(params, start, strict=True):
            p.grad = None if g is None else g.clone()
        kept = [p.grad for p in params]
        estimate = zotk.backward(
            lambda: sum((p * a).sum() for p, a in zip(params, slopes, strict=True)),
            params,
            directions=zotk.Rademacher(),
            eps=0.25,
            queries=queries,
            scheme=scheme,
            memory=memory,
        )
        z = torch.stack(
            [
                torch.cat([piece.flatten() for piece in zotk.Rademacher().pieces(params, seed)])
                for seed in estimate.seeds
            ]
        ).double()
        a = SLOPES.double()
        expected = torch.einsum("pi,pj,j->i", z, z, a) / queries
        for p, g, same, part in zip(params, start, kept, expected.split([2, 3]), strict=True):
            total = part.view_as(p) + (0.0 if g is None else g.double())
            assert p.grad.dtype == dtype and torch.equal(p.grad.double(), total)
            assert same is None or p.grad is same


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 2])
def test_in_one_dimension_a_sign_gives_the_gradient_itself(dtype, queries):
    """(a z) z = a: the factor and the sign of both functions, without a law of large numbers."""
    p = nn.Parameter(torch.ones(1, dtype=dtype))
    options = {"directions": zotk.Rademacher(), "eps": 0.25, "queries": queries}
    for total in (-1.5, -3.0, -4.5):
        zotk.backward(lambda: -1.5 * p.sum(), [p], memory="exact", **options)
        assert p.grad.tolist() == [total]
    assert zotk.grad(lambda t: -1.5 * t.sum(), **options)(p).tolist() == [-1.5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_rounded_once_where_something_is_there(dtype):
    """4096 terms and an old .grad: one rounding of the sum, one of the addition."""
    p = nn.Parameter(torch.ones(64, dtype=dtype))
    p.grad = torch.full_like(p, 0.5)
    options = {"directions": zotk.Rademacher(), "queries": 4096, "eps": 0.25}
    zotk.backward(lambda: p.float().sum(), [p], memory="exact", **options)
    exact = zotk.grad(lambda t: t.sum(), **options)(torch.ones(64)) + 0.5
    assert ((p.grad.float() - exact).abs() <= torch.finfo(dtype).eps * exact.abs()).all()


def test_the_loss_of_an_estimate_is_the_one_it_saw():
    """Central: the mean of both sides, L + ½ε² z'Az here; forward: L itself."""
    for queries in (1, 3):
        for scheme, excess in (("central", 0.5 * 0.1**2 * A.trace().item()), ("forward", 0.0)):
            p = nn.Parameter(THETA.clone())
            law = zotk.Coordinate()  # z'Az = d A_ii
            estimate = zotk.backward(
                lambda p=p: quadratic(p), [p], directions=law, eps=0.1, queries=queries,
                scheme=scheme,
            )  # fmt: skip
            if excess:
                hits = [law.pieces([p], seed)[0].argmax() for seed in estimate.seeds]
                excess = 0.5 * 0.1**2 * 3 * sum(A[i, i].item() for i in hits) / queries
            assert estimate.loss == pytest.approx(quadratic(THETA).item() + excess, rel=1e-12)


class Stop(BaseException):
    """Like KeyboardInterrupt: not an Exception."""


@pytest.mark.parametrize("memory", ["store", "replay", "exact"])
@pytest.mark.parametrize("scheme", ["central", "forward"])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("failure", ["exception", "interrupt", "nan"])
def test_restores_after_a_failure(memory, scheme, at, failure):
    net, loss = network(torch.float64)
    params = list(net.parameters())
    params[0].grad = torch.full_like(params[0], 3.0)
    before = [p.detach().clone() for p in params]
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        if calls == at:
            if failure == "nan":
                return loss() * math.nan
            raise Stop if failure == "interrupt" else RuntimeError("boom")
        return loss()

    expected = {"exception": RuntimeError, "interrupt": Stop, "nan": ValueError}[failure]
    with pytest.raises(expected):
        zotk.backward(closure, params, queries=2, memory=memory, scheme=scheme)
    assert calls == at
    assert torch.equal(params[0].grad, torch.full_like(params[0], 3.0))
    assert all(p.grad is None for p in params[1:])
    for p, old in zip(params, before, strict=True):
        tolerance = 0 if memory == "exact" else 2 * torch.finfo(p.dtype).eps
        assert ((p - old).abs() <= tolerance * old.abs().clamp(min=1e-2)).all()


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_replay_repeats_the_step(law):
    net, loss = network(torch.float64)
    twin, _ = network(torch.float64)
    estimate = zotk.backward(loss, net.parameters(), directions=law, queries=3, memory="exact")
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    zotk.replay_(twin.parameters(), estimate, -0.1)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-10, atol=1e-12)


def test_replay_refuses_other_parameters():
    net, loss = network(torch.float64)
    estimate = zotk.backward(loss, net.parameters())
    with pytest.raises(ValueError, match="shapes"):
        zotk.replay_([nn.Parameter(torch.zeros(3))], estimate, 1.0)
    with pytest.raises(ValueError, match="shapes"):  # as many entries, but turned
        zotk.replay_(
            [nn.Parameter(p.detach().reshape(p.shape[::-1])) for p in net.parameters()],
            estimate,
            1.0,
        )
    with pytest.raises(ValueError, match="dtypes"):
        zotk.replay_([nn.Parameter(p.detach().float()) for p in net.parameters()], estimate, 1.0)
    elsewhere = [nn.Parameter(torch.empty_like(p, device="meta")) for p in net.parameters()]
    with pytest.raises(ValueError, match="meta"):
        zotk.replay_(elsewhere, estimate, 1.0)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ValueError, match="scale is nan"):
        zotk.replay_(net.parameters(), estimate, math.nan)
    with pytest.raises(TypeError, match="scale is 'a'"):
        zotk.replay_(net.parameters(), estimate, "a")
    with pytest.raises(TypeError, match="estimate is None"):
        zotk.replay_(net.parameters(), None, 1.0)
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("memory", ["store", "replay"])  # "exact" is restored by copies
@pytest.mark.parametrize("moment", range(1, 13))
def test_an_interrupt_right_after_a_move(memory, moment, interrupt_add):
    """Every such moment, those of the restoration among them, must leave θ in place."""
    net, loss = network(torch.float64)
    params = list(net.parameters())
    before = [p.detach().clone() for p in params]
    interrupt_add(params, moment)
    with pytest.raises(KeyboardInterrupt):
        zotk.backward(loss, params, memory=memory, generator=torch.Generator().manual_seed(1))
    assert all(p.grad is None for p in params)
    for p, old in zip(params, before, strict=True):
        tolerance = 0 if memory == "exact" else 2 * torch.finfo(p.dtype).eps
        assert ((p - old).abs() <= tolerance * old.abs().clamp(min=1e-2)).all()


@dataclass(frozen=True)
class Watched(zotk.Gaussian):
    """A law that remembers what it drew weakly; a view keeps what it is a view of."""

    alive: ClassVar = weakref.WeakSet()

    def _draw(self, n, d, generator, dtype, device):
        z = super()._draw(n, d, generator, dtype, device)
        self.alive.add(z)
        return z


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("memory", ["store", "replay", "exact"])
def test_memory_held_while_the_closure_runs(memory, queries):
    net, loss = network(torch.float64)
    held = []

    def closure():
        gc.collect()
        held.append(len(Watched.alive))
        return loss()

    zotk.backward(closure, net.parameters(), directions=Watched(), memory=memory, queries=queries)
    assert max(held) <= (4 if memory == "store" else 1)  # four tensors; one is in the moving hand
    if memory == "store" and queries == 1:  # the direction has become the gradient
        gradients = {p.grad.data_ptr() for p in net.parameters()}
        assert {z.data_ptr() for z in Watched.alive} == gradients


@pytest.mark.parametrize("memory", ["store", "exact"])
def test_called_in_inference_mode(memory):
    net, loss = network(torch.float64)
    with torch.inference_mode():
        zotk.backward(loss, net.parameters(), memory=memory)
    assert not any(p.grad.is_inference() for p in net.parameters())
    loss().backward()  # adds to the gradients


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_summed_in_float32(dtype):
    """4096 terms of size 1/4096: summed in bfloat16 they would stall."""
    p = nn.Parameter(torch.ones(64, dtype=dtype))
    options = {"directions": zotk.Rademacher(), "queries": 4096, "eps": 0.25}
    zotk.backward(lambda: p.float().sum(), [p], memory="exact", **options)
    exact = zotk.grad(lambda t: t.sum(), **options)(torch.ones(64))
    assert torch.allclose(p.grad.float(), exact, rtol=torch.finfo(dtype).eps, atol=1e-3)
    pure = zotk.grad(lambda t: t.float().sum(), **options)(p.detach())
    assert pure.dtype == dtype and torch.allclose(pure.float(), exact, rtol=0.02, atol=1e-3)


def test_frozen_parameters_may_be_of_any_kind():
    p = nn.Parameter(torch.ones(3))
    frozen = [
        nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False),
        nn.Parameter(torch.ones(3, device="meta"), requires_grad=False),
    ]
    assert zotk.backward(lambda: p.sum(), [*frozen, p]).shapes == (p.shape,)


def test_a_sparse_gradient_is_refused_first():
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    q.grad = torch.zeros(3).to_sparse()
    closure = Counting()
    with pytest.raises(ValueError, match="sparse"):
        zotk.backward(closure, [p, q])
    assert closure.calls == 0 and p.grad is None


@pytest.mark.parametrize("scheme, calls", [("central", 6), ("forward", 4)])
def test_evaluations_are_counted(scheme, calls):
    closure = Counting()
    estimate = zotk.backward(closure, [nn.Parameter(torch.ones(2))], queries=3, scheme=scheme)
    assert closure.calls == estimate.evaluations == calls


def test_drives_an_optimiser_and_a_scheduler():
    net, loss = network(torch.float32)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, 50, 0.5)
    generator = torch.Generator().manual_seed(0)
    start = loss().item()
    for _ in range(150):
        optimiser.zero_grad()
        zotk.backward(
            loss, net.parameters(), directions=zotk.Rademacher(), queries=4, generator=generator
        )
        optimiser.step()
        scheduler.step()
    assert loss().item() < 0.1 * start


def test_which_parameters_move():
    net, loss = network(torch.float64)
    frozen, moving = net[0].weight, net[2].weight
    frozen.requires_grad_(False)
    seen = []

    def closure():
        seen.append((frozen.clone(), moving.detach().clone()))
        return loss()

    estimate = zotk.backward(closure, iter([frozen, moving, moving]))  # iterator, frozen, tied
    assert estimate.shapes == (moving.shape,)
    assert all(torch.equal(f, frozen) for f, _ in seen)
    assert not torch.equal(seen[0][1], seen[1][1])
    assert frozen.grad is None and net[0].bias.grad is None


def test_no_autograd_graph_and_no_global_randomness():
    net, loss = network(torch.float64)
    torch.manual_seed(4)
    before = torch.get_rng_state()

    def closure():
        value = loss()
        assert not value.requires_grad
        return value

    for memory in ("store", "replay", "exact"):
        zotk.backward(closure, net.parameters(), memory=memory)
    assert torch.equal(before, torch.get_rng_state())
    a = zotk.grad(quadratic)(THETA)
    assert torch.equal(a, zotk.grad(quadratic)(THETA))
    again = zotk.grad(quadratic)
    assert not torch.equal(again(THETA), again(THETA))


def test_a_fresh_dropout_mask_ruins_the_difference():
    """The closure must be one function: with a new mask per call the error grows like 1/ε."""
    x = torch.ones(64, 200, dtype=torch.float64)
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(200, 1).double())
    sizes = []
    for eps in (1e-4, 1e-6):  # the slope's share is small in both
        net.zero_grad()
        torch.manual_seed(0)  # dropout draws from the global generator
        estimate = zotk.backward(
            lambda: net(x).square().mean(), net.parameters(), eps=eps, rng="free"
        )
        sizes.append(abs(estimate.coefficients[0]))
    assert sizes[1] > 20 * sizes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_needs_exact(dtype):
    net, loss = network(dtype)
    before = [p.detach().clone() for p in net.parameters()]
    for memory in ("store", "replay"):
        with pytest.raises(ValueError, match="exact"):
            zotk.backward(loss, net.parameters(), memory=memory, eps=0.1)
    for _ in range(20):
        zotk.backward(loss, net.parameters(), memory="exact", eps=0.1)
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert all(p.grad.dtype == dtype for p in net.parameters())


def test_eps_below_resolution():
    net, loss = network(torch.float32)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(ValueError, match="eps is 1e-30"):
        zotk.backward(loss, net.parameters(), eps=1e-30)
    with pytest.raises(ValueError, match="eps is 1e-30"):
        zotk.grad(lambda p: p.sum(), eps=1e-30)(torch.ones(100))
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())
    with pytest.warns(UserWarning, match="of 1000 entries"):
        zotk.grad(lambda p: p.double().sum(), eps=2e-8)(torch.ones(1000))


class Counting:
    calls = 0

    def __call__(self):
        self.calls += 1
        return float(self.calls)


PARAMETER = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    "kwargs, error, match",
    [
        ({"eps": 0.0}, ValueError, "eps is 0.0"),
        ({"eps": math.nan}, ValueError, "eps"),
        ({"queries": 0}, ValueError, "queries is 0"),
        ({"queries": 1.5}, TypeError, "queries is 1.5"),
        ({"scheme": "middle"}, ValueError, "'central' or 'forward'"),
        ({"memory": "none"}, ValueError, "'store', 'replay', 'exact', 'layer"),
        ({"directions": zotk.Laplace()}, ValueError, "standardized"),
        ({"directions": zotk.Gaussian(mean=0.6, std=0.8)}, ValueError, "standardized"),
        ({"directions": zotk.Gaussian}, TypeError, "law"),
        ({"directions": zotk.StudentT(2)}, ValueError, "df is 2"),
        ({"directions": zotk.Orthogonal(), "memory": "replay"}, ValueError, "memory is 'replay'"),
        ({"eps": "a"}, TypeError, "eps is 'a'"),
        ({"eps": True}, TypeError, "eps is True"),
        ({"generator": 3}, TypeError, "generator is 3"),
        ({"params": []}, ValueError, "no tensor"),
        ({"params": PARAMETER}, TypeError, "iterable"),
        ({"params": [1.0]}, TypeError, "float"),
        ({"params": [torch.ones(2, requires_grad=True) + 0j]}, ValueError, "operation"),
        ({"params": [torch.ones(2, dtype=torch.cfloat).requires_grad_()]}, TypeError, "complex"),
        ({"params": [torch.ones(2)]}, ValueError, "none of which"),
        ({"params": [PARAMETER * 2]}, ValueError, "operation"),
        ({"params": [PARAMETER, nn.Parameter(torch.ones(1, device="meta"))]}, ValueError, "device"),
    ],
)
def test_bad_input_is_refused_before_the_first_evaluation(kwargs, error, match):
    closure = Counting()
    before = PARAMETER.detach().clone()
    with pytest.raises(error, match=match):
        zotk.backward(closure, **{"params": [PARAMETER], **kwargs})
    assert closure.calls == 0
    assert torch.equal(PARAMETER, before)
    assert PARAMETER.grad is None


def test_bad_losses():
    for bad in (torch.ones(2), "1.0", None, 1j, torch.tensor(1j), (1.0,)):
        with pytest.raises(TypeError, match=r"closure returned.* number is needed"):
            zotk.backward(lambda bad=bad: bad, [PARAMETER])
    with pytest.raises(TypeError, match="loss is 'x'"):
        zotk.grad("x")
    with pytest.raises(ValueError, match="finite"):
        zotk.grad(lambda p: p.sum() / 0)(torch.ones(2))
    with pytest.raises(TypeError, match="closure"):
        zotk.backward(1.0, [PARAMETER])
    p = nn.Parameter(torch.ones(2))
    zotk.backward(lambda: float(p.sum()), [p])  # a Python number will do


@given(
    shapes=st.lists(
        st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=4
    ).filter(lambda s: any(math.prod(x) for x in s)),
    law=st.sampled_from(LAWS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    queries=st.integers(1, 4),
    scheme=st.sampled_from(["central", "forward"]),
)
@settings(max_examples=80, deadline=None)
def test_structure_shapes_and_dtypes(shapes, law, dtype, queries, scheme):
    params = {"a": [torch.ones(s, dtype=dtype) for s in shapes], "b": (torch.ones(2, dtype=dtype),)}

    def loss(p):
        return sum(t.square().sum() for t in [*p["a"], *p["b"]])

    g = zotk.grad(loss, directions=law, queries=queries, scheme=scheme)(params)
    assert set(g) == {"a", "b"} and isinstance(g["b"], tuple)
    for t, e in zip(params["a"], g["a"], strict=True):
        assert e.shape == t.shape and e.dtype == dtype
