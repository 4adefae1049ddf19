"""Speed of zotk beside what one would write without it: times, ratios and errors of one run.

    python -m ci.bench

One thread. The plain version of a kernel follows the definition, draw by draw; it is timed on a
part of its draws and scaled, which the output says. Nothing here passes or fails.
"""

import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import zotk

PART = 300  # draws of the plain loop that are really timed


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Least of the wall times in seconds, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def nzk_by_definition(x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Eq 5 of the NZK paper averaged over a loop: two (n, d) estimates and their products."""
    total = torch.zeros(len(x), len(x), dtype=x.dtype)
    for _ in range(draws):
        z = torch.randn(x.shape[1], dtype=x.dtype, generator=generator)
        zeta = torch.randn(x.shape[1], dtype=x.dtype, generator=generator)
        total += (x @ zeta)[:, None] * zeta @ ((x @ z)[:, None] * z).T
    return total / draws


def kernels(n: int = 200, d: int = 711, draws: int = 10_000) -> None:
    """Sampled and expected NZK."""
    generator = torch.Generator().manual_seed(0)
    x = zotk.sphere(n, d, generator=generator, dtype=torch.float32)
    exact = x.double() @ x.double().T
    law = zotk.Gaussian()

    part, _ = timed(lambda: nzk_by_definition(x, PART, generator), 1)
    loop = part * draws / PART
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batched, estimate = timed(
        lambda: zotk.nzk_samples(x, directions=law, draws=draws, generator=generator)
    )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    closed, expected = timed(lambda: zotk.nzk(x, directions=law), 20)
    z = (estimate.matrix.double() - exact) / estimate.stderr.double()
    print(f"NZK, n = {n}, d = {d}, {draws:,} draws")
    print(f"  loop over draws    {loop:9.3f} s   (timed on {PART}, scaled)")
    print(
        f"  nzk_samples        {batched:9.3f} s   {loop / batched:8,.0f} times, rms z of the "
        f"errors {z.square().mean().sqrt():.2f}, peak memory grew by {grown:.0f} MB"
    )
    print(
        f"  nzk                {closed:9.6f} s   {loop / closed:8,.0f} times, error "
        f"{(expected - exact).abs().max():.1e}"
    )


def descent(n: int = 200, steps: int = 16_000) -> None:
    """Kernel gradient descent, every loss on the way."""
    generator = torch.Generator().manual_seed(1)
    x = zotk.sphere(n, 50, generator=generator, dtype=torch.float64)
    y = torch.randn(n, generator=generator, dtype=torch.float64)
    kernel, lr = x @ x.T, 1e-3 * n

    def loop() -> Tensor:
        f, losses = torch.zeros_like(y), []
        for _ in range(steps):
            losses.append(0.5 * (f - y).square().mean())
            f = f - lr / n * (kernel @ (f - y))
        return torch.stack(losses)

    plain, truth = timed(loop, 1)
    closed, losses = timed(
        lambda: zotk.gradient_descent(kernel, torch.zeros_like(y), y, lr).loss(torch.arange(steps))
    )
    print(f"kernel descent, n = {n}, {steps:,} steps, all losses")
    print(f"  loop               {plain:9.3f} s")
    print(
        f"  gradient_descent   {closed:9.3f} s   {plain / closed:8,.0f} times, error "
        f"{(losses - truth).abs().max():.1e}"
    )


def main() -> None:
    """All benchmarks."""
    torch.set_num_threads(1)
    kernels()
    descent()


if __name__ == "__main__":
    main()
