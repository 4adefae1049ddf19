"""A check must accept the truth, reject nearby falsehoods, and refuse to judge without power."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

import zotk
from zotk.evidence.cards import _Card
from zotk.evidence.checks import ALPHA, _sidak


@pytest.fixture
def check():
    return zotk.Check("some.claim", seed=4)


NEAR = {"a tenth more": 1.1}


def test_accepts_the_truth_and_records_it(check):
    r = check.equal(1 + 1e-9, 1.0, rtol=1e-8, twins=NEAR, what="here")
    assert r.passed and r.id == "some.claim" and r.what == "here" and r.kind == "equal"
    assert r.alpha == 0 and r.stderr is None and r.tolerance == pytest.approx(1e-8)
    (twin,) = r.twins
    assert twin.rejected and twin.near and (twin.predicted, twin.claim) == (1.1, 1.0)
    assert (r.largest, r.rtol, r.slack) == (1.0, 1e-8, "")
    assert twin.z == pytest.approx(0.1 / 1e-8, rel=1e-6)
    assert twin.distance == pytest.approx(math.log2(1.1))
    assert r.seed == 4 and r.dtype == "float64" and r.device == "cpu"


def test_rejects_a_wrong_formula(check):
    with pytest.raises(zotk.CheckFailed, match=r"measured 1\.01"):
        check.equal(1.01, 1.0, rtol=1e-8, twins=NEAR)
    with pytest.raises(zotk.CheckFailed, match=r"tenth more.*not rejected"):
        check.equal(1.0, 1.0, rtol=0.2, slack="one tenth is the next term", twins=NEAR)
    with pytest.raises(zotk.CheckFailed):
        check.equal(1.06, 1.0, stderr=1e-2, twins=NEAR)


@pytest.mark.parametrize("twins", [{"twins": {}}, {"twins": None}, {}])
def test_without_twins_no_check(check, twins):
    for make in (
        lambda: check.equal(1.0, 1.0, rtol=1e-9, **twins),
        lambda: check.rate([1, 2, 4], [1, 2, 4], 1, atol=0.1, **twins),
        lambda: check.bound(1.0, 1.0, side="upper", rtol=1e-9, **twins),
        lambda: check.count(1, 1, **twins),
        lambda: check.equal(1, 1, **twins),
    ):
        with pytest.raises(ValueError, match=r"some\.claim: a check without twins"):
            make()


def test_a_twin_stands_beside_the_claim_at_its_own_entry(check):
    """Entry 0 is the worst measured, entry 2 refutes the twin: 52.5 stands beside 50."""
    m, p = [1.0000005, 2.59, 50.0], [1.0, 2.59, 50.0]
    r = check.equal(m, p, rtol=1e-6, twins={"5 % more": [1.0, 2.59, 52.5]})
    assert r.index == (0,) and (r.measured, r.predicted) == (1.0000005, 1.0)
    (twin,) = r.twins
    assert (twin.predicted, twin.claim, twin.measured) == (52.5, 50.0, 50.0)
    b = check.bound([1.0, 3.9], [1.0, 4.0], side="upper", rtol=1e-9, twins={"t": [1.0, 3.0]})
    assert (b.predicted, b.twins[0].predicted, b.twins[0].claim) == (1.0, 3.0, 4.0)
    c = check.count([1, 7], [1, 7], twins={"t": [1, 8]})
    assert (c.predicted, c.twins[0].predicted, c.twins[0].claim) == (1, 8, 7)
    s = check.rate([1, 2, 4], [1, 2, 4], 1, atol=0.1, twins={"t": 1.5})
    assert s.twins[0].claim == 1
    card = _Card(r)._repr_mimebundle_()
    assert '<th scope="col">the claim says</th>' in card["text/html"]
    assert "<td>5 % more</td><td>52.5</td><td>50</td>" in card["text/html"]
    assert "twin 5 % more: 52.5 for 50, rejected" in card["text/plain"]


@pytest.mark.parametrize(
    "far",
    [{"ten times": 10.0}, {"other sign": -1.0}, {"nothing": 0.0}, {"2.1": 2.1}, {".49": 0.49}],
)
def test_far_twins_are_marked(check, far):
    """The record says so, and the build refuses it (test_evidence, test_claims)."""
    r = check.equal(1.0, 1.0, rtol=1e-9, twins={**far, **NEAR})
    assert [t.near for t in r.twins] == [False, True]
    assert "no twin is near" in repr(_Card(check.equal(1.0, 1.0, rtol=1e-9, twins=far)))


@pytest.mark.parametrize("twin", [2.0, 0.5])
def test_a_factor_two_is_near(check, twin):
    assert check.equal(3.0, 3.0, rtol=1e-9, twins={"twin": 3 * twin}).twins[0].near


def test_power_rule(check):
    """One number needs a twin at 4.89 + 4.75 standard errors; fewer draws cannot pass by luck."""
    with pytest.raises(zotk.Underpowered, match=r"needs 930,2\d\d draws, has 10,000"):
        check.equal(1.0, 1.0, stderr=0.1, draws=10_000, twins=NEAR)
    with pytest.raises(zotk.Underpowered, match="times the draws"):
        check.equal(1.0, 1.0, stderr=0.1 / 9.6, twins=NEAR)
    r = check.equal(1.0, 1.0, stderr=0.1 / 9.7, twins=NEAR)
    assert r.alpha == ALPHA
    needed = check.equal(1.0, 1.0, stderr=1 / 9.646, twins={"twice": 2.0})  # n = 93 Var/Δ²
    assert needed.stderr**-2 == pytest.approx(93, rel=2e-3)
    with pytest.raises(zotk.Underpowered):
        check.equal(1.0, 1.0, stderr=1 / 9.644, twins={"twice": 2.0})
    with pytest.raises(zotk.Underpowered):  # each twin must be in reach, not only one
        check.equal(1.0, 1.0, stderr=0.1 / 9.7, twins={**NEAR, "closer": 1.05})


def test_false_alarms_are_shared_by_entries():
    """Šidák: all entries of an array together raise an alarm with probability α."""
    for m in (1, 10, 10_000):
        each = 2 * (1 - 0.5 * (1 + math.erf(_sidak(m) / math.sqrt(2))))
        assert binom.sf(0, m, each) == pytest.approx(ALPHA, rel=1e-3)


def test_a_noise_free_entry_must_agree_exactly(check):
    stderr = np.array([0.01, 0.0])
    check.equal(np.array([1.0, 2.0]), [1, 2.0], stderr=stderr, twins={"t": np.array([1.5, 2])})
    with pytest.raises(zotk.CheckFailed):
        check.equal(np.array([1.0, 2.1]), [1, 2.0], stderr=stderr, twins={"t": np.array([1.5, 2])})


def test_arrays_reduce_to_the_worst_entry(check):
    m = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    p = m.clone()
    p[1, 0] = 3.0 * (1 + 1e-4)
    r = check.equal(m, p, rtol=1e-3, twins={"transposed": p.T, "all": 1.5 * p})
    assert r.index == (1, 0) and r.shape == (2, 2) and r.dtype == "float32"
    assert r.measured == 3.0
    assert r.twins[0].near is True and r.twins[0].rejected


def test_relative_to_the_largest_entry(check):
    m = np.array([1.0, 1e-9])
    with pytest.raises(zotk.CheckFailed):
        check.equal(m, [1.0, 2e-9], rtol=1e-6, twins={"t": [1.5, 2e-9]})
    check.equal(m, [1.0, 2e-9], rtol=1e-6, relative_to="largest", twins={"t": [1.5, 9e-9]})
    for far in ([9.0, 2e-9], [1.0, -5000]):  # small entries neither make a twin near nor hide it
        r = check.equal(m, [1.0, 2e-9], rtol=1e-6, relative_to="largest", twins={"t": far})
        assert not r.twins[0].near
    mixed = np.array([1.0, 0.4])
    for twin, distance in [
        ([1.1, 400.0], 399.6),  # its large entry is near, its small one a thousand times off
        ([1.1, 0.2], 0.2),  # a small entry is measured by the largest,
        ([2.5, 0.4], math.log2(2.5)),  # a large one by itself
        ([1.0, 1.4], 1.0),
    ]:
        (t,) = check.equal(mixed, mixed, rtol=1e-6, relative_to="largest", twins={"t": twin}).twins
        assert t.distance == pytest.approx(min(distance, 99)) and t.near == (distance <= 1)
    half = np.array([1.0, 0.5])  # half of the largest is not small
    r = check.equal(half, half, rtol=1e-6, relative_to="largest", twins={"t": [1.0, 1.25]})
    assert r.twins[0].distance == pytest.approx(math.log2(2.5)) and r.largest == 1.0
    with pytest.raises(ValueError, match="relative_to"):
        check.equal(m, m, rtol=1e-6, relative_to="smallest", twins={"t": 2 * m})


def test_an_entry_claimed_zero(check):
    p = np.array([[2.0, 0.0], [0.0, 2.0]])
    t = np.array([[2.0, 1.0], [1.0, 2.0]])
    assert check.equal(p, p, rtol=1e-9, twins={"correlated": t}).twins[0].distance == 0.5
    assert not check.equal(0.0, 0.0, rtol=1e-9, twins={"t": 0.1}).twins[0].near


def test_integers_need_no_tolerance(check):
    r = check.equal(np.array([3, 4]), np.array([3, 4]), twins={"t": np.array([3, 5])})
    assert r.kind == "count" and r.tolerance == 0 and r.twins[0].z is None
    assert check.equal(0, 0, twins={"one": 1}).twins[0].near
    with pytest.raises(zotk.CheckFailed):
        check.equal(3, 4, twins={"t": 5})
    for kwargs in ({}, {"rtol": 1e-3, "stderr": 0.1}):
        with pytest.raises(ValueError, match="exactly one of stderr and rtol"):
            check.equal(1.0, 1.0, twins=NEAR, **kwargs)


def test_rate(check):
    x = np.array([1.0, 2, 4, 8])
    r = check.rate(x, 3 * x**2, 2, atol=0.01, twins={"3/2": 1.5})
    assert r.measured == pytest.approx(2) and r.twins[0].distance == pytest.approx(1)
    assert not check.rate(x, 3 * x**2, 2, atol=0.01, twins={"1": 1.0}).twins[0].near
    with pytest.raises(zotk.CheckFailed):
        check.rate(x, 3 * x**1.9, 2, atol=0.01, twins={"3/2": 1.5})
    with pytest.raises(ValueError, match="exactly one"):
        check.rate(x, x, 1, twins={"3/2": 1.5})
    with pytest.raises(ValueError, match="positive"):
        check.rate(x, -x, 1, atol=0.1, twins={"3/2": 1.5})
    with pytest.raises(ValueError, match="n ≥ 3"):
        check.rate(x[:2], x[:2], 1, atol=0.1, twins={"3/2": 1.5})


def test_rate_propagates_standard_errors(check):
    """The slope's standard error against a simulation of the same fit."""
    g = np.random.default_rng(0)
    x, relative = np.array([1.0, 2, 4, 8, 16]), 0.01
    fits = []
    for _ in range(300):
        y = x**1.5 * (1 + relative * g.standard_normal(5))
        fits.append(check.rate(x, y, 1.5, stderr=relative * y, twins={"1": 1.0}))
    z = [f.z for f in fits]
    assert 0.85 < np.std(z) < 1.15 and abs(np.mean(z)) < 0.3
    noisy = {"stderr": 0.5 * x, "draws": 100, "twins": {"1": 1.25}}
    with pytest.raises(zotk.Underpowered, match="draws, has 100"):
        check.rate(x, x, 1, **noisy)
    one = check.rate(x, x**1.5, 1.5, stderr=0.01, twins={"1": 1.0})
    assert one.stderr == 0.01


