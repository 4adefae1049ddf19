"""Which chapters there are, what each is run with, and the key under which a run stays valid.

A run of a chapter is two files in `build/executed/PROFILE-SEED/`: the notebook `NAME.ipynb` and
its record `NAME.json`. The record holds the key of what went in and the digest of what came
out, and is written last: wherever a run is cut off, the two do not match, and the chapter runs
again.
"""

import ast
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import yaml
from jupytext.myst import myst_to_notebook

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ("quick", "checks", "full")
RECIPE = 2  # raise it when a change in how chapters are executed changes what comes out


# what judges a run while it runs or at its end: a run that older guards passed is not valid
GUARDS = [ROOT / "ci" / name for name in ("watch.py", "figures.py", "judge.py")]


class ChapterError(Exception):
    """A chapter, or what is asked of it, is not as it must be; the message says what to do."""


def files_under(folder: Path) -> list[Path]:
    """All files of a folder, sorted, without compiled Python."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def digest(paths: Iterable[Path], base: Path) -> str:
    """SHA-256 over the names (relative to `base`) and contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(base).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _toc_files(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("file"), str):
            yield node["file"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _toc_files(child)


def in_book(root: Path) -> list[str]:
    """The chapters that `book/_toc.yml` names as `chapters/NAME`, in its order."""
    toc = root / "book" / "_toc.yml"
    if not toc.is_file():
        raise ChapterError(f"{toc} is missing")
    entries = map(Path, _toc_files(yaml.safe_load(toc.read_text(encoding="utf-8"))))
    found = [entry.stem for entry in entries if entry.parent == Path("chapters")]
    for name in found:
        if not (root / "chapters" / f"{name}.md").is_file():
            raise ChapterError(f"book/_toc.yml names chapters/{name}, which has no .md")
    return found


def written(root: Path) -> list[str]:
    """Every chapter there is a source of, in the book or not yet."""
    return sorted(path.stem for path in (root / "chapters").glob("*.md"))


def judging(root: Path) -> list[str]:
    """The chapters that check something; every one, if none does."""
    names = written(root)
    text = {name: (root / f"chapters/{name}.md").read_text(encoding="utf-8") for name in names}
    return [name for name in names if "Check(" in text[name]] or names


def read(source: Path) -> Any:
    """A chapter's notebook, not executed."""
    return jupytext.read(source, fmt="md:myst")


def cell_lines(text: str) -> list[int]:
    """The line of a chapter's text, from 1, where the code of each code cell begins.

    Jupytext says where the cells are, in the order of `read`; after the fence come options, as
    `:key: value` or as YAML between `---`, and a blank line that is no code.
    """
    notebook = myst_to_notebook(text, add_source_map=True)
    starts = zip(notebook.cells, notebook.metadata["source_map"], strict=True)
    lines = text.splitlines()
    found = []
    for fence in (line for cell, line in starts if cell.cell_type == "code"):
        at = fence  # of the line after the fence, counted from 0
        if lines[at].startswith("---"):
            at = next(n for n in range(at + 1, len(lines)) if lines[n].startswith("---")) + 1
        else:
            while lines[at].lstrip().startswith(":"):
                at += 1
        found.append(at + 1 if lines[at].strip() else at + 2)
    return found


def declared(notebook: Any, name: str) -> dict[str, Any]:
    """Names and default values in the cells tagged `parameters`; only plain literals will do."""
    found: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.cell_type != "code" or "parameters" not in cell.metadata.get("tags", []):
            continue
        for line in ast.parse(cell.source).body:
            match line:
                case ast.Assign(targets=[ast.Name(id=target)], value=value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                    pass
                case ast.Expr(value=ast.Constant(value=str())):
                    continue
                case _:
                    raise ChapterError(
                        f"{name}: its parameters cell may hold assignments `name = value` only,"
                        f" not `{ast.unparse(line)}`"
                    )
            try:
                found[target] = ast.literal_eval(value)
            except ValueError:
                raise ChapterError(
                    f"{name}: parameter `{target}` must be a plain value, not an expression"
                ) from None
    for needed in ("seed", "device"):
        if needed not in found:
            raise ChapterError(f"{name}: no `{needed}` in a cell tagged `parameters`")
    return found


def data_files(notebook: Any, name: str) -> list[Path]:
    """Files a chapter lists under `data:` in its front matter; they lie under `ZOTK_DATA`."""
    listed = list(notebook.metadata.get("data", []))
    if not listed:
        return []
    folder = os.environ.get("ZOTK_DATA")
    if not folder:
        raise ChapterError(f"{name} reads {', '.join(listed)}: set ZOTK_DATA to their folder")
    paths = [Path(folder) / entry for entry in listed]
    for path in paths:
        if not path.is_file():
            raise ChapterError(f"{name} reads {path}, which is missing")
    return paths


@dataclass(frozen=True)
class Chapter:
    """A chapter as one profile and seed run it."""

    root: Path
    name: str
    profile: str
    values: Mapping[str, Any]  # of all its parameters
    injected: Mapping[str, Any]  # of those that differ from their defaults
    data: tuple[Path, ...]
    folder: Path  # where its run belongs
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key_now())

    @property
    def source(self) -> Path:
        return self.root / "chapters" / f"{self.name}.md"

    @property
    def notebook(self) -> Path:
        return self.folder / f"{self.name}.ipynb"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.json"

    def key_now(self) -> str:
        """A digest of all that a run depends on, as it lies on the disk at this moment."""
        pins = [self.root / "requirements.txt", self.root / "constraints.txt"]
        parts = [
            RECIPE,
            self.profile,
            self.values,
            platform.python_version(),
            digest([self.source, *pins, *files_under(self.root / "zotk")], self.root),
            digest(GUARDS, ROOT),
            [digest([path], path.parent) for path in self.data],
        ]
        text = json.dumps(parts, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    def fresh(self) -> dict[str, Any] | None:
        """The record of the last run when it is complete and still valid, else None."""
        try:
            record: dict[str, Any] = json.loads(self.record.read_text(encoding="utf-8"))
            content = hashlib.sha256(self.notebook.read_bytes()).hexdigest()
        except (OSError, ValueError):
            return None
        valid = record.get("key") == self.key and record.get("sha256") == content
        return record if valid else None


def _values(name: str, defaults: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in wanted.items():
        if key not in defaults:
            raise ChapterError(
                f"{name} has no parameter `{key}`; it has {', '.join(sorted(defaults))}"
            )
        if isinstance(defaults[key], int | float) and not isinstance(value, int | float):
            raise ChapterError(f"{name}: parameter `{key}` takes a number, not {value!r}")
    return {**defaults, **wanted}


def plan(
    root: Path,
    profile: str = "quick",
    seed: int = 0,
    *,
    only: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> list[Chapter]:
    """The chapters of a profile (`checks`: all that check something; else those of the book).

    With `only`, those named. With `parameters` (even none), the runs go to `build/aside`, which
    no book is made from. With `device`, they compute there and have a folder of their own.
    """
    sources = written(root)
    for name in only:
        if name not in sources:
            raise ChapterError(f"there is no chapters/{name}.md; there are {', '.join(sources)}")
    names = list(only) or (judging(root) if profile == "checks" else in_book(root))
    if not names:
        raise ChapterError("there is no chapter to run")

    large = root / "chapters/full.yml"
    at_full: dict[str, dict[str, Any]] = {}
    if profile == "full" and large.is_file():
        at_full = yaml.safe_load(large.read_text(encoding="utf-8")) or {}
    for name in at_full.keys() - set(sources):
        raise ChapterError(f"chapters/full.yml names {name}, of which there is no chapter")
    on = {"device": device} if device else {}
    aside = parameters is not None
    runs = "-".join([f"executed/{profile}-{seed}", *on.values()])
    folder = root / "build" / ("aside" if aside else runs)

    chapters = []
    for name in names:
        notebook = read(root / "chapters" / f"{name}.md")
        defaults = declared(notebook, name)
        wanted = {"seed": seed, **at_full.get(name, {}), **on, **(parameters or {})}
        values = _values(name, defaults, wanted)
        injected = {key: value for key, value in values.items() if value != defaults[key]}
        data = tuple(data_files(notebook, name))
        chapters.append(Chapter(root, name, profile, values, injected, data, folder))
    return chapters
