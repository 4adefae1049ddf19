"""Find checks that cannot be evidence in a chapter's text: `python -m ci.checkcells [FILE.md …]`.

Before anything runs: what is `measured` must be computed from something, and not be written like
what is `predicted`; seeds derive from the chapter's `seed`; the claim of a check is stated in a
`{claim}` box of the same chapter; a theorem is not hidden in bold type; every fence closes, and no
code cell is text of another block; no cell ends in a check without `;`, or Jupyter would print its
record, code and all, under the card. It cannot see whether two code paths are one formula written
twice.
"""

import ast
import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ci import lints
from ci.evidence import meant

# arguments of zotk.Check's methods: the place and name of what is measured and what is predicted
METHODS = {
    "equal": ((0, "measured"), (1, "predicted")),
    "count": ((0, "measured"), (1, "predicted")),
    "bound": ((0, "values"), (1, "bound")),
    "rate": ((1, "y"), (2, "slope")),
}
SEEDERS = {"manual_seed", "manual_seed_all", "default_rng", "RandomState", "seed"}
MODULES = {"math", "np", "numpy", "torch"}
# what of these modules only writes down the numbers it is given
WRITING = {
    "array", "asarray", "as_tensor", "tensor", "full", "ones", "zeros", "empty", "eye", "arange",
    "int32", "int64", "float32", "float64", "sqrt", "exp", "log", "log2", "pi", "e", "inf",
}  # fmt: skip
QUOTING = {"claim", "code-cell", "code", "code-block", "math", "epigraph", "pull-quote"}
BOLD = re.compile(
    r"^\s*(\*\*|__)(Theorem|Lemma|Proposition|Corollary|Property)\b.*?\1", re.MULTILINE
)


class Finding(NamedTuple):
    """What is wrong, at a line of the chapter's file (from 1)."""

    line: int
    message: str


class Cell(NamedTuple):
    """A code cell: the line of its first line of code, its options blanked, its options."""

    line: int
    code: str
    options: str


class Page(NamedTuple):
    """The parts of a chapter that matter here."""

    cells: list[Cell]
    claims: list[str]
    prose: list[tuple[int, str]]  # blocks of running text and where they start


def lint(text: str) -> list[Finding]:
    """Everything found in the text of a chapter, `chapters/NAME.md`, in the order of its lines."""
    page = read(text)
    found = [*_bold(page.prose), *_fences(text)]
    trees: list[tuple[Cell, ast.Module]] = []
    for cell in page.cells:
        try:
            trees.append((cell, ast.parse(cell.code)))
        except SyntaxError as error:
            found.append(Finding(cell.line + (error.lineno or 1) - 1, f"is no Python: {error.msg}"))
    bound = _Bindings([tree for cell, tree in trees if "parameters" not in cell.options])
    judges = set().union(*(_judges(tree) for _, tree in trees))
    for cell, tree in trees:
        for line, message in [*_cell(tree, bound, judges, page.claims), *_printed(cell, tree)]:
            found.append(Finding(cell.line + line - 1, message))
    return sorted(found)


def read(text: str) -> Page:
    """Cells, claim ids and running text, also of what nests in other directives."""
    page = Page([], [], [])
    _collect(text, 1, page)
    return page


def _fences(text: str) -> Iterator[Finding]:
    """Fences that never close, and code cells that another block has swallowed as its text."""
    lines = text.splitlines()
    for token in _parser().parse(text):
        if token.type != "fence" or token.map is None:
            continue
        first, end = token.map
        last = lines[end - 1].strip()
        if end - first < 2 or set(last) != {token.markup[0]} or len(last) < len(token.markup):
            yield Finding(first + 1, f"`{token.markup}{token.info}` is never closed")
        for number, line in enumerate(token.content.splitlines(), first + 2):
            if line.lstrip().startswith("```{code-cell}"):
                block = f"`{token.markup}{token.info}` of line {first + 1}"
                yield Finding(number, f"this code cell is text of {block} and would not run")


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt()


def _collect(text: str, first: int, page: Page) -> None:
    quoted = 0
    for token in _parser().parse(text):
        quoted += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if token.map is None:
            continue
        if token.type == "inline" and not quoted:
            page.prose.append((first + token.map[0], token.content))
        elif token.type == "fence":
            _fence(token, first + token.map[0], page)


def _fence(token: Token, line: int, page: Page) -> None:
    head = re.match(r"\{([^\s}]+)\}\s*(\S*)", token.info.strip())
    if not head:
        return
    name, argument = head.groups()
    if name == "claim":
        page.claims.append(argument)
    elif name == "code-cell":
        code, options = _without_options(token.content)
        page.cells.append(Cell(line + 1, code, options))
    elif name not in QUOTING:
        _collect(token.content, line + 1, page)


def _without_options(body: str) -> tuple[str, str]:
    """Code and options of a cell; in the code, options and magics are blank lines."""
    lines = body.split("\n")
    if lines[0].strip() == "---":
        end = next((i for i, line in enumerate(lines) if i and line.strip() == "---"), 0) + 1
    else:
        end = next(i for i, line in enumerate([*lines, ""]) if not re.match(r"\s*:\w", line))
    code = [re.sub(r"^\s*[%!].*", "", line) for line in lines[end:]]
    return "\n".join([""] * end + code), "\n".join(lines[:end])


def _bold(prose: list[tuple[int, str]]) -> Iterator[Finding]:
    for first, text in prose:
        for found in BOLD.finditer(text):
            line = first + text.count("\n", 0, found.start())
            yield Finding(
                line, f"{found[0].strip()}: a {found[2].lower()} belongs in a {{claim}} box"
            )


