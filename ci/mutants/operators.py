"""Which small faults can be planted in a piece of source, as replacements of its text.

Formulas: numbers (±1 for whole ones, which are counts and indices; ×2 and ½ for others; exponents
also ±½), + and -, * and /, powers, edges of comparisons, and/or, dropped minus and `not`, negated
conditions. Nothing is planted in strings, annotations, messages of errors, or `isinstance`; nor in
what decides how hard a solver works and not what it finds: tolerances, its brackets, and numbers
so small that they stand for rounding.
"""

import ast
import io
import itertools
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//"}
OPERATORS |= {ast.Pow: "**", ast.Mod: "%", ast.BitAnd: "&", ast.BitOr: "|"}
SWAPS = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "**": "*", "&": "|", "|": "&"}
COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
COMPARISONS |= {ast.Eq: "==", ast.NotEq: "!="}
EDGES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}


@dataclass(frozen=True)
class Mutant:
    """One fault: `text` replaces the characters from `start` to `end` of a source."""

    scope: str  # the function it is in, dotted; "" outside of any
    line: int
    lines: tuple[int, int]  # of the statement it is in; of the whole function for its defaults
    was: str  # its lines before and after, without indentation
    now: str
    start: int
    end: int
    text: str

    def plant(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


class Source:
    """A text, its syntax tree, and the places of nodes in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self._lines = text.splitlines(keepends=True)
        self._statements = sorted(_statements(self.tree), key=lambda pair: pair[0] - pair[1])
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self._tokens = [
            (self._starts[token.start[0] - 1] + token.start[1], token.string)
            for token in tokens
            if token.type in (tokenize.OP, tokenize.NAME)
        ]

    def place(self, line: int, column: int) -> int:
        """The offset of a place that `ast` names by line and UTF-8 bytes."""
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        first = self.place(node.lineno, node.col_offset)
        return first, self.place(node.end_lineno, node.end_col_offset)

    def between(self, left: ast.expr, right: ast.expr, symbol: str) -> tuple[int, int] | None:
        """The operator between two nodes."""
        low, high = self.span(left)[1], self.span(right)[0]
        for start, word in self._tokens:
            if low <= start < high and word == symbol:
                return start, start + len(word)
        return None

    def mutant(self, scope: str, start: int, end: int, text: str) -> Mutant:
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", end)
        last = len(self.text) if last < 0 else last
        was = self.text[first:last]
        now = self.text[first:start] + text + self.text[end:last]
        line = self.text.count("\n", 0, start) + 1
        found = [pair for pair in self._statements if pair[0] <= line <= pair[1]]
        lines = found[-1] if found else (line, line)
        return Mutant(scope, line, lines, _flat(was), _flat(now), start, end, text)


def _statements(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """First and last line of every statement; of compound ones the head, of functions all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.ClassDef):
            last = node.end_lineno or node.lineno
            body = getattr(node, "body", [])
            if body and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                last = max(node.lineno, body[0].lineno - 1)
            yield node.lineno, last


def _flat(lines: str) -> str:
    return " ".join(lines.split())


def formulas(text: str) -> list[Mutant]:
    """All mutants of a module, in its order, none twice."""
    source = Source(text)
    return _distinct(_module(source))


def expressions(source: Source, nodes: Iterable[ast.AST], *, counts: bool = False) -> list[Mutant]:
    """All mutants of some nodes of a source; without `counts`, conditions are left alone."""
    return _distinct(m for node in nodes for m in _walk(source, node, "", counts=counts))


def _distinct(found: Iterable[Mutant]) -> list[Mutant]:
    return list({(m.start, m.end, m.text): m for m in found}.values())


def _module(source: Source) -> Iterator[Mutant]:
    for node in source.tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            continue
        yield from _walk(source, node, "")


EFFORT = {"rtol", "atol", "xtol", "tol", "epsabs", "epsrel", "limit", "maxiter"}
BRACKETED = {"brentq"}  # a function, then where to look
ROUNDING = 1e-9  # positive numbers below are allowances for it
SKIPPED = (ast.JoinedStr, ast.Raise, ast.arg, ast.Import, ast.ImportFrom, ast.Global)


