"""Find numbers typed by hand into prose: `python -m ci.prose [FILE.md …]`, from the root.

A decimal, a percentage or "<n> times" in a sentence goes stale when a run changes, so it must be
a `{glue}`. Mathematics, code, `{claim}` boxes, block quotations, options, comments, link targets,
versions, section numbers and sizes such as 8×8 may be typed. The text is read with the parser
that builds the site, and the body of every directive that is not opaque is read in turn.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from ci.console import any_locale

# as in _config.yml, less linkify: addresses are recognised below
EXTENSIONS = {"amsmath", "colon_fence", "deflist", "dollarmath", "substitution", "tasklist"}

# Bodies that are code, mathematics, a quotation or the statement of a claim; anything else, also
# a directive this list has never heard of, is prose.
OPAQUE = {
    "claim", "math", "code-cell", "code", "code-block", "sourcecode", "toctree",
    "epigraph", "highlights", "pull-quote",
}  # fmt: skip
TARGETS = {"figure", "image", "glue", "glue:figure", "solution", "solution-start"}  # argument
TEXT_ROLES = {"abbr", "emphasis", "strong", "sub", "subscript", "sup", "superscript"}
HIDDEN_TAGS = {"blockquote", "code", "kbd", "math", "pre", "samp", "script", "style", "svg"}

OBJECT = "\ufffc"  # stands in the text for a formula, a code span, a role

NUMBER = r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
FOUND = re.compile(
    rf"(?P<percentage>{NUMBER}[\s-]*(?:%|‰|per\s?cent\b|percentage\spoints?\b))"
    rf"|(?P<times>(?<!\d×)(?<!\d\s×\s){NUMBER}(?:\s*×(?!\s*\d)|[\s-]*times\b|x\b))"
    rf"|(?P<scientific>{NUMBER}\s*[×·]\s*10(?:\^[-+−]?\d+|[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))"
    r"|(?<![\w.])(?P<decimal>(?:\d+(?:,\d{3})*)?\.\d+(?!\d|\.\d)(?:[eE][-+−]?\d+)?"
    r"|\d+[eE][-+−]?\d+)",
)
KIND = {"scientific": "decimal"}
ADDRESS = re.compile(r"(?:https?://|www\.|doi:\s?|arxiv[:\s]\s?)\S+", re.IGNORECASE)

# "Python 3.11", "Sections 3.1 and 3.2": X.Y after one of these words is a name, not a quantity.
LIST = r"[\s(:~=≥<>-]*(?:\d+(?:\.\d+)+\s*(?:,|and|or|to|–|-|&)\s*)*$"
VERSIONED = re.compile(
    r"\b(?:versions?|release|python|(?:py)?torch|numpy|scipy|scikit-learn|matplotlib|ipywidgets"
    r"|jupyter(?:lab|\sbook)?|papermill|jupytext|sphinx|myst(?:-nb)?|mathjax|cuda|debian|ubuntu"
    rf"|chromium|apache|cc[\s-]by(?:-sa)?){LIST}",
    re.IGNORECASE,
)
NUMBERED = re.compile(
    r"(?:§|\b(?:sections?|chapters?|appendix|figures?|tables?|equations?|theorems?|lemmas?"
    r"|corollar(?:y|ies)|propositions?|propert(?:y|ies)|definitions?|algorithms?|exercises?"
    rf"|remarks?|(?:sec|chap|fig|figs|eq|eqs|thm|prop|alg)\.?)){LIST}",
    re.IGNORECASE,
)


class Finding(NamedTuple):
    """A number in prose: its line (from 1), its kind and the text as written."""

    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f'{self.line}: {self.kind} "{self.text}" in prose: glue it'


def lint(text: str) -> list[Finding]:
    """All numbers typed into the prose of a MyST markdown page, in the order of their lines."""
    return sorted(_page(text, first=1), key=lambda finding: finding.line)


def _page(text: str, first: int) -> Iterator[Finding]:
    """Findings of `text`, whose first line is line `first` of the file."""
    quoted = 0
    for token in _parser().parse(text):
        quoted += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if quoted or token.map is None:
            continue
        line = first + token.map[0]
        if token.type == "inline":
            yield from _numbers(list(_inline(token.children or [], token.content, line)))
        elif token.type in ("fence", "colon_fence"):
            yield from _directive(token, line)
        elif token.type == "html_block":
            yield from _numbers(_html(token.content, line))


@cache
def _parser() -> MarkdownIt:
    return create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)


def _directive(token: Token, line: int) -> Iterator[Finding]:
    """Argument and body of a directive; a plain code fence has neither, a bare `:::` a body."""
    head = re.match(r"\{([^\s}]+)\}\s*(.*)", token.info.strip())
    name, argument = head.groups() if head else ("", "")
    if name in OPAQUE or (token.type == "fence" and not name):
        return
    if name not in TARGETS:
        yield from _page(argument, line)
    yield from _page(_without_options(token.content), line + 1)


def _without_options(body: str) -> str:
    """The body with its leading `:key: value` lines blanked, so that line numbers stay.

    Options between `---` need no care: the parser takes them for front matter.
    """
    lines = body.split("\n")
    options = list(takewhile(re.compile(r"\s*:\w[\w-]*:").match, lines))
    return "\n".join([""] * len(options) + lines[len(options) :])


Piece = tuple[str, int]  # text and the line it stands on


def _inline(children: Sequence[Token], source: str, line: int) -> Iterator[Piece]:
    """What a reader sees of the children of a block that starts at `line`.

    Their tokens know no lines, so each is looked up in `source`, the text of the block.
    """
    at, hidden = 0, 0
    for token in children:
        here = line + source.count("\n", 0, at)
        if token.type == "html_inline":
            hidden = max(0, hidden + _hides(token.content))
        elif token.type == "image":
            yield from _inline(token.children or [], source[at:], here)
        elif not hidden:
            yield _visible(token), here
        at = _end(token, source, at)


def _visible(token: Token) -> str:
    match token.type:
        case "text":
            return token.content
        case "softbreak" | "hardbreak":
            return "\n"
        case "myst_role":
            name = token.meta["name"]
            titled = re.fullmatch(r"(.*\S)\s*<[^<>]*>", token.content)
            if titled and name not in ("math", "code"):
                return titled[1]
            return token.content if name in TEXT_ROLES or name.startswith("bdg") else OBJECT
        case "code_inline" | "math_inline" | "math_inline_double" | "substitution_inline":
            return OBJECT
    return ""


def _end(token: Token, source: str, at: int) -> int:
    """Where `token` ends in `source`, at or after `at`; `at` itself when it cannot be seen."""
    match token.type:
        case "softbreak" | "hardbreak":
            pattern = r"\n"
        case "image" | "link_close":
            pattern = r"\]\([^)]*\)|\]\[[^]]*\]|\]|>"
        case "text":  # never crosses a line; entities and escapes are not found, and need not be
            pattern = r"[^\n]*?" + re.escape(token.content)
            found = re.compile(pattern).match(source, at)
            return found.end() if found else at
        case "code_inline" | "myst_role":  # line ends have become spaces
            words = r"\s+".join(map(re.escape, token.content.split()))
            pattern = rf"`\s*{words}\s*`+"
        case _:
            pattern = re.escape(token.content)
    found = re.compile(pattern).search(source, at)
    return found.end() if found else at


def _hides(tag: str) -> int:
    """+1 for an opening tag whose content is not prose, -1 for a closing one, else 0."""
    found = re.match(r"<(/?)([a-z]+)", tag, re.IGNORECASE)
    if not found or found[2].lower() not in HIDDEN_TAGS:
        return 0
    return -1 if found[1] else 1


class _Text(HTMLParser):
    """Collects the text of an HTML block with its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Piece] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in HIDDEN_TAGS

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in HIDDEN_TAGS and self.hidden > 0

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.pieces.append((data, self.getpos()[0]))


