"""Where the time of a step goes: draws, moves and forward passes apart, and what memory allows.

For the network of `bench_steps`, on the CPU with one thread and on a CUDA device where there is
one. The floor of a step takes its two forward passes as they are and adds the least traffic of
moving weights in place: +ε, -ε and the update, each of which reads and writes every weight once,
at the bandwidth of a large copy; directions that cost nothing and are never stored.
"""

import platform
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zotk
from ci.bench_steps import ROWS, SIZES
from ci.bench_tools import timed

BUFFER = 2**26  # numbers of a copy that no cache holds, 256 MB in float32
PASSES = 3  # over the weights, in the floor


def machine(device: torch.device) -> str:
    """The processor's or GPU's name, threads, and the version of torch."""
    if device.type == "cuda":
        name, threads = torch.cuda.get_device_name(device), ""
    else:
        name, threads = platform.processor() or platform.machine(), f"{torch.get_num_threads()} "
        threads += "thread" if torch.get_num_threads() == 1 else "threads"
        info = Path("/proc/cpuinfo")
        for line in info.read_text(encoding="utf-8").splitlines() if info.exists() else ():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return ", ".join(part for part in (name, threads, f"torch {torch.__version__}") if part)


def waited(work: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    """Least seconds of a piece of work, a GPU's queue included."""

    def whole() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    whole()
    return timed(whole, repeats)[0]


def bandwidth(device: torch.device, numbers: int = BUFFER) -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.zeros(numbers, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * numbers / waited(lambda: target.copy_(source), device)


def floor(forward: float, weights: int, rate: float, passes: int = PASSES) -> float:
    """Seconds of a step: two forward passes, and weights of 4 bytes read and written."""
    return 2 * forward + passes * 2 * 4 * weights / rate


def parts(
    device: torch.device, sizes: tuple[int, ...] = SIZES, rows: int = ROWS
) -> Iterator[tuple[str, float]]:
    """Name and seconds of each part of a step; a draw is one direction for all weights."""
    generator = torch.Generator().manual_seed(0)
    net = zotk.mlp(sizes, nn.ReLU, generator=generator).to(device)
    x = torch.rand(rows, sizes[0], generator=generator).to(device)
    theta = [p.detach() for p in net.parameters()]
    with torch.no_grad():
        yield "forward pass", waited(lambda: net(x), device)
    for name, law in (("Gaussian", zotk.Gaussian()), ("signs", zotk.Rademacher())):
        yield f"draw, {name}", waited(lambda law=law: list(law.pieces(theta, 1)), device)  # type: ignore[misc]
    direction = list(zotk.Gaussian().pieces(theta, 1))

    def move() -> None:
        for t, z in zip(theta, direction, strict=True):
            t.add_(z, alpha=1e-9)

    copies = [t.clone() for t in theta]

    def copy() -> None:
        for t, kept in zip(theta, copies, strict=True):
            kept.copy_(t)

    yield "move, θ + εz in place", waited(move, device)
    yield "copy of θ", waited(copy, device)


def where_time_goes() -> None:
    """Print the parts on every device there is."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    weights = sum((a + 1) * b for a, b in pairwise(SIZES))
    for device in devices:
        print(f"parts of a step on {machine(device)}")
        found = dict(parts(device))
        forward = found["forward pass"]
        for name, seconds in found.items():
            print(
                f"  {name:24} {1e3 * seconds:9.3f} ms, {1e9 * seconds / weights:6.3f} ns a weight, "
                f"{seconds / forward:5.2f} forward passes"
            )
        rate = bandwidth(device)
        least = floor(forward, weights, rate)
        print(
            f"  memory: {rate / 1e9:.1f} GB/s; floor of a step, {PASSES} passes over the weights: "
            f"{1e3 * least:.3f} ms, {least / (2 * forward):.3f} of two forward passes"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    where_time_goes()
