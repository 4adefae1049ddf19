"""Large tensors are drawn and moved in runs: the same numbers, and next to no memory."""

import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import zotk
from zotk.estimators.directions import Kept, own

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
def test_an_interrupt_between_two_runs(memory, moment, interrupt_add):
    """Four runs a move: the rest of a move that was begun follows, then the way home."""
    p = big()
    kept = p.detach().clone()
    calls = interrupt_add([p], moment)
    with pytest.raises(KeyboardInterrupt):
        zotk.measure(lambda: float(p.sum()), [p], memory=memory)
    # out and home; or the way from one side by home to the other between them
    assert len(calls) == (8 if moment <= 4 else 16)
    assert (p - kept).abs().max() < 1e-6


@dataclass(frozen=True)
class Halved(zotk.Rademacher):
    """±½ and ±√(7/4), which no byte holds: the mean square is 1."""

    def _draw(self, n, d, generator, dtype, device):
        z = super()._draw(n, d, generator, dtype, device)
        return torch.where(super()._draw(n, d, generator, dtype, device) > 0, z / 2, 1.75**0.5 * z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_signs_are_kept_as_bytes_and_what_is_drawn_otherwise_is_not(dtype):
    like = [torch.empty(900, 300, dtype=dtype), torch.empty(5, dtype=dtype)]
    for law, held in ((zotk.Rademacher(), torch.int8), (Halved(), dtype)):
        pieces = law.pieces(like, 5)
        kept = Kept(pieces)
        assert {part.dtype for part in kept.drawn(0)} == {held}
        for k in (0, 1):
            assert torch.equal(kept[k], pieces[k]) and kept[k].dtype == dtype
            assert torch.equal(torch.cat(list(kept.parts(k))), pieces[k].flatten())
            assert torch.equal(kept.scaled(k, 0.3, dtype), pieces[k] * 0.3)
            assert torch.equal(pieces.scaled(k, 0.3, dtype), pieces[k] * 0.3)
    assert not torch.equal(Halved().pieces(like, 5)[0].to(torch.int8).to(dtype), pieces[0])


def test_the_way_between_two_sides_is_by_home():
    """+ε, -ε, -ε, +ε with a rounding after each, entry by entry, though two moves share a pass."""
    p, seen = big(), []
    kept = p.detach().clone()
    made = zotk.measure(lambda: seen.append(p.detach().clone()) or float(p.sum()), [p], eps=0.3,
                        memory="replay")  # fmt: skip
    (z,) = zotk.Gaussian().pieces([kept], made.seeds[0])
    for alpha, there in zip((0.3, -0.3, -0.3, 0.3), (seen[0], None, seen[1], p), strict=True):
        kept = kept.add(z, alpha=alpha)
        assert there is None or torch.equal(kept, there)


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
