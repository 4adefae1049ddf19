"""A small site as one PDF: all of it, with an outline and links inside, and what is cut named."""

import io
from pathlib import Path

import pytest
from pypdf import PdfReader

from ci import browser, pdf

pytestmark = pytest.mark.skipif(
    browser.programs() is None, reason="Chromium and its driver are not installed (.ci/run does it)"
)

PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{0}</title></head>'
    "<body><nav>no part of it</nav><article><h1>{0}</h1>{1}</article></body></html>"
)
PAGES = {
    "one.html": '<p>See <a href="part/two.html#far">there</a>, <a href="#here">here</a> or '
    '<a href="https://elsewhere.example/">elsewhere</a>.</p><h2 id="here">Here</h2>'
    "<details><summary>More</summary><p>A folded word</p></details>",
    "part/two.html": '<p style="break-after: page">First</p><h2 id="far">Far</h2>'
    '<p><a href="../one.html">Back</a></p>',
    "wide.html": '<pre style="overflow: auto">' + "x" * 300 + "</pre>",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pdf.Printed], PdfReader]:
    site = tmp_path_factory.mktemp("site")
    (site / "part").mkdir()
    for name, body in PAGES.items():
        (site / name).write_text(PAGE.format(Path(name).stem, body), encoding="utf-8")
    targets = pdf.wanted(site, list(PAGES))
    assert targets == {"one.html": ["here"], "part/two.html": ["far"], "wide.html": []}
    with browser.serve(site) as origin, browser.chromium() as driver:
        printed = {n: pdf.print_page(driver, f"{origin}/{n}", targets[n]) for n in PAGES}
    return printed, PdfReader(io.BytesIO(pdf.joined(printed, origin)))


def test_all_is_there_and_open(made: tuple[dict[str, pdf.Printed], PdfReader]) -> None:
    words = [page.extract_text() for page in made[1].pages]
    assert len(words) == 4 and "A folded word" in words[0] and "Far" in words[2]
    assert not any("no part of it" in text for text in words)


def test_headings_are_the_outline(made: tuple[dict[str, pdf.Printed], PdfReader]) -> None:
    def titles(outline: list) -> list:  # type: ignore[type-arg]
        return [titles(o) if isinstance(o, list) else str(o.title) for o in outline]

    assert titles(made[1].outline) == ["one", ["Here"], "two", ["Far"], "wide"]


def test_links_lead_to_places_of_the_document(
    made: tuple[dict[str, pdf.Printed], PdfReader],
) -> None:
    found = {}
    reader = made[1]
    for number, page in enumerate(reader.pages):
        for entry in page.get("/Annots", []):
            link = entry.get_object()
            if "/Dest" in link:
                to = reader.get_page_number(link["/Dest"][0].get_object())
                found.setdefault(number, set()).add(to)
            else:
                assert link["/A"]["/URI"] == "https://elsewhere.example/"
    assert found == {0: {0, 2}, 2: {0}}


def test_what_is_cut_is_named(made: tuple[dict[str, pdf.Printed], PdfReader]) -> None:
    assert {name for name, part in made[0].items() if part.cut} == {"wide.html"}
    assert made[0]["wide.html"].cut[0].startswith("pre. xxx")
