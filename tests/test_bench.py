"""What `make bench` says of the parts of a step."""

import pytest
import torch

from ci import bench_parts, bench_steps
from ci.bench_parts import bandwidth, floor, machine, parts
from ci.bench_tools import times

CPU = torch.device("cpu")


def test_the_floor_is_forwards_and_traffic():
    # a million weights of 4 bytes, read and written three times, at 24 MB a second: one second
    assert floor(0.25, 10**6, 24e6) == pytest.approx(1.5)
    assert floor(0.25, 10**6, 24e6, passes=0) == pytest.approx(0.5)


def test_the_machine_has_a_name():
    words = machine(CPU).split(", ")
    assert len(words) == 3 and words[0] and "thread" in words[1]
    assert words[2] == f"torch {torch.__version__}"


def test_every_part_is_timed():
    found = dict(parts(CPU, sizes=(5, 4, 3), rows=2))
    assert list(found) == [
        "forward pass", "draw, Gaussian", "draw, signs", "move, θ + εz in place", "copy of θ",
    ]  # fmt: skip
    assert all(seconds > 0 for seconds in found.values())


def test_bandwidth_counts_what_is_read_and_written(monkeypatch):
    monkeypatch.setattr(
        bench_parts, "waited", lambda work, device, repeats=7: work() is None or 0.5
    )
    assert bandwidth(CPU, numbers=1000) == pytest.approx(2 * 4 * 1000 / 0.5)


def test_work_is_done_once_before_it_is_timed():
    done = []
    assert bench_parts.waited(lambda: done.append(1), CPU, repeats=3) >= 0
    assert len(done) == 4


def test_pieces_of_work_are_timed_by_turns():
    done = []
    found = times([lambda: done.append("a"), lambda: done.append("b")], 3)
    assert done == ["a", "b"] * 3
    assert [len(each) for each in found] == [3, 3] and min(map(min, found)) >= 0


def test_another_library_is_timed_where_it_is(monkeypatch):
    """Its step asks for two values and moves the weights; where it is missing, nothing is timed."""
    calls = []

    class Library:
        class m:
            RDSA = LR = staticmethod(lambda *args, **options: (args, options))

        class Optimizer:
            def __init__(self, params, estimator, rate):
                assert estimator == ((), {"h": 1e-3, "return_approx_loss": True})
                assert rate == ((bench_steps.LR,), {}) and len(list(params)) == 2

            def step(self, closure):
                calls.extend([closure(False), closure()])

    monkeypatch.setattr(bench_steps.importlib, "import_module", lambda name: Library)
    bench_steps.through_torchzero(torch.nn.Linear(2, 1), lambda: torch.ones(()), module="RDSA")
    assert calls == [1, 1]
    monkeypatch.setattr(bench_steps, "torchzero", lambda: None)
    assert not any("torchzero" in name for name in bench_steps.ways())
    monkeypatch.setattr(bench_steps, "torchzero", lambda: "0.4.4")
    assert sum("torchzero" in name for name in bench_steps.ways()) == 3
