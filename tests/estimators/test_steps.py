"""An absolute step beside large parameters: told by name, with an eps that serves."""

import re
import warnings

import pytest
import torch
from torch import nn

import zotk


def served(text):
    return float(re.search(r"eps of (\S+) or more", text)[1])


@pytest.mark.parametrize("way", [zotk.measure, zotk.backward])
@pytest.mark.parametrize("law", [zotk.Gaussian(), zotk.Rademacher(), zotk.Sphere(),
                         zotk.Coordinate(), zotk.Subspace(2)], ids=repr)  # fmt: skip
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e8), (torch.bfloat16, 200.0)])
def test_nothing_moves(way, law, dtype, size):
    p = nn.Parameter(torch.full((8, 8), size, dtype=dtype))
    with pytest.raises(ValueError, match=r"eps is 0.001: θ \+ εz = θ in \d+ of \d+") as told:
        way(lambda: pytest.fail("evaluated"), [p], directions=law, memory="exact")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eps = served(str(told.value))
        made = way(lambda: p.double().sum(), [p], directions=law, memory="exact", eps=eps)
    (z,) = law.pieces([p], made.seeds[0])
    size_of_z = float(z.double().norm())
    assert abs(made.coefficients[0] - float(z.double().sum())) < 0.05 * size_of_z * 8


def test_one_of_two_tensors_is_named():
    net = nn.Sequential(nn.Linear(4, 40), nn.Linear(40, 2))
    with torch.no_grad():
        net[1].weight.fill_(1e8)
    for way in (zotk.measure, zotk.backward):
        with pytest.warns(
            UserWarning, match=r"θ \+ εz = θ for 1\.weight in 80 of 80 entries; .* eps of"
        ):
            way(lambda: net[0].weight.sum(), net)
    params = {"big": torch.full((20,), 1e8), "small": torch.ones(20)}
    with pytest.warns(
        UserWarning, match=r"for params\['big'\] in 20 of 20 entries; .* eps of"
    ) as w:
        zotk.grad(lambda p: p["small"].sum())(params)
    eps = served(str(w[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = zotk.grad(lambda p: p["big"].double().sum(), eps=eps, queries=400,
                          directions=zotk.Rademacher())(params)  # fmt: skip
    assert found["big"].mean() == pytest.approx(1.0, abs=0.35)


def test_a_single_number_of_30000_in_float32():
    """θ² at 3e4, where a step of 1e-3 is half a spacing: told, unless the rounding is small."""
    said = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        (z,) = zotk.Gaussian().pieces(
            [torch.empty(1)],
            int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(seed))),
        )
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                g = zotk.grad(lambda t: t.double().square().sum(), generator=generator)(
                    torch.tensor([3e4])
                )
            except ValueError as refused:
                said += 1
                assert "θ + εz = θ in 1 of 1" in str(refused)
                assert served(str(refused)) > 2**-9
                continue
        off = abs(float(g) / (float(z) ** 2 * 6e4) - 1)
        said += bool(told)
        assert told or off < 0.51
        assert off > 0.49 or not told
    assert said > 10