def test_rate_looks_at_the_points(check):
    with pytest.raises(zotk.CheckFailed):  # the middle point is off, the slope of all is right
        check.rate([1, 2, 4, 8], [1, 20, 0.4, 8], 1.0, atol=0.1, twins={"t": 1.5})
    crooked = np.array([1.0, 2, 5, 8, 16])
    assert check.rate([1, 2, 4, 8, 16], crooked, 1.0, stderr=0.2 * crooked, twins={"0": -1.0})
    with pytest.raises(zotk.CheckFailed):
        check.rate([1, 2, 4, 8, 16], crooked, 1.0, stderr=0.01 * crooked, twins={"t": 1.5})
    for bad in (-1.0, 0.0):
        with pytest.raises(ValueError, match="stderr"):
            check.rate([1, 2, 4], [1, 2, 4], 1.0, stderr=[0.1, bad, 0.1], twins={"t": 1.5})
    with pytest.raises(ValueError, match="n ≥ 3"):
        check.rate([1, 1, 1], [1, 2, 4], 1.0, atol=0.1, twins={"t": 1.5})


def test_the_acceptance_is_as_wide_as_it_says(check):
    """4.89 standard errors for one number, more for one of many (Šidák)."""
    wide = {"twins": {"twice": 2.0}, "stderr": 0.01}
    check.equal(1 + 0.0489, 1.0, **wide)
    with pytest.raises(zotk.CheckFailed, match="measured"):
        check.equal(1 + 0.0490, 1.0, **wide)
    m = np.ones(1000)
    m[7] += 0.06
    check.equal(m, np.ones(1000), **wide)
    m[7] = 1 + 0.062
    with pytest.raises(zotk.CheckFailed, match="measured"):
        check.equal(m, np.ones(1000), **wide)
    near = {"twins": {"t": 1 + 0.1}, "stderr": 0.1 / 9.7}
    check.equal(1.0, 1.0, **near)
    with pytest.raises(zotk.Underpowered):
        check.equal(np.ones(1000), np.ones(1000), **near)