class _Bindings:
    """Names that hold, in all their bindings, only what is typed in: `n = 2`, `for n in (2, 3)`."""

    def __init__(self, trees: Sequence[ast.Module]) -> None:
        values: dict[str, list[ast.expr | None]] = defaultdict(list)
        for tree in trees:
            for name, value in _bindings(tree):
                values[name].append(value)
        self.typed: set[str] = set()
        while True:  # names of typed names are typed
            more = {n for n, found in values.items() if all(map(self._is_typed, found))}
            if more == self.typed:
                return
            self.typed = more

    def _is_typed(self, value: ast.expr | None) -> bool:
        return value is not None and not self.live(value)

    def live(self, value: ast.expr) -> bool:
        """Does the expression read a name that holds more than what is typed in?"""
        nodes = list(ast.walk(value))
        own = {a.arg for n in nodes if isinstance(n, ast.arguments) for a in n.args}
        own |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        asked = {
            n.attr
            for n in nodes
            if isinstance(n, ast.Attribute)
            and isinstance(n.value, ast.Name)
            and n.value.id in MODULES
        }
        return bool(read - own - MODULES - set(dir(builtins)) - self.typed or asked - WRITING)


def _bindings(tree: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """(name, value) of each binding; None where the value is not an expression seen here."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _targets(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from _targets(target, value)
            case ast.For(target=target, iter=value):
                yield from _targets(target, value)
            case ast.NamedExpr(target=target, value=value):
                yield from _targets(target, value)
            case ast.AugAssign(target=target):
                yield from _changed(target)
            case ast.withitem(optional_vars=ast.expr() as target):
                yield from _changed(target)
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, None
            case ast.alias(name=name, asname=other):
                yield other or name.split(".")[0], None
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
                yield name, None  # errors.append(…), x.mul_(…)


def _targets(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple | ast.List):
        values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        paired = len(values) == len(target.elts)
        for i, each in enumerate(target.elts):
            yield from _targets(each, values[i] if paired else value)
    else:
        yield from _changed(target)


def _changed(target: ast.expr) -> Iterator[tuple[str, None]]:
    """Names behind `x[…] =`, `x.y =`, `x +=`, `as x`: they hold what is not seen here."""
    for node in ast.walk(target):
        if isinstance(node, ast.Name):
            yield node.id, None


def _judges(tree: ast.Module) -> set[str]:
    """Names that checks are made with; a Check may also be there for its generator alone."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_check(node)]
    funcs = [call.func for call in calls if isinstance(call.func, ast.Attribute)]
    return {func.value.id for func in funcs if isinstance(func.value, ast.Name)}


def _is_check(node: ast.Call) -> bool:
    return _name(node.func) in METHODS and any(k.arg == "twins" for k in node.keywords)


def _printed(cell: Cell, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A cell's last line is a value: Jupyter prints it, unless a `;` follows."""
    last = tree.body[-1] if tree.body else None
    if not (isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)):
        return
    if not _is_check(last.value) or "remove-output" in cell.options:
        return
    lines = cell.code.split("\n")[(last.end_lineno or last.lineno) - 1 :]
    lines[0] = lines[0].encode()[last.end_col_offset or 0 :].decode()
    if not any(line.lstrip().startswith(";") for line in lines):
        yield (
            last.end_lineno or last.lineno,
            f"the cell ends in `{ast.unparse(last.value.func)}(…)`, and its record would be "
            "printed under the card: end it with `;`",
        )


def _cell(
    tree: ast.Module, bound: _Bindings, judges: set[str], claims: list[str]
) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as made) if (
                name in judges
            ):
                yield from _stated(made, claims)
            case ast.Call(func=ast.Attribute(value=ast.Call() as made)) if _is_check(node):
                yield from _stated(made, claims)
        if isinstance(node, ast.Call):
            for message in _calls(node, _name(node.func), bound):
                yield node.lineno, message


def _stated(made: ast.Call, claims: list[str]) -> Iterator[tuple[int, str]]:
    match made:
        case ast.Call(args=[ast.Constant(value=str(claim)), *_]) if (
            _name(made.func) == "Check" and claim not in claims
        ):
            like = meant(claim, claims)
            yield made.lineno, f"no {{claim}} box of this chapter states {claim!r}{like}"


def _name(func: ast.expr) -> str:
    """`equal` of `check.equal`, `Check` of `zotk.Check` or `Check`."""
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _calls(node: ast.Call, name: str, bound: _Bindings) -> Iterator[str]:
    if _is_check(node):
        measured, predicted = (_argument(node, *place) for place in METHODS[name])
        if measured and not bound.live(measured):
            yield f"`{ast.unparse(measured)}` is typed in, not measured: it reads no computed name"
        elif measured and predicted and ast.dump(measured) == ast.dump(predicted):
            yield f"measured and predicted are both `{ast.unparse(measured)}`"
    if name == "Check":
        seed = next((k.value for k in node.keywords if k.arg == "seed"), None)
        if seed is None or not bound.live(seed):
            yield "a check of its own seed: write seed=seed, the chapter's parameter"
    if name in SEEDERS and not any(
        map(bound.live, [*node.args, *(k.value for k in node.keywords)])
    ):
        yield f"`{ast.unparse(node)}`: a seed of its own: derive it from the chapter's seed"


def _argument(node: ast.Call, place: int, name: str) -> ast.expr | None:
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    return node.args[place] if place < len(node.args) else named.get(name)


def main(arguments: Sequence[str]) -> int:
    return lints.run(arguments, ("chapters",), lint, "findings in their checks")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
