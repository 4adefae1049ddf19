"""Each way in which evidence or coverage can be unsound is found, and sound ones pass."""

import json
import math
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from claims_book import SOURCES, notebook, record, twin

from ci import evidence, sources
from ci.evidence import Claim, judge

SUM = Claim("sum.two", "One and one", "theorem", "ours", "count", "holds", (), "one")
BOUND = replace(SUM, id="sum.bound", uses=("sum.two",), chapter="two")


def placed(claim: str, chapter: str, **changes: Any) -> dict[str, Any]:
    return {**record(claim, **changes), "chapter": chapter}


SOUND = [placed("sum.two", "one"), placed("sum.bound", "two")]


def texts(claims: list[Claim], records: list[dict[str, Any]]) -> list[str]:
    return [problem.text for problem in judge(claims, records)]


def test_sound_book_has_no_problem() -> None:
    assert judge([SUM, BOUND], SOUND) == []


STATISTICAL = {"stderr": 0.001, "tolerance": 0.00489, "z": 0.0, "alpha": 1e-6, "draws": 1000}
SOUND_RECORDS = {
    "equality": {},
    "statistical": STATISTICAL,
    "rate, half a unit off": {"kind": "rate", "twins": [twin(predicted=2.5)]},
    "count off by one, far in proportion": {
        "kind": "count",
        "measured": 0,
        "predicted": 0,
        "tolerance": 0,
        "twins": [twin(predicted=1.0, claim=0.0, measured=0.0, z=None)],
    },
    "half": {"twins": [twin(predicted=1.0)]},
    "far, but what the source prints": {"twins": [twin(predicted=90.0, name="printed, Eq 33")]},
    "twice, and a far one beside it": {"twins": [twin(predicted=4.0), twin(predicted=90.0)]},
    "negative": {"measured": -2.0, "predicted": -2.0, "twins": [twin(predicted=-3.0, claim=-2.0)]},
    "array, another entry is further": {"shape": [3], "twins": [twin(distance=0.9)]},
    "array, at an entry of its own": {
        "shape": [3],
        "largest": 50.0,
        "twins": [twin(predicted=52.5, claim=50.0, measured=50.0, distance=0.0704)],
    },
    "array, a small entry by the largest": {
        "shape": [3],
        "largest": 50.0,
        "twins": [twin(predicted=30.0, claim=0.0, measured=0.0, distance=0.6)],
    },
    "array, a small entry that is not 0, by the largest": {
        "shape": [3],
        "largest": 50.0,
        "twins": [twin(predicted=60.0, claim=20.0, measured=20.0, distance=0.8)],
    },
    "bound below 0, attained": {
        "kind": "bound",
        "measured": -2.09,
        "predicted": -2.0,
        "twins": [twin(predicted=-2.5, claim=-2.0, measured=-2.09)],
    },
    "count, an entry off by one": {
        "kind": "count",
        "shape": [3],
        "tolerance": 0,
        "twins": [twin(predicted=0.0, claim=1.0, measured=1.0, z=None, distance=1.0)],
    },
    "count, one down": {"kind": "count", "tolerance": 0, "twins": [twin(predicted=1.0, z=None)]},
    "bound, just attained": {"kind": "bound", "measured": 2.0999},
    "upper bound": {
        "kind": "bound",
        "measured": 1.95,
        "twins": [twin(predicted=1.9, measured=1.95)],
    },
    "bound, out of reach and says why": {
        "kind": "bound",
        "measured": 2.5,
        "slack": "attained by no finite network",
        "twins": [twin(measured=2.5)],
    },
    "wide, and says why": {
        "tolerance": 0.2,
        "rtol": 0.1,
        "slack": "the next term of the series",
        "twins": [twin(z=5.0)],
    },
    "as wide as is allowed": {"tolerance": 0.1, "rtol": 0.05, "twins": [twin(z=10.0)]},
    "rate, as wide as is allowed": {
        "kind": "rate",
        "tolerance": 0.1,
        "twins": [twin(predicted=2.5, z=5.0)],
    },
    "edge of the tolerance": {"measured": 2.002},
}


