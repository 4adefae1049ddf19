"""Find numbers typed by hand into prose: `python -m ci.prose [FILE.md …]`, from the root.

A result in a sentence goes stale when a run changes, so it must be a `{glue}`. Read are text,
captions, alternative texts, titles and tables, with the parser that builds the site, and the body
of every directive that is not opaque in turn. Found are

- decimals, percentages and "<n> times", anywhere, also in a `{claim}`;
- outside claims, proofs and exercises: formulas in the line that hold a decimal of two digits or
  more, a percentage or a rounded value (≈), unless they only give a symbol its value ($η=0.125$);
- there, too: words that measure ("twice as fast", "by a third", "three times the cost", "an order
  of magnitude", "five per cent"), factors, counts of runs ("12 of 20"), integers after "about".

Code, displayed mathematics, block quotations, options, comments, link targets, versions, section
numbers and sizes such as 8×8 may be typed. So may a sentence that says why: `% typed: why` on the
line above a paragraph, list, table or directive (its title and options, not its body), and in a
figure's cell `typed: {alt: why, caption: why}` beside `mystnb:`. One that excuses nothing is a
fault. A caption takes `{glue:text}`; an alternative text cannot, so it says what is seen.

It cannot see bare integers ("711 parameters", "the third run"), words alone ("far", "the same"),
numbers of one digit in formulas, mathematics in proofs, claims and displays, strings in code
(alternative texts of animations), and whether a glued value fits the sentence around it.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from itertools import takewhile
from typing import NamedTuple

import yaml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from ci import lints

# as in _config.yml, less linkify: addresses are recognised below
EXTENSIONS = {"amsmath", "colon_fence", "deflist", "dollarmath", "substitution", "tasklist"}

# Bodies that are code, mathematics or a quotation; anything else, also a directive this list has
# never heard of, is prose.
OPAQUE = {
    "math", "code", "code-block", "sourcecode", "toctree", "epigraph", "highlights", "pull-quote",
}  # fmt: skip
# Bodies whose formulas and words are mathematics, not results.
STATEMENTS = re.compile(r"answer|claim|prf:.*|exercise|exercise-start")
TARGETS = {
    "answer",
    "figure",
    "image",
    "glue",
    "glue:figure",
    "solution",
    "solution-start",
}  # argument
TEXT_ROLES = {"abbr", "emphasis", "strong", "sub", "subscript", "sup", "superscript"}
HIDDEN_TAGS = {"blockquote", "code", "kbd", "math", "pre", "samp", "script", "style", "svg"}

OBJECT = "\ufffc"  # stands in the text for a formula, a code span, a role
FORMULA = "\ue000"  # round a formula that states a number, in a piece of its own

NUMBER = r"(?<![\w.])(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
FOUND = re.compile(
    rf"(?P<percentage>{NUMBER}[\s-]*(?:%|‰|per\s?cent\b|percentage\spoints?\b))"
    rf"|(?P<times>(?<!\d×)(?<!\d\s×\s){NUMBER}(?:\s*×(?!\s*\d)|[\s-]*times\b|x\b))"
    rf"|(?P<scientific>{NUMBER}\s*[×·]\s*10(?:\^[-+−]?\d+|[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))"
    r"|(?<![\w.])(?P<decimal>(?:\d+(?:,\d{3})*)?\.\d+(?!\d|\.\d)(?:[eE][-+−]?\d+)?"
    r"|\d+[eE][-+−]?\d+)",
)
KIND = {"scientific": "decimal"}

# Words that measure.
SMALL = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|sixteen|twenty|thirty"
    r"|forty|fifty|sixty|seventy|eighty|ninety|(?:a\s|one\s)?(?:dozen|hundred|thousand|million))"
)
COUNT = rf"(?:\d+(?:,\d{{3}})*|{SMALL})"
MULTIPLE = (
    rf"(?:twice|thrice|(?:{SMALL}|(?:tens|dozens|hundreds|thousands)\sof|several|many)\stimes)"
)
FRACTION = (
    r"(?:half|(?:an?|one|two|three|four)[\s-](?:half|(?:third|quarter|fifth|sixth|seventh|eighth"
    r"|ninth|tenth|hundredth|thousandth)s?))"
)
ABOUT = r"(?:about|nearly|almost|roughly|around|some|approximately)"
NEAR = rf"(?:{ABOUT}|at\s(?:most|least)|only)"
COMPARED = (
    r"(?:as|too|more|less|fewer|faster|slower|larger|bigger|smaller|higher|lower|better|worse"
    r"|longer|shorter|further|farther|closer|later|earlier|sooner|steeper|cheaper|dearer|greater"
    r"|above|below|over|under|the|that|those|its|their|what|of)\b"
)
MEASURED = re.compile(
    rf"(?P<multiple>\b(?:{MULTIPLE}\s{COMPARED}|{NEAR}\s{MULTIPLE}|(?:{SMALL}|ten)fold\b"
    rf"|(?:{SMALL}|an?|several|some)\sorders?\sof\smagnitude\b))"
    rf"|(?P<fraction>\b(?:(?:by|within|than|to|{NEAR})\s(?:{NEAR}\s)?{FRACTION}\b"
    rf"(?![\s-](?:an?\s|the\s|of\s|ε|as))|(?<!first\s)(?<!second\s)(?<!other\s)(?<!upper\s)(?<!lower\s)"
    rf"{FRACTION}\s(?:of\s(?:the|its|their|that|those|what)|its|their|that)\b))"
    rf"|(?P<factor>\bfactors?\s(?:(?:of|near|close\sto|{NEAR})\s)*{COUNT}\b)"
    rf"|(?P<share>\b(?:{COUNT}|one)\s(?:of|out\sof|in)\s(?:the\s|its\s)?{COUNT}\b)"
    rf"|(?P<percentage>\b(?:{SMALL}|tens\sof|several|a\sfew|half\sa|one)[\s-]per\s?cent\b)"
    rf"|(?P<integer>\b{ABOUT}\s{COUNT}\b(?!\s?[×%‰]|[.,]\d|(?:-\w+)?\sminutes))",
    re.IGNORECASE,
)

# Formulas in the line.
VALUE = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
SYMBOL = r"(?!\\mathbb|\\operatorname|\\ln|\\log)(?:\\[A-Za-z]+|[A-Za-z])"
SETTING = re.compile(
    rf"(?:{SYMBOL}(?:[_^](?:\w|\{{[^{{}}]*\}}|\\\w+))*(?:\\[,;: ])?\s*)+=\s*[-+]?[\d.]+"
)
RESULT = re.compile(
    r"\\approx\s*[-+]?[\d.,]*\d(?!\s*[\w\\])|\d\s*(?:\\[,;: ])?\s*\\?%|\d\s*\\times$"
    r"|(?<![\d.])\d+(?:\.\d+)?\s*\\(?:cdot|times)\s*10\^"
)
DECIMAL = re.compile(r"(?<![\d.])\d*\.\d+")
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

    @property
    def message(self) -> str:
        if self.kind == OPT_OUT:
            return f"`typed` {self.text}"
        return f'{self.kind} "{self.text}" in prose: glue it'


OPT_OUT = "opt-out"
UNUSED, NO_REASON = "excuses nothing: take it away", "says no reason"


def lint(text: str) -> list[Finding]:
    """All numbers typed into the prose of a MyST markdown page, in the order of their lines."""
    return sorted(_page(text, first=1, strict=True), key=lambda finding: finding.line)


@dataclass
class _Excuse:
    """A comment `% typed: why` and the lines that it covers, from 0 within its page."""

    line: int
    why: str
    start: int
    end: int = 0
    used: bool = False

    def covers(self, token: Token) -> bool:
        """Whether `token` is the block below, or stands in it."""
        start, end = token.map or (-1, -1)
        if not self.end and start == self.start:
            self.end = end
        return self.start <= start < self.end

    def faults(self) -> Iterator[Finding]:
        if not self.why:
            yield Finding(self.line, OPT_OUT, NO_REASON)
        elif not self.used:
            yield Finding(self.line, OPT_OUT, UNUSED)


def _page(text: str, first: int, strict: bool) -> Iterator[Finding]:
    """Findings of `text`, whose first line is line `first` of the file.

    `strict`: formulas in the line and words that measure count, too.
    """
    quoted = 0
    excuses: list[_Excuse] = []
    for token in _parser().parse(text):
        quoted += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if quoted or token.map is None:
            continue
        line = first + token.map[0]
        if token.type == "myst_line_comment":
            if said := re.match(r"\s*typed:(.*)", token.content):
                excuses.append(_Excuse(line, said[1].strip(), token.map[1]))
            continue
        found: list[Finding] = []
        inside: Iterator[Finding] = iter(())
        if token.type == "inline":
            found += _numbers(list(_inline(token.children or [], token.content, line)), strict)
        elif token.type in ("fence", "colon_fence"):
            found += _head(token, line)
            inside = _body(token, line, strict)
        elif token.type == "html_block":
            found += _numbers(_html(token.content, line), strict)
        if excuses and excuses[-1].covers(token):
            excuses[-1].used |= bool(found)
        else:
            yield from found
        yield from inside
    for excuse in excuses:
        yield from excuse.faults()


@cache
def _parser() -> MarkdownIt:
    return create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)


def _directive(token: Token) -> tuple[str, str]:
    """Name and argument of a directive; a plain code fence has neither, a bare `:::` no name."""
    head = re.match(r"\{([^\s}]+)\}\s*(.*)", token.info.strip())
    return (head[1], head[2]) if head else ("", "")


def _head(token: Token, line: int) -> Iterator[Finding]:
    """Findings in the title of a directive, a figure's alternative text, an answer's hint."""
    name, argument = _directive(token)
    if name in OPAQUE or name == "code-cell" or (token.type == "fence" and not name):
        return
    if name not in TARGETS:
        yield from _page(argument, line, strict=not STATEMENTS.fullmatch(name))
    for number, option in enumerate(_options(token.content), line + 1):
        if said := re.match(r"\s*:?alt:\s*(.*)", option):
            yield from _numbers([(said[1], number)], strict=True)
        elif name == "answer" and (said := re.match(r"\s*:?hint:\s*(.*)", option)):
            yield from _page(said[1], number, strict=False)


def _body(token: Token, line: int, strict: bool) -> Iterator[Finding]:
    name, _ = _directive(token)
    if name == "code-cell":
        yield from _figure(token.content, line + 1)
    elif name not in OPAQUE and not (token.type == "fence" and not name):
        options = _options(token.content)
        body = "\n".join([""] * len(options) + token.content.split("\n")[len(options) :])
        yield from _page(body, line + 1, strict and not STATEMENTS.fullmatch(name))


def _options(body: str) -> list[str]:
    """The leading lines of a directive's body that are options, `:key: value` or in `---`."""
    lines = body.split("\n")
    if lines[0] == "---" and "---" in lines[1:]:
        return lines[: lines.index("---", 1) + 1]
    return list(takewhile(re.compile(r"\s*:\w[\w-]*:").match, lines))


