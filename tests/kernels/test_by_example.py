"""Kernels need examples on their own: layers that couple them or draw anew are refused."""

import pytest
import torch
from torch import nn

import zotk

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), layer, nn.Linear(3, 2)).double()


def kernels(net):
    f, params = zotk.functional(net)
    yield lambda: zotk.ntk(f, params, X)
    for scheme in ("jvp", "central"):
        yield lambda scheme=scheme: zotk.zo_entk(f, params, X, queries=2, scheme=scheme).matrix


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (nn.BatchNorm1d(3), r"layer '1' of f is a BatchNorm1d in train mode.*net.eval"),
        (nn.BatchNorm1d(3, track_running_stats=False), "without running statistics"),
        (nn.BatchNorm1d(3, track_running_stats=False).eval(), "without running statistics"),
        (nn.SyncBatchNorm(3), "SyncBatchNorm in train mode"),
        (nn.Dropout(0.5), r"Dropout in train mode.*net.eval"),
        (nn.AlphaDropout(0.5), "AlphaDropout in train mode"),
        (nn.Sequential(nn.ReLU(), nn.Dropout(0.1)), "layer '1.1' of f"),
    ],
)
def test_coupled_and_random_layers_are_refused(layer, match):
    for kernel in kernels(network(layer)):
        with pytest.raises(ValueError, match=match):
            kernel()


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Dropout(0.0).train()])
def test_in_eval_mode_they_are_right(layer):
    net = network(layer)
    if not (isinstance(layer, nn.Dropout) and layer.p == 0):
        net.eval()
    exact, _, _ = (kernel() for kernel in kernels(net))
    for i in range(5):  # autograd, example by example
        grads = []
        for output in range(2):
            net.zero_grad()
            net(X[i : i + 1])[0, output].backward()
            grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
        one = torch.stack(grads)
        assert torch.allclose(exact[i, i], one @ one.T, rtol=1e-10)