def test_real_numbers_of_one_shape(check):
    for bad in (torch.tensor(1 + 5j), 1j, "1", True):
        with pytest.raises(TypeError):
            check.equal(bad, 1.0, rtol=1e-3, twins=NEAR)
    with pytest.raises(ValueError, match="shape"):
        check.equal(1.0, [1.0, 1.0], rtol=1e-3, twins=NEAR)
    with pytest.raises(ValueError, match="shape"):
        check.equal([1.0, 1.0], 1.0, rtol=1e-3, twins={"t": [1.1, 1.1, 1.1]})
    with pytest.raises(ValueError, match="dict"):
        check.equal(1.0, 1.0, rtol=1e-3, twins=[1.1])


def test_bound(check):
    values = np.array([0.5, 0.99])
    r = check.bound(values, 1.0, side="upper", rtol=1e-9, twins={"0.9": 0.9})
    assert r.measured == 0.99 and r.twins[0].rejected
    check.bound(-values, -1.0, side="lower", rtol=1e-9, twins={"-0.9": -0.9})
    with pytest.raises(zotk.CheckFailed):
        check.bound(values, 0.98, side="upper", rtol=1e-9, twins={"0.9": 0.9})
    with pytest.raises(zotk.CheckFailed, match="not rejected"):  # the stronger bound holds too
        check.bound(values, 1.02, side="upper", rtol=1e-9, twins={"1": 1.0})
    for weaker in (1.1, [0.4, 1.1]):
        with pytest.raises(ValueError, match="not a stronger"):
            check.bound(values, 1.0, side="upper", rtol=1e-9, twins={"weaker": weaker})
    with pytest.raises(ValueError, match="side"):
        check.bound(values, 1.0, side="both", rtol=1e-9, twins={"0.9": 0.9})


