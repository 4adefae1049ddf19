"""The style sheets of a site become one, its fonts of icons hold what is shown."""

import re
from pathlib import Path

import pydata_sphinx_theme
import pytest
from fontTools.ttLib import TTFont

from ci import styles

ICONS = next(Path(pydata_sphinx_theme.__file__).parent.glob("**/webfonts/fa-solid-900.woff2"))
SUN, MOON, LIST = "\uf185", "\uf186", "\uf03a"
PAGE = """<html><head>
<link rel="stylesheet" type="text/css" href="{up}_static/first.css?v=1" />
<link href="{up}_static/styles/second.css" rel="stylesheet" />
<link rel="stylesheet" type="text/css" href="{up}_static/first.css?v=1" />
<link rel="icon" href="{up}_static/icon.svg">
</head><body><i class="fa-solid fa-sun"></i></body></html>
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages, two sheets of which one imports a third, the theme's icons."""
    fonts = tmp_path / "_static/vendor/fonts"
    fonts.mkdir(parents=True)
    (fonts / "icons.woff2").write_bytes(ICONS.read_bytes())
    (tmp_path / "_static/styles").mkdir()
    (tmp_path / "_static/base.css").write_text("a{background:url(file.png)}")
    (tmp_path / "_static/first.css").write_text(f'@import "base.css";b{{content:"{MOON}"}}')
    (tmp_path / "_static/styles/second.css").write_text(
        "@font-face{font-family:Icons;src:url(../vendor/fonts/icons.woff2)}"
        f'.fa-bright:before,.fa-sun:before,.fa-day:before{{content:"{SUN}"}}'
        f'.fa-items:before,.fa-list:before{{content:"{LIST}"}}.fa-sun{{color:red}}'
    )
    (tmp_path / "chapters").mkdir()
    (tmp_path / "intro.html").write_text(PAGE.format(up=""))
    (tmp_path / "chapters/one.html").write_text(PAGE.format(up="../"))
    (tmp_path / "404.html").write_text("<html></html>")
    (tmp_path / "_static/theme.html").write_text(PAGE.format(up="{{ root }}"))
    return tmp_path


def test_pages_have_one_sheet_with_all_rules_in_order(site: Path) -> None:
    styles.gather(site)
    (sheet,) = site.glob("_static/styles/*.css")
    text = sheet.read_text()
    assert re.sub(r"\s", "", text) == (
        'a{background:url("../file.png")}b{content:"' + MOON + '"}'
        '@font-face{font-family:Icons;src:url("../vendor/fonts/icons.woff2")}'
        '.fa-bright:before,.fa-sun:before,.fa-day:before{content:"' + SUN + '"}.fa-sun{color:red}'
    )
    for page, up in (("intro.html", ""), ("chapters/one.html", "../")):
        found = (site / page).read_text()
        assert found.count("<link") == 2 and found.count('rel="stylesheet"') == 1
        assert f'href="{up}_static/styles/{sheet.name}"' in found
    assert (site / "404.html").read_text() == "<html></html>"


def test_a_font_keeps_what_the_sheet_draws(site: Path) -> None:
    file = site / "_static/vendor/fonts/icons.woff2"
    before = file.stat().st_size
    styles.gather(site)
    assert set(TTFont(file).getBestCmap()) == {ord(SUN), ord(MOON)}
    assert file.stat().st_size < before / 50


def test_the_same_icons_give_the_same_bytes(site: Path) -> None:
    styles.gather(site)
    file, sheet = site / "_static/vendor/fonts/icons.woff2", next(site.glob("_static/styles/*.css"))
    first = file.read_bytes()
    file.write_bytes(ICONS.read_bytes())
    styles._icons(sheet.read_text(), sheet.parent)
    assert file.read_bytes() == first


def test_different_or_missing_sheets_are_refused(site: Path) -> None:
    page = site / "intro.html"
    page.write_text(page.read_text().replace("styles/second", "styles/other"))
    with pytest.raises(styles.StyleError, match="different style sheets"):
        styles.gather(site)
    (site / "chapters/one.html").unlink()
    with pytest.raises(styles.StyleError, match=r"other\.css: there is no such"):
        styles.gather(site)
