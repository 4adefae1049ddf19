"""Counts against integers worked out by hand."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as fwd
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils.parametrize import register_parametrization

from zotk.evidence.counting import QueryCount, count_queries

# torch warns about itself when forward-mode AD is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is dep:DeprecationWarning")

Params = dict[str, Tensor]


def tower() -> nn.Sequential:
    """Leaves 0 … 4; 3 inputs, 2 outputs, 39 parameters."""
    return nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)
    ).double()


def stacked(*shape: int) -> Params:
    params, _ = stack_module_state([tower() for _ in range(torch.Size(shape).numel())])
    return {k: v.detach().unflatten(0, shape) for k, v in params.items()}


def batch(*shape: int) -> Tensor:
    return torch.zeros(*shape, 3, dtype=torch.float64)


@pytest.fixture
def net() -> nn.Sequential:
    return tower()


@pytest.fixture
def params(net: nn.Module) -> Params:
    return {k: v.detach() for k, v in net.named_parameters()}


@pytest.fixture
def f(net: nn.Module) -> Callable[[Params, Tensor], Tensor]:
    return lambda params, x: functional_call(net, params, (x,))


def expect(
    q: QueryCount, forwards: int, rows: int, layers: list[int] | None = None, tangent_rows: int = 0
) -> None:
    """`layers` in order; by default every leaf evaluated `rows`."""
    assert (q.forwards, q.rows, q.tangent_rows) == (forwards, rows, tangent_rows)
    assert list(q.layer_rows.values()) == (layers or [rows] * len(q.layer_rows))
    assert all(type(n) is int for n in (q.forwards, q.rows, q.tangent_rows))


def no_hooks(net: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


# --- plain calls ---


def test_nothing_called(net):
    with count_queries(net) as q:
        pass
    expect(q, 0, 0)
    assert list(q.layer_rows) == ["0", "1", "2", "3", "4"]


def test_plain_calls_and_reading_inside(net):
    with count_queries(net) as q:
        net(batch(5))
        expect(q, 1, 5)
        for n in range(4):  # the first has no rows
            net(batch(n))
    expect(q, 5, 11)
    net(batch(7))
    expect(q, 5, 11)


def test_the_context_restarts_and_hooks_go(net):
    for _ in range(2):
        with count_queries(net) as q:
            net(batch(2))
        expect(q, 1, 2)
        assert no_hooks(net)


def test_hooks_go_after_an_exception_and_counts_stay(net):
    with pytest.raises(KeyboardInterrupt), count_queries(net) as q:
        net(batch(2))
        raise KeyboardInterrupt
    expect(q, 1, 2)
    assert no_hooks(net)


def test_a_call_that_raises_counts_only_the_leaves_it_finished(net):
    net[2] = nn.Linear(99, 3).double()
    with count_queries(net) as q:
        with pytest.raises(RuntimeError, match="shapes"):
            net(batch(2))
        net[:2](batch(1))
    expect(q, 0, 0, [3, 3, 0, 0, 0])


def test_nested_contexts_are_independent(net):
    with count_queries(net) as outer:
        net(batch(2))
        with (
            count_queries(net) as inner,
            count_queries(net[3:]) as part,
            count_queries(net[4]) as leaf,
        ):
            net(batch(3))
        net(batch(4))
    expect(outer, 3, 9)
    expect(inner, 1, 3)
    expect(part, 0, 0, [3, 3])
    expect(leaf, 1, 3)


def test_partial_calls_show_in_their_leaves_alone(net):
    with count_queries(net) as q:
        hidden = net[:3](batch(5))
        net[3:](hidden)
        net[3:](hidden[:2])
        net[4](hidden[:1])
    expect(q, 0, 0, [5, 5, 5, 7, 8])


def test_a_leaf_network():
    net = nn.Linear(3, 1).double()
    params, _ = stack_module_state([nn.Linear(3, 1).double() for _ in range(6)])
    with count_queries(net) as q:
        net(batch(4))
        vmap(lambda p: functional_call(net, p, (batch(4),)))(params)
    expect(q, 7, 28)
    assert q.layer_rows == {"": 28}


def test_a_leaf_used_twice_and_nested_names():
    shared = nn.Linear(3, 3).double()
    net = nn.Sequential(shared, nn.Sequential(nn.Tanh(), shared))
    with count_queries(net) as q:
        net(batch(5))
    assert (q.forwards, q.rows) == (1, 5)
    assert q.layer_rows == {"0": 10, "1.0": 5}


def test_a_parametrized_layer_is_a_leaf():
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double()
    register_parametrization(net[0], "weight", nn.Softplus())
    stack = {k: torch.stack([v.detach()] * 6) for k, v in net.named_parameters()}
    with count_queries(net) as q:
        vmap(lambda p: functional_call(net, p, (batch(5),)))(stack)
    expect(q, 6, 30)
    assert list(q.layer_rows) == ["0", "1"]


def test_keyword_and_second_inputs():
    class Shift(nn.Module):
        def forward(self, x: Tensor, by: Tensor) -> Tensor:
            return x + by

    net = Shift()
    with count_queries(net) as q:
        net(x=batch(5), by=batch(1))
        vmap(lambda by: net(batch(5), by))(batch(4, 1))
    expect(q, 2, 25)


def test_an_output_that_is_no_tensor():
    class Store(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> None:
            self.last = self.scale * x

    net = Store()
    with count_queries(net) as q:
        vmap(lambda s: functional_call(net, {"scale": s}, (batch(5),)), out_dims=None)(
            torch.ones(7)
        )
        vmap(net, out_dims=None)(batch(4, 5))
        jvp(lambda x: (net(x), x)[1], (batch(5),), (batch(5),))
    expect(q, 9, 60, tangent_rows=5)


def test_inputs_of_other_shapes():
    images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    tokens = nn.Sequential(nn.Embedding(9, 3), nn.Linear(3, 1))
    with count_queries(images) as p, count_queries(tokens) as q:
        images(torch.zeros(5, 1, 4, 4))
        tokens(torch.zeros(5, 7, dtype=torch.long))
    expect(p, 1, 5)
    expect(q, 1, 5)


def test_a_scalar_is_one_row_and_no_tensor_none():
    net = nn.Identity()
    with count_queries(net) as q:
        net(torch.tensor(1.0))
        net("no tensor")
    expect(q, 2, 1)


def test_a_copy_is_another_network(net):
    with count_queries(net) as q:
        copy.deepcopy(net)(batch(5))
    expect(q, 0, 0)


def test_inference_mode_and_no_grad(net, params, f):
    with count_queries(net) as q:
        with torch.no_grad():
            net(batch(5))
        with torch.inference_mode():
            net(batch(5))
            vmap(f, (0, None))(stacked(6), batch(5))
            x = batch(5)
            vmap(lambda t: jvp(net, (x,), (t,)))(batch(4, 5))
    expect(q, 9, 45, tangent_rows=20)


@pytest.mark.parametrize("bad", [None, torch.zeros(3), nn.Linear, lambda x: x])
def test_no_module(bad):
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module"):
        count_queries(bad)


# --- vmap ---


@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 100])
def test_vmap_over_parameters(net, f, chunk):
    with count_queries(net) as q:
        vmap(f, (0, None), chunk_size=chunk)(stacked(7), batch(5))
    expect(q, 7, 35)


@pytest.mark.parametrize("chunk", [None, 3])
def test_nested_vmap_over_parameters(net, f, chunk):
    with count_queries(net) as q:
        vmap(vmap(f, (0, None), chunk_size=2), (0, None), chunk_size=chunk)(stacked(4, 3), batch(5))
    expect(q, 12, 60)


def test_batch_dimension_other_than_the_first(net, f):
    last = {k: v.movedim(0, -1) for k, v in stacked(7).items()}
    with count_queries(net) as q:
        vmap(f, (-1, 1))(last, batch(5, 7))
    expect(q, 7, 35)


def test_vmap_over_inputs(net):
    with count_queries(net) as q:
        vmap(net)(batch(4, 5))
        vmap(vmap(net))(batch(2, 3, 5))
    expect(q, 2, 50)


def test_both_at_one_level_and_at_two(net, f):
    with count_queries(net) as q:
        vmap(f)(stacked(7), batch(7, 5))
    expect(q, 7, 35)
    with count_queries(net) as q:
        vmap(vmap(f, (None, 0)), (0, None))(stacked(7), batch(4, 5))
    expect(q, 7, 140)
    with count_queries(net) as q:  # the same, levels exchanged
        vmap(vmap(f, (0, None)), (None, 0))(stacked(7), batch(4, 5))
    expect(q, 7, 140)


def test_a_level_the_network_does_not_depend_on(net, f):
    weights, sets = torch.ones(9), stacked(7)
    with count_queries(net) as q:
        vmap(lambda w: w * net(batch(5)).sum())(weights)
        vmap(lambda w: w * vmap(f, (0, None))(sets, batch(5)).sum())(weights)
    expect(q, 8, 40)


def test_only_one_layer_is_batched(net, f, params):
    def call(weight: Tensor) -> Tensor:
        return f(params | {"2.weight": weight}, batch(5))

    with count_queries(net) as q:
        vmap(call)(stacked(7)["2.weight"])
    expect(q, 7, 35, [5, 5, 35, 35, 35])


def test_two_layers_batched_at_two_levels(net, f, params):
    def call(first: Tensor, last: Tensor) -> Tensor:
        return f(params | {"0.bias": first, "4.bias": last}, batch(5))

    with count_queries(net) as q:
        vmap(vmap(call, (None, 0)), (0, None))(stacked(3)["0.bias"], stacked(4)["4.bias"])
    expect(q, 12, 60, [15, 15, 15, 15, 60])


def test_partial_call_under_vmap(net):
    with count_queries(net) as q:
        hidden = net[:3](batch(5))
        vmap(lambda z: net[3:](hidden + z))(batch(6, 1))
    expect(q, 0, 0, [5, 5, 5, 30, 30])


def test_buffers_count_as_parameters():
    nets = [nn.Sequential(nn.BatchNorm1d(3)).eval() for _ in range(7)]
    params, buffers = stack_module_state(nets)
    with count_queries(nets[0]) as q:
        vmap(lambda b: functional_call(nets[0], b, (torch.zeros(5, 3),)))(buffers)
        vmap(lambda s: functional_call(nets[0], s, (torch.zeros(5, 3),)))({**params, **buffers})
    expect(q, 14, 70)


def test_a_random_layer_with_different_masks():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Tanh()).double()
    for randomness, rows in ("same", 5), ("different", 20):
        with count_queries(net) as q:
            vmap(lambda w: w * net(batch(5)), randomness=randomness)(torch.zeros(4))
        expect(q, 1, rows, [5, rows, rows])


# --- derivatives ---


def test_reverse_mode_runs_forward_once(net, f, params):
    with count_queries(net) as q:
        grad(lambda p: f(p, batch(5)).sum())(params)
        grad(lambda p: grad(lambda p: f(p, batch(5)).sum())(p)["4.bias"].sum())(params)
        jacrev(f)(params, batch(5))
        net(batch(5)).sum().backward()
    expect(q, 4, 20)


@pytest.mark.parametrize("chunk", [None, 4])
def test_per_sample_gradients(net, f, params, chunk):
    def loss(p: Params, x: Tensor) -> Tensor:
        return f(p, x[None]).sum()

    with count_queries(net) as q:
        vmap(grad(loss), (None, 0), chunk_size=chunk)(params, batch(10))
    expect(q, 1 if chunk is None else 3, 10)


def test_per_sample_gradients_of_an_ensemble(net, f):
    def loss(p: Params, x: Tensor) -> Tensor:
        return f(p, x[None]).sum()

    with count_queries(net) as q:
        vmap(vmap(grad(loss), (None, 0)), (0, None))(stacked(7), batch(10))
    expect(q, 7, 70)


def test_jvp_with_one_tangent(net, f, params):
    with count_queries(net) as q:
        jvp(lambda p: f(p, batch(5)), (params,), (params,))
        jvp(net, (batch(5),), (batch(5),))
        jvp(f, (params, batch(5)), (params, batch(5)))  # one tangent, of both
    expect(q, 3, 15, tangent_rows=15)
    with count_queries(net) as q:  # no tangent enters
        jvp(lambda x: x.sum() * net(batch(5)).sum(), (batch(5),), (batch(5),))
    expect(q, 1, 5)


@pytest.mark.parametrize("chunk, calls", [(None, 1), (3, 3), (1, 7)])
def test_vmapped_tangents(net, f, params, chunk, calls):
    def push(tangent: Params) -> Tensor:
        return jvp(lambda p: f(p, batch(5)), (params,), (tangent,))[1]

    with count_queries(net) as q:
        vmap(push, chunk_size=chunk)(stacked(7))
    expect(q, calls, 5 * calls, tangent_rows=35)


def test_tangents_of_the_last_layer_do_not_repeat_the_first(net, f, params):
    def push(tangent: Tensor) -> Tensor:
        return jvp(lambda b: f(params | {"4.bias": b}, batch(5)), (params["4.bias"],), (tangent,))[
            1
        ]

    with count_queries(net) as q:
        vmap(push)(stacked(7)["4.bias"])
    expect(q, 1, 5, tangent_rows=35)


def test_tangents_and_parameter_sets(net, f):
    sets, tangents = stacked(4), stacked(4, 7)

    def push(p: Params, tangent: Params) -> Tensor:
        return jvp(lambda p: f(p, batch(5)), (p,), (tangent,))[1]

    with count_queries(net) as q:  # seven tangents at each of four points
        vmap(vmap(push, (None, 0)))(sets, tangents)
    expect(q, 4, 20, tangent_rows=140)
    with count_queries(net) as q:  # one tangent at each of four points
        vmap(push)(sets, stacked(4))
    expect(q, 4, 20, tangent_rows=20)
    with count_queries(net) as q:  # the same, jvp outside
        jvp(lambda p: vmap(f, (0, None))(p, batch(5)), (sets,), (sets,))
    expect(q, 4, 20, tangent_rows=20)


def test_tangents_through_a_vmap_over_inputs(net, f, params):
    def push(tangent: Params) -> Tensor:
        def rows(p: Params) -> Tensor:
            return vmap(lambda x: f(p, x[None]))(batch(5))

        return jvp(rows, (params,), (tangent,))[1]

    with count_queries(net) as q:
        vmap(push)(stacked(7))
    expect(q, 1, 5, tangent_rows=35)


def test_jacfwd(net, f, params):
    with count_queries(net) as q:
        jacfwd(net)(batch(5))  # 15 entries
    expect(q, 1, 5, tangent_rows=75)
    with count_queries(net) as q:
        jacfwd(lambda p: f(p, batch(5)))(params)
    expect(q, 1, 5, tangent_rows=39 * 5)


def test_second_derivatives(net, f, params):
    def loss(p: Params) -> Tensor:
        return f(p, batch(5)).sum()

    with count_queries(net) as q:  # Hessian-vector product
        jvp(grad(loss), (params,), (params,))
    expect(q, 1, 5, tangent_rows=5)
    with count_queries(net) as q:  # forward over reverse: 15 tangents
        hessian(lambda x: net(x).sum())(batch(5))
    expect(q, 1, 5, tangent_rows=75)
    with count_queries(net) as q:  # reverse over forward
        grad(lambda p: jvp(loss, (p,), (params,))[1])(params)
    expect(q, 1, 5, tangent_rows=5)
    with count_queries(net) as q:  # inner, outer and mixed tangent
        jvp(lambda p: jvp(loss, (p,), (params,))[1], (params,), (params,))
    expect(q, 1, 5, tangent_rows=15)
    with count_queries(net) as q:  # 15 inner, 15 outer and 225 mixed
        jacfwd(jacfwd(lambda x: net(x).sum()))(batch(5))
    expect(q, 1, 5, tangent_rows=5 * 255)


def test_one_vmap_around_nested_jvp(net, f, params):
    def second(v: Params) -> Tensor:
        def first(p: Params) -> Tensor:
            return jvp(lambda p: f(p, batch(5)), (p,), (v,))[1]

        return jvp(first, (params,), (v,))[1]

    with count_queries(net) as q:  # v'Hv in 7 directions: 7 inner, 7 outer, 7 mixed tangents
        vmap(second)(stacked(7))
    expect(q, 1, 5, tangent_rows=105)


def test_dual_numbers(net, f, params):
    with count_queries(net) as q, fwd.dual_level():
        net(fwd.make_dual(batch(5), batch(5)))
        f({k: fwd.make_dual(v, v) for k, v in params.items()}, batch(5))
        net(batch(5))
        sets = {k: fwd.make_dual(v, v) for k, v in stacked(7).items()}
        vmap(f, (0, None))(sets, batch(5))
    expect(q, 10, 50, tangent_rows=45)


def test_tensors_that_outlive_their_transform(net, f, params):
    kept: list[Params] = []

    def loss(p: Params) -> Tensor:
        kept.append(p)
        return f(p, batch(5)).sum()

    jvp(loss, (params,), (params,))
    grad(loss)(params)
    with count_queries(net) as q:
        for dead in kept:
            f(dead, batch(5))
    expect(q, 2, 10)

    kept.clear()
    with count_queries(net) as q:  # three tangents in the inner call, one after it
        jvp(lambda p: (jvp(loss, (p,), (params,)), f(kept[0], batch(5)))[1], (params,), (params,))
    expect(q, 2, 10, tangent_rows=20)


def test_a_finished_transform_inside_a_running_vmap(net, f):
    def call(p: Params) -> Tensor:
        kept: list[Params] = []

        def loss(p: Params) -> Tensor:
            kept.append(p)
            return p["4.bias"].sum()

        grad(loss)(p)
        return f(kept[0], batch(5))

    with count_queries(net) as q:
        vmap(call)(stacked(7))
    expect(q, 7, 35)


def test_the_older_vmap_is_refused_not_miscounted(net):
    def jacobian() -> None:
        torch.autograd.functional.jacobian(net, batch(5), vectorize=True, strategy="forward-mode")

    with pytest.raises(NotImplementedError, match=r"torch\.func"), count_queries(net):
        jacobian()
    assert no_hooks(net)


def test_counting_changes_no_value(net, f, params):
    x = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)

    def values() -> list[Tensor]:
        hvp = jvp(grad(lambda p: f(p, x).sum()), (params,), (params,))[1]
        return [net(x), jacfwd(net)(x), vmap(net)(x[:, None]), *hvp.values()]

    before = values()
    with count_queries(net):
        during = values()
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))