def _walk(source: Source, node: ast.AST, scope: str, *, counts: bool = True) -> Iterator[Mutant]:
    """The mutants of a node and of what lies in it."""
    if isinstance(node, SKIPPED) or _typing(node) or _effort(node):
        return
    yield from _at(source, node, scope, conditions=counts)
    inner = scope
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        inner = f"{scope}.{node.name}" if scope else node.name
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if name == "args" and isinstance(node, ast.Call) and called(node.func) in BRACKETED:
            value = value[:1]
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(source, child, inner, counts=counts)


def _typing(node: ast.AST) -> bool:
    """Asserted types and casts: what the type checker reads, not a formula."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return called and node.func.id in ("isinstance", "issubclass", "cast")  # type: ignore[attr-defined]


def _effort(node: ast.AST) -> bool:
    match node:
        case ast.keyword(arg=arg):
            return arg in EFFORT
        case ast.Constant(value=float() as value):
            return 0 < value < ROUNDING
    return False


def called(function: ast.expr) -> str:
    """The last word of what is called: `zeros` of `np.zeros`."""
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _at(source: Source, node: ast.AST, scope: str, *, conditions: bool) -> Iterator[Mutant]:
    """The mutants of one node alone."""

    def replaced(expression: ast.expr, text: str) -> Mutant:
        return source.mutant(scope, *source.span(expression), text)

    def swapped(left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutant]:
        if place := source.between(left, right, old):
            yield source.mutant(scope, *place, new)

    match node:
        case ast.Constant(value=bool()):
            return
        case ast.Constant(value=int() | float() as value):
            yield from (replaced(node, text) for text in numbers(value))
        case ast.BinOp(left=left, op=op, right=right):
            symbol = OPERATORS.get(type(op), "")
            if symbol in SWAPS and not (_is_text(left) or _is_text(right)):
                yield from swapped(left, right, symbol, SWAPS[symbol])
            if symbol == "**":
                words = source.text[slice(*source.span(right))]
                yield from (replaced(right, f"({words} {by})") for by in ("+ 0.5", "- 0.5"))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARISONS:
            symbol = COMPARISONS[type(op)]
            if conditions:
                yield from swapped(left, right, symbol, EDGES[symbol])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            pairs = zip([left, *comparators], ops, comparators, strict=False)
            for first, op, second in pairs:
                if conditions and (symbol := COMPARISONS.get(type(op), "")):
                    yield from swapped(first, second, symbol, EDGES[symbol])
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            start, end = source.span(node)
            # what stands between the sign and its operand (a bracket, say) stays
            sign = 1 if isinstance(node.op, ast.USub) else 3
            if conditions or sign == 1:
                yield source.mutant(scope, start, end, source.text[start + sign : end].lstrip())
        case ast.BoolOp(op=op, values=values) if conditions:
            old, new = ("and", "or") if isinstance(op, ast.And) else ("or", "and")
            for left, right in itertools.pairwise(values):
                yield from swapped(left, right, old, new)
        case ast.AugAssign(op=op, target=ast.expr() as target, value=value):
            symbol = OPERATORS.get(type(op), "")
            if symbol in SWAPS and not _is_text(value):
                yield from swapped(target, value, f"{symbol}=", f"{SWAPS[symbol]}=")
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if conditions:
            yield from _negated(source, scope, test)
        case ast.Assert(test=test) | ast.Return(value=ast.Compare() | ast.BoolOp() as test):
            if conditions:
                yield from _negated(source, scope, test)
        case ast.comprehension(ifs=ifs) if conditions:
            for test in ifs:
                yield from _negated(source, scope, test)


def _negated(source: Source, scope: str, test: Any) -> Iterator[Mutant]:
    """`not (test)`, unless another operator does just that."""
    simple = isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.NotEq)
    if simple or (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
        return
    start, end = source.span(test)
    yield source.mutant(scope, start, end, f"(not ({source.text[start:end]}))")


def numbers(value: int | float) -> list[str]:
    """What may stand for a number: neighbours of a whole one, twice and half of another."""
    if isinstance(value, int):
        return [str(value + 1), str(value - 1)] if value else ["1"]
    if value == 0:
        return ["1.0"]
    return [repr(2 * value), repr(value / 2)]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )
