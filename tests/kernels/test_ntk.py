"""The tangent kernel against Jacobians formed in full, row by row, with plain autograd."""

import pytest
import torch
from torch import nn

import zotk

G = torch.Generator().manual_seed(0)
X = torch.randn(7, 4, generator=G, dtype=torch.float64)
Y = torch.randn(5, 4, generator=G, dtype=torch.float64)
F, PARAMS = zotk.functional(zotk.mlp((4, 6, 3), generator=G, dtype=torch.float64))


def scalar(params, x):
    return F(params, x).square().sum(1)


def rows(f, params, x):
    """∂f_a(x_i)/∂θ as one vector, for all i and a: shape (n, c, P)."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    out = f(leaves, x)
    out = out[:, None] if out.ndim == 1 else out
    flat = [
        torch.cat([g.flatten() for g in torch.autograd.grad(v, leaves.values(), retain_graph=True)])
        for v in out.flatten()
    ]
    return torch.stack(flat).unflatten(0, out.shape)


def naive(f, params, x, y):
    return torch.einsum("iap,jbp->ijab", rows(f, params, x), rows(f, params, y))


# entries held and examples at once: everything, one row at a time, sizes that do not divide
P = 51  # of the network above, times 3 outputs
SIZES = [(2**25, 32), (1, 32), (2 * 3 * P, 32), (3 * 3 * P, 2), (6 * 3 * P, 3), (5 * 3 * P, 1)]


@pytest.mark.parametrize("y", [None, Y], ids=["symmetric", "rectangular"])
@pytest.mark.parametrize("entries, at_once", SIZES)
def test_full_and_trace(entries, at_once, y, monkeypatch):
    monkeypatch.setattr("zotk.kernels.tangent._JACOBIAN", entries)
    monkeypatch.setattr("zotk.kernels.tangent._ROWS", at_once)
    truth = naive(F, PARAMS, X, X if y is None else y)
    full = zotk.ntk(F, PARAMS, X, y)
    assert torch.allclose(full, truth, rtol=1e-12, atol=1e-13)
    trace = zotk.ntk(F, PARAMS, X, y, outputs="trace")
    assert torch.allclose(trace, truth.diagonal(dim1=2, dim2=3).sum(-1), rtol=1e-12, atol=1e-13)
    truth = naive(scalar, PARAMS, X, X if y is None else y)[..., 0, 0]
    for outputs in ("full", "trace"):
        kernel = zotk.ntk(scalar, PARAMS, X, y, outputs=outputs)
        assert torch.allclose(kernel, truth, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("y, calls", [(None, 7 + 4 + 1), (Y, 7 + 3 * 5)])
def test_each_example_is_differentiated_no_more_often_than_promised(y, calls, monkeypatch):
    """Three rows held, one at a time: blocks of x1, and for each the x2 it has not met."""
    monkeypatch.setattr("zotk.kernels.tangent._JACOBIAN", 3 * 3 * P)
    monkeypatch.setattr("zotk.kernels.tangent._ROWS", 1)
    seen = []

    def counted(params, x):
        seen.append(len(x))
        return F(params, x)

    zotk.ntk(counted, PARAMS, X, y)
    assert len(seen) == calls + 1  # and once for the shape of the outputs


def test_one_output_keeps_its_dimensions():
    f, params = zotk.functional(zotk.mlp((4, 5, 1), dtype=torch.float64))
    assert zotk.ntk(f, params, X, Y).shape == (7, 5, 1, 1)
    assert torch.equal(
        zotk.ntk(f, params, X, Y)[..., 0, 0], zotk.ntk(f, params, X, Y, outputs="trace")
    )


def test_a_linear_model_has_the_gram_matrix():
    theta = {"theta": torch.randn(4, generator=G, dtype=torch.float64)}
    kernel = zotk.ntk(lambda p, x: x @ p["theta"], theta, X, Y)
    assert torch.allclose(kernel, X @ Y.T, rtol=1e-14)


def test_a_convolution_and_unused_and_single_parameters():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).double()
    inner, params = zotk.functional(net)
    for value in params.values():
        value.copy_(torch.randn(value.shape, generator=G, dtype=value.dtype))
    params |= {"scale": torch.tensor(1.5).double(), "unused": torch.ones(3).double()}

    def f(params, x):
        layers = {k: v for k, v in params.items() if "." in k}
        return params["scale"] * inner(layers, x)

    images = torch.randn(5, 1, 4, 4, generator=G, dtype=torch.float64)
    used = {k: v for k, v in params.items() if k != "unused"}
    truth = naive(f, used, images, images)
    assert torch.allclose(zotk.ntk(f, params, images), truth, rtol=1e-12, atol=1e-13)


def test_training_follows_the_kernel_to_first_order():
    """One small gradient step on all outputs moves them by -lr/N Σ_j K_ij r_j."""
    residual = torch.randn(7, 3, generator=G, dtype=torch.float64)
    kernel = zotk.ntk(F, PARAMS, X)
    predicted = -torch.einsum("ijab,jb->ia", kernel, residual) / 7
    gradient = torch.einsum("iap,ia->p", rows(F, PARAMS, X), residual) / 7
    lr, moved, taken = 1e-5, [], 0
    for sign in (1, -1):
        at, taken = {}, 0
        for name, value in PARAMS.items():
            piece = gradient[taken : taken + value.numel()].view_as(value)
            at[name], taken = value - sign * lr * piece, taken + value.numel()
        moved.append(F(at, X))
    assert torch.allclose((moved[0] - moved[1]) / (2 * lr), predicted, rtol=1e-7, atol=1e-8)


def test_single_precision_parameters_that_require_grad_and_no_graph():
    net = zotk.mlp((4, 6, 3), generator=torch.Generator().manual_seed(1))
    params = dict(net.named_parameters())
    f = zotk.functional(net)[0]
    kernel = zotk.ntk(f, params, X.float())
    truth = naive(f, {k: v.detach() for k, v in params.items()}, X.float(), X.float())
    assert kernel.dtype == torch.float32
    assert not kernel.requires_grad and all(p.grad is None for p in params.values())
    assert torch.allclose(kernel, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: zotk.ntk(F, PARAMS, X, outputs="sum"), ValueError, "outputs is 'sum'"),
        (lambda: zotk.ntk(F, list(PARAMS.values()), X), TypeError, "params is"),
        (lambda: zotk.ntk(F, {}, X), TypeError, "params is"),
        (lambda: zotk.ntk(F, {"a": torch.arange(3)}, X), TypeError, r"params\['a'\]"),
        (lambda: zotk.ntk(F, PARAMS, X.tolist()), TypeError, "x1 is"),
        (lambda: zotk.ntk(F, PARAMS, X[:0]), ValueError, "x1 has shape"),
        (lambda: zotk.ntk(F, PARAMS, X, Y[:, :2]), ValueError, "x2 has shape"),
        (lambda: zotk.ntk(lambda p, x: F(p, x).sum(), PARAMS, X), ValueError, "f gives shape"),
    ],
)
def test_bad_input(call, error, match):
    with pytest.raises(error, match=match):
        call()
