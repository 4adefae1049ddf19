"""All queries at once by vmap: the numbers of the loop, or a clear error."""

import pytest
import torch

import zotk

LAWS = [zotk.Gaussian(), zotk.Orthogonal(), zotk.Subspace(1).at(3), zotk.Coordinate()]


def tree():
    g = torch.Generator().manual_seed(1)
    return {"w": torch.randn(4, 3, generator=g, dtype=torch.float64),
            "b": [torch.randn(3, generator=g), torch.randn((), generator=g)]}  # fmt: skip


def loss(p):
    hidden = (torch.ones(2, 4, dtype=torch.float64) @ p["w"]).tanh() + p["b"][0]
    return hidden.square().sum() * p["b"][1]


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("scheme", ["central", "forward"])
def test_as_the_loop(law, queries, scheme):
    options = {"directions": law, "queries": queries, "scheme": scheme}
    calls = []

    def counted(p):
        calls.append(0)
        return loss(p)

    one = zotk.grad(loss, **options)(tree())
    two = zotk.grad(counted, vectorize=True, **options)(tree())
    assert len(calls) == 1
    assert torch.allclose(one["w"], two["w"], rtol=1e-9, atol=1e-9)
    for a, b in zip(one["b"], two["b"], strict=True):
        assert a.dtype == b.dtype == torch.float32 and torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: t.sum() if t.sum() > 0 else -t.sum(),
        lambda t: t.sum().item(),
        lambda t: (t * torch.rand(3)).sum(),
    ],
)
def test_what_vmap_cannot(bad):
    zotk.grad(bad, eps=0.1)(torch.ones(3))
    with torch.random.fork_rng(), pytest.raises(ValueError, match="vectorize is True, and torch"):
        zotk.grad(bad, eps=0.1, vectorize=True)(torch.ones(3))


def test_faults_of_the_loss_are_its_own():
    with pytest.raises(RuntimeError, match="mine"):
        zotk.grad(fails, vectorize=True)(torch.ones(3))
    with pytest.raises(TypeError, match=r"shape \(3,\); one real number"):
        zotk.grad(lambda t: 2 * t, vectorize=True)(torch.ones(3))
    with pytest.raises(ValueError, match="finite loss"):
        zotk.grad(lambda t: t.sum().log(), vectorize=True)(-torch.ones(3))
    with pytest.warns(UserWarning, match="both ends of every pair"):
        zotk.grad(lambda t: torch.tensor(3.0), vectorize=True)(torch.ones(3))


def fails(t):
    raise RuntimeError("mine")
