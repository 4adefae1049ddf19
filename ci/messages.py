"""Complaints of Sphinx as an author can use them: the place in the source, one line a fault.

Sphinx reads copies, and chapters as notebooks, whose lines it numbers by cell: line L of cell C
(both from 0) is line 10000 (C + 1) + L + 2 to it. Here they become `chapters/NAME.md:LINE` and
`book/NAME.md:LINE`, the second complaint of the same fault goes, and a name that is close to an
unknown one is offered.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupytext.myst import myst_to_notebook

from ci.evidence import meant

A_CELL = 10_000  # lines that myst-nb allows for one
INJECTED = "injected-parameters"  # tag of the cell that papermill adds

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_COMPLAINT = re.compile(
    r"(?:(?P<file>[^\s:][^:]*):(?P<line>\d*):? )?\b(?:WARNING|ERROR|SEVERE|CRITICAL): (?P<text>.*)"
)
_KIND = re.compile(r" \[[a-z_]+(\.[a-z_]+)*\]$")  # for those who silence warnings
# what Sphinx says of an unknown name, and the names that were possible
_UNKNOWN = (
    (re.compile(r"undefined label: '(?P<name>.*?)'"), "labels"),
    (re.compile(r"prf:ref reference target not found: (?P<name>.*)"), "labels"),
    (re.compile(r"cross-reference target not found: '#?(?P<name>.*?)'"), "labels"),
    (re.compile(r"equation not found: (?P<name>.*)"), "labels"),
    (re.compile(r"unknown document: '(?P<name>.*?)'"), "pages"),
    (re.compile(r"could not find bibtex key \"(?P<name>.*?)\""), "citations"),
    (re.compile(r"source '(?P<name>[\w:+/-]+).*' starts with neither"), "citations"),
    (re.compile(r"No key '(?P<name>.*?)' found in glue data"), "glued"),
    (re.compile(r"uses unknown '(?P<name>.*?)'"), "claims"),
    (re.compile(r"no claim has the id '(?P<name>.*?)'"), "claims"),
    (re.compile(r"check of '(?P<name>.*?)'.* belongs to no claim"), "claims"),
    (re.compile(r"names '(?P<name>.*?)', which is not among the claims"), "claims"),
    (re.compile(r"names '(?P<name>.*?)', which is not among the figures"), "labels"),
    (re.compile(r"decided by '(?P<name>.*?)', which is no claim"), "claims"),
)
_ECHO = re.compile(r"label '(?P<name>.*)' not found\.")  # sphinx-proof says so beside Sphinx
_FILE = re.compile(r"(?:image file not readable|File not found|not readable): '?(?P<name>[^\s']+)")


@dataclass(frozen=True)
class Names:
    """What can be referred to, by kind."""

    labels: set[str] = field(default_factory=set)  # claims are labels too
    claims: set[str] = field(default_factory=set)
    pages: set[str] = field(default_factory=set)
    citations: set[str] = field(default_factory=set)
    glued: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Source:
    """The file that an author edits: its name for a reader, its text, the first line of each cell.

    Lines count from 1; `cells` holds those of the executed notebook, or is None for a plain page.
    """

    name: str
    text: str
    cells: tuple[int, ...] | None = None


# ---- places --------------------------------------------------------------------------------------


def first_lines(text: str) -> list[int]:
    """The line of a chapter's `.md` where each of its cells starts (a code cell: its fence)."""
    notebook = myst_to_notebook(text, add_source_map=True)
    lines, found = text.splitlines(), []
    for cell, start in zip(notebook.cells, notebook.metadata["source_map"], strict=True):
        if cell.cell_type == "code":
            found.append(start)  # the map has the line after the fence, from 0
            continue
        while not lines[start]:  # leading blank lines are not part of a cell
            start += 1
        found.append(start + 1)
    return found


def executed_lines(text: str, notebook: Mapping[str, Any]) -> tuple[int, ...]:
    """`first_lines` for the cells of an executed notebook: the cell papermill adds has none.

    A complaint about the added cell is placed at the cell before it, which declares parameters.
    """
    lines = iter(first_lines(text))
    found: list[int] = []
    for cell in notebook["cells"]:
        added = INJECTED in cell["metadata"].get("tags", [])
        found.append(found[-1] if added and found else next(lines, found[-1] if found else 1))
    return tuple(found)


def line_in(source: Source, number: int) -> int:
    """The line of the source (from 1) that Sphinx calls `number`."""
    if source.cells is None or number < A_CELL:
        return number
    cell, line = divmod(number - 2, A_CELL)
    at = min(cell, len(source.cells)) - 1
    return source.cells[at] + line


