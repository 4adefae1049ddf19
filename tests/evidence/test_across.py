"""A check over several cases sees a formula that is right in one of them only."""

import numpy as np
import pytest
import torch

import zotk

CASES = [(2, 1), (3, 2), (5, 4)]


def factor(d, P):
    return 1 + (d + 1) / P


def test_stacks_numbers_and_arrays_of_any_shape():
    over = zotk.across(CASES)
    assert over(factor).tolist() == [4.0, 3.0, 2.5]
    stacked = over(lambda d, P: np.full((d, P), d))
    assert stacked.tolist() == [2] * 2 + [3] * 6 + [5] * 20 and stacked.dtype == np.int64
    assert zotk.across([3, 4])(lambda n: n**2).tolist() == [9, 16]
    tensor = over(lambda d, P: torch.full((d,), P, dtype=torch.float32))
    assert tensor.dtype == torch.float32 and tensor.tolist() == [1.0] * 2 + [2.0] * 3 + [4.0] * 5
    assert over(lambda d, P: d + P).dtype == np.int64


def test_values_come_with_their_standard_errors():
    value, stderr = zotk.across(CASES)(lambda d, P: (torch.ones(d), 0.1 * P))
    assert value.shape == (10,)
    assert stderr.tolist() == pytest.approx([0.1, 0.2, 0.4])
    with pytest.raises(ValueError, match=r"returns \[1, 2\] values"):
        zotk.across(CASES)(lambda d, P: (1.0, 2.0) if d == 2 else 1.0)
    with pytest.raises(ValueError, match=r"returns \[2, 3\] values"):
        zotk.across(CASES)(lambda d, P: (1.0,) * min(d, 3))


def test_one_record_for_any_method():
    over, check = zotk.across(CASES), zotk.Check("some.claim")
    twins = {"d for d + 1": over(lambda d, P: 1 + d / P)}
    r = check.equal(over(factor), over(factor), rtol=1e-12, twins=twins)
    assert r.shape == (3,) and r.twins[0].near
    exact = over(lambda d, P: d * P)
    check.count(exact, exact, twins={"(d + 1)P": over(lambda d, P: (d + 1) * P)})
    below = {"d": over(lambda d, P: 0.9 * factor(d, P))}
    check.bound(over(factor), over(factor), side="upper", rtol=1e-12, twins=below)
    value, stderr = over(lambda d, P: (factor(d, P) + 0.001, 0.01))
    check.equal(value, over(factor), stderr=stderr, twins=twins)


def test_a_formula_right_at_one_case_only_is_refused():
    """1 + (d + 1)/P is 2 + d for P = 1, and 4 for d = 2 and P = 1: other cases tell."""
    over, check = zotk.across(CASES), zotk.Check("some.claim")
    for wrong in (lambda d, P: 2 + d, lambda d, P: 4):
        assert wrong(2, 1) == factor(2, 1)
        with pytest.raises(zotk.CheckFailed, match="measured"):
            check.equal(over(factor), over(wrong), rtol=1e-9, twins={"t": over(lambda d, P: 5)})


@pytest.mark.parametrize("cases", [[], [(2, 1)], [(2, 1), (2, 1)], [3, 3, 3]])
def test_one_case_is_not_several(cases):
    with pytest.raises(ValueError, match="two that differ"):
        zotk.across(cases)