@pytest.mark.parametrize("changes", SOUND_RECORDS.values(), ids=SOUND_RECORDS)
def test_sound_records_pass(changes: dict[str, Any]) -> None:
    assert evidence.faults(record("sum.two", **changes)) == []


UNSOUND = {
    "failed": ({"passed": False}, "failed"),
    "passed by its word only": ({"measured": 2.1}, "says it passed"),
    "count passed by its word only": ({"kind": "count", "tolerance": 0.0, "measured": 3}, "says"),
    "no twins": ({"twins": []}, "no twins"),
    "far twins": ({"twins": [twin(predicted=4.1)]}, "far twins only"),
    "far below": ({"twins": [twin(predicted=0.9)]}, "far twins only"),
    "absent": ({"twins": [twin(predicted=0.0)]}, "far twins only"),
    "other sign": ({"twins": [twin(predicted=-2.0)]}, "far twins only"),
    "far from zero": (
        {"measured": 0.0, "predicted": 0.0, "twins": [twin(claim=0.0, measured=0.0)]},
        "far twins only",
    ),
    "far rate": ({"kind": "rate", "twins": [twin(predicted=2.6)]}, "far twins only"),
    "far array": ({"shape": [3], "twins": [twin(distance=1.1)]}, "far twins only"),
    "far count": (
        {"kind": "count", "tolerance": 0.0, "twins": [twin(predicted=5.0, z=None)]},
        "far twins only",
    ),
    "far count below": (
        {
            "kind": "count",
            "measured": 5,
            "predicted": 5,
            "largest": 5,
            "tolerance": 0.0,
            "twins": [twin(predicted=1, claim=5, measured=5, z=None)],
        },
        "far twins only",
    ),
    "array, far by its numbers": ({"shape": [3], "twins": [twin(predicted=7.0)]}, "far twins only"),
    "array, less far by its word": (
        {"shape": [3], "twins": [twin(predicted=3.9)]},
        "far twins only",
    ),
    "array, a small entry far by the largest": (
        {
            "shape": [3],
            "largest": 50.0,
            "twins": [twin(predicted=90.0, claim=0.0, measured=0.0, distance=0.6)],
        },
        "far twins only",
    ),
    "array, a small entry that is not 0, far by the largest": (
        {
            "shape": [3],
            "largest": 50.0,
            "twins": [twin(predicted=60.0, claim=20.0, measured=20.0, distance=0.5)],
        },
        "far twins only",
    ),
    "array count, far in an entry": (
        {
            "kind": "count",
            "shape": [3],
            "tolerance": 0,
            "twins": [twin(predicted=5.0, z=None, distance=1.0)],
        },
        "far twins only",
    ),
    "largest that is not": ({"twins": [twin(claim=3.0, predicted=4.0)]}, "largest is 2.0"),
    "bound loosened by a tenth": (
        {"kind": "bound", "measured": 2.2, "twins": [twin(measured=2.2)]},
        "bound 2 that no value attains within 5%",
    ),
    "upper bound loosened by half": (
        {
            "kind": "bound",
            "measured": 1.95,
            "predicted": 3.0,
            "largest": 3.0,
            "twins": [twin(claim=3.0, predicted=1.9, measured=1.95)],
        },
        "bound 3 that no value attains within 5%",
    ),
    "bound of zero that nothing attains": (
        {
            "kind": "bound",
            "measured": 1e-9,
            "predicted": 0.0,
            "twins": [twin(claim=0.0, predicted=1.0, measured=0.0), twin()],
        },
        "bound 0 that no value attains",
    ),
    "lower bound that is passed": ({"kind": "bound", "measured": 1.99}, "says it passed"),
    "upper bound that is passed": (
        {"kind": "bound", "measured": 2.01, "twins": [twin(predicted=1.9, measured=2.01)]},
        "says it passed",
    ),
    "bound, the value is on the twin's side": (
        {"kind": "bound", "twins": [twin(measured=4.0)]},
        "does not reject its twin",
    ),
    "wide for no reason": (
        {"tolerance": 0.11, "rtol": 0.055, "twins": [twin(z=9.0)]},
        "an rtol over 0.05",
    ),
    "wide by its numbers": ({"tolerance": 0.11, "twins": [twin(z=9.0)]}, "an rtol over 0.05"),
    "wide by its word": ({"rtol": 0.11}, "an rtol over 0.05"),
    "wide, as it says nothing": ({"rtol": None}, "an rtol over 0.05"),
    "wide rate": (
        {"kind": "rate", "tolerance": 0.11, "twins": [twin(predicted=2.5, z=4.0)]},
        "an atol over 0.1",
    ),
    "twin not rejected": ({"twins": [twin(rejected=False)]}, "does not reject its twin"),
    "one of two not rejected": ({"twins": [twin(), twin(rejected=False)]}, "does not reject"),
    "rejected by its word only": ({"twins": [twin(z=0.9)]}, "does not reject its twin"),
    "rejected by its z only": (
        {"twins": [twin(predicted=2.001)]},
        "does not reject its twin",
    ),
    "array, rejected by its z only": (
        {"shape": [2], "twins": [twin(predicted=2.0)]},
        "does not reject its twin",
    ),
    "rejected by less than the critical z": ({**STATISTICAL, "twins": [twin(z=4.8)]}, "not reject"),
    "count rejected by its word only": (
        {"kind": "count", "twins": [twin(measured=3.0, z=None)]},
        "does not reject its twin",
    ),
    "free statistics": ({**STATISTICAL, "alpha": 0.0}, "spends no false-alarm probability"),
    "impossible alpha": ({"alpha": 2.0}, "spends the probability 2.0"),
    "unknown kind": ({"kind": "vibe"}, "the kind 'vibe'"),
    "not a number": ({"measured": math.nan}, "measured is nan"),
    "not a number in a twin": ({"twins": [twin(z=math.inf)]}, "twins[0].z is inf"),
    "text for a number": ({"tolerance": "small"}, "tolerance is 'small'"),
    "flag for a number": ({"predicted": True}, "predicted is True"),
    "number for a flag": ({"passed": 1}, "passed is 1"),
    "twin that is no mapping": ({"twins": ["off"]}, "twins[0] is 'off'"),
}


