"""One style sheet for a built site in place of seventeen, and fonts of those icons that it shows.

A browser shows nothing before it has all of a page's style sheets. The theme's names two thousand
icons, of which pages show some twenty.
"""

import hashlib
import io
import os
import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

LINK = re.compile(r'[ \t]*<link(?=[^>]*\brel="stylesheet")[^>]*?href="([^"?]*)[^"]*"[^>]*>\n?')
IMPORT = re.compile(r'@import "([^"]+)";')
ADDRESS = re.compile(r"url\((?!data:|#)[\"']?([^\"')]+)[\"']?\)")
ICON = re.compile(r'((?:\.fa-[a-z0-9-]+:+before,)*\.fa-[a-z0-9-]+:+before)\{content:"([^"]*)"\}')
NAME = re.compile(r"\bfa-([a-z0-9-]+)")
DRAWN = re.compile(r"[\ue000-\uf8ff]")  # characters that only a font of icons draws
ESCAPED = re.compile(r"\\([0-9a-f]{4,6}) ?")
FACE = re.compile(r"@font-face\{[^}]*\}")


class StyleError(Exception):
    """Pages whose style sheets cannot be made one."""


def gather(site: Path) -> None:
    """Give all pages of a site one style sheet, and the icons that they show alone.

    Raises `StyleError` if pages have different sheets, or a sheet is missing.
    """
    for template in (site / "_static").glob("*.html"):  # the theme's own, left over
        template.unlink()
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(site.rglob("*.html"))}
    lists = {
        page: tuple(dict.fromkeys((page.parent / each).resolve() for each in LINK.findall(text)))
        for page, text in pages.items()
    }
    dressed = [page for page, sheets in lists.items() if sheets]
    if not dressed:
        return
    if len({lists[page] for page in dressed}) > 1:
        raise StyleError("pages of the site have different style sheets")
    sheets = lists[dressed[0]]
    folder = site / "_static/styles"  # where the theme's are
    folder.mkdir(exist_ok=True)
    style = "\n".join(_flat(sheet, folder.resolve()) for sheet in sheets)
    scripts = [file.read_text(encoding="utf-8") for file in (site / "_static").rglob("*.js")
               if "vendor" not in file.parts]  # fmt: skip
    shown = {name for text in (*pages.values(), *scripts) for name in NAME.findall(text)}
    style = ICON.sub(  # an icon may have several names
        lambda rule: rule[0] if shown.intersection(NAME.findall(rule[1])) else "", style
    )
    _icons(style, folder)
    name = f"site.{hashlib.sha256(style.encode()).hexdigest()[:16]}.css"
    (folder / name).write_text(style, encoding="utf-8")
    for page in dressed:
        link = f'<link rel="stylesheet" href="{_way(page.parent, folder / name)}">\n'
        text = LINK.sub("\0", pages[page])
        page.write_text(text.replace("\0", link, 1).replace("\0", ""), encoding="utf-8")
    for sheet in sheets:
        sheet.unlink()


def _way(start: Path, end: Path) -> str:
    return Path(os.path.relpath(end, start)).as_posix()


def _flat(sheet: Path, folder: Path) -> str:
    """A sheet with what it imports, its addresses seen from a folder."""
    if not sheet.is_file():
        raise StyleError(f"{sheet}: there is no such style sheet")
    text = IMPORT.sub(lambda found: _flat((sheet.parent / found[1]).resolve(), sheet.parent),
                      sheet.read_text(encoding="utf-8"))  # fmt: skip
    return ADDRESS.sub(
        lambda found: f'url("{_way(folder, (sheet.parent / found[1]).resolve())}")', text
    )


def _icons(style: str, folder: Path) -> None:
    """Reduce the fonts of icons to what a style draws with them."""
    plain = ESCAPED.sub(lambda code: chr(int(code[1], 16)), style)
    drawn = {*DRAWN.findall(plain), *"".join(content for _, content in ICON.findall(plain))}
    for rule in FACE.findall(style):
        for address in ADDRESS.findall(rule):
            file = folder / address
            if file.suffix != ".woff2":
                continue
            font = TTFont(io.BytesIO(file.read_bytes()), recalcTimestamp=False)
            options = subset.Options(layout_features=[], drop_tables=["GSUB", "GPOS"])
            worker = subset.Subsetter(options)
            worker.populate(text="".join(sorted(drawn)))
            worker.subset(font)
            font.flavor = "woff2"
            font.save(file)
