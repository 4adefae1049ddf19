"""Claims as JupyterLab can draw them: boxes of a kind that its MyST extension knows.

The chapters' own directive is unknown there, and its box would show the source. What Lab is given
has a `{prf:…}` in its place, what Lab saves has the claim again, byte by byte.
"""

import re
from pathlib import Path
from typing import Any

import jupytext

# of our kinds, those under a name that the extension does not know
NAMES = {"measurement": "observation"}
CLAIM = re.compile(r"^(`{3,}|:{3,})\{claim\} (\S+) (.*)\n:kind: (\w+)\n", re.MULTILINE)
BOX = re.compile(r"^(`{3,}|:{3,})\{prf:\w+\} (.*)\n:label: (\S+)\n:kind: (\w+)\n", re.MULTILINE)


def to_boxes(text: str) -> str:
    """The text of a cell with a box of the extension for each claim."""
    return CLAIM.sub(
        lambda m: f"{m[1]}{{prf:{NAMES.get(m[4], m[4])}}} {m[3]}\n:label: {m[2]}\n:kind: {m[4]}\n",
        text,
    )


def to_claims(text: str) -> str:
    """The text of a cell as the chapter has it: the inverse of `to_boxes`."""
    return BOX.sub(r"\1{claim} \3 \2\n:kind: \4\n", text)


def _changed(model: dict[str, Any], change: Any) -> dict[str, Any]:
    if model.get("type") == "notebook" and model.get("content"):
        for cell in model["content"]["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = change(cell["source"])
    return model


class Chapters(jupytext.AsyncTextFileContentsManager):
    """Jupytext's pairing of notebooks, with boxes for the reader and claims on disk."""

    async def get(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A file or folder; in a notebook, boxes."""
        return _changed(await super().get(*args, **kwargs), to_boxes)

    async def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Write a file; of a notebook, claims. A chapter with the same cells stays as it is."""
        chapter = Path(self.root_dir, path.strip("/")).with_suffix(".md")
        paired = model.get("type") == "notebook" and chapter.is_file()
        before = chapter.read_bytes() if paired else None
        saved: dict[str, Any] = await super().save(_changed(model, to_claims), path)
        if before is not None and _cells(before) == _cells(chapter.read_bytes()):
            chapter.write_bytes(before)
        return saved


def _cells(chapter: bytes) -> list[tuple[str, str, Any]]:
    cells = jupytext.reads(chapter.decode(), fmt="md:myst").cells
    return [(cell.cell_type, cell.source, cell.metadata) for cell in cells]
