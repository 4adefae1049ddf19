"""The contact sheet: every figure once, in the order of the book, in both themes."""

import struct

import pytest

from ci import browse, contact, links
from ci.browser import programs

HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>t</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<style>body{background:#fff;color:#222} html[data-theme=dark] body{background:#111;color:#eee}"
    "html[data-theme=dark] img {filter: invert(1)} img {vertical-align: top}"
    ".claims-scroll{width:300px;overflow:auto}</style></head><body>"
)
ONE = (
    '<figure id="fig-map"><img src="dot.svg" alt="A red &lt;dot&gt;.">'
    '<figcaption><p><span class="caption-number">Fig. 1.1 </span><span>A dot &amp; more.</span>'
    '<a class="headerlink">#</a></p></figcaption></figure>'
    '<div class="cell_output"><div class="widget">'
    '<input type="range" aria-label="k" style="height:24px">'
    '<p id="v">1</p><img src="dot.svg" alt="Frame one."></div></div>'
    '<img src="dot.svg" alt="" role="presentation"><button><img src="dot.svg" alt="x"></button>'
    "<script>document.querySelector('input').oninput = e => { v.textContent = e.target.value }"
    "</script>"
)
TWO = (
    '<img src="dot.svg" alt="Alone."><div class="claims-scroll" tabindex="0">'
    '<svg role="group" aria-label="A wide graph" width="900" height="60" viewBox="0 0 900 60">'
    '<rect width="900" height="60" fill="red"/></svg></div><p style="height: 30000px">Far down:</p>'
    '<img src="dot.svg" alt="Far down.">'
)


def figure(page, number="Fig. 1"):
    return contact.Figure(page, "", number, "", "", "l.png", "d.png")


def test_figures_stand_in_the_order_of_the_book():
    pages = ["intro.html", "chapters/b.html", "chapters/a.html"]
    found = [figure("z.html"), figure("chapters/a.html", "1"), figure("chapters/a.html", "2")]
    found += [figure("chapters/b.html"), figure("intro.html")]
    order = [(f.page, f.number) for f in contact.in_order(found, pages)]
    assert order == [
        ("intro.html", "Fig. 1"),
        ("chapters/b.html", "Fig. 1"),
        ("chapters/a.html", "1"),
        ("chapters/a.html", "2"),
        ("z.html", "Fig. 1"),
    ]


def test_the_sheet_says_what_a_figure_is_and_claims():
    shown = contact.Figure("a.html", "fig-x", "Fig. 3.1", "a < b", 'a "cat"', "l.png", "d.png")
    html = contact.sheet([shown])
    for words in ("Fig. 3.1", "a.html#fig-x", "a &lt; b", "a &quot;cat&quot;", "l.png", "d.png"):
        assert words in html
    assert links.read(html).images == [
        ("l.png", "light theme", False),
        ("d.png", "dark theme", False),
    ]


@pytest.mark.parametrize(("figures", "pages"), [(0, 0), (1, 1), (12, 1), (13, 2), (30, 3)])
def test_about_twelve_figures_a_page(figures, pages):
    html = contact.sheet([figure("a.html", str(i)) for i in range(figures)])
    assert html.count("<section>") == pages and html.count("<article>") == figures


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """What browsing a small site leaves."""
    if programs() is None:
        pytest.skip("Chromium and its driver are not installed (.ci/run does it)")
    site = tmp_path_factory.mktemp("site")
    (site / "dot.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="50" height="40">'
        '<rect width="50" height="40" fill="red"/></svg>'
    )
    for name, body in {"index": "", "one": ONE, "two": TWO}.items():
        (site / f"{name}.html").write_text(f"{HEAD}{body}</body></html>", encoding="utf-8")
    folder = tmp_path_factory.mktemp("shots")
    (folder / "figures-07.png").touch()  # of a book with more figures
    assert browse.browse(site, folder, ["index.html", "two.html", "one.html"]) == {}
    return folder


def size(file):
    """Width and height of a PNG."""
    return struct.unpack(">II", file.read_bytes()[16:24])


def test_browsing_leaves_the_sheet_and_its_pages(shots):
    assert sorted(p.name for p in shots.glob("figures*")) == [
        "figures",
        "figures-01.png",
        "figures.html",
    ]
    width, height = size(shots / "figures-01.png")
    assert width == 1600 and height > 300
    assert sorted(p.name for p in (shots / "figures").iterdir()) == sorted(
        f"{page}-{theme}.png"
        for page in ("one-01", "one-02", "two-01", "two-02", "two-03")
        for theme in ("light", "dark")
    )


def test_every_picture_but_decoration_is_on_it_once(shots):
    html = (shots / "figures.html").read_text()
    places = [html.index(f"figures/{name}-light.png") for name in ("two-01", "two-02", "one-01")]
    assert places == sorted(places)
    assert html.count("<article>") == 5
    for words in ("Fig. 1.1", "one.html#fig-map", "A dot &amp; more.</p>", "A red &lt;dot&gt;."):
        assert words in html
    for words in ("explorer", "Frame one.", "Alone.", "graph", "A wide graph"):
        assert words in html


def test_pictures_are_what_a_reader_sees(shots):
    light, dark = (shots / f"figures/one-01-{theme}.png" for theme in ("light", "dark"))
    assert size(light) == size(dark) == (50, 40)
    assert light.read_bytes() != dark.read_bytes()
    far = shots / "figures/two-03-light.png"
    assert far.read_bytes() == (shots / "figures/two-01-light.png").read_bytes()
    assert size(shots / "figures/two-02-light.png") == (900, 60)  # wider than its scroller
    assert size(shots / "figures/one-02-light.png")[0] > 50  # the explorer with its sliders
