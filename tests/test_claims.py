"""Small books built by Sphinx: each planted fault turns the build red, the healthy one is green."""

import importlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from claims_book import ROOT, TWO, Book, record, twin
from jinja2 import Template

from ci import previews

sys.path.insert(0, str(ROOT / "book/_ext"))

pytestmark = pytest.mark.filterwarnings("default")  # Sphinx and its friends deprecate a lot

PAGES = ("index", "chapters/one", "chapters/two", "atlas", "errata", "statistics")


class Page(HTMLParser):
    """Ids, links and header cells of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scopes: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "th":
            self.scopes.append(found.get("scope"))


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Book:
    book = Book(tmp_path_factory.mktemp("healthy"))
    assert book.build() == (0, "")
    return book


def main_part(text: str) -> str:
    """The words of a page, without tags and navigation."""
    body = text[text.index('role="main"') : text.index('class="clearer"')]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_pages_have_unique_ids_scoped_headers_and_live_links(healthy: Book) -> None:
    pages = {name: Page(healthy.page(name)) for name in (*PAGES, "bibliography")}
    for name, page in pages.items():
        assert [i for i, n in Counter(page.ids).items() if n > 1] == [], name
        assert set(page.scopes) <= {"row", "col"}, name
        for link in page.links:
            path, _, anchor = unquote(link).partition("#")
            target = (healthy.site / name).parent.joinpath(path).resolve() if path else None
            other = target.relative_to(healthy.site.resolve()).with_suffix("") if target else name
            if anchor and str(other) in pages and anchor != "":
                assert anchor in pages[str(other)].ids, f"{name}: {link}"


def test_claim_boxes(healthy: Book) -> None:
    one, two = main_part(healthy.page("chapters/one")), main_part(healthy.page("chapters/two"))
    assert "Theorem 1.1" in one and "Definition 1.2" in one and "Lemma 2.2" in two
    assert "Theorem 1 · count · holds · ✓ verified: 2 checks, 2 twins rejected" in one
    assert "Euler [ Eul48 ] , Theorem 2, in the manner of Gauss [ Gau01 ] · bound" in two
    assert 'id="sum.two"' in healthy.page("chapters/one")
    assert 'href="one.html#sum.two">Theorem 1.1</a>' in healthy.page("chapters/two")


def test_atlas(healthy: Book) -> None:
    text, page = main_part(healthy.page("atlas")), healthy.page("atlas")
    assert "2 of 2 claims verified, by 3 checks that reject 3 twins." in text
    assert "Lemma 2.2 A bound that is mended sum.bound" in text
    assert "3 covered, 1 planned, 1 left out" in text
    assert "left out: an exercise, see Gauss [ Gau01 ]" in text
    assert "Fig. 1.1" in text and "planned: infinity" in text
    assert '<a href="chapters/two.html#sum.bound" class="claim-verified">' in page
    assert page.count("<path d=") == 1


def test_errata(healthy: Book) -> None:
    text = main_part(healthy.page("errata"))
    assert r"\(x &lt; 1\) \(x &lt; 2\) Lemma 2.2 ( ✓ verified: 1 check, 1 twin rejected" in text
    assert "Lemma 2.2 A bound that is mended corrected" in text
    assert "see Gauss [ Gau01 ] not decided yet" in text
    assert "Where The source says, in our words We hold Decided by" in text


def test_other_devices_are_shown_beside_and_lift_nothing(tmp_path: Path) -> None:
    book = Book(tmp_path)
    row = {"device": "GPU 1", "date": "2026-01-02", "checks": 7, "on_device": 6, "twins": 9}
    book.elsewhere = [
        row | {"chapter": "one", "seconds": 3.0, "current": True},
        row | {"chapter": "gone", "seconds": 3.0, "current": False},
    ]
    assert book.build() == (0, "")
    text = main_part(book.page("statistics"))
    assert "GPU 1" in text and "7, 6 of them on its tensors" in text
    assert "same chapter and library" in text and "stale: changed since" in text
    book.records["one"] = []  # evidence from elsewhere does not help
    status, complaints = book.build()
    assert status != 0 and "claim 'sum.two' has no check" in complaints


def test_statistics_and_summary(healthy: Book) -> None:
    text, front = main_part(healthy.page("statistics")), main_part(healthy.page("index"))
    assert "One 1 min 15 s 2 1 of 1 2 2 of 2 0" in text
    assert "Two not timed 1 1 of 1 1 1 of 1 0" in text
    assert "at most 0; the build allows 0.001." in text
    assert re.search(r"Theorem 1\.1 sum\.two 2 2 0\.51 s 0", text)
    assert re.search(r"device cpu date \d{4}-\d\d-\d\dT\S+ seed 0", text)
    assert re.match(
        r".*2 of 2 claims verified 3 checks 3 of 3 wrong twins rejected "
        r"0 false-alarm probability, in all \d{4}-\d\d-\d\d built and checked",
        front,
    )


def test_claims_json(healthy: Book) -> None:
    content = json.loads((healthy.site / "claims.json").read_text())
    meta = content["meta"]
    assert list(meta) == ["versions", "device", "date", "seed"]
    assert (meta["device"], meta["seed"]) == ("cpu", 0)
    assert {"python", "Sphinx", "torch"} <= meta["versions"].keys()
    two = content["claims"][1]
    assert two == {
        "id": "sum.bound",
        "title": "A bound that is mended",
        "source": "euler1748, Theorem 2, in the manner of gauss1801",
        "tag": "bound",
        "verdict": "corrected",
        "kind": "lemma",
        "chapter": "two",
        "uses": ["sum.two"],
        "passed": True,
        "checks": [record("sum.bound", kind="bound")],
    }
    assert [claim["id"] for claim in content["claims"]] == ["sum.two", "sum.bound"]


PROOF = "\n```{prf:proof}\nNew.\n```\n"


def add_claim(text: str, name: str = "sum.new", proof: str = PROOF, **options: str) -> str:
    """A page with one more claim, proved."""
    known = {"source": "ours", "tag": "count", "verdict": "holds", **options}
    lines = [f"```{{claim}} {name} New", *(f":{k}: {v}" for k, v in known.items() if v)]
    return "\n".join([text, *lines, "", "New.", "```", proof])


def no_check(b: Book) -> None:
    b.two = add_claim(b.two)


def no_proof(b: Book) -> None:
    b.two = b.two.replace("{prf:proof}", "{note}")


def no_proof_before_the_next(b: Book) -> None:
    b.two = add_claim(add_claim(b.two, proof=""), "sum.next")
    b.records["two"] += [record("sum.new"), record("sum.next")]


def proof_before_the_claim(b: Book) -> None:
    b.two = add_claim(b.two + PROOF, proof="")
    b.records["two"].append(record("sum.new"))


def printed_twin(b: Book) -> None:
    b.records["one"][0]["twins"].append(twin(name="printed, (7)", predicted=30.0))


def bound_loosened(b: Book) -> None:
    b.records["two"][0] |= {"measured": 2.2, "twins": [twin(measured=2.2)]}


def tolerance_widened(b: Book) -> None:
    b.records["two"][0] |= {"tolerance": 0.2, "rtol": 0.1, "twins": [twin(z=5.0)]}


def untimed(b: Book) -> None:
    b.two += "\nIt takes {chapter-seconds}`two` seconds.\n"


def no_claim(b: Book) -> None:
    b.records["two"].append(record("sum.new"))


def no_records(b: Book) -> None:
    b.records = {"one": [], "two": []}


def failed(b: Book) -> None:
    b.records["two"][0]["passed"] = False


def no_twins(b: Book) -> None:
    b.records["two"][0]["twins"] = []


def far_twins(b: Book) -> None:
    b.records["two"][0]["twins"] = [twin(predicted=30.0, near=True, distance=0.1)]


def twin_stands(b: Book) -> None:
    b.records["two"][0]["twins"].append(twin(rejected=False))


def wrong_chapter(b: Book) -> None:
    b.records["one"].append(record("sum.bound"))


def too_many_alarms(b: Book) -> None:
    chance = {"stderr": 0.001, "tolerance": 0.00489, "z": 0.0, "alpha": 6e-4}
    b.records["two"] += [record("sum.bound", **chance)] * 2


def bare(b: Book) -> None:
    b.two += "\n```{prf:corollary} Bare\n:label: bare\n\nText.\n```\n"


def bare_unnumbered(b: Book) -> None:
    b.two += "\n```{prf:property} Bare\n:nonumber:\n\nText.\n```\n"


def unknown_use(b: Book) -> None:
    b.two = b.two.replace(":uses: sum.two", ":uses: sum.three")


def cyclic_use(b: Book) -> None:
    b.one = b.one.replace(":verdict: holds", ":verdict: holds\n:uses: sum.bound")


def hole(b: Book) -> None:
    b.sources["introductio"]["items"]["thm-7"] = {"what": "Theorem 7"}


def overdue(b: Book) -> None:
    b.sources["introductio"]["items"]["lemma-9"]["planned"] = "two"


def unknown_figure(b: Book) -> None:
    b.sources["introductio"]["items"]["fig-1"]["figures"].append("fig:two")


def twice(b: Book) -> None:
    b.two = add_claim(b.two, "sum.two")


def dead_link(b: Book) -> None:
    b.one = b.one.replace("{prf:ref}`sum.two`", "{prf:ref}`sum.three`")


def dead_status(b: Book) -> None:
    b.one = b.one.replace("{prf:ref}`sum.two`", "{status}`sum.three`")


def dead_citation(b: Book) -> None:
    b.two = add_claim(b.two, source="newton1687, Lemma 1")


def without(option: str) -> Callable[[Book], None]:
    def plant(b: Book) -> None:
        b.two = add_claim(b.two, **{option: ""})

    return plant


def wrong(option: str) -> Callable[[Book], None]:
    def plant(b: Book) -> None:
        b.two = add_claim(b.two, **{option: "guess"})

    return plant


FAULTS: dict[str, tuple[Callable[[Book], None], str]] = {
    "claim without check": (no_check, "claim 'sum.new' has no check"),
    "claim without proof": (no_proof, "claim 'sum.bound' has no proof"),
    "claim without proof before the next": (
        no_proof_before_the_next,
        "claim 'sum.new' has no proof",
    ),
    "proof before its claim": (proof_before_the_claim, "claim 'sum.new' has no proof"),
    "printed without erratum": (printed_twin, "no erratum in sources.yml is decided_by 'sum.two'"),
    "bound loosened": (bound_loosened, "no value attains within 5%"),
    "tolerance widened": (tolerance_widened, "an rtol over 0.05"),
    "chapter without a time": (untimed, "no timed run of 'two'"),
    "record without claim": (no_claim, "belongs to no claim"),
    "no records": (no_records, "no evidence record in the whole book"),
    "failed record": (failed, "check of 'sum.bound' in two failed"),
    "no twins": (no_twins, "has no twins"),
    "far twins only": (far_twins, "far twins only"),
    "twin not rejected": (twin_stands, "does not reject its twin"),
    "check in another chapter": (wrong_chapter, "is not in two, beside its claim"),
    "too many false alarms": (too_many_alarms, "spend 0.0012 of false alarms"),
    "bare theorem": (bare, "corollary 'bare' is not a {claim}"),
    "bare theorem without number": (bare_unnumbered, "is not a {claim}"),
    "unknown uses": (unknown_use, "uses unknown 'sum.three'"),
    "cyclic uses": (cyclic_use, "sum.two → sum.bound → sum.two"),
    "hole in the sources": (hole, "introductio / thm-7 is a hole"),
    "planned chapter is here": (overdue, "planned for two, which is in the book"),
    "unknown figure": (unknown_figure, "names 'fig:two'"),
    "duplicate id": (twice, "claim 'sum.two' is stated 2 times, in one, two"),
    "dead reference": (dead_link, "'sum.three' not found"),
    "status of an unknown claim": (dead_status, "no claim has the id 'sum.three'"),
    "unknown source": (dead_citation, "starts with neither a bibliography key"),
    "no source": (without("source"), "needs the option :source:"),
    "no tag": (without("tag"), "needs the option :tag:"),
    "no verdict": (without("verdict"), "needs the option :verdict:"),
    "unknown tag": (wrong("tag"), "guess"),
    "unknown verdict": (wrong("verdict"), "guess"),
    "unknown kind": (wrong("kind"), "guess"),
}


@pytest.mark.parametrize(("plant", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_red_and_stays_red(
    book: Book, plant: Callable[[Book], None], words: str
) -> None:
    plant(book)
    for _ in range(2):  # the second time over what the first left behind
        status, warnings = book.build()
        assert status != 0
        assert words in warnings


def test_warnings_say_where(book: Book) -> None:
    failed(book)
    bare(book)
    _, warnings = book.build()
    assert re.search(r"chapters/two\.ipynb:\d+: WARNING: check of 'sum.bound'", warnings)
    assert re.search(r"chapters/two\.ipynb:\d+: WARNING: corollary 'bare'", warnings)


def test_a_missing_proof_and_a_printed_twin_say_where_and_nothing_else(book: Book) -> None:
    no_proof(book)
    printed_twin(book)
    _, warnings = book.build()
    expected = [
        r"chapters/one\.ipynb:\d+: WARNING: check of 'sum\.two' in one has the twin 'printed",
        r"chapters/two\.ipynb:\d+: WARNING: claim 'sum\.bound' has no proof",
    ]
    assert len(warnings.splitlines()) == 2
    for words in expected:
        assert re.search(words, warnings)


def test_a_printed_twin_with_its_erratum_is_green(book: Book) -> None:
    book.records["two"][0]["twins"].append(twin(name="printed, (7)", predicted=30.0))
    assert book.build() == (0, "")


def test_a_measurement_needs_no_proof_and_looks_like_one(book: Book) -> None:
    book.two = add_claim(book.two, proof="", kind="measurement")
    book.two += "\nSee {prf:ref}`sum.new`.\n"
    book.records["two"].append(record("sum.new"))
    assert book.build() == (0, "")
    text, page = main_part(book.page("chapters/two")), book.page("chapters/two")
    assert "Measurement 2.3 (New)" in text and "See Measurement 2.3" in text
    assert re.search(r'class="proof measurement admonition" id="sum\.new"', page)
    assert "Property" not in text
    assert "Measurement 2.3 New sum.new" in main_part(book.page("atlas"))
    claims = json.loads((book.site / "claims.json").read_text())["claims"]
    assert [claim["kind"] for claim in claims] == ["theorem", "lemma", "measurement"]
    book.two = book.two.replace(":kind: measurement", ":kind: property")  # the proof is missed
    status, warnings = book.build()
    assert status != 0 and "claim 'sum.new' has no proof" in warnings


def test_claims_come_in_the_order_of_the_contents(book: Book) -> None:
    book.index = book.index.replace("chapters/one\nchapters/two", "chapters/two\nchapters/one")
    assert book.build() == (0, "")
    claims = json.loads((book.site / "claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == ["sum.bound", "sum.two"]
    atlas = main_part(book.page("atlas"))
    assert atlas.index("sum.bound") < atlas.index("sum.two")


def test_reading_order_goes_down_before_it_goes_on() -> None:
    from claim_domain import ClaimDomain

    env = SimpleNamespace(
        config=SimpleNamespace(root_doc="index"),
        toctree_includes={"index": ["z", "a"], "z": ["z/2", "z/1"], "z/1": ["index", "a"]},
        found_docs={"index", "z", "a", "z/1", "z/2", "y", "b"},
    )
    order = ClaimDomain.reading_order(SimpleNamespace(env=env))  # type: ignore[arg-type]
    assert order == ["index", "z", "z/2", "z/1", "a", "b", "y"]


def test_seconds_of_a_chapter_stand_in_prose(book: Book) -> None:
    book.seconds = {"one": 75.4, "two": 12.6}
    book.two += "\nHere {chapter-seconds}`two` seconds, there {chapter-seconds}`one`.\n"
    assert book.build() == (0, "")
    text = main_part(book.page("chapters/two"))
    assert "Here 13 seconds, there 75." in text
    book.two += "\nAnd {chapter-seconds}`tow`.\n"
    status, warnings = book.build()
    assert status != 0 and "no timed run of 'tow'; did you mean 'two'?" in warnings


def test_status_follows_the_evidence(book: Book) -> None:
    verified = "verified: 2 checks, 2 twins rejected"
    assert book.build() == (0, "")
    assert verified in main_part(book.page("chapters/one"))
    book.records["one"][1]["passed"] = False
    assert book.build()[0] != 0
    for page in (
        "chapters/one",
        "chapters/two",
        "atlas",
    ):  # two quotes the status of a claim of one
        text = main_part(book.page(page))
        assert "✗ NOT VERIFIED: 1 of 2 checks unsound" in text and verified not in text
    claims = json.loads((book.site / "claims.json").read_text())["claims"]
    assert [claim["passed"] for claim in claims] == [False, True]
    book.records["one"][1]["passed"] = True
    assert book.build() == (0, "")
    assert verified in main_part(book.page("chapters/one"))


def test_evidence_from_elsewhere_reaches_the_page_of_the_claim(book: Book) -> None:
    assert book.build() == (0, "")
    wrong_chapter(book)  # only the notebook of chapter one changes, on the page of chapter two
    assert book.build()[0] != 0
    assert "NOT VERIFIED: 1 of 2 checks unsound" in main_part(book.page("chapters/two"))


def test_an_unchanged_book_is_checked_and_its_generated_pages_rewritten(book: Book) -> None:
    assert book.build() == (0, "")
    names = ("index", "atlas", "errata", "statistics", "chapters/one", "bibliography")
    before = {name: (book.site / f"{name}.html").stat().st_mtime_ns for name in names}
    assert book.build() == (0, "")
    after = {name: (book.site / f"{name}.html").stat().st_mtime_ns for name in names}
    assert [n for n in names if after[n] != before[n]] == ["index", "atlas", "errata", "statistics"]


def test_a_removed_claim_is_forgotten(book: Book) -> None:
    book.two, kept = add_claim(book.two), book.two
    book.records["two"].append(record("sum.new"))
    assert book.build() == (0, "")
    assert "sum.new" in book.page("atlas")
    book.two = kept
    book.records["two"].pop()
    assert book.build() == (0, "")
    assert "sum.new" not in book.page("atlas")


def test_a_change_of_sources_reaches_the_atlas(book: Book) -> None:
    assert book.build() == (0, "")
    book.sources["introductio"]["items"]["ex-3"]["because"] = "off the path"
    assert book.build() == (0, "")
    assert "left out: off the path" in main_part(book.page("atlas"))


def test_missing_sources_are_red(book: Book) -> None:
    book.build()
    (book.source / "sources.yml").unlink()
    book.write = lambda: None  # type: ignore[method-assign]
    status, warnings = book.build()
    assert status != 0 and "sources.yml is missing" in warnings


def test_parallel_build_gives_the_same_book(book: Book, healthy: Book) -> None:
    assert book.build("-j", "2") == (0, "")
    for name in PAGES[1:4]:
        assert main_part(book.page(name)) == main_part(healthy.page(name)), name


def test_sources_of_claims() -> None:
    import claims

    keys = {"a2000", "b-c:2001"}
    sound = {
        "ours": "ours",
        "a2000, Eq. (7)": "{cite:t}`a2000`, Eq. (7)",
        "a2000, § 2, and b-c:2001, § 1": "{cite:t}`a2000`, § 2, and {cite:t}`b-c:2001`, § 1",
        "folklore, a2000": "folklore, {cite:t}`a2000`",
        "ours, after b-c:2001": "ours, after {cite:t}`b-c:2001`",
    }
    assert {source: claims.cite_source(source, keys) for source in sound} == sound
    for source, words in {
        "a2000": "does not say where in a2000",
        "a2000 and b-c:2001": "does not say where in a2000",
        "d2002, Theorem 1": "starts with neither",
        "Theorem 1 of a2000": "starts with neither",
        "folklore": "needs a bibliography key",
    }.items():
        with pytest.raises(ValueError, match=words):
            claims.cite_source(source, keys)


def test_numbers_and_depths() -> None:
    import atlas_graph
    import atlas_html

    shown = {0.0: "0", 1.2e-5: "1.2·10⁻⁵", 1e-6: "10⁻⁶", 2.5: "2.5", -3e7: "-3·10⁷", 123.4: "123"}
    assert {value: atlas_html.number(value) for value in shown} == shown
    assert [atlas_html.seconds(s) for s in (0.04, 12.34, 125)] == ["0.04 s", "12.3 s", "2 min 5 s"]
    uses: dict[str, list[Any]] = {"c": ["a", "b"], "a": [], "b": ["a"], "x": ["y"], "y": ["x"]}
    depth = atlas_graph.depths(uses)
    assert (depth["a"], depth["b"], depth["c"]) == (0, 1, 2)
    assert sorted(node for level in atlas_graph.columns(uses) for node in level) == sorted(uses)


def test_checks_fold_into_a_line_of_evidence(tmp_path: Path) -> None:
    book = Book(tmp_path)
    assert book.build() == (0, "")
    page = book.page("chapters/one")
    first = page[page.index('<details class="fold fold-checks">') :]
    summary, folded = first[: first.index("</details>")].split("</summary>")
    assert "fingers: measured 2, predicted 2; 1 check, 1 twin rejected" in summary
    assert "Theorem 1.1" in summary and "claim-verified" in summary
    assert "zotk-card" in folded and "check()" in re.sub("<[^>]+>", "", folded)
    assert (
        page.count("zotk-card") == page.count('<details class="fold') == 2
    )  # none is left outside


def test_what_is_technical_in_a_proof_folds(tmp_path: Path) -> None:
    book = Book(tmp_path)
    details = ":::{dropdown} The details of $x$\n$$\nx = 1\n$$ (eq:one)\n\nSo {eq}`eq:one`.\n:::"
    book.two = TWO.replace("Below.", f"Below.\n\n{details}") + "\nSee {eq}`eq:one`.\n"
    assert book.build() == (0, "")
    page = book.page("chapters/two")
    before, fold = page.split('<details class="fold fold-proof">')
    fold, after = fold.split("</details>", 1)
    assert "Below." in before and "show all code, cards and proofs" in before
    assert fold.startswith('<summary>The details of <span class="math')
    assert 'id="equation-eq-one"' in fold and '"#equation-eq-one"' in fold
    assert '"#equation-eq-one"' in after and "sd-dropdown" not in page


def test_no_more_than_some_lines_stay_unfolded(tmp_path: Path) -> None:
    book = Book(tmp_path)
    for lines, green in ((60, True), (61, False)):
        block = "\n".join(["```python", *["x = 1"] * lines, "```"])
        book.two = TWO + f"\n{block}\n"
        status, complaints = book.build()
        assert (status == 0) is green, complaints
    assert "61 lines of code are unfolded, at most 60 may be" in complaints


def test_a_page_without_checks_may_leave_fewer_lines_unfolded(tmp_path: Path) -> None:
    book = Book(tmp_path)
    for lines, green in ((40, True), (41, False)):
        block = "\n".join(["```python", *["x = 1"] * lines, "```"])
        book.sources["introductio"]["items"]["thm-2"] = {
            "what": "Theorem 2",
            "because": "taken out",
        }
        book.two, book.records["two"] = f"# Two\n\n{block}\n", []
        status, complaints = book.build()
        assert (status == 0) is green, complaints
    assert "41 lines of code are unfolded, at most 40 may be" in complaints


def test_a_claim_links_to_its_evidence_and_its_row(healthy: Book) -> None:
    one, atlas = healthy.page("chapters/one"), healthy.page("atlas")
    for href in ("#sum.two", "#evidence-sum.two", "../atlas.html#row-sum.two"):
        assert f'href="{href}"' in one
    assert one.count('id="evidence-sum.two"') == 1 and 'id="row-sum.two"' in atlas
    assert "#evidence" not in atlas


def test_previews_and_the_index(healthy: Book, tmp_path: Path) -> None:
    (tmp_path / "chapters").mkdir()
    for name in ("one", "two"):
        (tmp_path / f"chapters/{name}.html").write_text(healthy.page(f"chapters/{name}"))
    previews.write(tmp_path)
    text = (tmp_path / "previews/two.js").read_text()
    shown = json.loads(text.removeprefix("zotkPreviews(").removesuffix(");\n"))
    assert set(shown) == {"def:bound", "sum.bound"}
    assert "Lemma 2.2" in shown["sum.bound"] and "verified: 1 check" in shown["sum.bound"]
    assert r"\(x &lt; 2\)" in shown["sum.bound"]
    assert "<a" not in text and " id=" not in text and "claim-links" not in text
    assert "Below" not in text  # the proof is no part of the statement
    index = (tmp_path / "previews/index.js").read_text()
    entries = json.loads(index.removeprefix("zotkIndex(").removesuffix(");\n"))
    assert [entry[0] for entry in entries] == ["sum.two", "def:sum", "def:bound", "sum.bound"]
    assert entries[0][1].startswith("Theorem 1.1 (One and one make")
    assert entries[3][2] == "chapters/two.html#sum.bound"


def test_words_of_the_glossary_are_previews() -> None:
    page = (
        '<dl class="glossary">\n<dt id="term-law">law<a class="headerlink" href="#term-law">#</a>'
        '</dt><dd><p>What <span class="math">\\(z\\)</span> is '
        '<a href="x.html">drawn</a> from.</p>\n'
        "</dd>\n</dl>"
    )
    assert previews.terms(page) == {
        "term-law": "<p><strong>law</strong></p>"
        '<p>What <span class="math">\\(z\\)</span> is drawn from.</p>\n'
    }


def test_no_alias_leads_nowhere() -> None:
    texts = [path.read_text() for path in (ROOT / "chapters").glob("*.md")]
    known = {name for text in texts for name in re.findall(r"^`+\{claim\} (\S+)", text, re.M)}
    assert previews.dead(known) == []
    assert "two-point.budget" in previews.dead(known - {"two-point.budget"})


def test_metadata_and_links_that_one_setting_brings(tmp_path: Path) -> None:
    book = Book(tmp_path)
    words = 'Bounds & "other" things that are not passed. ' * 9
    book.two = TWO.replace("# Two\n", f"# Two\n\n{words}")
    assert book.build("-D", "author=A", "-D", "project=B") == (0, "")
    page = book.page("chapters/two")
    said = re.search(r'<meta name="description" content="([^"]*)">', page)
    assert said and said[1].startswith("Bounds &amp; “other”") and said[1].endswith("…")
    assert '<meta property="og:title" content="Two">' in page
    assert '<meta name="citation_author" content="A">' in page
    assert "CC BY 4.0" in page and "@incollection{zotk-two," in page and "url =" not in page
    assert "citation" not in book.page("index") and "No such page" in book.page("404")
    assert not (book.site / "sitemap.xml").exists()

    assert book.build("-D", "html_baseurl=https://a.example/b/") == (0, "")
    assert (
        "<loc>https://a.example/b/chapters/two.html</loc>"
        in (book.site / "sitemap.xml").read_text()
    )

    options: dict[str, Any] = {}
    config = SimpleNamespace(
        book_repository="", html_theme_options=options, html_baseurl="", html_context={}
    )
    app, context = SimpleNamespace(config=config), dict[str, Any]()
    head = importlib.import_module("head")
    head.links(None, config)
    head.launch(app, "chapters/two", "", context, None)
    assert config.html_theme_options == {} and config.html_baseurl == "" and context == {}
    config.book_repository = "https://github.com/a/b"
    head.links(None, config)
    assert config.html_theme_options["repository_url"] == "https://github.com/a/b"
    assert config.html_theme_options["use_issues_button"]
    assert config.html_baseurl == "https://a.github.io/b/"
    edit = Template(config.html_context["edit_page_url_template"])
    for file, path in {"chapters/x.ipynb": "chapters/x.md", "intro.md": "book/intro.md"}.items():
        assert edit.render(file_name=file) == f"https://github.com/a/b/edit/main/{path}"
    head.launch(app, "intro", "", context, None)
    assert context == {}
    head.launch(app, "chapters/two", "", context, None)
    ((colab, binder),) = (group["buttons"] for group in context["header_buttons"])
    assert colab["url"].endswith("/github/a/b/blob/notebooks/two.ipynb")
    assert binder["url"].endswith("/gh/a/b/notebooks?urlpath=lab/tree/two.ipynb")
