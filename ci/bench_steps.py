"""One training step beside its own two forward passes: seconds, ratio, memory.

A network of 6.3 million parameters, a batch of 512, one query, one thread, float32. Each way runs
in a process of its own, by turns with two forward passes alone, to which its ratio is: of the least
times, and of the medians, which on a machine with other work tell how far to trust the first.
Memory is what the process grew by beyond the network, its inputs and one forward pass, in units of
the parameters. "by hand" is the loop of MeZO (Malladi et al. 2023) as one would write it: global
seed, three moves in place, the update redrawn.

torchzero (https://pypi.org/project/torchzero/), where it is installed, takes steps beside ours; it
is no requirement of anything else. It is asked for the loss at θ + εz, as it would evaluate a third
time for that at θ.
"""

import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

import zotk
from ci.bench_tools import peak, times

SIZES, ROWS, LR = (784, 2048, 2048, 256, 10), 512, 1e-6
REPEATS = 9

Step = Callable[[nn.Module, Callable[[], torch.Tensor]], None]


def forwards(net: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
    with torch.no_grad():
        float(loss()), float(loss())


def by_hand(net: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
    """MeZO's step: θ + εz, θ - εz, θ, and the update, with z drawn anew each time."""
    eps = 1e-3

    def move(scale: float) -> None:
        torch.manual_seed(1)
        for p in net.parameters():
            p.add_(torch.normal(0.0, 1.0, p.shape), alpha=scale)

    with torch.no_grad():
        move(eps)
        up = float(loss())
        move(-2 * eps)
        down = float(loss())
        move(eps)
        move(-LR * (up - down) / (2 * eps))


def through_grad(
    net: nn.Module, loss: Callable[[], torch.Tensor], *, law: zotk.Law, memory: str
) -> None:
    for p in net.parameters():
        p.grad = None
    zotk.backward(loss, net, directions=law, memory=memory)


def by_scalars(
    net: nn.Module, loss: Callable[[], torch.Tensor], *, law: zotk.Law, memory: str
) -> None:
    zotk.replay_(net, zotk.measure(loss, net, directions=law, memory=memory), -LR)


def through_torchzero(net: nn.Module, loss: Callable[[], torch.Tensor], *, module: str) -> None:
    tz = importlib.import_module("torchzero")
    estimator = getattr(tz.m, module)(h=1e-3, return_approx_loss=True)
    tz.Optimizer(net.parameters(), estimator, tz.m.LR(LR)).step(lambda backward=True: loss())


def torchzero() -> str | None:
    """The version that is installed, if one is."""
    there = importlib.util.find_spec("torchzero") is not None
    return importlib.metadata.version("torchzero") if there else None


def ways() -> dict[str, Step]:
    found: dict[str, Step] = {"two forwards": forwards, "by hand, Gaussian": by_hand}
    if torchzero():
        for module, drawn in (("RDSA", "Gaussian"), ("MeZO", "signs"), ("SPSA", "signs")):
            found[f"torchzero {module}, {drawn}"] = partial(through_torchzero, module=module)
    for name, law in (("Gaussian", zotk.Gaussian()), ("signs", zotk.Rademacher())):
        for memory in ("store", "replay", "exact", "layerwise"):
            found[f"backward, {name}, {memory}"] = partial(through_grad, law=law, memory=memory)
        for memory in ("replay", "exact", "layerwise"):
            key = f"measure + replay_, {name}, {memory}"
            found[key] = partial(by_scalars, law=law, memory=memory)
    return found


def alone(way: Step) -> tuple[list[float], list[float], float]:
    """Seconds of steps and of two forward passes, memory in units of the parameters.

    For a process of its own.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    net = zotk.mlp(SIZES, nn.ReLU, generator=generator)
    x = torch.rand(ROWS, SIZES[0], generator=generator)
    y = torch.randint(0, 10, (ROWS,), generator=generator)

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(net(x), y)

    forwards(net, loss)
    before = peak()
    way(net, loss)
    grown = peak() - before
    size = sum(p.numel() * p.element_size() for p in net.parameters()) / 2**20
    both = times([lambda: way(net, loss), lambda: forwards(net, loss)], REPEATS)
    return both[0], both[1], grown / size


def steps() -> None:
    print(f"one step, {'-'.join(map(str, SIZES))}, batch {ROWS}, float32: beside two forwards")
    version = torchzero()
    print(f"  torchzero: {version}" if version else "  torchzero: not installed")
    for name, way in ways().items():
        # a spawned process would start from the peak of this one
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            seconds, plain, grown = pool.apply(alone, (way,))
        ratio = min(seconds) / min(plain)
        typical = statistics.median(seconds) / statistics.median(plain)
        print(
            f"  {name:36} {min(seconds):8.4f} s, ratio {ratio:5.2f} (medians {typical:5.2f}), "
            f"memory {grown:5.2f}"
        )


if __name__ == "__main__":
    steps()
