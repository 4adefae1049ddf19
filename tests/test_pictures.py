"""Slim pictures show the same."""

import base64
import io

from PIL import Image

from ci import pictures


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()


def decoded(text):
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA").tobytes()


def test_places_are_rounded_and_nothing_else():
    use = '<use x="{}" id="d=3.14159" transform="scale(1.23456)"/>'
    svg = f'<svg><path d="M 1.23456789 -0.001234 L 7 8.5 z"/>{use.format("1.23456789")}</svg>'
    slim = f'<svg><path d="M 1.23 -0.00 L 7 8.5 z"/>{use.format("1.23")}</svg>'
    assert pictures.slim(svg) == slim


def test_indents_and_metadata_go():
    svg = "<svg>\n <metadata>\n  <a/>\n </metadata>\n <text>a  b</text>\n</svg>"
    assert pictures.slim(svg) == "<svg>\n\n<text>a  b</text>\n</svg>"


def test_pixels_stay():
    noise = Image.effect_noise((60, 50), 80).convert("RGBA")
    clear = noise.copy()
    clear.putpixel((3, 4), (1, 2, 3, 0))
    for image, shorter in ((noise, True), (clear, False)):
        png = encoded(image)
        found = pictures.slim(f'<image href="data:image/png;base64,{png}"/>')
        inner = found.partition("base64,")[2].partition('"')[0]
        assert decoded(inner) == image.tobytes()
        assert (len(inner) < len(png)) == shorter


def test_a_colour_map_becomes_a_palette():
    noise = Image.effect_noise((60, 50), 80)
    noise.putpalette([k for level in range(256) for k in (level, 255 - level, level // 2)])
    few = noise.convert("RGB")
    found = pictures.slim(f'<image href="data:image/png;base64,{encoded(few)}"/>')
    inner = found.partition("base64,")[2].partition('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(inner))).mode == "P"
    assert decoded(inner) == few.convert("RGBA").tobytes()


def test_a_folder(tmp_path):
    (tmp_path / "a.svg").write_text('<path d="M 0.123456 1"/>')
    (tmp_path / "b.png").write_bytes(b"kept")
    pictures.slim_all(tmp_path)
    assert (tmp_path / "a.svg").read_text() == '<path d="M 0.12 1"/>'
    assert (tmp_path / "b.png").read_bytes() == b"kept"