def _figure(body: str, line: int) -> Iterator[Finding]:
    """Findings in the alternative text and the caption of a code cell, whose `---` is at `line`."""
    options = _options(body)
    if not options or options[0] != "---":
        return
    tree = yaml.compose("\n".join(options[1:-1]))
    excuses = {
        part: _Excuse(line + 1 + at, why.strip(), 0)
        for part in ("alt", "caption")
        for at, why in _entries(tree, "typed", part)
    }
    for at, alt in _entries(tree, "mystnb", "image", "alt"):
        found = list(_numbers([(alt, line + 1 + at)], strict=True))
        yield from _excused(found, excuses.get("alt"))
    for at, caption in _entries(tree, "mystnb", "figure", "caption"):
        found = list(_page(caption, line + 1 + at, strict=True))
        yield from _excused(found, excuses.get("caption"))
    for excuse in excuses.values():
        yield from excuse.faults()


def _excused(found: list[Finding], excuse: _Excuse | None) -> list[Finding]:
    if excuse is None:
        return found
    excuse.used |= bool(found)
    return []


def _entries(node: yaml.Node | None, *path: str) -> Iterator[tuple[int, str]]:
    """The text at a path of YAML keys with the line, from 0, that it starts on."""
    if not path and isinstance(node, yaml.ScalarNode):
        yield node.start_mark.line + (node.style in ("|", ">")), node.value
    elif path and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == path[0]:
                yield from _entries(value, *path[1:])


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
            if token.type.startswith("math_inline") and _is_result(token.content):
                yield FORMULA + " ".join(token.content.split()) + FORMULA, here
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
        case "math_inline" | "math_inline_double":
            tex = token.content.strip()
            return tex if VALUE.fullmatch(tex) else OBJECT
        case "code_inline" | "substitution_inline":
            return OBJECT
    return ""


