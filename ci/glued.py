"""Find values on a page that no check answers for: `python -m ci.glued [CHAPTER.md …]`.

A number that `glue` carries into a sentence is as good as what stands behind it. So it is

- a field of a check's record, `record = check.equal(…)`, `glue("slope", record.measured)`; or
- a *plain reading* of values that a check of the chapter reads, in its arguments or upstream of
  them through assignments and functions: an entry, a mean, a largest one, a size, a format, a
  percentage, a root, a ratio or difference of two such values, a call of a function that a
  check reads; or
- an observation that no claim speaks about, which says so, `# observed: what was run`, on its
  line or the one above. It must be a plain reading of what a run left; a formula never is.

A cell tagged `figure` glues nothing: `make verify` leaves it out. A table, `Markdown(…)` at the
end of a cell, shows at least one value that a check reads or that is observed as above.

Cells are read in their order, a name stands for its last binding, and nothing is executed. So
the guard cannot see: a formula that steers a run (a learning rate) and is glued too, for it lies
upstream of the check that reads the run; a wrong reading (the mean for the median, another
index) of a right value; formulas inside a library function that a run calls; what a figure draws.
"""

import ast
import builtins
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ci import lints

CHECKS = {"equal", "rate", "bound", "count"}
NOT_READ = {"twins", "what", "rtol", "atol", "draws", "side", "relative_to", "slack"}
READINGS = {  # functions and methods that hand on what they are given
    "abs", "all", "amax", "amin", "any", "array", "asarray", "astype", "concatenate", "cpu",
    "detach", "diagonal", "dict", "double", "enumerate", "flatten", "float", "int", "item",
    "items", "join", "keys", "len", "list", "max", "maximum", "mean", "median", "min", "minimum",
    "norm", "numel", "numpy", "quantile", "ravel", "replace", "reshape", "reversed", "round",
    "size", "sorted", "split", "sqrt", "square", "squeeze", "stack", "std", "str", "strip", "sum",
    "tensor", "to", "tolist", "trace", "tuple", "values", "view", "zip",
}  # fmt: skip
SHAPING = {"range", "arange", "linspace", "logspace", "full", "ones", "zeros", "eye", "Tensor"}
FORMULAS = {"math", "cmath", "scipy", "itertools", "fractions", "statistics"}  # modules
THEORY = {"gain", "gradient_descent", "hzo_cost", "mean_square", "standardized"}  # of zotk
ELEMENTWISE = {"ceil", "cumsum", "exp", "floor", "log", "log2", "log10", "power", "prod"}
MUTATORS = {"add", "append", "extend", "insert", "setdefault", "update"}
ARRAYS = {"np", "numpy", "torch"}
OBSERVED = re.compile(r"#\s*observed:\s*(.*)")


class Fault(NamedTuple):
    """A value without evidence: its line (from 1) in the chapter and what to do."""

    line: int
    message: str


class Unread(Exception):
    """Why an expression is no plain reading."""


@dataclass(eq=False)
class Value:
    """One binding of a name: the expressions behind it, each with the names of its time."""

    name: str
    sources: list[tuple[ast.AST, "Names"]] = field(default_factory=list)
    kind: str = "value"  # or function, parameter, import, record, check


Names = Mapping[str, Value]


@dataclass
class Cell:
    """Code of a cell; `first` is the line of the page its first line of code stands on."""

    code: str
    first: int
    tags: tuple[str, ...]


@dataclass
class Shown:
    """A glue or a table: the call, what it shows, the names of its time."""

    call: ast.Call
    expression: ast.expr
    names: Names
    cell: Cell


def faults(text: str) -> list[Fault]:
    """All values of a chapter that no check answers for, in the order of their lines."""
    page = _Page()
    cells = list(_cells(text))
    for cell in cells:
        tree = ast.parse(cell.code)
        ast.increment_lineno(tree, cell.first - 1)
        page.run(tree.body, cell)
    remarks = dict(_remarks(cells))
    used: set[int] = set()
    found = set(page.judge(remarks, used))
    for line, why in remarks.items():
        if not why:
            found.add(Fault(line, "`# observed:` says what was run"))
        elif line not in used:
            found.add(Fault(line, "`# observed:` excuses nothing here: take it away"))
    return sorted(found)


