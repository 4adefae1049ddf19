"""Smaller pictures that show the same.

SVG files with hundredths of a point, without indents and metadata, and with PNGs without alpha;
frames as lossless WebP.
"""

import base64
import io
import re
from pathlib import Path

from PIL import Image

PLACE = re.compile(r'(?<=\s[dxy]=")[^"]+(?=")')
IDLE = re.compile(r"<metadata>.*?</metadata>|(?<=\n) +", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d{3,}")
PNG = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=\s]+")


def slim(svg: str) -> str:
    """An SVG file as text, with shorter numbers in its places and opaque images as RGB."""
    short = IDLE.sub("", svg)
    rounded = PLACE.sub(lambda place: NUMBER.sub(lambda n: f"{float(n[0]):.2f}", place[0]), short)
    return PNG.sub(lambda found: _opaque(found[0]), rounded)


def _opaque(encoded: str) -> str:
    """A PNG in base64 without an alpha channel that says nothing, if that is shorter.

    With a palette where that loses nothing.
    """
    raw = base64.b64decode(encoded)
    image = Image.open(io.BytesIO(raw)).convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        return encoded
    image, stream = image.convert("RGB"), io.BytesIO()
    if image.getcolors(256):  # a colour map has no more: a byte for each pixel is enough
        few = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        image = few if few.convert("RGB").tobytes() == image.tobytes() else image
    image.save(stream, "png", optimize=True)
    found = base64.b64encode(stream.getvalue()).decode()
    return found if len(found) < len(encoded) else encoded


def slim_all(folder: Path) -> None:
    """All SVG files of a folder, in place."""
    for file in folder.glob("*.svg"):
        file.write_text(slim(file.read_text(encoding="utf-8")), encoding="utf-8")


def webp(png: bytes) -> tuple[bytes, tuple[int, int]]:
    """A picture without its alpha channel as lossless WebP, and its width and height."""
    image, stream = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    image.save(stream, "webp", lossless=True, quality=50, method=3)  # more takes longer in vain
    return stream.getvalue(), image.size