# ---- names ---------------------------------------------------------------------------------------


def names_in(texts: Iterable[str], bibliography: str, pages: Iterable[str]) -> Names:
    """All that the sources define, as far as their text tells."""
    names = Names(pages=set(pages))
    for text in texts:
        names.claims.update(re.findall(r"\{claim\} *(\S+)", text))
        names.labels.update(re.findall(r"^ *\(([^()\s]+)\)= *$", text, re.M))
        names.labels.update(re.findall(r"^ *:?(?:label|name): *(\S+) *$", text, re.M))
        names.labels.update(re.findall(r"\$\$ *\(([^()\s]+)\)", text))
        names.glued.update(re.findall(r"\bglue\(\s*[\"']([^\"']+)[\"']", text))
    names.labels.update(names.claims)
    names.citations.update(re.findall(r"^ *@\w+ *\{ *([^,\s]+) *,", bibliography, re.M))
    return names


def suggestion(text: str, names: Names) -> str:
    """`; did you mean 'NAME'?` when a complaint is about a name close to a known one, else ""."""
    if "did you mean" in text:
        return ""
    for pattern, kind in _UNKNOWN:
        if found := pattern.search(text):
            return meant(found["name"], getattr(names, kind) - {found["name"]})
    return ""


# ---- complaints ----------------------------------------------------------------------------------


def complaints(log: str, sources: Mapping[str, Source], names: Names) -> list[str]:
    """One line for each fault in a log of Sphinx, in its order; [] when it complains of nothing.

    sources: by the path under which Sphinx read them, relative to its folder of sources. The
    path in the log may be longer.
    """
    lines = _ANSI.sub("", log).splitlines()
    found = [match for line in lines if (match := _COMPLAINT.search(line))]
    said = {
        known["name"]
        for match in found
        for pattern, _ in _UNKNOWN
        if (known := pattern.search(match["text"]))
    }
    told = []
    for match in found:
        echo = _ECHO.fullmatch(match["text"])
        if echo and echo["name"] in said:
            continue
        text = _KIND.sub("", match["text"])
        place = _place(match["file"] or "", match["line"] or "", text, sources)
        told.append(f"{place}{text}{suggestion(text, names)}")
    return list(dict.fromkeys(told))


def _place(file: str, line: str, text: str, sources: Mapping[str, Source]) -> str:
    """`chapters/one.md:12: `, as exact as the complaint allows."""
    if not file:
        return ""
    source = next((known for path, known in sources.items() if _is_end(path, file)), None)
    if source is None:
        return f"{file}:{line}: " if line else f"{file}: "
    if line:
        return f"{source.name}:{line_in(source, int(line))}: "
    if (named := _FILE.search(text)) and (at := _line_naming(named["name"], source.text)):
        return f"{source.name}:{at}: "
    return f"{source.name}: "


def _is_end(path: str, file: str) -> bool:
    return file == path or file.endswith(f"/{path}")


def _line_naming(name: str, text: str) -> int | None:
    """The first line that has the last part of a path."""
    last = name.rsplit("/", 1)[-1]
    lines = (at for at, line in enumerate(text.splitlines(), 1) if last in line)
    return next(lines, None)


# ---- the book ------------------------------------------------------------------------------------


def staged(root: Path, source: Path) -> Iterator[tuple[str, Source]]:
    """What Sphinx reads under `source`, and the file behind each: in `chapters/` or `book/`."""
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        chapter = root / "chapters" / f"{path.stem}.md"
        if relative.suffix == ".ipynb" and chapter.is_file():
            text = chapter.read_text(encoding="utf-8")
            notebook = json.loads(path.read_text(encoding="utf-8"))
            cells = executed_lines(text, notebook)
            yield relative.as_posix(), Source(f"chapters/{chapter.name}", text, cells)
        elif relative.suffix in (".md", ".yml", ".bib"):
            text = path.read_text(encoding="utf-8")
            yield relative.as_posix(), Source(f"book/{relative.as_posix()}", text)


def readable(log: str, root: Path, source: Path) -> list[str]:
    """`complaints` of a build of the book."""
    sources = dict(staged(root, source))
    texts = [found.text for path, found in sources.items() if path.endswith((".md", ".ipynb"))]
    bibliography = "\n".join(f.text for path, f in sources.items() if path.endswith(".bib"))
    pages: Sequence[str] = [str(Path(path).with_suffix("")) for path in sources]
    return complaints(log, sources, names_in(texts, bibliography, pages))