@pytest.mark.parametrize(("side", "sign"), [("upper", 1.0), ("lower", -1.0)])
@pytest.mark.parametrize("loosened", [1.1, 1.5])
def test_a_bound_that_nothing_attains_is_refused(check, side, sign, loosened):
    """A bound above 96 of 100 is loosened by a tenth, by half: its twin is still rejected."""
    values = np.array([50.0, 96.0]) if side == "upper" else np.array([1 / 50, 1 / 96])
    bound = 100.0**sign
    given = {"side": side, "rtol": 1e-9, "twins": {"stronger": 80.0**sign}}
    assert check.bound(values, bound, **given).passed
    with pytest.raises(zotk.CheckFailed, match=r"some\.claim: no value comes within 5 %"):
        check.bound(values, bound * loosened**sign, **given)
    excused = check.bound(values, bound * loosened**sign, slack="no finite d attains it", **given)
    assert excused.passed and excused.slack == "no finite d attains it"
    card = _Card(excused)._repr_mimebundle_()
    assert "<br>Slack: no finite d attains it" in card["text/html"]
    assert "slack: no finite d attains it" in card["text/plain"]


@pytest.mark.parametrize(("side", "sign"), [("upper", 1.0), ("lower", -1.0)])
def test_the_edge_of_attaining_is_five_percent(check, side, sign):
    given = {"side": side, "rtol": 1e-9, "twins": {"stronger": 1 - 0.2 * sign}}
    check.bound(1 - 0.05 * sign, 1.0, **given)
    with pytest.raises(zotk.CheckFailed, match="no value comes within"):
        check.bound(1 - 0.0501 * sign, 1.0, **given)


