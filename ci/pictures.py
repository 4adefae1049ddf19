"""Smaller SVG files that show the same: hundredths of a point, and PNGs without alpha."""

import base64
import io
import re
from pathlib import Path

from PIL import Image

PATH = re.compile(r'(?<=\sd=")[^"]+(?=")')
NUMBER = re.compile(r"-?\d+\.\d{3,}")
PNG = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=\s]+")


def slim(svg: str) -> str:
    """An SVG file as text, with shorter numbers in its paths and opaque images as RGB."""
    rounded = PATH.sub(lambda path: NUMBER.sub(lambda n: f"{float(n[0]):.2f}", path[0]), svg)
    return PNG.sub(lambda found: _opaque(found[0]), rounded)


def _opaque(encoded: str) -> str:
    """A PNG in base64 without an alpha channel that says nothing, if that is shorter."""
    raw = base64.b64decode(encoded)
    image = Image.open(io.BytesIO(raw)).convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        return encoded
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "png", optimize=True)
    found = base64.b64encode(stream.getvalue()).decode()
    return found if len(found) < len(encoded) else encoded


def slim_all(folder: Path) -> None:
    """All SVG files of a folder, in place."""
    for file in folder.glob("*.svg"):
        file.write_text(slim(file.read_text(encoding="utf-8")), encoding="utf-8")
