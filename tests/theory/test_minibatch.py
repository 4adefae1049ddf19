"""Minibatches and momentum against every path of a step: operators, optimisers, rest states."""

import itertools
import math

import numpy as np
import paths as brute
import pytest
import torch

import zotk

SPECTRA = {1: np.array([0.7]), 2: np.array([0.9, 0.2]), 3: np.array([1.3, 0.6, 0.1])}
CASES = [
    (2, {"minibatch": 1}),
    (2, {"minibatch": 2, "queries": 2}),
    (2, {"minibatch": 2, "queries": 2, "scheme": "sphere"}),
    (2, {"minibatch": 1, "queries": 2, "batches": "fresh"}),
    (2, {"minibatch": 2, "population": 36}),
    (2, {"minibatch": 1, "population": 36, "queries": 2, "batches": "fresh"}),
    (2, {"minibatch": 2, "queries": 2, "scheme": "signs"}),
    (2, {"minibatch": 1, "queries": 2, "scheme": "signs", "batches": "fresh"}),
    (2, {"minibatch": 2, "queries": 2, "scheme": "orthogonal"}),
    (2, {"minibatch": 1, "queries": 2, "scheme": "orthogonal", "batches": "fresh"}),
    (2, {"minibatch": 2, "scheme": "first-order"}),
    (2, {"minibatch": 1, "scheme": "independent"}),
    (1, {"minibatch": 3, "queries": 2}),
    (1, {"minibatch": 2, "population": 6, "scheme": "orthogonal"}),
    (3, {"minibatch": 2}),
    (3, {"minibatch": 1, "queries": 2, "scheme": "signs", "batches": "fresh"}),
    (3, {"minibatch": 1, "queries": 2, "scheme": "orthogonal"}),
    (3, {"minibatch": 1, "queries": 3, "scheme": "orthogonal"}),
    (3, {"minibatch": 1, "queries": 2, "scheme": "orthogonal", "batches": "fresh"}),
    (3, {"queries": 2, "scheme": "orthogonal"}),
    (3, {"queries": 2, "scheme": "signs"}),
]
NAMES = [f"d={d} " + " ".join(map(str, kind.values())) for d, kind in CASES]
DAMPING = [(0.0, False), (0.5, False), (0.9, False), (0.6, True)]
if_drawn = pytest.mark.parametrize("d, kind", CASES, ids=NAMES)


def theory(spectrum, lr, **kind):
    return zotk.mean_square(torch.from_numpy(np.asarray(spectrum, float)), lr, **kind)


@if_drawn
def test_one_step_on_all_paths(d, kind):
    spectrum, lr = SPECTRA[d], 0.3
    noise = 0.0 if kind.get("minibatch", 1) * kind.get("queries", 1) > 2 else 0.8
    if noise and "population" in kind:  # every example with each sign of its deviation
        kind = kind | {"population": 2 * kind["population"]}
    root = np.random.default_rng(5).standard_normal((d, d))
    before = root @ root.T
    found = brute.paths(spectrum, noise=noise, **kind)
    step, source = brute.second_moments(lr, found)
    after = (step @ before.ravel()).reshape(d, d) + source
    ms = theory(spectrum, lr, noise=noise, **kind)
    m = ms.step(torch.from_numpy(np.diag(before).copy()))
    assert np.allclose(m.numpy(), np.diag(after), rtol=1e-12)


@pytest.mark.parametrize("momentum, nesterov", DAMPING)
@if_drawn
def test_edge_and_radius_by_the_dense_operator(d, kind, momentum, nesterov):
    how = {"momentum": momentum, "nesterov": nesterov}
    spectrum = SPECTRA[d]
    by_paths = brute.radius(brute.paths(spectrum, **kind), **how)
    ms = theory(spectrum, 0.4, **kind, **how)
    low, high = 0.5 * ms.threshold, 2 * ms.threshold
    for _ in range(50):
        middle = (low + high) / 2
        below = by_paths(middle) < 1
        low, high = (middle, high) if below else (low, middle)
    assert ms.threshold == pytest.approx(low, rel=1e-10)
    for share in (0.3, 0.999, 1.5):
        lr = share * ms.threshold
        radius = theory(spectrum, lr, **kind, **how).radius
        assert radius == pytest.approx(by_paths(lr), rel=1e-7)  # double poles
        assert (radius < 1) == (share < 1)


