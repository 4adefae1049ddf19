"""Speed of zotk beside what one would write without it: times, ratios and errors of one run.

    python -m ci.bench

One thread. Three plain versions of a sampled kernel follow the definition, draw by draw: "repeated"
repeats every direction to one row per example and keeps every draw, as the NZK paper's public code
does in the version we read; "matrices" multiplies the two estimates and keeps a sum; "vectors"
never forms an estimate. They are timed on a part of the draws and scaled, which the output says.
zotk draws what the features see of a direction, n + 1 of d numbers, the loops draw all d.

The tangent kernels are those of a network of 1.9 million parameters, each computed in a process of
its own, after a first one of a tiny network; memory is what the process grew by beyond network and
inputs. "jacobians" contracts what vmap(jacrev) gives, formed once for both sides. Nothing here
passes or fails.
"""

import multiprocessing
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy.linalg import norm
from torch import Tensor, nn
from torch.func import jacrev, vmap

import zotk
from ci.bench_parts import where_time_goes
from ci.bench_steps import steps
from ci.bench_tools import peak, timed
from ci.console import any_locale
from zotk.networks.contract import Model

PART = 300  # draws of the plain loops that are really timed


def nzk_repeated(x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Eq 5 of the NZK paper row by row, the draws averaged at the end."""
    kept = []
    for _ in range(draws):
        z = torch.randn(1, x.shape[1], dtype=x.dtype, generator=generator).repeat(len(x), 1)
        zeta = torch.randn(1, x.shape[1], dtype=x.dtype, generator=generator).repeat(len(x), 1)
        first = (x * zeta).sum(1, keepdim=True) * zeta
        second = (x * z).sum(1, keepdim=True) * z
        kept.append(first @ second.T)
    return torch.stack(kept).mean(0)


def nzk_matrices(x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """The same with a running sum and no repeated rows."""
    total = torch.zeros(len(x), len(x), dtype=x.dtype)
    for _ in range(draws):
        z = torch.randn(x.shape[1], dtype=x.dtype, generator=generator)
        zeta = torch.randn(x.shape[1], dtype=x.dtype, generator=generator)
        total += (x @ zeta)[:, None] * zeta @ ((x @ z)[:, None] * z).T
    return total / draws


def nzk_vectors(x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """The same with products of vectors in place of the product of two (n, d) estimates."""
    total = torch.zeros(len(x), len(x), dtype=x.dtype)
    for _ in range(draws):
        z = torch.randn(x.shape[1], dtype=x.dtype, generator=generator)
        zeta = torch.randn(x.shape[1], dtype=x.dtype, generator=generator)
        total += torch.outer((x @ zeta) * (zeta @ z), x @ z)
    return total / draws


def kernels(n: int = 200, d: int = 711, draws: int = 10_000) -> None:
    """Sampled and expected NZK."""
    generator = torch.Generator().manual_seed(0)
    x = zotk.sphere(n, d, generator=generator, dtype=torch.float32)
    exact = x.double() @ x.double().T
    law = zotk.Gaussian()

    def rms(kernel: Tensor, scale: Tensor | float = 1.0) -> float:
        return float(((kernel.double() - exact) / scale).square().mean().sqrt())

    print(f"NZK, n = {n}, d = {d}, {draws:,} draws, float32; plain: {PART} draws timed, scaled")
    before = peak()
    sampled, estimate = timed(
        lambda: zotk.nzk_samples(x, directions=law, draws=draws, generator=generator), 5
    )
    grown = peak() - before
    loops = []
    for loop in (nzk_repeated, nzk_matrices, nzk_vectors):
        before = peak()
        part, kernel = timed(lambda loop=loop: loop(x, PART, generator), 1)  # type: ignore[misc]
        held = (peak() - before) * (draws / PART if loop is nzk_repeated else 1)
        loops.append(part * draws / PART)
        print(
            f"  loop, {loop.__name__[4:]:9} {loops[-1]:11.6f} s   rms error {rms(kernel):.2g} "
            f"({PART} draws), {held:,.0f} MB"
        )
    closed, expected = timed(lambda: zotk.nzk(x, directions=law), 20)
    for name, seconds, rest in (
        (
            "nzk_samples",
            sampled,
            f"rms error {rms(estimate.matrix):.2g}, {rms(estimate.matrix, estimate.stderr):.2f} "
            f"of the standard errors, {grown:,.0f} MB",
        ),
        ("nzk", closed, f"rms error {rms(expected):.2g}"),
    ):
        ratios = ", ".join(f"{loop / seconds:,.0f}" for loop in loops)
        print(f"  {name:15} {seconds:11.6f} s   {rest}; loops take {ratios} times as long")


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


def slopes(
    rest: nn.Module, state: Tensor, y: Tensor, loss: Callable[..., Tensor], nodes: range
) -> None:
    """The slopes of the loss of each row along some coordinates of a state, one by one."""
    for i in nodes:
        values = []
        for side in (2.0**-7, -(2.0**-7)):
            moved = state.clone()
            moved.view(len(state), -1)[:, i] += side
            values.append(loss(rest(moved), y))
        _ = (values[0] - values[1]) * 2**6


def node_by_node(
    net: nn.Sequential, x: Tensor, y: Tensor, loss: Callable[..., Tensor], few: int
) -> tuple[float, int]:
    """Targets by perturbing every coordinate of every state, one by one, and running to the loss.

    Seconds, timed on ``few`` coordinates of each state and scaled, and rows through units.
    """
    seconds, made, state = 0.0, 0, x
    for k in range(1, len(net)):
        state = net[k - 1](state)
        count = state[0].numel()
        nodes = range(0, count, max(1, count // few))
        took, _ = timed(partial(slopes, net[k:], state, y, loss, nodes), 1)
        seconds += took * count / len(nodes)
        made += 2 * count * (len(net) - k) * len(x)
    return seconds, made


def hierarchy(width: int = 32, rows: int = 16) -> None:
    """One gradient of a residual tower, all schemes."""
    print(f"one gradient, residual tanh tower of width {width}, {rows} rows, float64")
    for depth in (16, 32, 64):
        generator = torch.Generator().manual_seed(depth)
        net = zotk.tower(width, depth, residual=True, generator=generator, dtype=torch.float64)
        x, y = torch.randn(2, rows, width, generator=generator, dtype=torch.float64)
        loss = nn.functional.mse_loss
        plain, truth = timed(
            lambda: torch.autograd.grad(loss(net(x), y), list(net.parameters()))  # noqa: B023
        )
        exact = torch.cat([g.flatten() for g in truth])
        print(f"  L = {depth}: autograd            {plain:9.4f} s")
        with torch.no_grad():
            each = lambda h, y: (h - y).square().mean(1)  # noqa: E731
            slow, units = node_by_node(net, x, y, each, width // 4)
        print(f"    one node at a time      {slow:9.4f} s   {units // rows:,} units a row")
        schemes: dict[str, int | str] = {"direct": 1, "binary": 2, "chain": "chain"}
        for name, arity in schemes.items():
            net.zero_grad()
            seconds, made = timed(lambda: zotk.hzo_backward(net, x, y, loss, arity=arity), 1)  # noqa: B023
            found = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
            print(
                f"    {name:23} {seconds:9.4f} s   {made.perturbed_rows // rows:,} units a row, "
                f"{seconds / plain:,.0f} times autograd, {slow / seconds:,.1f} times "
                f"faster than nodes, relative error {(found - exact).norm() / exact.norm():.0e}"
            )


def small_cnn(rows: int, side: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A residual network of nine units, images and labels."""
    generator = torch.Generator().manual_seed(0)
    net = zotk.cnn(3, [8, 16], 3, 10, generator=generator, dtype=torch.float32)
    x = torch.randn(rows, 3, side, side, generator=generator)
    return net, x, torch.randint(10, (rows,), generator=generator)


def one_gradient(scheme: str, side: int, rows: int = 8) -> tuple[float, float, int, Tensor]:
    """Seconds, MB beyond network and images, layer evaluations an image, all gradients.

    For a process that did nothing before but the same on 4×4 pixels.
    """
    torch.set_num_threads(1)
    loss = nn.functional.cross_entropy
    kind, _, limit = scheme.partition(", ")
    made = 0
    for size in (4, side):
        net, x, y = small_cnn(rows, size)
        before = peak()
        if kind == "autograd":
            seconds, _ = timed(lambda: loss(net(x), y).backward(), 1)  # noqa: B023
            made = 3 * len(net) * rows
        elif kind == "node by node":
            with torch.no_grad():
                seconds, made = node_by_node(net, x, y, partial(loss, reduction="none"), 16)
        else:
            arity: int | str = {"binary": 2, "direct": 1}.get(kind.split()[0], "chain")
            most = int(limit.split()[0]) if limit else 4096
            seconds, estimate = timed(
                lambda: zotk.hzo_backward(
                    net, x, y, loss, arity=arity, eps=2.0**-7, max_rows=most,  # noqa: B023
                    coloring="one by one" not in kind,
                ),
                1,
            )  # fmt: skip
            made = estimate.base_rows + estimate.perturbed_rows + estimate.leaf_rows
        grown = peak() - before
    grads = [torch.zeros(1) if p.grad is None else p.grad.flatten() for p in net.parameters()]
    return seconds, grown, made // rows, torch.cat(grads).double()


def convolutions(side: int = 16) -> None:
    """One gradient of a small convolutional network: time, layer evaluations, memory."""
    print(f"one gradient, residual network of nine units, 8 images of {side}×{side}, float32")
    schemes = ["autograd", "node by node", "direct", "binary", "binary one by one", "chain"]
    schemes += ["chain one by one", "chain, 512 rows", "binary, 512 rows"]
    plain, slow, exact = 0.0, 0.0, torch.zeros(1)
    for scheme in schemes:
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            seconds, grown, units, grads = pool.apply(one_gradient, (scheme, side))
        line = f"  {scheme:18} {seconds:9.3f} s {units:11,} layers an image {grown:5,.0f} MB"
        if scheme == "autograd":
            plain, exact = seconds, grads
        elif scheme == "node by node":
            slow = seconds
            line += (
                f"  {seconds / plain:,.0f} times autograd; timed on 16 nodes of each state, scaled"
            )
        else:
            error = (grads - exact).norm() / exact.norm()
            line += f"  {seconds / plain:,.0f} times autograd, {slow / seconds:,.0f} times faster "
            line += f"than nodes, relative error {error:.0e}"
        print(line)


def jacobians(f: Model, params: dict[str, Tensor], x: Tensor) -> Tensor:
    """The tangent kernel from Jacobians of all examples."""
    n, total = len(x), torch.zeros(())
    each = vmap(jacrev(lambda p, row: f(p, row[None])[0]), in_dims=(None, 0))
    for jacobian in each(params, x).values():
        rows = jacobian.flatten(0, 1).flatten(1)
        total = total + rows @ rows.T
    return total.view(n, -1, n, total.shape[1] // n).transpose(1, 2)


def alone(kernel: Callable[..., Any], widths: tuple[int, ...], n: int) -> tuple[Any, ...]:
    """Seconds, MB, the kernel and its standard errors, for a process that did nothing before."""
    torch.set_num_threads(1)
    for sizes, rows in (((4, 3, 2), 2), (widths, n)):
        generator = torch.Generator().manual_seed(0)
        f, params = zotk.functional(zotk.mlp(sizes, nn.ReLU, generator=generator))
        x = torch.rand(rows, sizes[0], generator=generator)
        before = peak()
        once, result = timed(lambda a=(f, params, x): kernel(*a), 1)  # type: ignore[misc]
        grown = peak() - before
    seconds = once if once > 0.5 else timed(lambda: kernel(f, params, x), 5)[0]
    if isinstance(result, Tensor):
        return seconds, grown, result.double().numpy(), None
    return seconds, grown, result.matrix.double().numpy(), result.stderr.double().numpy()


def tangents(widths: tuple[int, ...] = (784, 1024, 1024, 10), n: int = 64) -> None:
    """The tangent kernel of a network, exact and from random directions."""
    print(f"tangent kernel, {'-'.join(map(str, widths))}, ReLU, n = {n}, all outputs, float32")
    ways: dict[str, Callable[..., Any]] = {"jacobians": jacobians, "ntk": zotk.ntk}
    ways |= {f"zo_entk, {p:3}": partial(zotk.zo_entk, queries=p) for p in (16, 256)}
    plain, most, truth = 0.0, 0.0, None
    for name, kernel in ways.items():
        # a spawned process would start from the peak of this one
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            seconds, grown, found, stderr = pool.apply(alone, (kernel, widths, n))
        line = f"  {name:15} {seconds:11.6f} s   {grown:,.0f} MB"
        if truth is None:
            plain, most, truth = seconds, grown, found
        else:
            error = found - truth
            line += f", relative Frobenius error {norm(error) / norm(truth):.1e}"
            if stderr is not None:
                line += f", {((error / stderr) ** 2).mean() ** 0.5:.2f} of the standard errors"
            line += (
                f"; jacobians: {plain / seconds:,.0f} times the time, {most / grown:,.0f} the MB"
            )
        print(line)


def main() -> None:
    """All benchmarks."""
    any_locale()
    torch.set_num_threads(1)
    where_time_goes()
    steps()
    kernels()
    descent()
    tangents()
    hierarchy()
    convolutions()


if __name__ == "__main__":
    main()
