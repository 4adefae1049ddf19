"""Static faults of a built site, each planted and found."""

import pytest

from ci import links

GOOD = '<html><body><h1 id="top-1">x</h1><img src="a.svg" alt="A picture"></body></html>'


def site(tmp_path, **pages):
    (tmp_path / "a.svg").write_text("<svg/>")
    for name, html in {"index": GOOD, **pages}.items():
        path = tmp_path / f"{name.replace('__', '/')}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(html)
    return tmp_path


def faults(tmp_path, html, **pages):
    return [
        what
        for page, what in links.problems(site(tmp_path, page=html, **pages))
        if page == "page.html"
    ]


def test_a_sound_site(tmp_path):
    html = (
        '<a href="index.html#top-1">a</a><a href="#here">b</a><p id="here">c</p><a href="#">d</a>'
        '<a href="https://elsewhere.example/x">e</a><img src="a.svg" alt="A">'
        '<img src="a.svg" alt="" role="presentation"><a href="sub/">f</a>'
    )
    assert faults(tmp_path, html, sub__index=GOOD.replace("a.svg", "../a.svg")) == []


def test_dead_links_and_fragments(tmp_path):
    assert faults(tmp_path, '<a href="gone.html">a</a>') == ["dead link: gone.html"]
    assert faults(tmp_path, '<img src="gone.png" alt="x">') == ["dead link: gone.png"]
    assert faults(tmp_path, '<a href="index.html#gone">a</a>') == ["dead fragment: index.html#gone"]
    assert faults(tmp_path, '<a href="#gone">a</a>') == ["dead fragment: #gone"]
    assert faults(tmp_path, '<a href="../x.html">a</a>') == ["link out of the site: ../x.html"]


def test_a_fragment_may_be_a_name_or_quoted(tmp_path):
    html = '<a href="#old">a</a><a name="old"></a><a href="#eq%3Aline">b</a><p id="eq:line">c</p>'
    assert faults(tmp_path, html) == []


def test_ids_used_twice(tmp_path):
    assert faults(tmp_path, '<p id="a">x</p><p id="a">y</p>') == ["duplicate id: a"]


def test_images_without_a_text_alternative(tmp_path):
    assert faults(tmp_path, '<img src="a.svg">') == ["img without alt: a.svg"]
    assert faults(tmp_path, '<img src="a.svg" alt="a.svg">') == [
        "img whose alt is its own file name: a.svg"
    ]


@pytest.mark.parametrize("alt", ["", " ", "\n"])
def test_an_empty_alternative_needs_the_mark_of_decoration(tmp_path, alt):
    image = f'<img src="a.svg" alt="{alt}"{{}}>'
    empty = "img with an empty alt, not marked as decoration: a.svg"
    for marked in ("", ' role="img"', ' aria-hidden="false"'):
        assert faults(tmp_path, image.format(marked)) == [empty], marked
    for marked in (' role="presentation"', ' role="none"', ' aria-hidden="true"'):
        assert faults(tmp_path, image.format(marked)) == []


def test_the_frames_of_an_explorer_count(tmp_path):
    (tmp_path / "e").mkdir()
    for at in (0, 1):
        (tmp_path / f"e/{at}.webp").write_bytes(b"")
    alts = '<script type="application/json">["a", "", "b"]</script>'
    html = f'<div data-frames="e"><img src="e/0.webp" alt="a">{alts}</div>'
    assert faults(tmp_path, html) == [
        "img with an empty alt, not marked as decoration: e/1.webp",
        "dead link: e/2.webp",
    ]
    elsewhere = '<script type="application/json">["no explorer"]</script>'
    assert faults(tmp_path, elsewhere) == []


def test_missing_pages(tmp_path):
    toc = tmp_path / "_toc.yml"
    toc.write_text(
        "root: intro\nparts:\n  - chapters:\n      - file: chapters/one\n      - file: atlas.md\n"
    )
    wanted = links.toc_pages(toc)
    assert wanted == ["intro.html", "chapters/one.html", "atlas.html"]
    found = links.problems(site(tmp_path, atlas=GOOD), wanted)
    assert [p.page for p in found] == ["intro.html", "chapters/one.html"]
    assert {p.what for p in found} == {"page is missing"}


def test_the_command(tmp_path, capsys):
    toc = tmp_path / "_toc.yml"
    toc.write_text("root: index\n")
    assert links.main([str(site(tmp_path)), "--toc", str(toc)]) == 0
    (tmp_path / "a.svg").unlink()
    assert links.main([str(tmp_path), "--toc", str(toc)]) == 1
    assert "dead link: a.svg" in capsys.readouterr().out