@pytest.mark.parametrize(("changes", "words"), UNSOUND.values(), ids=UNSOUND)
def test_unsound_records_are_found(changes: dict[str, Any], words: str) -> None:
    records = [placed("sum.two", "one", **changes), SOUND[1]]
    (problem,) = judge([SUM, BOUND], records)
    assert words in problem.text and problem.claim == "sum.two"
    assert not evidence.verified(SUM, records)
    assert evidence.status(SUM, records) == "NOT VERIFIED: 1 of 1 check unsound"


@pytest.mark.parametrize("field", record("sum.two"))
def test_missing_fields_are_found(field: str) -> None:
    broken = record("sum.two")
    del broken[field]
    assert evidence.faults(broken) == [f"is malformed: {field} is missing"]
    assert judge([SUM, BOUND], [broken, *SOUND])
    assert evidence.tally([SUM], [broken]).verified == 0


@pytest.mark.parametrize("shape", [["2"], [2.0], [0], [True], [-1]])
def test_a_shape_of_anything_but_sizes_is_malformed(shape: list[Any]) -> None:
    assert evidence.faults(record("sum.two", shape=shape)) == [f"is malformed: shape is {shape!r}"]


def test_claim_without_record() -> None:
    assert texts([SUM, BOUND], SOUND[1:]) == ["claim 'sum.two' has no check"]
    assert evidence.status(SUM, SOUND[1:]) == "NOT VERIFIED: no check"