# ---- the page ----


def _cells(text: str) -> Iterator[Cell]:
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        fence = re.match(r"(`{3,}|:{3,})\{code-cell\}", lines[at])
        at += 1
        if not fence:
            continue
        end = at
        while end < len(lines) and not re.fullmatch(re.escape(fence[1]) + r"`*:*\s*", lines[end]):
            end += 1
        start = at
        if lines[at : at + 1] == ["---"]:
            start = lines.index("---", at + 1) + 1
        else:
            while start < end and re.match(r":\w[\w-]*:", lines[start]):
                start += 1
        tags = re.search(r"^:?tags:((?:.*\n?)(?:\s*-.*\n?)*)", "\n".join(lines[at:start]), re.M)
        words = tuple(re.findall(r"[\w-]*\w", tags[1])) if tags else ()
        yield Cell("\n".join(lines[start:end]), start + 1, words)
        at = end + 1


def _remarks(cells: Sequence[Cell]) -> Iterator[tuple[int, str]]:
    """Lines with `# observed: why`, and the why."""
    for cell in cells:
        for number, line in enumerate(cell.code.split("\n"), cell.first):
            if found := OBSERVED.search(line):
                yield number, found[1].strip()


class _Page:
    """The bindings of a chapter in the order of its cells, its checks, what it shows."""

    def __init__(self) -> None:
        self.names: dict[str, Value] = {}
        self.read: list[tuple[ast.AST, Names]] = []  # what checks read
        self.shown: list[Shown] = []
        self.cell = Cell("", 1, ())

    def run(self, body: Sequence[ast.stmt], cell: Cell) -> None:
        self.cell = cell
        self._block(body)
        last = body[-1] if body else None
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
            call = last.value
            if _called(call) == "Markdown" or self._makes_markdown(call):
                self.shown.append(Shown(call, call, dict(self.names), cell))

    # -- statements --

    def _block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._bind(node.name, node, kind="function")
                if any(_is_check(call, self.names) for call in _calls(node)):
                    self.read.append((node, self.names))
                return
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    self._bind((alias.asname or alias.name).split(".")[0], node, kind="import")
                return
            case ast.For():
                self._expression(node.iter)
                for _ in range(2):  # the second round knows what the first has left
                    self._unpack(node.target, node.iter)
                    self._block(node.body)
                self._block(node.orelse)
                return
            case ast.While() | ast.If():
                self._expression(node.test)
                self._block(node.body)
                self._block(node.orelse)
                return
            case ast.With():
                for item in node.items:
                    self._expression(item.context_expr)
                    if item.optional_vars is not None:
                        self._unpack(item.optional_vars, item.context_expr)
                self._block(node.body)
                return
            case ast.Try():
                self._block(node.body)
                for handler in node.handlers:
                    self._block(handler.body)
                self._block(node.orelse)
                self._block(node.finalbody)
                return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child)
        match node:
            case ast.Assign():
                for target in node.targets:
                    self._unpack(target, node.value)
            case ast.AnnAssign(value=ast.expr() as value):
                self._unpack(node.target, value)
            case ast.AugAssign():
                self._grow(node.target, node.value)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=name)) as call):
                if name in MUTATORS:
                    for argument in (*call.args, *(word.value for word in call.keywords)):
                        self._grow(owner, argument)

    def _expression(self, node: ast.expr) -> None:
        """Notes the checks and the glue in an expression."""
        for call in _calls(node):
            if _is_check(call, self.names):
                self.read += [(part, dict(self.names)) for part in _read_by(call)]
            elif isinstance(call.func, ast.Name) and self._wraps_check(call.func.id):
                self.read.append((call, dict(self.names)))
            if _called(call) == "glue" and len(call.args) > 1:
                # a loop shows the same call twice; the last round knows most
                self.shown = [one for one in self.shown if one.call is not call]
                self.shown.append(Shown(call, call.args[1], dict(self.names), self.cell))

    def _wraps_check(self, name: str) -> bool:
        value = self.names.get(name)
        if value is None or value.kind != "function":
            return False
        return any(_is_check(call, names) for node, names in value.sources for call in _calls(node))

    def _makes_markdown(self, call: ast.Call) -> bool:
        value = self.names.get(call.func.id) if isinstance(call.func, ast.Name) else None
        sources = value.sources if value and value.kind == "function" else []
        returned = [
            n.value for node, _ in sources for n in ast.walk(node) if isinstance(n, ast.Return)
        ]
        return any(isinstance(each, ast.Call) and _called(each) == "Markdown" for each in returned)

    def _bind(self, name: str, source: ast.AST, kind: str = "value") -> None:
        if kind == "value" and isinstance(source, ast.Call):
            if _is_check(source, self.names):
                kind = "record"
            elif _called(source) == "Check":
                kind = "check"
        if kind == "value" and "parameters" in self.cell.tags:
            kind = "parameter"
        # a function sees names that are bound after it, too
        names = self.names if kind == "function" else dict(self.names)
        if isinstance(source, ast.Lambda):
            kind, names = "function", self.names
        self.names[name] = Value(name, [(source, names)], kind)

    def _grow(self, target: ast.expr, source: ast.AST) -> None:
        while isinstance(target, ast.Subscript | ast.Attribute | ast.Starred):
            target = target.value
        if isinstance(target, ast.Name) and target.id in self.names:
            value = self.names[target.id]
            if all(node is not source for node, _ in value.sources):
                value.sources.append((source, dict(self.names)))

    def _unpack(self, target: ast.expr, source: ast.expr | None) -> None:
        for name, part in _parts(target, source):
            if isinstance(name, ast.Name):
                self._bind(name.id, part)
            else:
                self._grow(name, part)

    # -- judging --

    def judge(self, remarks: Mapping[int, str], used: set[int]) -> Iterator[Fault]:
        checked = _upstream(self.read)
        for one in self.shown:
            line, is_glue = one.call.lineno, _called(one.call) == "glue"
            if is_glue and "figure" in one.cell.tags:
                yield Fault(line, "glue in a cell tagged `figure`, which `make verify` leaves out")
            lines = range(line - 1, (one.call.end_lineno or line) + 1)
            remark = next((n for n in lines if n in remarks), None)
            if not is_glue:
                if not checked & _upstream([(one.expression, one.names)]) and remark is None:
                    yield Fault(line, "no check reads anything of this table: check it")
                elif remark is not None and not checked & _upstream([(one.expression, one.names)]):
                    used.add(remark)
                continue
            try:
                _Reading(checked, observed=False).read(one.expression, one.names)
            except Unread as why:
                if remark is None:
                    yield Fault(
                        line, f"{_key(one.call)}: {why}; check it, or glue a record's value"
                    )
                    continue
                used.add(remark)
                try:
                    _Reading(checked, observed=True).read(one.expression, one.names)
                except Unread as still:
                    yield Fault(line, f"{_key(one.call)}: {still}, so it is not an observation")


