"""Seeds and scalars without `.grad`: what measure leaves alone, what its records can do."""

import dataclasses
import io
import json
import math

import pytest
import torch
from torch import nn

import zotk

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
LAWS = [zotk.Gaussian(), zotk.Rademacher(), zotk.Sphere(), zotk.Coordinate(),
        zotk.StudentT(9).standardized(), zotk.Laplace(0.5**0.5)]  # fmt: skip


def network(dtype=torch.float64):
    return zotk.mlp([4, 6, 2], generator=torch.Generator().manual_seed(3)).to(dtype)


def loss_of(net):
    return lambda: net(X.to(next(net.parameters()).dtype)).double().square().mean()


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("memory", ["store", "replay", "exact", "layerwise"])
def test_measure_and_replay_make_the_step_of_backward(law, memory):
    """θ - lr ĝ by seeds and scalars equals that of an optimiser; `.grad` stays as it was."""
    one, two = network(), network()
    options = {"directions": law, "queries": 3, "memory": memory}
    made = zotk.measure(loss_of(one), one, **options)
    assert all(p.grad is None for p in one.parameters())
    zotk.replay_(one, made, -0.1)
    again = zotk.backward(loss_of(two), two, **options)
    torch.optim.SGD(two.parameters(), lr=0.1).step()
    assert again == made
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_any_piece_can_be_redrawn_alone(law):
    like = [torch.empty(3, 2), torch.empty(0), torch.empty(5), torch.empty(())]
    whole = list(law.pieces(like, 7))
    alone = [law.pieces(like, 7)[k] for k in (3, 1, 2, 0)]
    for k, z in zip((3, 1, 2, 0), alone, strict=True):
        assert torch.equal(z, whole[k]) and z.shape == like[k].shape
    with pytest.raises(IndexError, match="piece 4 of 4"):
        law.pieces(like, 7)[4]


def test_tensors_of_one_shape_have_directions_of_their_own():
    z, w = zotk.Gaussian().pieces([torch.empty(4000), torch.empty(4000)], 1)
    assert abs(torch.corrcoef(torch.stack([z, w]))[0, 1]) < 5 / 4000**0.5


def test_signs_from_raw_bits_are_fair_and_independent():
    z = zotk.Rademacher().sample(2000, 130, generator=torch.Generator().manual_seed(4))
    assert set(z.unique().tolist()) == {-1.0, 1.0}
    mean = z.mean(0) * 2000**0.5
    assert mean.abs().max() < 6
    pairs = (z.T @ z / 2000**0.5).fill_diagonal_(0)
    assert pairs.abs().max() < 6.5
    words = z[:, :64] * z[:, 64:128]  # bits of different words at the same place
    assert (words.mean(0).abs() * 2000**0.5).max() < 6


def test_statistics_move_once():
    """BatchNorm in training mode: one batch counted for a step, whatever the queries."""
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    twin = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    twin.load_state_dict(net.state_dict())
    zotk.measure(lambda: net(X).square().sum(), net, queries=8, eps=1e-6, directions=zotk.Sphere())
    twin(X)
    assert int(net[1].num_batches_tracked) == 1
    assert torch.allclose(net[1].running_mean, twin[1].running_mean, atol=1e-5)


def test_check_finds_a_closure_that_is_two_functions():
    net, calls = network(), []

    def closure():
        calls.append(0)
        return net(X[len(calls) % 2 :: 2]).square().mean()

    with pytest.raises(ValueError, match=r"returned [\d.e-]+ and [\d.e-]+ at the same parameters"):
        zotk.measure(closure, net, check=True)
    assert len(calls) == 2
    assert zotk.measure(loss_of(net), net, check=True, queries=3).evaluations == 8


@pytest.mark.parametrize(
    "closure",
    [lambda net: float(network()(X).sum()), lambda net: 1e6 + 1e-12 * float(net(X).sum())],
)
def test_a_loss_that_never_changes_is_said_once(closure):
    net = network()
    with pytest.warns(UserWarning, match="at both ends of every pair: it does not see"):
        zotk.measure(lambda: closure(net), net, queries=3)
    with pytest.warns(UserWarning, match="at both ends of every pair"):
        zotk.grad(lambda p: torch.tensor(3.0))(torch.ones(4))


def test_tensors_that_do_not_move_are_named():
    """Gains at 1 in bfloat16 stand still under a step that moves the small weights."""
    net = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).bfloat16()
    with torch.no_grad():
        net[0].weight.mul_(0.05)
    with pytest.warns(UserWarning, match=r"θ \+ εz = θ for 1\.weight in \d+ of 64 entries"):
        zotk.measure(
            lambda: net(torch.ones(2, 64).bfloat16()).float().square().sum(), net, eps=1e-3
        )


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_records_survive_json_and_torch(law, dtype):
    net = network(dtype)
    made = zotk.measure(loss_of(net), net, directions=law, queries=3, eps=0.05)
    text = made.to_json()
    assert zotk.Estimate.from_json(text) == made and "\n" not in text
    assert any(seed > 2**53 for seed in made.seeds)
    assert all(isinstance(seed, str) for seed in json.loads(text)["seeds"])
    stream = io.BytesIO()
    torch.save(made, stream)
    stream.seek(0)
    with torch.serialization.safe_globals(zotk.Estimate.safe_globals()):
        assert torch.load(stream, weights_only=True) == made


