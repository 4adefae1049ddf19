"""Real processes on the loopback: one estimate, bit by bit that of one machine."""

import socket
import warnings
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing as mp
from torch import nn

import zotk

X = torch.randn(16, 5, generator=torch.Generator().manual_seed(2))


def network():
    return zotk.mlp([5, 7, 2], generator=torch.Generator().manual_seed(3))


def train(net, group, memory, scheme):
    """Five steps; the records and what the parameters are afterwards."""
    generator, records = torch.Generator().manual_seed(4), []
    for _ in range(5):
        made = zotk.measure(
            lambda: net(X).square().mean(), net, queries=5, memory=memory, scheme=scheme,
            generator=generator, group=group,
        )  # fmt: skip
        zotk.replay_(net, made, -0.05)
        records.append(made)
    return [e.to_json() for e in records], [p.detach().tolist() for p in net.parameters()]


def equal(rank, size, group):
    return [
        train(network(), group, m, s)
        for m in ("exact", "layerwise")
        for s in ("central", "forward")
    ]


def by_backward(rank, size, group):
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(4)
    for _ in range(3):
        optimizer.zero_grad()
        zotk.backward(lambda: net(X).square().mean(), net, queries=4, memory="exact",
                      generator=generator, group=group)  # fmt: skip
        optimizer.step()
    return [p.detach().tolist() for p in net.parameters()]


def own_generators(rank, size, group):
    """Rank 0's directions serve; what the others would have drawn does not matter."""
    net = network()
    generator = torch.Generator().manual_seed(rank)
    return zotk.measure(lambda: net(X).square().mean(), net, queries=3, generator=generator,
                        group=group).to_json()  # fmt: skip


def failing(rank, size, group):
    net = network()
    before = [p.detach().clone() for p in net.parameters()]

    def closure():
        if rank == 1:
            raise FloatingPointError("mine")
        return net(X).square().mean()

    try:
        zotk.backward(closure, net, queries=4, memory="exact", group=group)
    except (FloatingPointError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
    restored = all(map(torch.equal, before, net.parameters()))
    return said, restored, all(p.grad is None for p in net.parameters())


def dying(rank, size, group):
    """Rank 1 leaves; the others hear of it within the group's timeout, parameters restored."""
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    if rank == 1:
        return "left"
    try:
        zotk.measure(lambda: net(X).square().mean(), net, queries=4, group=group)
    except RuntimeError:
        return all(map(torch.equal, before, net.parameters()))
    return "nothing was noticed"


def disagreeing(rank, size, group):
    said = []
    net = network()
    for change in ("eps", "parameters", "directions"):
        other = network()
        if change == "parameters" and rank == 1:
            with torch.no_grad():
                other[0].weight[0, 0] += 1e-7
        options = {
            "eps": 2e-3 if change == "eps" and rank == 1 else 1e-3,
            "directions": zotk.Sphere()
            if change == "directions" and rank == 1
            else zotk.Gaussian(),
        }
        try:
            zotk.measure(lambda net=other: net(X).square().mean(), other, group=group, **options)
        except ValueError as error:
            said.append(str(error))
    for memory in ("store", "replay"):
        try:
            zotk.backward(lambda: net(X).square().mean(), net, memory=memory, group=group)
        except ValueError as error:
            said.append(str(error))
    return said


def alone(rank, size, group):
    net = network()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zotk.backward(lambda: net(X).square().mean(), net.parameters())
    return [str(w.message) for w in caught]


def wrapped(rank, size, group):
    """A DDP module's own parameters; its statistics stay."""
    net = nn.Sequential(network(), nn.BatchNorm1d(2))
    ddp = nn.parallel.DistributedDataParallel(net, process_group=group)
    made = zotk.measure(lambda: ddp(X).square().mean(), net, queries=2, group=group)
    return made.to_json(), int(net[1].num_batches_tracked)


def _process(rank, size, port, role, queue):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size,
        timeout=timedelta(seconds=20),
    )  # fmt: skip
    try:
        queue.put((rank, role(rank, size, dist.group.WORLD)))
        if role is not dying:
            dist.barrier()
    finally:
        if role is not dying:
            dist.destroy_process_group()


def run(size, role):
    """What each rank returned, in order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    found = mp.start_processes(
        _process, (size, port, role, queue), nprocs=size, join=False, start_method="spawn"
    )
    told = dict(queue.get() for _ in range(size))
    if role is dying:
        for process in found.processes:
            process.kill()
            process.join()
    else:
        found.join(60)
    return [told[rank] for rank in range(size)]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_equal_one_machine_bitwise(size):
    one = equal(0, 1, None)
    assert all(found == one for found in run(size, equal))


def test_an_optimiser_steps_alike_on_all():
    assert run(2, by_backward) == [by_backward(0, 1, None)] * 2


def test_directions_are_those_of_rank_0():
    assert run(2, own_generators) == [own_generators(0, 1, None)] * 2


def test_a_failure_is_one_of_all():
    first, second = run(2, failing)
    assert first == ("RuntimeError: the closure failed on rank 1 of the group", True, True)
    assert second == ("FloatingPointError: mine", True, True)


def test_a_rank_that_dies_is_an_error_on_the_others():
    assert run(2, dying) == [True, "left"]


def test_ranks_that_differ_hear_of_it():
    told = run(2, disagreeing)
    assert told[0] == told[1]
    for said, word in zip(
        told[0], ("eps", "the parameters", "directions", "'store'", "'replay'"), strict=True
    ):
        assert word in said


def test_a_process_group_without_group_is_a_warning():
    for said in run(2, alone):
        assert len(said) == 1 and "2 processes and group is None" in said[0]


def test_ddp_modules_and_their_statistics():
    (one, counted), (two, again) = run(2, wrapped)
    assert one == two and counted == again == 0
