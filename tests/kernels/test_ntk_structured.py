"""The tangent kernel of layered networks against Jacobians of the whole network."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import zotk
from zotk.networks import layers

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # a copy, with even sizes
G = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(shape, generator=G, dtype=torch.float64)


def filled(net):
    """In double precision, with all parameters drawn, biases too."""
    net = net.double()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0, 0.5, generator=G)
    return net


def truth(net, params, x, y):
    """Jacobians in full, contracted; f is a function that does not show its layers."""
    each = vmap(jacrev(lambda p, row: functional_call(net, p, (row[None],))[0]), (None, 0))
    left, right = each(params, x), each(params, y)
    return sum(
        torch.einsum("iap,jbp->ijab", left[k].flatten(2), right[k].flatten(2)) for k in params
    )


def agree(net, x, y=None, params=None):
    f, every = zotk.functional(net)
    params = every if params is None else params
    expected = truth(net, params, x.clone(), x.clone() if y is None else y.clone())
    kernel = zotk.ntk(f, params, x, y)
    assert kernel.shape == expected.shape and not kernel.requires_grad
    scale = expected.abs().max()
    assert scale > 0
    assert (kernel - expected).abs().max() <= 1e-12 * scale
    trace = zotk.ntk(f, params, x, y, outputs="trace")
    assert (trace - expected.diagonal(dim1=2, dim2=3).sum(-1)).abs().max() <= 1e-12 * scale


@pytest.fixture
def structured(monkeypatch):
    """Forbids the general route."""

    def refuse(*_):
        raise AssertionError("an example was differentiated as a whole")

    monkeypatch.setattr("zotk.kernels.tangent.jacrev", lambda f: refuse)


@pytest.fixture
def general(monkeypatch):
    """Forbids the route by layers."""
    monkeypatch.delattr("zotk.kernels.tangent.factors")


FLAT, SEQUENCE, IMAGE = normal(5, 4), normal(5, 3, 4), normal(5, 2, 6, 6)
NETS = {
    "one layer": (nn.Linear(4, 3), FLAT),
    "mlp": (zotk.mlp((4, 6, 5, 3)), FLAT),
    "no bias": (nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 1)), FLAT),
    "nested": (
        nn.Sequential(
            nn.Sequential(nn.Linear(4, 3), nn.GELU()),
            nn.Sequential(nn.Sequential(nn.Linear(3, 2)), nn.Softplus()),
        ),
        FLAT,
    ),
    "plain layers first, in place": (
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 5), nn.ELU(inplace=True), nn.Sigmoid()),
        FLAT,
    ),
    "one activation twice": (
        (lambda act: nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 3), act))(nn.Tanh()),
        FLAT,
    ),
    "positions": (
        nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 2), nn.Flatten(), nn.Linear(6, 3)),
        SEQUENCE,
    ),
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 2, stride=(1, 2), padding=(1, 0), bias=False),
            nn.Mish(),
            nn.AvgPool2d((2, 1), 1),
            nn.Flatten(),
            nn.Linear(18, 3),
        ),
        IMAGE,
    ),
    "same padding": (
        nn.Sequential(
            nn.Conv2d(2, 3, (2, 4), padding="same"),
            nn.Tanh(),
            nn.Conv2d(3, 2, 3, padding="same", dilation=2),
            nn.Conv2d(2, 2, 2, padding="valid"),
            nn.Flatten(),
        ),
        IMAGE,
    ),
    "groups and dilation": (
        nn.Sequential(
            nn.Conv2d(2, 6, 3, groups=2, dilation=2),
            nn.Tanh(),
            nn.Conv2d(6, 6, 2, groups=6),
            nn.Flatten(),
        ),
        IMAGE,
    ),
    "convolution to one position": (
        nn.Sequential(nn.Conv2d(2, 5, 6), nn.LeakyReLU(0.2), nn.Conv2d(5, 3, 1), nn.Flatten()),
        IMAGE,
    ),
    "adaptive pooling": (
        nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.Softsign(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Tanh()
        ),
        IMAGE,
    ),
}
for _net, _ in NETS.values():
    filled(_net)


@pytest.mark.parametrize("name", NETS)
def test_layers(name, structured):
    """Also that inputs stay as they are when the first layer works in place."""
    net, x = NETS[name]
    before = x.clone()
    agree(net, x)
    agree(net, x, torch.flip(x, (1,))[:3] + 0.1)
    assert torch.equal(x, before)


@pytest.mark.parametrize("layer", layers.ELEMENTWISE, ids=lambda layer: layer.__name__)
def test_elementwise_layers(layer, structured):
    act = layer()
    agree(filled(nn.Sequential(nn.Linear(4, 6), act, nn.Linear(6, 2), act)), 3 * FLAT)


@pytest.mark.parametrize("name", ["mlp", "convolutions"])
@pytest.mark.parametrize("entries, at_once, pairs", [(1, 64, 1), (600, 2, 50), (10**4, 3, 2**20)])
def test_in_pieces(name, entries, at_once, pairs, structured, monkeypatch):
    monkeypatch.setattr("zotk.kernels.tangent._JACOBIAN", entries)
    monkeypatch.setattr("zotk.kernels.tangent._ROWS", at_once)
    monkeypatch.setattr("zotk.networks.layers._ENTRIES", pairs)
    net, x = NETS[name]
    agree(net, torch.cat((x, x.roll(1, -1))))
    agree(net, x, x.roll(1, -1)[:4])


def test_both_orders_of_a_convolution():
    """Many positions and few weights: sums over positions first. The reverse: pairs of positions.

    Either way, inner products of the factor are those of the weights' gradients.
    """
    for (n, c, p, m, k), summed in (((3, 2, 30, 2, 4), True), ((3, 2, 2, 9, 30), False)):
        raw = normal(n, p, k), normal(n, c, p, m)
        factor = layers.compact(raw)
        assert (factor[0].shape[1] == 1) == summed
        gradient = torch.einsum("napm,npk->namk", raw[1], raw[0])
        expected = torch.einsum("iamk,jbmk->ijab", gradient, gradient)
        for pair in (raw, factor):
            assert torch.allclose(layers.inner(pair, pair), expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", ["mlp", "convolutions"])
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_frozen_parameters(name, kind, structured):
    """Those that params leaves out keep the network's values, and contribute nothing."""
    net, x = NETS[name]
    every = zotk.functional(net)[1]
    agree(net, x, params={k: v for k, v in every.items() if k.endswith(kind)})
    last = list(every)[-1]
    agree(net, x, params={last: every[last]})
    agree(net, x, params={k: v for k, v in every.items() if k != last})


