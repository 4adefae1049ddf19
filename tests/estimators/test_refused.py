"""Parameters and records that would give a wrong result are refused by name, untouched."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import zotk

BASE = torch.arange(12.0).reshape(3, 4)


def never():
    pytest.fail("evaluated")


def inference():
    with torch.inference_mode():
        return nn.Parameter(torch.ones(2))


def with_grad(grad):
    p = nn.Parameter(torch.ones(2, 3))
    p.grad = grad
    return p


def inference_grad():
    with torch.inference_mode():
        grad = torch.zeros(2, 3)
    return with_grad(grad)


def shared_grads():
    a, b = with_grad(torch.zeros(2, 3)), with_grad(None)
    b.grad = a.grad
    return [a, b]


class Wrapper(torch.Tensor):
    """A tensor made of another, as DTensor is."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return Wrapper(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].inner)
        raise RuntimeError("mixed torch.Tensor and Wrapper")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: [nn.Parameter(BASE), nn.Parameter(BASE)], ValueError, "share memory"),
        (lambda: [nn.Parameter(BASE[:2]), nn.Parameter(BASE[1:])], ValueError, "share memory"),
        (lambda: [nn.Parameter(BASE), nn.Parameter(BASE.T)], ValueError, "share memory"),
        (lambda: [nn.Parameter(torch.ones(1).expand(3))], ValueError, "expanded"),
        (shared_grads, ValueError, r"\.grad of shapes .* share memory"),
        (lambda: [with_grad(torch.zeros(1, 3).expand(2, 3))], ValueError, r"\.grad .* expanded"),
        (lambda: [inference_grad()], ValueError, r"\.grad .* inference mode"),
        (lambda: [inference()], ValueError, "^parameter 0 of shape .* inference mode"),
        (lambda: [nn.Parameter(torch.ones(2, device="meta"))], ValueError, "meta"),
        (lambda: [nn.Parameter(Wrapper(torch.ones(2)))], TypeError, "is a Wrapper; a plain"),
        (lambda: iter([]), ValueError, "used up"),
        (
            lambda: [nn.Parameter(torch.ones(4).to(torch.float8_e4m3fn))],
            TypeError,
            "float8_e4m3fn; 16 bits",
        ),
    ],
)
def test_parameters_that_cannot_be_moved_or_written(make, error, match):
    params = make()
    for memory in ("store", "exact"):
        with pytest.raises(error, match=match):
            zotk.backward(never, params, memory=memory)
    if isinstance(params, list):
        assert all(p.grad is None or not p.grad.any() for p in params)


def test_parts_of_one_storage_without_an_entry_in_common_are_right():
    flat = torch.arange(12.0, dtype=torch.float64)
    whole = flat.reshape(3, 4)
    parts = [nn.Parameter(flat[:4]), nn.Parameter(whole[1:, ::2]), nn.Parameter(whole[1:, 1::2])]
    zotk.backward(
        lambda: sum(p.sum() for p in parts), parts, queries=2000, directions=zotk.Rademacher()
    )
    assert all(p.grad.shape == p.shape for p in parts)
    mean = torch.cat([p.grad.flatten() for p in parts]).mean()
    assert mean == pytest.approx(1.0, abs=6 * (11 / 12 / 2000) ** 0.5 + 0.05)


def test_a_model_output_for_a_loss_is_named_and_not_printed():
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(TypeError, match=r"^closure returned a dict; one real number is needed$"):
        zotk.backward(lambda: {"logits": torch.zeros(50, 50)}, [p])
    made = zotk.backward(lambda: np.float32(p.sum().item()), [p], queries=np.int64(2))
    assert type(made.evaluations) is int and made.evaluations == 4


def estimate(params, **options):
    return zotk.backward(lambda: sum(p.sum() for p in params), params, queries=3, **options)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda e: {"seeds": e.seeds[:1]}, "3 coefficients and 1 seeds"),
        (lambda e: {"coefficients": e.coefficients[:2]}, "2 coefficients and 3 seeds"),
        (lambda e: {"dtypes": ()}, "1 shapes and 0 dtypes"),
        (lambda e: {"coefficients": (1.0, float("nan"), 2.0)}, "nan; finite"),
    ],
)
def test_records_that_do_not_fit_together(change, match):
    made = estimate([nn.Parameter(torch.ones(3))])
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(made, **change(made))
    assert dataclasses.replace(made, loss=1.0).seeds == made.seeds


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_replayed_step_is_rounded_once(dtype):
    """Each of 256 parts alone is below half a unit in the last place: together they are seen."""
    p = nn.Parameter(torch.ones(64, dtype=dtype))
    made = zotk.backward(
        lambda: p.double().sum(), [p], queries=256, memory="exact", eps=0.25,
        directions=zotk.Rademacher(),
    )  # fmt: skip
    other = copy.deepcopy(p)
    zotk.replay_([other], made, -0.01)
    total = torch.zeros(64)
    for c, seed in zip(made.coefficients, made.seeds, strict=True):
        (z,) = zotk.Rademacher().pieces([p], seed)
        total += c * z.float()
    expected = (1 - 0.01 * total.double()).to(dtype)
    ulp = torch.finfo(dtype).eps
    assert (other.double() - expected.double()).abs().max() <= ulp
    assert (other.double() - (1 - 0.01 * total.double())).abs().max() <= 0.51 * ulp
    assert (other != p).any()