def _html(block: str, line: int) -> list[Piece]:
    parser = _Text()
    parser.feed(block)
    parser.close()
    return [(text, line + at - 1) for text, at in parser.pieces]


def _numbers(pieces: list[Piece]) -> Iterator[Finding]:
    """Findings in the running text of `pieces`, so that `**12** %` is one number."""
    text = "".join(piece for piece, _ in pieces)
    text = ADDRESS.sub(lambda found: OBJECT * len(found[0]), text)
    for found in FOUND.finditer(text):
        kind = found.lastgroup or ""
        before = text[max(0, found.start() - 100) : found.start()]
        if kind == "decimal" and _is_name(before, found[0]):
            continue
        written = " ".join(found[0].split())
        yield Finding(_line(pieces, found.start()), KIND.get(kind, kind), written)


def _is_name(before: str, number: str) -> bool:
    """A version or the number of a section, judged by the words before it."""
    reference = NUMBERED.search(before) and re.fullmatch(r"[1-9]\d*\.\d+", number)
    return bool(VERSIONED.search(before) or reference)


def _line(pieces: list[Piece], offset: int) -> int:
    for text, line in pieces:
        if offset < len(text):
            return line + text.count("\n", 0, offset)
        offset -= len(text)
    raise IndexError(f"no character {offset} after the end of the text")


def main(arguments: Sequence[str]) -> int:
    any_locale()
    pages = [Path(a) for a in arguments]
    pages = pages or sorted([*Path("chapters").glob("*.md"), *Path("book").glob("*.md")])
    if not pages:
        print("no chapters/*.md, no book/*.md: run from the root of the repository")
        return 1
    count = 0
    for page in pages:
        for finding in lint(page.read_text(encoding="utf-8")):
            print(f"{page.as_posix()}:{finding}")
            count += 1
    print(f"{len(pages)} pages, {count} numbers to glue")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