def test_record_without_claim() -> None:
    assert texts([SUM], [SOUND[0], placed("mean", "two")]) == [
        "check of 'mean' in two belongs to no claim"
    ]


def test_no_record_at_all() -> None:
    assert texts([], []) == ["there is no evidence record in the whole book"]
    assert "there is no evidence record in the whole book" in texts([SUM], [])


def test_check_in_another_chapter() -> None:
    records = [placed("sum.two", "two", what="fingers"), SOUND[1]]
    expected = "check of 'sum.two' (fingers) in two is not in one, beside its claim"
    assert texts([SUM, BOUND], records) == [expected]
    assert not evidence.verified(SUM, records)


def test_same_id_twice() -> None:
    (problem,) = judge([SUM, SUM, BOUND], SOUND)
    assert problem.text == "claim 'sum.two' is stated 2 times, in one"


@pytest.mark.parametrize(("count", "red"), [(1000, False), (1001, True)])
def test_total_false_alarm_probability(count: int, red: bool) -> None:
    records = [placed("sum.two", "one", **STATISTICAL)] * count + SOUND[1:]
    assert [text.startswith("the checks spend") for text in texts([SUM, BOUND], records)] == (
        [True] if red else []
    )


def test_unknown_uses() -> None:
    claims = [SUM, replace(BOUND, uses=("mean",))]
    assert texts(claims, SOUND) == ["claim 'sum.bound' uses unknown 'mean'"]


def test_the_id_that_was_meant_is_named() -> None:
    claims = [SUM, replace(BOUND, uses=("sum.twoo",))]
    found = texts(claims, [*SOUND, placed("sum.bond", "two")])
    assert found == [
        "check of 'sum.bond' in two belongs to no claim; did you mean 'sum.bound'?",
        "claim 'sum.bound' uses unknown 'sum.twoo'; did you mean 'sum.two'?",
    ]
    for changes, meant in [
        ({"claims": ["sum.tow"]}, "'sum.two'"),
        ({"figures": ["fig:lines"]}, "'fig:line'"),
        ({"because": "x", "errata": [{**ERRATUM, "decided_by": "sum.bond"}]}, "'sum.bound'"),
    ]:
        (problem,) = audit({"what": "w", **changes})
        assert problem.endswith(f"; did you mean {meant}?")


def test_a_bound_with_a_weaker_twin_is_unsound() -> None:
    mixed = record("sum.two", kind="bound", twins=[twin(), twin(name="weaker", predicted=1.5)])
    assert evidence.faults(mixed) == [
        "does not reject its twin 'off by one'",
        "does not reject its twin 'weaker'",
    ]


def test_a_printed_twin_needs_an_erratum_that_its_claim_decides() -> None:
    printed = placed("sum.two", "one", twins=[twin(), twin(name="printed, Eq 33", predicted=90.0)])
    assert evidence.unlisted([printed, *SOUND], {"sum.two"}) == []
    (problem,) = evidence.unlisted([printed, *SOUND], {"sum.bound"})
    assert problem.claim == "sum.two"
    assert problem.text == (
        "check of 'sum.two' in one has the twin 'printed, Eq 33', "
        "but no erratum in sources.yml is decided_by 'sum.two'"
    )
    assert evidence.unlisted([{"id": "sum.two", "chapter": "one"}], set()) == []  # malformed


def test_cyclic_uses_name_the_cycle() -> None:
    claims = [replace(SUM, uses=("sum.bound",)), BOUND]
    assert texts(claims, SOUND) == ["claims use each other: sum.two → sum.bound → sum.two"]