def test_parameters_are_those_given(structured):
    """Other values than the network's, which stay, and need no gradient afterwards."""
    net, x = NETS["mlp"]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    agree(net, x, params={k: normal(*v.shape).requires_grad_() for k, v in before.items()})
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.inner(x) * self.inner.weight.sum()


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    return net


def twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def hooked():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    net[0].register_forward_hook(lambda module, args, output: 3 * output)
    return net


def replaced():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    net[0].forward = lambda x: 5 * nn.functional.linear(x, net[0].weight)
    return net


def replaced_whole():
    """The network itself runs its layers otherwise."""
    net = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 3))
    inner = net[0]
    inner.forward = lambda x: x + inner[1](inner[0](x)).square()
    return net


class Cubed(nn.Module):
    def forward(self, weight):
        return weight**3


def parametrized():
    layer = nn.Linear(4, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Cubed())
    return layer


def images(*layers):
    return lambda: nn.Sequential(*layers, nn.Flatten())


UNKNOWN = {
    "subclass": (lambda: nn.Sequential(Doubled(4, 3), nn.Tanh()), FLAT),
    "own module": (lambda: nn.Sequential(Skip(), nn.Linear(4, 2)), FLAT),
    "tied weights": (tied, FLAT),
    "one layer twice": (twice, FLAT),
    "hook": (hooked, FLAT),
    "replaced forward": (replaced, FLAT),
    "replaced forward of a container": (replaced_whole, FLAT),
    "parametrization": (lambda: nn.Sequential(parametrized(), nn.Tanh()), FLAT),
    "parameters of a norm": (lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)), FLAT),
    "buffers": (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval(), FLAT),
    "circular padding": (
        images(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), IMAGE),
    "transposed": (images(nn.ConvTranspose2d(2, 2, 2)), IMAGE),
    "images without channels": (images(nn.Conv2d(1, 1, 3)), normal(5, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_anything_else_goes_the_general_way(name, general):
    make, x = UNKNOWN[name]
    agree(filled(make()), x)


def test_counting_sees_whole_evaluations():
    net, x = NETS["mlp"]
    with zotk.count_queries(net) as q:
        agree(net, x)
    assert q.rows > 0 and q.rows == q.layer_rows["0"]


class Largest(TorchDispatchMode):
    """The most entries of a tensor that an operation made (views count as what they view)."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                size = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.entries = max(self.entries, size)
        return out


def test_no_jacobian_is_formed():
    widths, n = (300, 200, 200, 5), 16
    net = zotk.mlp(widths, nn.ReLU, generator=torch.Generator().manual_seed(1))
    f, params = zotk.functional(net)
    x = torch.rand(n, 300, generator=torch.Generator().manual_seed(2))
    with Largest() as seen:
        kernel = zotk.ntk(f, params, x)
    one_row = sum(p.numel() for p in params.values())
    assert seen.entries <= max(200 * 300, n * 5 * 300)  # a weight matrix, or a factor
    assert seen.entries < one_row
    double = {k: v.double() for k, v in params.items()}
    exact = truth(net, double, x.double(), x.double())
    assert (kernel - exact).norm() <= 1e-6 * exact.norm()


def test_where_the_layers_are_sure():
    """Rows of features or images; a row alone has no axis of examples, and is not looked at."""
    net, row = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Tanh())), normal(4)
    assert layers.leaves(net, row) is None
    for x in (row[None], row[None, None]):
        found = layers.leaves(net, x)
        assert [name for name, _ in found] == ["0.", "1.0."]
        assert [leaf for _, leaf in found] == [net[0], net[1][0]]
    assert layers.leaves(nn.Conv2d(2, 2, 2), normal(2, 3, 3)) is None
    net.forward = lambda x: x
    assert layers.leaves(net, row[None]) is None
