"""The closed form against the loop it replaces, and its limits."""

from dataclasses import fields
from decimal import Decimal, localcontext

import pytest
import torch

import zotk

G = torch.Generator().manual_seed(0)
X = torch.randn(6, 4, generator=G, dtype=torch.float64)
K = X @ X.T  # rank 4 of 6
F0 = torch.randn(6, generator=G, dtype=torch.float64)
Y = torch.randn(6, generator=G, dtype=torch.float64)
CRITICAL = 2 * 6 / torch.linalg.eigvalsh(K)[-1].item()


def loop(lr, steps):
    f, out = F0, [F0]
    for _ in range(steps):
        f = f - lr / 6 * K @ (f - Y)
        out.append(f)
    return torch.stack(out)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.05])
def test_the_loop(share):
    lr = share * CRITICAL
    curve = zotk.gradient_descent(K, F0, Y, lr)
    steps = loop(lr, 60)
    t = torch.arange(61)
    assert torch.allclose(curve.at(t), steps, rtol=1e-9, atol=1e-9)
    assert torch.allclose(curve.loss(t), 0.5 * (steps - Y).square().mean(1), rtol=1e-9, atol=1e-12)
    assert curve.critical_lr == pytest.approx(CRITICAL)
    assert torch.allclose(curve.at(7), steps[7])
    assert curve.at(torch.tensor([[1, 2], [3, 4]])).shape == (2, 2, 6)


def test_losses_to_rounding_at_scattered_times():
    """Powers to 50 digits, for factors near 1, negative, tiny and 0."""
    factors = torch.tensor([1 - 1e-7, 0.999, 0.5, 1e-8, 0.0, -0.3, -1.0], dtype=torch.float64)
    start = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, 0.0, 1e-3], dtype=torch.float64)
    zeros = torch.zeros_like(start)
    curve = zotk.Curve(start, zeros, 1.0, 1 - factors, torch.eye(7, dtype=torch.float64))
    q = [Decimal(1 - v) for v in (1 - factors).tolist()]
    times = torch.tensor([[16_000, 1, 0, 127], [128, 129, 16_000, 5]])
    measured = curve.loss(times).flatten().tolist()
    for t, loss in zip(times.flatten().tolist(), measured, strict=True):
        with localcontext(prec=50):
            powers = [b ** (2 * t) if t else 1 for b in q]
            exact = sum(Decimal(a) ** 2 * b for a, b in zip(start.tolist(), powers, strict=True))
        assert loss == pytest.approx(float(exact / 14), rel=1e-15, abs=0)
    assert torch.equal(
        curve.loss(torch.tensor([200, 3], dtype=torch.uint8)), curve.loss(torch.tensor([200, 3]))
    )


def test_growth_leaves_fitted_components_alone():
    """Beyond critical_lr a component without error stays without, whatever the others do."""
    k, y = torch.diag(torch.tensor([2.0, 30.0], dtype=torch.float64)), Y[:2]
    for fitted, last in ((1, 0.0), (0, float("inf"))):
        f0 = y.clone()
        f0[1 - fitted] += 1
        losses = zotk.gradient_descent(k, f0, y, 0.5).loss(torch.tensor([0, 10_000]))
        assert losses.tolist() == [0.25, last]


def test_composition_and_start():
    lr = 0.3 * CRITICAL
    curve = zotk.gradient_descent(K, F0, Y, lr)
    assert torch.allclose(curve.at(0), F0)
    again = zotk.gradient_descent(K, curve.at(5), Y, lr)
    assert torch.allclose(again.at(8), curve.at(13))


def test_the_limit_is_a_projection():
    curve = zotk.gradient_descent(K, F0, Y, 0.9 * CRITICAL)
    onto = X @ torch.linalg.pinv(X)
    assert torch.allclose(curve.limit, onto @ Y + F0 - onto @ F0)
    assert torch.allclose(curve.at(100_000), curve.limit)
    with pytest.raises(ValueError, match="limit"):
        _ = zotk.gradient_descent(K, F0, Y, CRITICAL * (1 + 1e-9)).limit


