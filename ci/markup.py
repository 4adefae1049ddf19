"""What is changed in the theme's HTML once pages are written: less of it, and clear to all readers.

Each pattern mends what a rule of axe-core or the weight of a page calls for; a pattern that the
theme no longer needs finds nothing.
"""

import re
import struct
from pathlib import Path

PATTERNS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # names, punctuation and space in code have the colour of plain text: half of the HTML
        (r'<span class="(?:n|p|w)">([^<]*)</span>', r"\1"),
        # the label would hide the words of the field, "Search Ctrl+K"
        (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
        # pictures of a button that has a label
        (
            r'(<i class="theme-switch[^"]*" data-mode="\w+")\s+title="[^"]*"',
            r'\1 aria-hidden="true"',
        ),
        # the side bar is a part of the page of its own
        (
            r'<div id="pst-primary-sidebar"',
            '<div role="complementary" aria-label="Book" id="pst-primary-sidebar"',
        ),
        # docutils' role is deprecated, and the list above wants items
        (r'(<div class="citation"[^>]*) role="doc-biblioentry"', r'\1 role="listitem"'),
        # a corner of a table heads nothing
        (r'<th class="head">(?:<p></p>)?</th>', "<td></td>"),
    )
]


# scripts that only the page of results needs, and some that need not hold up the text
SEARCH = re.compile(
    r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
)
HOLDING = re.compile(r'<script (?=[^>]*src="[^"]*_static/(?!documentation_options))(?!defer)')
# icons: the theme's fonts draw them, too
ICONS = re.compile(r'<script defer src="[^"]*fontawesome\.js[^"]*"></script>')
PICTURE = re.compile(r'<img (?![^>]*\b(?:width|loading)=)([^>]*src="([^"]*_images/[^"]+)"[^>]*)>')
SIZE = re.compile(r'<svg[^>]*? viewBox="0 0 ([\d.]+) ([\d.]+)"', re.DOTALL)
PIXELS = 4 / 3  # in a point


# formulas are set once the words are shown; the file is on its way meanwhile
FORMULAS = re.compile(r'<script defer="defer" src="([^"]*mathjax/mathjax\.js[^"]*)"></script>')
LATER = (
    r'<link rel="preload" as="script" fetchpriority="low" href="\1">'
    '<script>addEventListener("DOMContentLoaded", () => requestAnimationFrame(() =>'
    " setTimeout(() => document.head.append("
    r'Object.assign(document.createElement("script"), {src: "\1"})))))</script>'
)

# the theme measures every piece of code, folded or not, whenever a page changes, and so has all of
# it laid out; `reading.js` looks at those that are shown
MEASURED = re.compile(
    r'document\.querySelectorAll\(\["pre",[^\]]*\]\.join\(", "\)\)'
    r"(?=\.forEach\(\w+=>\{\w+\.tabIndex=)"
)


def lighter(script: str) -> str:
    """The theme's script without what holds up a long page."""
    return MEASURED.sub("[]", script)


def mended(html: str) -> str:
    """A page with all the changes that need no other file."""
    for pattern, replacement in PATTERNS:
        html = pattern.sub(replacement, html)
    html = FORMULAS.sub(LATER, ICONS.sub("", html))
    if 'id="search-results"' not in html:
        html = HOLDING.sub("<script defer ", SEARCH.sub("", html))
    return html


def sized(html: str, folder: Path) -> str:
    """A page of ``folder`` whose figures have a size before they are loaded, and load when near."""

    def picture(found: re.Match[str]) -> str:
        file = folder / found[2]
        size = ""
        if file.suffix == ".svg":
            if box := SIZE.search(file.read_text(encoding="utf-8")[:2000]):
                width, height = (round(float(side) * PIXELS) for side in box.groups())
                size = f' width="{width}" height="{height}"'
        elif file.suffix == ".png":
            width, height = struct.unpack(">II", file.read_bytes()[16:24])
            size = f' width="{width}" height="{height}"'
        return f'<img loading="lazy"{size} {found[1]}>' if size else found[0]

    return PICTURE.sub(picture, html)