def test_cycles() -> None:
    assert evidence.cycles({"a": ["b", "c"], "b": ["c"], "c": [], "d": ["a", "b"]}) == []
    assert evidence.cycles({"a": ["a"]}) == [["a", "a"]]
    assert evidence.cycles({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}) == [
        ["a", "b", "c", "a"]
    ]


def test_tally_and_status() -> None:
    records = [placed("sum.two", "one", **STATISTICAL, seconds=2.0), *SOUND]
    t = evidence.tally([SUM, BOUND], records)
    assert (t.claims, t.verified, t.checks, t.twins, t.rejected) == (2, 2, 3, 3, 3)
    assert t.alpha == 1e-6
    assert t.seconds == pytest.approx(2.02)
    assert evidence.status(SUM, records) == "verified: 2 checks, 2 twins rejected"
    assert evidence.status(BOUND, records) == "verified: 1 check, 1 twin rejected"
    assert evidence.seconds_by_claim(records) == pytest.approx({"sum.two": 2.01, "sum.bound": 0.01})


def test_loosest_takes_the_nearest_twin_of_each_check() -> None:
    tight = placed("tight", "one", twins=[twin(distance=0.1), twin(distance=50.0)])
    loose = placed("loose", "one", twins=[twin(distance=0.9)])
    found = evidence.loosest([tight, loose, placed("none", "one", twins=[])])
    assert [(m.value, m.record["id"]) for m in found] == [(0.9, "loose"), (0.1, "tight")]
    assert len(evidence.loosest([tight] * 20)) == 10


def test_narrowest_compares_exact_and_statistical_twins() -> None:
    exact = placed("exact", "one", twins=[twin(z=3.0)])
    chance = placed("chance", "one", **{**STATISTICAL, "twins": [twin(z=9.78)]})
    count = placed("count", "one", kind="count", twins=[twin(z=None)])
    found = evidence.narrowest([exact, chance, count])
    assert [m.record["id"] for m in found] == ["chance", "exact"]
    assert [m.value for m in found] == pytest.approx([2.0, 3.0])