@pytest.mark.parametrize("momentum, nesterov", DAMPING)
@pytest.mark.parametrize(
    "d, kind",
    [
        (2, {"minibatch": 1}),
        (2, {"minibatch": 1, "queries": 2, "batches": "fresh"}),
        (3, {"minibatch": 1, "scheme": "sphere"}),
    ],
)
def test_the_floor_is_the_rest_state_of_the_dense_operator(d, kind, momentum, nesterov):
    how = {"momentum": momentum, "nesterov": nesterov}
    spectrum = SPECTRA[d]
    edge = theory(spectrum, 1.0, **kind, **how).threshold
    found = brute.paths(spectrum, noise=0.7, **kind)
    for share in (0.02, 0.6):  # the last one is at rest after 2,000 steps
        ms = theory(spectrum, share * edge, noise=0.7, **kind, **how)
        step, source = brute.second_moments(ms.lr, found, **how)
        rest = np.linalg.solve(np.eye(len(step)) - step, source.ravel()).reshape(source.shape)
        assert ms.floor == pytest.approx(0.5 * spectrum @ np.diag(rest)[:d], rel=1e-9)
    late = ms.loss(2_000, torch.ones(d, dtype=torch.float64))
    assert float(late) == pytest.approx(ms.floor, rel=1e-6)
    assert theory(spectrum, 1.01 * edge, noise=0.7, **kind, **how).floor == math.inf
    assert theory(spectrum, 0.5 * edge, **kind, **how).floor == 0
    assert theory(spectrum, 0.5 * edge, noise=0.7, **how).floor == 0


@pytest.mark.parametrize("momentum, nesterov", DAMPING)
@pytest.mark.parametrize(
    "d, kind, count",
    [
        (2, {"minibatch": 1}, 2),
        (2, {"minibatch": 1, "scheme": "signs"}, 2),
        (2, {"queries": 1}, 4),
        (2, {"scheme": "orthogonal", "queries": 2}, 4),
        (1, {"minibatch": 2, "population": 6}, 2),
        (3, {"scheme": "sphere"}, 2),
    ],
)
def test_a_real_optimiser_on_all_paths(d, kind, count, momentum, nesterov):
    spectrum, lr = SPECTRA[d], 0.3
    found = brute.paths(spectrum, **kind)
    index = list(itertools.product(range(len(found.weights)), repeat=count))
    index = torch.tensor(index[:200_000])
    assert len(index) == len(found.weights) ** count
    start = torch.arange(1.0, d + 1, dtype=torch.float64)
    e = start.expand(len(index), d).clone().requires_grad_()
    optimizer = torch.optim.SGD([e], lr=lr, momentum=momentum, nesterov=nesterov)
    estimates, weights = torch.from_numpy(found.estimates), torch.from_numpy(found.weights)
    for k in range(count):
        e.grad = torch.einsum("pij,pj->pi", estimates[index[:, k]], e.detach())
        optimizer.step()
    chance = weights[index].prod(1)
    loss = chance @ (0.5 * e.detach().square() @ torch.from_numpy(spectrum))
    ms = theory(spectrum, lr, momentum=momentum, nesterov=nesterov, **kind)
    assert float(ms.loss(count, start.square())) == pytest.approx(float(loss), rel=1e-12)


def test_momentum_steps_what_its_loss_says():
    spectrum = [1.0, 0.4, 0.0]
    ms = theory(spectrum, 0.05, minibatch=3, momentum=0.8, nesterov=True)
    m = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    state = torch.stack([m, torch.zeros(3), torch.zeros(3)])
    for _ in range(5):
        state = ms.step(state)
    assert state.shape == (3, 3) and state[0, 2] > 3
    assert float(ms.loss(5, m)) == pytest.approx(float(0.5 * (ms.eigenvalues * state[0]).sum()))
    both = ms.step(torch.stack([state, 2 * state]))
    assert torch.allclose(both[1], 2 * ms.step(state))


def spectra():
    generator = np.random.default_rng(3)
    for d in (1, 3, 20):
        for power in (0.0, 1.0, 6.0):
            yield generator.uniform(size=d) ** power