def _is_result(tex: str) -> bool:
    """Whether a formula states a computed number, rather than a symbol's value or mathematics."""
    if VALUE.fullmatch(tex.strip()) or SETTING.fullmatch(tex.strip()):
        return False
    long = (len(each.replace(".", "").lstrip("0")) > 1 for each in DECIMAL.findall(tex))
    return bool(RESULT.search(tex)) or any(long)


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


def _numbers(pieces: list[Piece], strict: bool) -> Iterator[Finding]:
    """Findings in the running text of `pieces`, so that `**12** %` is one number."""
    formulas = [piece for piece in pieces if piece[0].startswith(FORMULA)]
    pieces = [piece for piece in pieces if not piece[0].startswith(FORMULA)]
    text = "".join(piece for piece, _ in pieces)
    text = ADDRESS.sub(lambda found: OBJECT * len(found[0]), text)
    taken: list[range] = []
    for found in (*FOUND.finditer(text), *(MEASURED.finditer(text) if strict else ())):
        kind = found.lastgroup or ""
        before = text[max(0, found.start() - 100) : found.start()]
        if kind == "decimal" and _is_name(before, found[0]):
            continue
        if any(found.start() < each.stop and each.start < found.end() for each in taken):
            continue
        taken.append(range(found.start(), found.end()))
        written = " ".join(found[0].split())
        yield Finding(_line(pieces, found.start()), KIND.get(kind, kind), written)
    if strict:
        for formula, line in formulas:
            yield Finding(line, "formula", f"${formula.strip(FORMULA)}$")


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
    def told(text: str) -> Iterator[tuple[int, str]]:
        return ((finding.line, finding.message) for finding in lint(text))

    return lints.run(arguments, ("chapters", "book"), told, "numbers to glue")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
