"""What stands in ``.grad`` afterwards: strides, range, and all of it or nothing."""

import pytest
import torch
from torch import nn

import zotk


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


LAYOUTS = {
    "transposed": lambda: torch.randn(5, 4, generator=gen(2)).T,
    "channels last": lambda: torch.randn(2, 3, 4, 4, generator=gen(2)).contiguous(
        memory_format=torch.channels_last
    ),
    "a column": lambda: torch.randn(5, 4, generator=gen(2))[:, 1],
    "contiguous": lambda: torch.randn(5, 4, generator=gen(2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("memory", ["store", "replay", "exact"])
def test_grad_is_laid_out_as_autograd_does(layout, queries, memory):
    p, q = nn.Parameter(LAYOUTS[layout]()), nn.Parameter(LAYOUTS[layout]())
    q.square().sum().backward()
    made = zotk.backward(lambda: p.square().sum(), [p], queries=queries, memory=memory)
    assert p.grad.stride() == q.grad.stride() and p.grad.shape == q.grad.shape
    expected = torch.zeros(p.shape)
    for c, seed in zip(made.coefficients, made.seeds, strict=True):
        (z,) = zotk.Gaussian().pieces([p], seed)
        expected += c * z
    assert torch.allclose(p.grad, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_fused_optimisers_pair_the_right_entries(name):
    ends = []
    for fused in (False, True):
        w = nn.Parameter(torch.randn(5, 20, generator=gen(2)).T)
        optimiser = getattr(torch.optim, name)([w], lr=0.01, fused=fused)
        generator = gen(4)
        for _ in range(20):
            optimiser.zero_grad()
            zotk.backward(lambda w=w: w.square().sum(), [w], generator=generator)
            optimiser.step()
        ends.append(w.detach().clone())
    assert torch.allclose(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("there", [False, True])
def test_an_overflow_is_refused_and_nothing_is_written(queries, there):
    first = nn.Parameter(torch.ones(3, dtype=torch.float64))
    w = nn.Parameter(torch.ones(100, dtype=torch.half))
    last = nn.Parameter(torch.ones(3, dtype=torch.float64))
    params = [first, w, last]
    if there:
        for p in params:
            p.grad = torch.full_like(p, 2.0)
    kept = [None if p.grad is None else p.grad.clone() for p in params]
    with pytest.raises(ValueError, match=r"shape \(100,\) is beyond torch.float16, at most 6.55e"):
        zotk.backward(
            lambda: 1e5 * float(w[0]), params, memory="exact", eps=0.25, queries=queries,
            directions=zotk.Rademacher(),
        )  # fmt: skip
    for p, grad in zip(params, kept, strict=True):
        assert (p.grad is None) if grad is None else torch.equal(p.grad, grad)


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_an_interrupt_while_adding_is_passed_on_when_all_is_added(
    moment, interrupt_add, monkeypatch
):
    params = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    for p in params:
        p.grad = torch.ones(2)
    calls = interrupt_add([p.grad for p in params], moment)
    with pytest.raises(KeyboardInterrupt):
        zotk.backward(lambda: sum(p.sum() for p in params), params)
    monkeypatch.undo()
    assert len(calls) == 3
    fresh = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    zotk.backward(lambda: sum(p.sum() for p in fresh), fresh)
    for p, q in zip(params, fresh, strict=True):
        assert torch.allclose(p.grad, 1 + q.grad)