# ---- what a glue may show ----


class _Reading:
    """Walks an expression and raises `Unread` where it is more than a reading."""

    def __init__(self, checked: set[Value], observed: bool) -> None:
        self.checked, self.observed = checked, observed
        self.known: dict[Value, bool] = {}

    def read(self, node: ast.AST, names: Names) -> None:
        if not self._data(node, names):
            raise Unread(f"`{_short(node)}` is a number typed in code")

    def _data(self, node: ast.AST, names: Names) -> bool:
        """True where the expression reads a value, False where it is made of constants."""
        match node:
            case ast.Constant():
                return False
            case ast.Name():
                return self._name(node, names)
            case ast.Attribute(value=value) | ast.Starred(value=value):
                return self._data(value, names)
            case ast.Subscript(value=value):
                return self._data(value, names)
            case ast.Call():
                return self._call(node, names)
            case ast.UnaryOp(operand=operand):
                return self._data(operand, names)
            case ast.BinOp():
                return self._arithmetic(node, names)
            case ast.Compare(left=left, comparators=others):
                return self._any((left, *others), names)
            case ast.BoolOp(values=values):
                return self._any(values, names)
            case ast.IfExp(body=body, orelse=other):
                return self._any((body, other), names)
            case ast.JoinedStr(values=values):
                return self._any(values, names)
            case ast.FormattedValue(value=value):
                return self._data(value, names)
            case ast.Tuple(elts=elts) | ast.List(elts=elts) | ast.Set(elts=elts):
                return self._any(elts, names)
            case ast.Dict(values=values):
                return self._any(values, names)
            case ast.GeneratorExp() | ast.ListComp() | ast.SetComp():
                return self._data(node.elt, _inner(node.generators, names))
            case ast.DictComp():
                return self._data(node.value, _inner(node.generators, names))
        raise Unread(f"`{_short(node)}` is not a plain reading")

    def _any(self, nodes: Sequence[ast.AST], names: Names) -> bool:
        """Whether one of them reads a value; all are looked into."""
        parts = [self._data(each, names) for each in nodes]
        return any(parts)

    def _name(self, node: ast.Name, names: Names) -> bool:
        value = names.get(node.id)
        if value is None or value.kind in ("import", "check"):
            return False
        if value in self.checked or value.kind in ("parameter", "record"):
            return True
        if value.kind == "function":
            raise Unread(f"no check reads `{value.name}`")
        if value not in self.known:
            self.known[value] = False  # while it is looked into: a name may rest on itself
            parts = [self._data(source, then) for source, then in value.sources]
            self.known[value] = any(parts)
        return self.known[value]

    def _call(self, node: ast.Call, names: Names) -> bool:
        if _is_check(node, names):
            return True
        arguments = [*node.args, *(word.value for word in node.keywords)]
        match node.func:
            case ast.Name(id=name) if name in names and names[name].kind == "function":
                value = names[name]
                if value in self.checked:
                    return True
                if _formats(value):
                    return self._any(arguments, names)
                if self.observed and not _is_formula(node, names):
                    return True
                kind = "a formula, and no" if self.observed else "no"
                raise Unread(f"`{_short(node)}` calls `{name}`: {kind} check reads it")
            case ast.Name(id=name) if name in READINGS:
                return self._any(arguments, names)
            case ast.Attribute(value=owner, attr=name) if name in READINGS:
                if isinstance(owner, ast.Name | ast.Attribute) and _is_module(owner, names):
                    return self._any(arguments, names)
                return self._any((owner, *arguments), names)
        if self.observed and not _is_formula(node, names):
            return True
        raise Unread(f"`{_short(node)}` is a formula or a call that no check reads")

    def _arithmetic(self, node: ast.BinOp, names: Names) -> bool:
        left, right = node.left, node.right
        scale = [side for side in (left, right) if _power_of_ten(side)]
        match node.op:
            case ast.Mult() if len(scale) == 1:
                return self._data(left if scale[0] is right else right, names)
            case ast.Div() if _power_of_ten(right):
                return self._data(left, names)
            case ast.Pow() if isinstance(right, ast.Constant) and right.value == 0.5:
                return self._data(left, names)
            case ast.MatMult() if self.observed:
                return self._any((left, right), names)
            case ast.Sub() if _is_one(left) or _is_one(right):
                return self._data(right if _is_one(left) else left, names)
            case ast.Div() | ast.Sub():
                if self._data(left, names) and self._data(right, names):
                    return True
        raise Unread(f"`{_short(node)}` is a formula")


