"""The kernel of a small transformer with tied embeddings, from function values alone."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import zotk


class Transformer(nn.Module):
    """Tokens (n, L) → logits (n, vocabulary) of the next one: one block, one head."""

    def __init__(self, vocabulary: int, width: int, length: int, tied: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.7 * torch.randn(*shape, generator=generator).double())

        self.embed = nn.Embedding(vocabulary, width, _weight=drawn(vocabulary, width))
        self.head = nn.Linear(width, vocabulary, bias=False, device="meta")
        weight = self.embed.weight
        self.head.weight = weight if tied else nn.Parameter(weight.detach().clone())
        self.place, self.mix = drawn(length, width), drawn(4, width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embed(tokens) + self.place
        q, k, v = (nn.functional.layer_norm(h, h.shape[-1:]) @ self.mix[i] for i in range(3))
        ahead = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).triu(1)
        scores = (q @ k.mT / math.sqrt(h.shape[-1])).masked_fill(ahead, -math.inf)
        h = h + scores.softmax(-1) @ v @ self.mix[3]
        return self.head(nn.functional.layer_norm(h, h.shape[-1:]))[:, -1]


TOKENS = torch.tensor([[1, 4, 2], [0, 4, 4], [3, 2, 1]])


def jacobian(net: nn.Module, tokens: Tensor) -> Tensor:
    """(n, V, d), by reverse mode through the module itself."""
    params = dict(net.named_parameters())
    parts = jacrev(lambda p: functional_call(net, p, (tokens,)))(params).values()
    return torch.cat([part.flatten(2) for part in parts], 2).detach()


@pytest.mark.parametrize(("vocabulary", "width"), [(5, 3), (7, 4)])
def test_all_orthogonal_directions_give_the_kernel_of_the_jacobians(vocabulary, width):
    """As many directions as parameters: what is left is O(ε²)."""
    net = Transformer(vocabulary, width, 3)
    f, params = zotk.functional(net)
    J = jacobian(net, TOKENS)
    exact = torch.einsum("iad,jbd->ijab", J[:2], J[2:])
    errors = []
    for eps in (2e-3, 1e-3):
        estimate = zotk.zo_entk(
            f, params, TOKENS[:2], TOKENS[2:], directions=zotk.Orthogonal(),
            queries=J.shape[2], scheme="central", eps=eps,
        )  # fmt: skip
        errors.append(((estimate.matrix - exact).norm() / exact.norm()).item())
    assert errors[1] < 1e-2 and 3.6 < errors[0] / errors[1] < 4.4
    assert torch.allclose(zotk.ntk(f, params, TOKENS[:2], TOKENS[2:]), exact)


def test_tied_embeddings_count_once_and_matter():
    """One matrix, used twice: fewer parameters, and the mixed products of both uses."""
    tied, untied = (Transformer(5, 3, 3, tied) for tied in (True, False))
    assert torch.equal(tied(TOKENS), untied(TOKENS))
    J = jacobian(untied, TOKENS)
    named = [p.numel() for _, p in untied.named_parameters()]
    names = [name for name, _ in untied.named_parameters()]
    parts = dict(zip(names, J.split(named, 2), strict=True))
    both = parts.pop("embed.weight") + parts.pop("head.weight")
    expected = torch.cat([both, *parts.values()], 2)
    f, params = zotk.functional(tied)
    assert sum(p.numel() for p in params.values()) == expected.shape[2] < J.shape[2]
    assert torch.allclose(
        zotk.ntk(f, params, TOKENS), torch.einsum("iad,jbd->ijab", expected, expected)
    )
    estimate = zotk.zo_entk(f, params, TOKENS, queries=4000, scheme="central", eps=1e-4)
    off = (estimate.matrix - torch.einsum("iad,jbd->ijab", expected, expected)) / estimate.stderr
    assert off.abs().max() < 6
    apart = (estimate.matrix - torch.einsum("iad,jbd->ijab", J, J)) / estimate.stderr
    assert apart.abs().max() > 10
