"""Directions from a kept subspace: normalised, biased in a window, unbiased over windows."""

import pytest
import torch
from torch import nn

import zotk

F64 = torch.float64


def piece(law, shape, seed):
    return law.pieces([torch.empty(shape, dtype=F64)], seed)[0]


def row_space(z):
    """The projector on the rows of a matrix, by its singular vectors."""
    _, s, vh = torch.linalg.svd(z, full_matrices=False)
    v = vh[s > 1e-9]
    return v.T @ v


@pytest.mark.parametrize(("m", "n", "rank"), [(2, 3, 1), (3, 4, 2)])
def test_given_the_basis_the_mean_is_the_stretched_projector(m, n, rank):
    """E[zz' | V] = (n/r) I ⊗ VV', not I and not the projector alone."""
    law = zotk.Subspace(rank, seed=4).at(120)
    draws = torch.stack([piece(law, (m, n), seed) for seed in range(20_000)])
    assert all(int(torch.linalg.matrix_rank(z)) == min(m, rank) for z in draws[:50])
    projector = row_space(torch.cat(list(draws[:5])))
    assert int(torch.linalg.matrix_rank(projector)) == rank
    products = torch.einsum("ta,tb->tab", draws.flatten(1), draws.flatten(1))
    error = products.std(0) / len(draws) ** 0.5 + 1e-12
    expected = n / rank * torch.kron(torch.eye(m, dtype=F64), projector)
    off = [((products.mean(0) - e) / error).abs().max()
           for e in (expected, torch.eye(m * n, dtype=F64), expected * rank / n)]  # fmt: skip
    assert off[0] < 6 < min(off[1:])


def test_one_basis_for_the_steps_of_a_window_another_for_the_next():
    law = zotk.Subspace(2, every=10)
    spaces = [row_space(piece(law.at(step), (5, 6), 31 + step)) for step in (0, 9, 10, 19)]
    assert torch.allclose(spaces[0], spaces[1]) and torch.allclose(spaces[2], spaces[3])
    assert not torch.allclose(spaces[0], spaces[2], atol=0.1)
    fresh = [row_space(piece(law, (5, 6), seed)) for seed in (1, 2)]
    assert not torch.allclose(*fresh, atol=0.1)
    others = [row_space(piece(zotk.Subspace(2, seed=s).at(0), (5, 6), 1)) for s in (0, 1)]
    assert not torch.allclose(*others, atol=0.1)
    like = [torch.empty(5, 6, dtype=F64)] * 2  # tensors of one shape have bases of their own
    one, two = law.at(0).pieces(like, 3)
    assert not torch.allclose(row_space(one), row_space(two), atol=0.1)


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize(("m", "n", "rank"), [(4, 3, 1), (2, 6, 2)])
def test_the_gain_of_one_matrix(m, n, rank, window):
    """E|z|⁴/d = mn + 2n/r, whether the basis is kept or not; mn + 2 without the stretch."""
    law = zotk.Subspace(rank, window=window)
    length = torch.stack([piece(law, (m, n), seed).square().sum() for seed in range(20_000)])
    found = length.square() / (m * n)
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - (m * n + 2 * n / rank)) < 6 * error
    assert not abs(found.mean() - (m * n + 2)) < 6 * error


def test_a_rank_above_the_columns_is_dense():
    z = torch.stack([piece(zotk.Subspace(9).at(1), (2, 2), s).flatten() for s in range(4000)])
    assert ((z.T @ z / 4000) - torch.eye(4)).abs().max() < 6 * (2 / 4000) ** 0.5


@pytest.mark.parametrize("memory", ["store", "replay", "exact", "layerwise"])
def test_a_run_in_windows_is_its_log(memory, tmp_path):
    """measure, Log, JSON, weights_only and replay_ need nothing but the record."""
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(2), dtype=F64)

    def network():
        return zotk.mlp([4, 6, 2], generator=torch.Generator().manual_seed(3)).double()

    net, generator = network(), torch.Generator().manual_seed(8)
    log, law = zotk.Log(tmp_path / "run.jsonl"), zotk.Subspace(2, every=3)
    for step in range(7):
        made = zotk.measure(lambda: net(x).square().mean(), net, directions=law.at(step),
                            queries=2, generator=generator, memory=memory)  # fmt: skip
        assert zotk.Estimate.from_json(made.to_json()) == made
        assert made.directions == zotk.Subspace(2, every=3, window=step // 3)
        log.append(made, -0.05)
        zotk.replay_(net, made, -0.05)
    other = network()
    assert log.restore_(other) == 7
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q) if memory in ("exact", "layerwise") else torch.allclose(p, q)
    torch.save(made, tmp_path / "made.pt")
    with torch.serialization.safe_globals(zotk.Estimate.safe_globals()):
        assert torch.load(tmp_path / "made.pt", weights_only=True) == made
    before = [each for each, _ in log if each.directions.window == 1]
    with pytest.raises(ValueError, match=r"the directions .*window=1.* and .*window=2"):
        zotk.join([before[0], made])


@pytest.mark.parametrize(
    ("options", "match"),
    [({"rank": 0}, "rank is 0"), ({"rank": 1, "every": 0}, "every is 0"),
     ({"rank": 1, "seed": -1}, "seed is -1"), ({"rank": 1, "window": -1}, "window is -1")],
)  # fmt: skip
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        zotk.Subspace(**options)


def test_laws_that_keep_nothing_are_the_same_at_every_step():
    assert zotk.Sphere().at(7) == zotk.Sphere()
    mask = [torch.tensor([[True, False]])]
    assert zotk.Masked(zotk.Subspace(1), mask).at(60).law.window == 1
    assert zotk.Guided(zotk.Subspace(1), [torch.ones(1, 2)]).at(60).law.window == 1
    with pytest.raises(ValueError, match="step is -1"):
        zotk.Gaussian().at(-1)


def test_a_kept_basis_is_moved_and_judged_on_whole_tensors():
    p = nn.Parameter(torch.full((300, 300), 1e8))
    with pytest.raises(ValueError, match=r"θ \+ εz = θ in \d+ of \d+ entries"):
        zotk.measure(lambda: p.sum(), [p], directions=zotk.Subspace(3).at(0))
