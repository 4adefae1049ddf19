"""What is mended in the theme's HTML."""

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