def test_at_the_critical_rate_itself_there_is_no_limit():
    curve = zotk.gradient_descent(torch.diag(torch.tensor([1.0, 2.0])).double(), F0[:2], Y[:2], 2.0)
    assert curve.critical_lr == 2.0  # 2N/λ, without rounding
    with pytest.raises(ValueError, match=r"limit exists below 2\.0"):
        _ = curve.limit


def test_a_linear_model_trained_for_real():
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.1)
    for _ in range(25):
        optimizer.zero_grad()
        (0.5 * (X @ theta - Y).square().mean()).backward()
        optimizer.step()
    curve = zotk.gradient_descent(K, torch.zeros_like(Y), Y, 0.1)
    assert torch.allclose(curve.at(25), X @ theta.detach())


@pytest.mark.parametrize(
    "args, match",
    [
        ((K[:5], F0, Y, 0.1), r"K has shape \(5, 6\); \(5, 5\)"),
        ((K[0], F0, Y, 0.1), r"K has shape \(6,\); \(6, 6\)"),
        ((K[:0, :0], F0[:0], Y[:0], 0.1), r"K has shape \(0, 0\)"),
        ((torch.tensor(1.0), F0[:1], Y[:1], 0.1), r"K has shape \(\); \(1, 1\)"),
        ((K, F0[:, None], Y, 0.1), r"f0 has shape \(6, 1\); \(6,\)"),
        ((K, F0, Y[:, None], 0.1), r"y has shape \(6, 1\); \(6,\)"),
        ((K, F0[:, None], Y[:, None], 0.1), r"f0 has shape \(6, 1\)"),
        ((K, F0, Y[None], 0.1), r"y has shape \(1, 6\)"),
        ((K, F0[:1], Y, 0.1), r"f0 has shape \(1,\)"),
        ((K, F0, Y[0], 0.1), r"y has shape \(\)"),
        ((K, F0, Y, 0.0), "lr"),
        ((K + torch.triu(torch.ones(6, 6)), F0, Y, 0.1), "symmetric"),
        ((-K, F0, Y, 0.1), "negative"),
    ],
)
def test_bad_input(args, match):
    with pytest.raises(ValueError, match=match):
        zotk.gradient_descent(*args)


@pytest.mark.parametrize("name", ["start", "targets", "eigenvalues", "eigenvectors"])
def test_a_curve_refuses_what_would_be_broadcast(name):
    curve = zotk.gradient_descent(K, F0, Y, 0.1)
    good = {f.name: getattr(curve, f.name) for f in fields(curve)}
    assert torch.equal(zotk.Curve(**good).at(3), curve.at(3))
    for bad in (good[name][:, None], good[name][:1]):
        with pytest.raises(ValueError, match=r"has shape \(.*; \(.*\) is needed"):
            zotk.Curve(**good | {name: bad})


@pytest.mark.parametrize("order", ["fo", "zo"])
def test_arrays_of_the_public_code_refuse_columns(order):
    for f0, y, name in ((F0[:, None], Y, "f0"), (F0, Y[:, None], "y")):
        with pytest.raises(ValueError, match=rf"{name} has shape \(6, 1\); \(6,\) is needed"):
            zotk.official_arrays(K, f0, y, 0.1, iterations=2, record=[0], order=order)


def test_nothing_to_descend():
    curve = zotk.gradient_descent(torch.zeros_like(K), F0, Y, 3.0)
    assert curve.critical_lr == float("inf")
    assert torch.allclose(curve.at(9), F0) and torch.allclose(curve.limit, F0)


def test_bad_times():
    curve = zotk.gradient_descent(K, F0, Y, 0.1)
    for bad in (-1, 0.5, torch.tensor([1.0])):
        with pytest.raises(ValueError, match="t is"):
            curve.at(bad)