def test_read_chapters(tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").write_text(notebook("# One", SOUND[0], record("b")))
    (tmp_path / "two.ipynb").write_text(notebook("# Two"))
    (tmp_path / ".scratch.ipynb").write_text("torn")
    (tmp_path / "one.json").write_text('{"seconds": 3.5, "key": "abc"}')
    one, two = evidence.read_chapters(tmp_path)
    assert (one.name, one.cells, one.seconds) == ("one", 2, 3.5)
    assert (two.name, two.cells, two.seconds, two.records) == ("two", 0, None, ())
    assert evidence.read_records(tmp_path) == [SOUND[0], {**record("b"), "chapter": "one"}]


def test_a_torn_notebook_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").write_text('{"cells"')
    with pytest.raises(ValueError, match=r"one\.ipynb is not a notebook"):
        evidence.read_records(tmp_path)


def test_a_record_that_is_no_mapping_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").write_text(notebook("# One", "evidence"))  # type: ignore[arg-type]
    records = evidence.read_records(tmp_path)
    assert "check of 'None' in one belongs to no claim" in texts([SUM], records)


def test_as_json_is_strict() -> None:
    broken = placed("sum.two", "one", measured=math.nan)
    content = evidence.as_json([SUM, BOUND], [broken, SOUND[1]], {"date": "today"})
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    first, second = content["claims"]
    assert (first["passed"], second["passed"]) == (False, True)
    assert first["checks"][0]["measured"] is None
    assert "chapter" not in first["checks"][0]
    keys = [
        "id",
        "title",
        "source",
        "tag",
        "verdict",
        "kind",
        "chapter",
        "uses",
        "passed",
        "checks",
    ]
    assert list(first) == keys


def test_records_of_the_library_are_judged_sound() -> None:
    from zotk.evidence import cards, checks

    assert (cards.MIME, set(evidence._FIELDS)) == (
        evidence.MIME,
        set(checks.Record.__dataclass_fields__),
    )
    check = checks.Check("sum.two")
    made = [
        check.equal([1.0, 2.0], [1.0, 2.0], rtol=1e-9, twins={"more": [1.0, 2.5]}),
        check.equal(1.001, 1.0, stderr=0.001, draws=1000, twins={"half more": 1.5}),
        check.rate([1, 2, 4], [1.0, 4.0, 16.0], 2, atol=0.1, twins={"slower": 1.5}),
        check.equal([1.0, 50.0], [1.0, 50.0], rtol=1e-9, twins={"5 % more": [1.0, 52.5]}),
        check.equal([0.0, 2.0], [0.0, 2.0], rtol=1e-9, twins={"not none": [1.0, 2.0]}),
        check.equal(1.0, 1.0, rtol=0.2, slack="the next term is a tenth", twins={"half": 1.5}),
        check.bound([0.5, 0.99], 1.0, side="upper", rtol=1e-9, twins={"tighter": 0.8}),
        check.bound([0.5, 0.6], [0.5, 0.1], side="lower", rtol=1e-9, twins={"more": [0.51, 0.1]}),
        check.bound(
            1.9, 1.0, side="lower", rtol=1e-9, slack="no finite case attains it", twins={"t": 2.0}
        ),
        check.count([0, 9, 5], [0, 9, 5], twins={"one less, half": [1, 8, 3]}),
        check.count(7, 7, twins={"one more": 8}),
    ]
    for entry in made:
        plain = json.loads(json.dumps(asdict(entry)))
        assert evidence.faults(plain) == []
        plain["twins"][0]["rejected"] = False
        assert evidence.faults(plain)


CLAIMS = {"sum.two", "sum.bound"}
FIGURES = {"fig:line"}


def audit(item: Any) -> list[str]:
    return sources.audit(
        {"paper": {"title": "A", "key": "k", "items": {"thm-1": item}}}, CLAIMS, FIGURES, {"one"}
    )


def test_sound_sources() -> None:
    assert sources.audit(SOURCES, CLAIMS, FIGURES, {"one", "two"}) == []
    assert audit({"what": "w", "claims": ["sum.two"], "figures": ["fig:line"]}) == []


ERRATUM = {"prints": "a", "ours": "b"}
HOLES = {
    "no fate": ({"what": "w"}, "is a hole: no claims"),
    "two fates": ({"what": "w", "claims": ["sum.two"], "planned": "x"}, "planned and claims"),
    "unknown claim": ({"what": "w", "claims": ["sum.two", "sum.3"]}, "names 'sum.3'"),
    "unknown figure": ({"what": "w", "figures": ["fig:bar"]}, "names 'fig:bar'"),
    "empty claims": ({"what": "w", "claims": []}, "claims that are no list of names"),
    "claims without a name": ({"what": "w", "claims": ["sum.two", " "]}, "are no list of names"),
    "claims that are numbers": ({"what": "w", "claims": [2]}, "claims that are no list of names"),
    "figures as text": ({"what": "w", "figures": "fig:line"}, "figures that are no list of names"),
    "three fates": (
        {"what": "w", "claims": ["sum.two"], "figures": ["fig:line"], "because": "x"},
        "claims and figures and because",
    ),
    "claims as text": ({"what": "w", "claims": "sum.two"}, "claims that are no list of names"),
    "empty reason": ({"what": "w", "because": " "}, "empty 'because'"),
    "no reason": ({"what": "w", "because": None}, "empty 'because'"),
    "long reason": ({"what": "w", "because": "a\nb"}, "longer than a line"),
    "empty plan": ({"what": "w", "planned": ""}, "empty 'planned'"),
    "overdue": ({"what": "w", "planned": "one"}, "planned for one, which is in the book"),
    "misspelt": ({"what": "w", "becuase": "x", "planned": "x"}, "unknown entry 'becuase'"),
    "nameless": ({"because": "x"}, "does not say what it is"),
    "no item": ("claims", "is 'claims', not an item"),
    "half an erratum": (
        {"what": "w", "because": "x", "errata": [{"prints": "a"}]},
        "does not say what we hold instead",
    ),
    "other half of an erratum": (
        {"what": "w", "because": "x", "errata": [{"ours": "b"}]},
        "does not say what the source prints",
    ),
    "erratum that prints nothing": (
        {"what": "w", "because": "x", "errata": [{"prints": " ", "ours": "b"}]},
        "does not say what the source prints",
    ),
    "erratum that prints a number": (
        {"what": "w", "because": "x", "errata": [{"prints": "a", "ours": 2}]},
        "does not say what we hold instead",
    ),
    "erratum misspelt": (
        {"what": "w", "because": "x", "errata": [{**ERRATUM, "by": "me"}]},
        "unknown entry 'by'",
    ),
    "erratum without a list": ({"what": "w", "because": "x", "errata": "a"}, "the erratum 'a'"),
    "erratum decided by nothing": (
        {"what": "w", "because": "x", "errata": [{**ERRATUM, "decided_by": "sum.3"}]},
        "decided by 'sum.3', which is no claim",
    ),
}


@pytest.mark.parametrize(("item", "words"), HOLES.values(), ids=HOLES)
def test_holes_are_found(item: Any, words: str) -> None:
    (problem,) = audit(item)
    assert words in problem and problem.startswith("sources.yml: paper / thm-1 ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"title": ""}, "needs a title"),
        ({"key": None}, "needs a key"),
        ({"items": {}}, "lists no items"),
        ({"itmes": {}}, "unknown entry 'itmes'"),
    ],
)
def test_malformed_sources_are_found(changes: dict[str, Any], words: str) -> None:
    listed = deepcopy(SOURCES)
    listed["introductio"] |= changes
    (problem,) = sources.audit(listed, CLAIMS, FIGURES, set())
    assert words in problem
    assert sources.readable(listed) == {}