def test_a_repr_is_short():
    net = network()
    made = zotk.measure(loss_of(net), net, queries=500)
    assert len(repr(made)) < 150 and "500 of Gaussian" in repr(made)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"directions": {"law": "Law"}}', '{"directions": {"law": "os"}}']
)
def test_json_of_something_else_is_refused(text):
    with pytest.raises(ValueError, match="no estimate in JSON"):
        zotk.Estimate.from_json(text)


def test_laws_of_others_stay_out_of_json():
    class Mine(zotk.Gaussian):
        pass

    net = network()
    with pytest.raises(TypeError, match="a law of zotk is needed for JSON"):
        zotk.measure(loss_of(net), net, directions=Mine()).to_json()


def test_joined_estimates_are_one():
    """ĝ of three and of two queries, joined, is the mean of all five."""
    net, twin = network(), network()
    generator = torch.Generator().manual_seed(5)
    parts = [zotk.measure(loss_of(net), net, queries=n, generator=generator) for n in (3, 2)]
    whole = zotk.join(parts)
    every = [c * n for part, n in zip(parts, (3, 2), strict=True) for c in part.coefficients]
    assert whole.coefficients == pytest.approx([c / 5 for c in every], rel=1e-14)
    assert whole.evaluations == 10
    assert whole.loss == pytest.approx(0.6 * parts[0].loss + 0.4 * parts[1].loss, rel=1e-14)
    zotk.replay_(net, whole, 1.0)
    for part, share in zip(parts, (0.6, 0.4), strict=True):
        zotk.replay_(twin, part, share)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-14)


def test_what_cannot_be_joined():
    net = network()
    made = zotk.measure(loss_of(net), net)
    other = zotk.measure(loss_of(net), net, directions=zotk.Sphere())
    rows = zotk.measure(loss_of(net), net, directions=zotk.Orthogonal())
    for estimates, error, match in (
        ([], ValueError, "empty"),
        ([made, other], ValueError, "directions Gaussian.* and Sphere"),
        ([rows, rows], ValueError, "cannot be joined"),
        ([made, 1.0], TypeError, "holds a float"),
        ([made, dataclasses.replace(made, device_type="cuda")], ValueError, "device_type"),
    ):
        with pytest.raises(error, match=match):
            zotk.join(estimates)
    assert zotk.join([rows]) == rows


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stochastic_rounding_keeps_the_mean(dtype):
    """A step of a twentieth of a unit in the last place: lost by the nearest, kept on average."""
    ulp = torch.finfo(dtype).eps
    p, kept = (nn.Parameter(torch.full((20_000,), 1.25, dtype=dtype)) for _ in range(2))
    law = zotk.Rademacher()
    (z,) = law.pieces([p], 9)
    made = zotk.Estimate(
        loss=0.0, coefficients=(1.0,), evaluations=2, directions=law, seeds=(9,),
        shapes=(p.shape,), dtypes=(dtype,), device_type="cpu",
    )  # fmt: skip
    zotk.replay_([kept], made, 0.05 * ulp)
    assert torch.equal(kept, torch.full_like(kept, 1.25))
    generator = torch.Generator().manual_seed(6)
    for _ in range(4):
        zotk.replay_([p], made, 0.05 * ulp, rounding="stochastic", generator=generator)
    moved = ((p.detach().double() - 1.25) / ulp) * z.double()
    se = math.sqrt(4 * 0.05 * 0.95 / len(p))
    assert abs(moved.mean().item() - 0.2) < 6 * se
    assert set((moved * z.double()).unique().tolist()) <= {float(k) for k in range(-4, 5)}
    with pytest.raises(ValueError, match="rounding is 'up'"):
        zotk.replay_([p], made, 1.0, rounding="up")


def test_a_log_is_a_checkpoint(tmp_path):
    net, generator = network(), torch.Generator().manual_seed(8)
    log = zotk.Log(tmp_path / "run.jsonl")
    middle = None
    for step in range(6):
        made = zotk.measure(loss_of(net), net, queries=2, generator=generator)
        log.append(made, -0.05)
        zotk.replay_(net, made, -0.05)
        if step == 2:
            middle = [p.detach().clone() for p in net.parameters()]
    fresh = network()
    assert zotk.Log(log.path).restore_(fresh.parameters()) == 6 and len(log) == 6
    assert all(map(torch.equal, net.parameters(), fresh.parameters()))  # bit by bit
    fresh = network()
    assert log.restore_(fresh, stop=3) == 3
    assert all(map(torch.equal, middle, fresh.parameters()))
    assert log.restore_(fresh, start=3) == 3
    assert all(map(torch.equal, net.parameters(), fresh.parameters()))


def test_a_line_cut_off_is_left_out(tmp_path):
    net, path = network(), tmp_path / "run.jsonl"
    log = zotk.Log(path)
    made = zotk.measure(loss_of(net), net)
    for _ in range(2):
        log.append(made, -0.1)
    path.write_bytes(path.read_bytes()[:-20])
    again = zotk.Log(path)
    assert len(again) == 1
    again.append(made, -0.1)
    assert len(zotk.Log(path)) == 2
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"run.jsonl:1 is no step"):
        len(zotk.Log(path))