def _inner(generators: Sequence[ast.comprehension], names: Names) -> Names:
    """The names inside a comprehension."""
    inside = dict(names)
    for each in generators:
        for name, part in _parts(each.target, each.iter):
            if isinstance(name, ast.Name):
                inside[name.id] = Value(name.id, [(part, dict(inside))])
    return inside


def _formats(function: Value) -> bool:
    """Whether a function of the chapter only makes text of its arguments."""
    results = [
        found.value
        for node, _ in function.sources
        for found in ast.walk(node)
        if isinstance(found, ast.Return)
    ]
    return bool(results) and all(isinstance(each, ast.JoinedStr) for each in results)


def _is_formula(node: ast.AST, names: Names, seen: frozenset[Value] = frozenset()) -> bool:
    """Whether an expression or function computes from constants and parameters alone.

    Then all it calls are arithmetic, `math`, `scipy` and functions of that kind.
    """
    for call in _calls(node):
        root, name = _root(call.func), _called(call)
        value = names.get(root)
        if value in seen or name in READINGS | SHAPING | THEORY or hasattr(builtins, root):
            continue
        if value is not None and value.kind == "function":
            inside = seen | {value}
            if all(_is_formula(source, then, inside) for source, then in value.sources):
                continue
            return False
        if value is not None and value.kind == "import":
            source = value.sources[0][0]
            module = source.module if isinstance(source, ast.ImportFrom) else None
            if (module or root).split(".")[0] in FORMULAS:
                continue
            if root in ARRAYS and name in ELEMENTWISE:
                continue
            return False
        if value is None:  # a method of an expression, an argument of the function
            continue
        return False
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
            value = names.get(each.id)
            if value is None or value in seen or value.kind in ("parameter", "import", "function"):
                continue
            inside = seen | {value}
            if not all(_is_formula(source, then, inside) for source, then in value.sources):
                return False
    return True