def test_a_source_that_is_no_mapping_is_found() -> None:
    assert sources.audit({"a": None}, set(), set(), set()) == [
        "sources.yml: a is None, not a source"
    ]


def test_readable_keeps_the_readable_items() -> None:
    listed = deepcopy(SOURCES)
    listed["introductio"]["items"]["thm-1"] = {"what": "a hole"}
    (source,) = sources.readable(listed).values()
    assert list(source["items"]) == ["thm-2", "fig-1", "lemma-9", "ex-3"]


def test_errata_and_coverage() -> None:
    open_one, erratum = sources.errata(SOURCES)
    assert open_one.decided_by == ""
    assert erratum == ("introductio", "thm-2", "Theorem 2: the bound", 0, "$x < 1$", "$x < 2$",
                       "sum.bound")  # fmt: skip
    counts = sources.coverage(SOURCES["introductio"]["items"])
    assert counts == {"covered": 3, "planned": 1, "left out": 1}


def test_coverage_counts_each_fate_and_an_item_once() -> None:
    one, two = {"claims": ["a"]}, {"claims": ["a"], "figures": ["b"]}
    shown, planned, out = {"figures": ["b"]}, {"planned": "x"}, {"because": "x"}
    items = [one, two, shown, planned, planned, out, out, out, out, out, out]
    counts = sources.coverage({str(i): item for i, item in enumerate(items)})
    assert counts == {"covered": 3, "planned": 2, "left out": 6}
    assert sources.coverage({"1": two}) == {"covered": 1, "planned": 0, "left out": 0}


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "sources.yml"
    path.write_text(json.dumps(SOURCES))
    assert sources.load(path) == SOURCES
    for text, words in [
        ("a: {items: {x: 1, x: 2}}", "'x' is given twice"),
        ("- a", "not sources by name"),
        ("a: [", "sources.yml"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            sources.load(path)
