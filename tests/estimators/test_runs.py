"""Large tensors are drawn and moved in runs: the same numbers, and next to no memory."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import zotk
from zotk.estimators.directions import own

RUN = 2**16
LAWS = [zotk.Gaussian(), zotk.Rademacher(), zotk.Sphere(), zotk.Coordinate(),
        zotk.Laplace(0.5**0.5), zotk.StudentT(9).standardized(), zotk.LowRank(2),
        zotk.Subspace(2).at(60)]  # fmt: skip


@pytest.mark.parametrize("n", [2 * RUN - 1, 2 * RUN + 5, 3 * RUN + 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_runs_a_seed_draws_what_it_did_at_once(n, dtype):
    """Normal numbers and signs of the CPU: records of before keep their meaning."""
    (z,) = zotk.Gaussian().pieces([torch.empty(n, dtype=dtype)], 5)
    at_once = torch.randn(1, n, generator=own(5, 0, torch.device("cpu")), dtype=dtype)
    assert torch.equal(z, at_once[0])
    (signs,) = zotk.Rademacher().pieces([torch.empty(n, dtype=dtype)], 5)
    words = torch.empty(-(-n // 64), dtype=torch.int64)
    words.random_(-(2**63), None, generator=own(5, 0, torch.device("cpu")))
    bits = words[:, None] >> torch.arange(64) & 1
    assert torch.equal(signs, (2 * bits - 1).flatten()[:n].to(dtype))


@pytest.mark.parametrize("law", [*LAWS, zotk.Guided(zotk.Sphere(), [torch.ones(900, 300),
                         torch.ones(3)])], ids=repr)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_piece_is_its_runs(law, dtype):
    like = [torch.empty(900, 300, dtype=dtype), torch.empty(3, dtype=dtype)]
    direction = law.directions(like, [5, 6])
    for p in (0, 1):
        parts = list(direction(p).parts(0))
        assert len(parts) > 2 and max(part.numel() for part in parts) < 2 * RUN
        assert torch.equal(torch.cat(parts).view(900, 300), direction(p)[0])
        assert direction(p)[0].dtype == dtype


def big():
    return nn.Parameter(torch.randn(900, 300, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_large_tensor_in_every_memory(law):
    """Moved in runs or whole, contiguous or not: one estimate, and θ is where it was."""
    kept, found = big().detach(), {}
    for memory in ("store", "replay", "exact"):
        for layout in ("rows", "columns"):
            p = big() if layout == "rows" else nn.Parameter(big().detach().T.contiguous().T)
            made = zotk.backward(lambda p=p: p.double().square().sum(), [p], directions=law,
                                 queries=2, memory=memory)  # fmt: skip
            found[memory, layout] = made.coefficients, p.grad
            assert (p - kept).abs().max() <= (0 if memory == "exact" else 1e-6)
    coefficients, grad = found.pop(("exact", "rows"))
    for others, g in found.values():
        assert others == pytest.approx(coefficients, rel=1e-4, abs=1e-2)
        assert torch.allclose(g, grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))


@pytest.mark.parametrize("memory", ["store", "replay"])
@pytest.mark.parametrize("moment", range(1, 17))
def test_an_interrupt_between_two_runs(memory, moment, monkeypatch):
    """Four runs a move: the rest of a move that was begun follows, then the way home."""
    p = big()
    kept, add_, calls = p.detach().clone(), torch.Tensor.add_, 0

    def interrupted(self, *args, **kwargs):
        nonlocal calls
        out = add_(self, *args, **kwargs)
        if self.untyped_storage().data_ptr() == p.untyped_storage().data_ptr():
            calls += 1
            if calls == moment:
                raise KeyboardInterrupt
        return out

    monkeypatch.setattr(torch.Tensor, "add_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zotk.measure(lambda: float(p.sum()), [p], memory=memory)
    assert calls >= moment and calls % 4 == 0  # whole moves of four runs each
    assert (p - kept).abs().max() < 1e-6


def test_records_of_before_are_read_or_refused():
    p = big()
    for law, read in ((zotk.Gaussian(), True), (zotk.Laplace(0.5**0.5), False)):
        made = zotk.measure(lambda: float(p.sum()), [p], directions=law)
        plain = made.plain()
        assert zotk.Estimate.from_plain(plain) == made and plain["version"] == 2
        del plain["version"]
        if read:
            assert zotk.Estimate.from_plain(plain) == made
        else:
            with pytest.raises(ValueError, match="record has version 1, and a tensor of 270000"):
                zotk.Estimate.from_plain(plain)
        with pytest.raises(ValueError, match="record has version 3"):
            zotk.Estimate.from_plain({**plain, "version": 3})


GROWTH = """
import json, resource, torch, zotk
from torch import nn
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
class Net(nn.Module):
    def __init__(self, n, dtype):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n, dtype=dtype))
    def forward(self):
        return self.w.view(-1, 1000).narrow(1, 0, 1).float().sum()
def steps(net, found, name, eps=1e-2):
    size = sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20
    def grown(what, work):
        before = peak()
        result = work()
        found[f"{name} {what}"] = (peak() - before) / size
        return result
    return grown
found = {}
for n, keep in ((2**10 * 1000, {}), (2**14 * 1000, found)):
    net = Net(n, torch.float32)
    grown = steps(net, keep, "float32")
    made = grown("replay", lambda: zotk.measure(net, net, memory="replay", queries=2))
    grown("sphere", lambda: zotk.measure(net, net, memory="replay", directions=zotk.Sphere()))
    grown("replay_", lambda: zotk.replay_(net, made, 0.1))
    half = Net(n, torch.bfloat16)
    grown = steps(half, keep, "bfloat16")
    made = zotk.measure(half, half, memory="layerwise", eps=0.1) if not keep is found else made
    grown("layerwise", lambda: zotk.measure(half, half, memory="layerwise", eps=0.1))
    del half
    net = Net(n, torch.float32)
    grown = steps(net, keep, "float32")
    grown("orthogonal", lambda: zotk.measure(
        net, net, memory="store", queries=4, directions=zotk.Orthogonal()))
print(json.dumps(found))
"""


def test_memory_beside_one_large_tensor():
    """Extra peak memory in units of the parameters, of a process of its own."""
    made = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["float32 replay"] <= 0.1
    assert found["float32 sphere"] <= 0.1
    assert found["float32 replay_"] <= 0.1
    assert found["bfloat16 layerwise"] <= 1.2  # the tensor as it is read
    assert found["float32 orthogonal"] <= 4 + 1.2  # its rows, and the one that is moved along