def test_a_bound_is_judged_in_proportion(check):
    """Entry 0 is nearest in absolute terms, entry 1 in proportion, and that is what counts."""
    r = check.bound([0.1, 99.0], [0.5, 100], side="upper", rtol=1e-9, twins={"t": [0.5, 90]})
    assert r.index == (1,) and (r.measured, r.predicted) == (99, 100)
    with pytest.raises(zotk.CheckFailed, match=r"measured 0\.51"):  # and the worst violation
        check.bound([0.51, 100.5], [0.5, 100], side="upper", rtol=1e-9, twins={"t": [0.4, 90]})


def test_a_bound_of_zero_attains_nothing_beside_others(check):
    given = {"side": "upper", "rtol": 1e-9}
    with pytest.raises(zotk.CheckFailed, match="no value comes within"):
        check.bound([0.0, 50.0], [0.0, 60.0], twins={"t": [0, 40.0]}, **given)
    with pytest.raises(zotk.CheckFailed, match="measured 1e-09"):
        check.bound([1e-9, 50.0], [0.0, 50.0], twins={"t": [0, 40.0]}, **given)
    assert check.bound([0.0, -1.0], [0.0, 0.0], twins={"t": [-0.1, 0]}, **given).passed
    with pytest.raises(zotk.CheckFailed, match="no value comes within"):
        check.bound([-1.0, -1.0], [0.0, 0.0], twins={"t": [-2.0, 0]}, **given)


def test_twins_of_a_bound_lie_behind_the_value(check):
    """z is how many tolerances the value lies beyond the stronger bound, on either side."""
    upper = check.bound(100.0, 100.0, side="upper", rtol=0.01, twins={"t": 95.0})
    assert upper.twins[0].z == pytest.approx(5)
    lower = check.bound(100.0, 100.0, side="lower", rtol=0.01, twins={"t": 105.0})
    assert lower.twins[0].z == pytest.approx(5) and lower.twins[0].rejected
    assert lower.twins[0].distance == pytest.approx(math.log2(1.05))
    with pytest.raises(zotk.CheckFailed, match="not rejected"):
        check.bound(100.0, 100.0, side="lower", rtol=0.01, twins={"t": 100.9})


def test_wide_tolerances_need_a_reason(check):
    wide = [
        lambda **k: check.equal(1.0, 1.0, rtol=0.051, twins={"t": 1.5}, **k),
        lambda **k: check.bound(1.0, 1.0, side="upper", rtol=0.051, twins={"t": 0.5}, **k),
        lambda **k: check.rate([1, 2, 4], [1, 2, 4], 1, atol=0.101, twins={"t": 1.5}, **k),
    ]
    for make in wide:
        with pytest.raises(
            ValueError, match=r"some\.claim: .tol is 0\.\d*, over 0\.\d*; say slack="
        ):
            make()
        with pytest.raises(ValueError, match="a reason in words"):
            make(slack="it is wide")
        assert make(slack="the next term is that large").slack
    check.equal(1.0, 1.0, rtol=0.05, twins={"t": 1.5})
    check.rate([1, 2, 4], [1, 2, 4], 1, atol=0.1, twins={"t": 1.5})
    with pytest.raises(ValueError, match="with stderr there is none"):
        check.equal(1.0, 1.0, stderr=0.01, slack="one two three four", twins={"t": 1.5})
    with pytest.raises(ValueError, match="with stderr there is none"):
        check.rate([1, 2, 4], [1, 2, 4], 1, stderr=0.01, slack="a b c d", twins={"t": 1.5})