def test_bounds_hold_and_are_attained():
    kinds = [
        {"scheme": scheme, "queries": queries, "minibatch": n, "batches": batches, "momentum": beta}
        for scheme in ("plain", "sphere", "signs", "first-order")
        for queries in (1, 3)
        for n in (None, 2)
        for batches in ("same", "fresh")
        for beta in (0.0, 0.9)
    ]
    closest = {}
    for spectrum in spectra():
        for kind in kinds:
            ms = theory(spectrum, 1.0, **kind)
            low, high = ms.bounds()
            assert low <= ms.threshold * (1 + 1e-9) and ms.threshold <= high * (1 + 1e-9)
            if np.ptp(spectrum) == 0:
                key = kind["scheme"], kind["momentum"]
                closest[key] = max(closest.get(key, 0), low / ms.threshold)
    assert all(closest[scheme, 0.0] == pytest.approx(1) for scheme, _ in closest)


def test_bounds_from_numbers_alone():
    kind = {"minibatch": 4, "queries": 8, "scheme": "sphere"}
    spectrum = 1 / np.arange(1.0, 31)
    truth = theory(spectrum, 1.0, **kind)
    other = theory(np.ones(30), 1.0, **kind)
    numbers = {"trace": spectrum.sum(), "second": (spectrum**2).sum(), "top": 1.0, "rank": 30}
    assert other.bounds(**numbers) == pytest.approx(truth.bounds())


def test_horizon():
    ms = theory(1 / np.arange(1.0, 301), 1.0, minibatch=4)
    m = torch.ones(300, dtype=torch.float64)
    edges = [ms.horizon_threshold(t, m) for t in (1, 10, 100, 1000)]
    assert all(a > b for a, b in itertools.pairwise(edges)) and edges[-1] > ms.threshold
    for t, edge in zip((1, 10, 100, 1000), edges, strict=True):
        over, under = (theory(1 / np.arange(1.0, 301), edge * s, minibatch=4) for s in (1.01, 0.99))
        assert over.loss(t, m) > over.loss(0, m) > under.loss(t, m)


def test_the_equation_is_cheap():
    spectrum = 1 / np.arange(1.0, 300_001)
    ms = theory(spectrum, 1e-4, queries=16, minibatch=8, momentum=0.9)
    assert theory(spectrum, 0.99 * ms.threshold, queries=16, minibatch=8, momentum=0.9).radius < 1


ONES = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    "kind, error, match",
    [
        ({"minibatch": 0}, ValueError, "minibatch is 0"),
        ({"minibatch": 2.5}, TypeError, "minibatch is 2.5"),
        ({"population": 5}, ValueError, "population is 5, minibatch None"),
        ({"minibatch": 6, "population": 5}, ValueError, "population is 5; at least 6"),
        ({"minibatch": 6, "batches": "disjoint"}, ValueError, "batches is 'disjoint'; one of same"),
        ({"noise": -1.0}, ValueError, "noise is -1.0"),
        ({"noise": math.inf}, ValueError, "noise is inf"),
        ({"noise": "much"}, TypeError, "noise is 'much'"),
        ({"momentum": 1.0}, ValueError, "momentum is 1.0"),
        ({"momentum": None}, TypeError, "momentum is None"),
        ({"nesterov": True}, ValueError, "nesterov needs momentum"),
        ({"scheme": "orthogonal", "queries": 4}, ValueError, "queries is 4; at most d = 3"),
    ],
)
def test_bad_input(kind, error, match):
    with pytest.raises(error, match=match):
        zotk.mean_square(ONES, 0.1, **kind)


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda ms: ms.step(ONES), r"m has shape \(3,\); with momentum"),
        (lambda ms: ms.bounds(), "nesterov is True"),
        (lambda ms: ms.horizon_threshold(0, ONES), "t is 0"),
        (lambda ms: ms.horizon_threshold(5, 0 * ONES), "m0 has no loss"),
        (lambda ms: ms.horizon_threshold(5, ONES[:2]), "m0 has shape"),
    ],
)
def test_bad_calls(call, match):
    with pytest.raises(ValueError, match=match):
        call(zotk.mean_square(ONES, 0.1, momentum=0.9, nesterov=True))


@pytest.mark.parametrize("numbers", [{"trace": 0.0}, {"top": -1.0}, {"rank": 0}])
def test_bad_bounds(numbers):
    with pytest.raises(ValueError, match=r"(trace|top|rank) is"):
        zotk.mean_square(ONES, 0.1, minibatch=2).bounds(**numbers)
