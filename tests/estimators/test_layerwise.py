"""Layerwise: θ is never written, and every way of reading it in a call reads θ + εz."""

import gc
import warnings
import weakref

import pytest
import torch
from torch import nn

import zotk

X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(1))


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


class Tied(nn.Module):
    """The input's embedding is the output's weight, as in language models."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.mix(self.embed(x.abs().long().clamp(max=10)[..., 0])))


class Adapter(nn.Module):
    """A frozen weight and a low-rank correction, as LoRA has them."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(8, 8).requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


class Recursive(nn.Module):
    """Its module is called within itself."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 8) / 4)

    def forward(self, x, depth=2):
        inner = x @ self.w
        return torch.tanh(inner) + (self(inner, depth - 1) if depth else inner) @ self.w


class Recurrent(nn.Module):
    """Its layers keep a list of their weights."""

    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(8, 4, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


class Many(nn.Module):
    def __init__(self):
        super().__init__()
        self.list = nn.ParameterList([torch.randn(8, 8) for _ in range(2)])
        self.by_name = nn.ParameterDict({"b": torch.randn(8)})

    def forward(self, x):
        return x @ self.list[0] @ self.list[1] + self.by_name["b"]


class Scaled(nn.Module):
    def forward(self, w):
        return 2 * w


def parametrized():
    net = nn.Linear(8, 3)
    nn.utils.parametrize.register_parametrization(net, "weight", Scaled())
    return net


NETS = {
    "mlp": lambda: nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 3)),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2,
        enable_nested_tensor=False,
    ),
    "tied": Tied,
    "adapter": Adapter,
    "recursive": Recursive,
    "recurrent": Recurrent,
    "lists": Many,
    "parametrized": parametrized,
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()
    ),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETS)
def test_the_same_numbers_as_exact_and_nothing_written(name, dtype, training):
    net = seeded(NETS[name]).to(dtype).train(training)
    x = X.to(dtype)
    before = {k: v.clone() for k, v in net.state_dict().items() if "num_batches" not in k}
    versions = [p._version for p in net.parameters()]
    kinds = [type(m) for m in net.modules()]
    loss = lambda: net(x).double().square().mean()  # noqa: E731
    options = {"queries": 2, "eps": 0.05, "directions": zotk.Rademacher()}
    made = zotk.measure(loss, net, memory="layerwise", **options)
    assert [p._version for p in net.parameters()] == versions
    assert [type(m) for m in net.modules()] == kinds
    for k, v in net.state_dict().items():
        if k in before and "running" not in k:
            assert torch.equal(v, before[k])
    exact = zotk.measure(loss, net, memory="exact", **options)
    if training and name == "convolutions":
        return  # its statistics have moved on in between
    rel = 1e4 * torch.finfo(torch.float32 if dtype == torch.bfloat16 else dtype).eps
    assert made.coefficients == pytest.approx(exact.coefficients, rel=rel) and all(
        exact.coefficients
    )
    assert made.loss == pytest.approx(exact.loss, rel=rel) and made.seeds == exact.seeds


def test_backward_drives_an_optimiser_in_bfloat16():
    net = seeded(NETS["encoder"]).bfloat16().train()
    x = X.bfloat16()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    zotk.backward(
        lambda: net(x).float().square().mean(), net, memory="layerwise", eps=0.05,
        generator=generator,
    )  # fmt: skip
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in net.parameters())
    optimizer.step()


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_classes_come_back_whatever_happens(failure):
    net = seeded(NETS["mlp"])
    kinds = [type(m) for m in net.modules()]

    def closure():
        net(X)
        raise failure

    with pytest.raises(failure):
        zotk.measure(closure, net, memory="layerwise")
    assert [type(m) for m in net.modules()] == kinds
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


class Keeping(nn.Module):
    """Reads its weight through a list of its own."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 8))
        self.kept = [self.w]

    def forward(self, x):
        return x @ self.kept[0]


def test_what_is_never_read_is_named():
    net = Keeping()
    with (
        pytest.warns(UserWarning, match="at both ends"),
        pytest.raises(ValueError, match="and w was never read as an attribute"),
    ):
        zotk.measure(lambda: net(X).square().mean(), net, memory="layerwise")
    two = nn.ModuleDict({"used": nn.Linear(8, 2), "idle": nn.Linear(8, 2)})
    with pytest.raises(ValueError, match=r"idle\.weight, idle\.bias was never read"):
        zotk.measure(lambda: two["used"](X).square().mean(), two, memory="layerwise")
    two["idle"].requires_grad_(False)
    assert zotk.measure(lambda: two["used"](X).square().mean(), two, memory="layerwise")


def test_refusals():
    net = seeded(NETS["mlp"])
    with pytest.raises(TypeError, match="params no module"):
        zotk.measure(lambda: 0.0, net.parameters(), memory="layerwise")
    with pytest.raises(ValueError, match="Orthogonal"):
        zotk.measure(lambda: 0.0, net, memory="layerwise", directions=zotk.Orthogonal())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(nn.Linear(8, 2))
    with pytest.raises(TypeError, match="scripted"):
        zotk.measure(lambda: scripted(X).sum(), scripted, memory="layerwise")


def test_other_parameters_given_to_the_module_are_left_alone():
    net = seeded(NETS["mlp"])
    others = {k: torch.zeros_like(v) for k, v in net.named_parameters()}
    seen = []

    def closure():
        seen.append(float(torch.func.functional_call(net, others, X).abs().sum()))
        return net(X).square().mean()

    zotk.measure(closure, net, memory="layerwise")
    assert seen == [0.0, 0.0]


def test_one_module_is_held_at_a_time():
    """Of ten layers the moved weights of one are alive while it runs."""
    alive = weakref.WeakSet()

    class Watching(zotk.Gaussian):
        def pieces(self, like, seed):
            inner = super().pieces(like, seed)
            return type(inner)(lambda k: self.seen(inner[k]), like)

        def seen(self, z):
            alive.add(z)
            return z

    net = seeded(lambda: nn.Sequential(*[nn.Linear(8, 8) for _ in range(10)]))
    held = []

    def closure():
        out = X
        for layer in net:
            out = layer(out)
            gc.collect()
            held.append(len(alive))
        return out.square().mean()

    zotk.measure(closure, net, memory="layerwise", directions=Watching())
    assert max(held) <= 2


def test_compiled_modules_read_what_is_moved():
    net = seeded(NETS["mlp"])
    compiled = torch.compile(net, backend="eager")
    compiled(X)
    plain = zotk.measure(lambda: net(X).square().mean(), net, memory="layerwise", eps=0.05)
    made = zotk.measure(lambda: compiled(X).square().mean(), net, memory="layerwise", eps=0.05)
    assert made.coefficients == pytest.approx(plain.coefficients, rel=1e-4)
