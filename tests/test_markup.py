"""What is mended in the theme's HTML."""

from pathlib import Path

import pydata_sphinx_theme
import pytest

from ci import markup


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<span class="n">x</span><span class="k">if</span>', 'x<span class="k">if</span>'),
        (
            '<button class="btn search-button-field b" title="Search" aria-label="Search" a="b">',
            '<button class="btn search-button-field b" title="Search" a="b">',
        ),
        (
            '<i class="theme-switch fa-solid" data-mode="light" title="Light"></i>',
            '<i class="theme-switch fa-solid" data-mode="light" aria-hidden="true"></i>',
        ),
        ('<script defer src="../_static/scripts/fontawesome.js?digest=1"></script>', ""),
        ('<script src="../searchindex.js"></script>', ""),
        (
            '<script src="../_static/copybutton.js?v=1"></script>',
            '<script defer src="../_static/copybutton.js?v=1"></script>',
        ),
        *[
            (same, same)
            for same in (
                '<script src="_static/documentation_options.js"></script>',
                '<script>DOCUMENTATION_OPTIONS.pagename = "x"</script>',
                '<div id="search-results"></div><script src="searchindex.js"></script>',
            )
        ],
        (
            '<div id="pst-primary-sidebar" class="s">',
            '<div role="complementary" aria-label="Book" id="pst-primary-sidebar" class="s">',
        ),
        (
            '<div class="citation" id="a" role="doc-biblioentry">',
            '<div class="citation" id="a" role="listitem">',
        ),
        (
            '<th class="head"><p></p></th><th class="head">x</th>',
            '<td></td><th class="head">x</th>',
        ),
    ],
)
def test_what_is_mended(before: str, after: str) -> None:
    assert markup.mended(before) == after
    assert markup.mended(after) == after


def test_formulas_are_set_once_the_words_are_shown() -> None:
    page = '<script defer="defer" src="../_static/vendor/mathjax/mathjax.js?v=1"></script>'
    found = markup.mended(page)
    assert "defer" not in found and found.count("../_static/vendor/mathjax/mathjax.js?v=1") == 2
    assert markup.mended(found) == found


def test_the_theme_does_not_measure_what_is_folded() -> None:
    """The code of the installed theme, whose pattern may change with its version."""
    theme = Path(pydata_sphinx_theme.__file__).parent
    (script,) = theme.rglob("static/scripts/pydata-sphinx-theme.js")
    text = script.read_text(encoding="utf-8")
    assert text.count("scrollWidth>") == 1
    assert len(markup.lighter(text)) < len(text)


def test_figures_have_their_size_before_they_load(tmp_path: Path) -> None:
    (tmp_path / "_images").mkdir()
    head = '<?xml version="1.0"?>\n<svg width="504pt" height="252pt" viewBox="0 0 504 252">'
    (tmp_path / "_images/a.svg").write_text(head)
    header = b"\x89PNG\r\n\x1a\n" + bytes(8) + (70).to_bytes(4, "big") + (36).to_bytes(4, "big")
    (tmp_path / "_images/b.png").write_bytes(header)
    (tmp_path / "chapters").mkdir()
    page = '<img alt="A" src="../_images/a.svg"><img alt="B" src="../_images/b.png" />'
    sized = markup.sized(page, tmp_path / "chapters")
    assert '<img loading="lazy" width="672" height="336" alt="A"' in sized
    assert '<img loading="lazy" width="70" height="36" alt="B"' in sized
    assert markup.sized(sized, tmp_path / "chapters") == sized
