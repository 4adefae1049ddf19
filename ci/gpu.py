"""Evidence from elsewhere: run chapters at paper scale there and keep what their checks recorded.

    python -m ci.gpu [--seed N] [--device cuda|cpu] [--only NAME …]

A GPU, unless told; on the CPU it is for chapters whose full profile needs data that a build lacks.

A run leaves `ci/evidence/DEVICE.json`, to be committed. The site shows such files beside its own
evidence; they lift no claim's status. A chapter's part of a file is *stale* once the chapter or
zotk has changed, which a digest of their contents tells.

Nothing is written for a chapter that did without data it was asked for.

Figures of cells tagged `kept` are in the file, too. Where a build cannot draw such a figure, for
want of data, the site shows the kept one and says where it comes from.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import nbformat
import torch

from ci import evidence, run
from ci.chapters import ROOT, Chapter, ChapterError, digest, files_under, plan
from ci.console import any_locale

_FILE = {"device": str, "date": str, "seed": int, "versions": dict, "chapters": dict}
_CHAPTER = {
    "content": str,
    "parameters": dict,
    "seconds": (int, float),
    "records": list,
    "figures": dict,
}
SVG = "image/svg+xml"


def content_digest(root: Path, chapter: str) -> str:
    """A digest of what a chapter's evidence speaks about: its source and all of zotk."""
    source = root / "chapters" / f"{chapter}.md"
    return digest([source, *files_under(root / "zotk")], root)


def distil(root: Path, chapters: Sequence[Chapter], device: str, seed: int) -> dict[str, Any]:
    """The content of an evidence file, from valid runs of these chapters.

    Raises ChapterError for a chapter without a valid run, with a check that is not sound, or
    with data left out.
    """
    parts = {}
    for chapter in chapters:
        if chapter.fresh() is None:
            raise ChapterError(f"no valid run of {chapter.name} at paper scale")
        (found,) = [
            one for one in evidence.read_chapters(chapter.folder) if one.name == chapter.name
        ]
        for record in found.records:
            for fault in evidence.faults(record):
                raise ChapterError(f"{chapter.name}: check of {record.get('id')!r} {fault}")
        notebook = nbformat.read(chapter.notebook, as_version=4)
        if missing := dict(left_out(notebook)):
            why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise ChapterError(f"{chapter.name} left out data it was asked for: {why}")
        parts[chapter.name] = {
            "content": content_digest(root, chapter.name),
            "parameters": dict(chapter.values),
            "seconds": found.seconds,
            "records": found.records,
            "figures": dict(drawn(notebook)),
        }
    versions = {name: version(name) for name in ("zotk", "torch", "numpy")}
    return {
        "device": device,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": {"python": python_version(), **versions},
        "chapters": parts,
    }


def save(root: Path, content: Mapping[str, Any]) -> Path:
    """Write `ci/evidence/DEVICE.json`, the device's name in small letters and hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", content["device"].lower()).strip("-")
    path = root / "ci/evidence" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def left_out(notebook: Any) -> Iterator[tuple[str, str]]:
    """The name of each data set that a cell could not read, and why; zotk records them."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).get(evidence.LEFT_OUT):
                yield found["name"], found["why"]


def drawn(notebook: Any) -> Iterator[tuple[str, str]]:
    """The name and the SVG of each figure that a cell tagged `kept` drew."""
    for figure, outputs in _kept(notebook):
        for output in outputs:
            if SVG in output.get("data", {}):
                yield figure["name"], output["data"][SVG]


def fill(root: Path, chapter: str, notebook: Any) -> Any:
    """The executed notebook, with kept figures where its cells tagged `kept` drew none.

    Their captions say on which device and day they were drawn. Raises ValueError as `elsewhere`.
    """
    have = dict(drawn(notebook))
    missing = [(f, outputs) for f, outputs in _kept(notebook) if f["name"] not in have]
    known = dict(_figures(root, chapter)) if missing else {}
    for figure, outputs in missing:
        if figure["name"] in known:
            svg, note = known[figure["name"]]
            outputs.append(nbformat.v4.new_output("display_data", {SVG: svg}))
            figure["caption"] = f"{figure['caption'].rstrip()} *{note}*"
    return notebook


def _kept(notebook: Any) -> Iterator[tuple[dict[str, str], list[Any]]]:
    """Name with caption, and outputs, of the cells tagged `kept`."""
    for cell in notebook.cells:
        if "kept" in cell.metadata.get("tags", []):
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if not {"name", "caption"} <= figure.keys():
                raise ValueError("a cell tagged `kept` needs a figure with name and caption")
            yield figure, cell.outputs


def _figures(root: Path, chapter: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, SVG and origin of the figures kept of a chapter, the newest of a name last."""
    files = [_read(path) for path in sorted((root / "ci/evidence").glob("*.json"))]
    for content in sorted(files, key=lambda content: content["date"]):
        part = content["chapters"].get(chapter)
        if part is None:
            continue
        note = f"Drawn on {content['device']}, {content['date'].partition('T')[0]}"
        if content_digest(root, chapter) != part["content"]:
            note += "; the chapter or the library has changed since"
        for name, svg in part["figures"].items():
            yield name, (svg, f"{note}.")


def elsewhere(root: Path) -> list[dict[str, Any]]:
    """One row for each device and chapter: what was checked there, and whether it still holds.

    Raises ValueError for a file that is malformed or holds an unsound record.
    """
    rows = []
    for path in sorted((root / "ci/evidence").glob("*.json")):
        content = _read(path)
        for name, part in content["chapters"].items():
            source = root / "chapters" / f"{name}.md"
            on_device = [r for r in part["records"] if r["device"] != "cpu"]
            current = source.is_file() and content_digest(root, name) == part["content"]
            rows.append(
                {
                    "device": content["device"],
                    "date": content["date"].partition("T")[0],
                    "chapter": name,
                    "checks": len(part["records"]),
                    "on_device": len(on_device),
                    "twins": sum(len(r["twins"]) for r in part["records"]),
                    "seconds": part["seconds"],
                    "current": current,
                }
            )
    return rows


def _read(path: Path) -> dict[str, Any]:
    where = f"ci/evidence/{path.name}"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{where} is malformed: {error!r}") from error
    _shaped(content, _FILE, where)
    for name, part in content["chapters"].items():
        _shaped(part, _CHAPTER, f"{where}: {name}")
        _shaped(part["figures"], dict.fromkeys(part["figures"], str), f"{where}: {name}: figures")
        for number, record in enumerate(part["records"], 1):
            for fault in evidence.faults(record):
                raise ValueError(f"{where}: {name}: check {number} {fault}")
    return content


def _shaped(data: Any, fields: Mapping[str, Any], where: str) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{where} is malformed: {data!r}")
    for key, kind in fields.items():
        if not isinstance(data.get(key), kind):
            raise ValueError(f"{where} is malformed: {key} is {data.get(key, 'missing')!r}")


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    any_locale()
    parser = argparse.ArgumentParser(prog="python -m ci.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these chapters, not all")
    args = parser.parse_args(argv)
    seed, device = args.seed, args.device
    if device == "cuda" and not torch.cuda.is_available():
        print(f"error: torch {torch.__version__} sees no CUDA device", file=sys.stderr)
        return 2
    only = ["--only", *args.only] if args.only else []
    status = run.main(["--profile", "full", "--seed", str(seed), "--device", device, *only], root)
    if status:
        return status
    try:
        chapters = plan(root, "full", seed, device=device)
        chapters = [one for one in chapters if not args.only or one.name in args.only]
        name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {os.cpu_count()} cores"
        content = distil(root, chapters, name, seed)
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {save(root, content)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