def test_counts_far_below_are_far(check):
    assert not check.count(5, 5, twins={"a fifth": 1}).twins[0].near
    assert not check.count(5, 5, twins={"none": 0}).twins[0].near
    assert check.count(5, 5, twins={"one less": 4}).twins[0].near
    assert check.count(1, 1, twins={"none": 0}).twins[0].near
    assert check.count(6, 6, twins={"half": 3}).twins[0].near
    m = np.array([1, 100])
    assert check.count(m, m, twins={"off by one, half": [0, 50]}).twins[0].near
    assert not check.count(m, m, twins={"off by one, a third": [2, 33]}).twins[0].near
    assert not check.count(m, m, twins={"three times, off by one": [3, 101]}).twins[0].near


def test_count(check):
    r = check.count(7, 7, twins={"one off": 8})
    assert r.twins[0].near and r.tolerance == 0
    assert check.count(0, 0, twins={"one": 1}).twins[0].near
    with pytest.raises(zotk.CheckFailed):
        check.count(7, 8, twins={"one off": 9})
    with pytest.raises(zotk.CheckFailed, match="not rejected"):
        check.count(7, 7, twins={"the same": 7})
    assert not check.count(7, 7, twins={"far": 70}).twins[0].near
    with pytest.raises(zotk.CheckFailed):  # beyond what a float64 tells apart
        check.count(2**53 + 1, 2**53, twins={"t": 2**53 + 2})
    check.count(2**70, 2**70, twins={"t": 2**70 + 1})
    with pytest.raises(TypeError, match="integers"):
        check.count(7.0, 7, twins={"t": 8})


def test_not_finite_is_no_evidence(check):
    for bad in (math.nan, math.inf, []):
        with pytest.raises(ValueError, match="finite"):
            check.equal(bad, 1.0, rtol=1e-3, twins=NEAR)
    with pytest.raises(ValueError, match="finite"):
        check.equal(1.0, 1.0, rtol=1e-3, twins={"t": math.nan})
    with pytest.raises(ValueError, match="rtol"):
        check.equal(1.0, 1.0, rtol=0.0, twins=NEAR)
    with pytest.raises(ValueError, match="negative"):
        check.equal(1.0, 1.0, stderr=-1.0, twins=NEAR)


@pytest.mark.parametrize("name", ["", "Upper", "two words", "a..b", "-a"])
def test_claim_ids(name):
    with pytest.raises(ValueError, match="claim is"):
        zotk.Check(name)


def test_generators_are_the_claims_own():
    def first(check, *args):
        return torch.rand((), generator=check.generator(*args)).item()

    a = zotk.Check("a.b", seed=1)
    assert first(a) == first(zotk.Check("a.b", seed=1))
    assert (
        len({first(a), first(a, "s"), first(zotk.Check("a.c", seed=1)), first(zotk.Check("a.b"))})
        == 4
    )


def test_the_record_reaches_the_notebook(check, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    check.equal(1.0, 1.0, stderr=1e-3, draws=50, twins={"<b>": 1.1})
    with pytest.raises(zotk.CheckFailed):
        check.equal(1.05, 1.0, stderr=1e-3, twins=NEAR)
    good, bad = (card._repr_mimebundle_() for card in shown)
    record = json.loads(json.dumps(good["application/vnd.zotk.evidence+json"], allow_nan=False))
    assert record["passed"] and record["draws"] == 50
    assert "&lt;b&gt;" in good["text/html"] and "<b>" not in good["text/html"]
    assert "✓ passed" in good["text/html"]
    assert not bad["application/vnd.zotk.evidence+json"]["passed"]
    assert "✗ FAILED" in bad["text/html"] and "FAILED" in bad["text/plain"]
