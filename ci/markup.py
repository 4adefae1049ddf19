"""What is changed in the theme's HTML once pages are written: less of it, and clear to all readers.

Each pattern mends what a rule of axe-core or the weight of a page calls for; a pattern that the
theme no longer needs finds nothing.
"""

import re

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


def mended(html: str) -> str:
    """A page with all the changes."""
    for pattern, replacement in PATTERNS:
        html = pattern.sub(replacement, html)
    return html