# ---- small questions about trees ----


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _called(call: ast.Call) -> str:
    """The last word of what is called: `equal` of `check.equal(…)`."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _root(node: ast.AST) -> str:
    """The first word: `np` of `np.linalg.norm`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_module(node: ast.AST, names: Names) -> bool:
    """Whether it is an imported module or a part of one: `np.linalg`."""
    value = names.get(_root(node))
    return value is not None and value.kind == "import"


def _is_check(call: ast.Call, names: Names) -> bool:
    """`check.equal(…)`, or any method of a `Check` but its generator."""
    if not isinstance(call.func, ast.Attribute):
        return False
    owner, method = call.func.value, call.func.attr
    if isinstance(owner, ast.Call) and _called(owner) == "Check":
        return method != "generator"
    value = names.get(owner.id) if isinstance(owner, ast.Name) else None
    if value is None or value.kind != "check":
        return method in CHECKS and _root(owner) == "check"
    return method != "generator"


def _read_by(call: ast.Call) -> Iterator[ast.AST]:
    """The arguments that a check compares."""
    yield from call.args
    yield from (word.value for word in call.keywords if word.arg not in NOT_READ)


def _upstream(roots: Sequence[tuple[ast.AST, Names]]) -> set[Value]:
    """All bindings that the expressions rest on."""
    found: set[Value] = set()
    todo = list(roots)
    while todo:
        node, names = todo.pop()
        for each in ast.walk(node):
            if not isinstance(each, ast.Name) or not isinstance(each.ctx, ast.Load):
                continue
            value = names.get(each.id)
            if value is None or value in found or value.kind in ("import", "check"):
                continue
            found.add(value)
            todo += value.sources
    return found


def _parts(target: ast.expr, source: ast.expr | None) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each name of an assignment's or a loop's target with the expression it is part of."""
    if source is None:
        return
    if not isinstance(target, ast.Tuple | ast.List):
        yield target, source
        return
    match source:
        case ast.Call(func=ast.Name(id="zip"), args=args) if len(args) == len(target.elts):
            pairs = list(zip(target.elts, args, strict=True))
        case ast.Call(func=ast.Name(id="enumerate"), args=[inner, *_]) if len(target.elts) == 2:
            pairs = [(target.elts[0], ast.Constant(0)), (target.elts[1], inner)]
        case ast.Tuple(elts=rows) | ast.List(elts=rows) if rows and all(
            isinstance(row, ast.Tuple | ast.List) and len(row.elts) == len(target.elts)
            for row in rows
        ):
            columns = zip(
                *(row.elts for row in rows if isinstance(row, ast.Tuple | ast.List)), strict=True
            )
            pairs = [
                (each, ast.Tuple(list(column), ast.Load()))
                for each, column in zip(target.elts, columns, strict=True)
            ]
        case ast.Tuple(elts=elts) | ast.List(elts=elts) if len(elts) == len(target.elts):
            pairs = list(zip(target.elts, elts, strict=True))
        case _:
            pairs = [(each, source) for each in target.elts]
    for each, part in pairs:
        yield from _parts(each.value if isinstance(each, ast.Starred) else each, part)


def _power_of_ten(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value) in {10.0**n for n in range(1, 13)}
    return False


def _is_one(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 50 else text[:49] + "…"


def _key(call: ast.Call) -> str:
    return _short(call.args[0]).strip("'\"")


def main(arguments: Sequence[str]) -> int:
    return lints.run(arguments, ("chapters",), faults, "values without evidence")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
