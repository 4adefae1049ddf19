"""The whole book as one PDF, printed by headless Chromium.

    python -m ci.pdf build/html --file build/book.pdf

Pages follow the table of contents. Headings become the outline, links between pages links between
places of the document, folds are open. What would not fit on the paper is a fault.
"""

import argparse
import base64
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NullObject, NumberObject
from selenium import webdriver

from ci import links
from ci.browser import Viewport, chromium, dress, look_through, serve, settle
from ci.console import any_locale, passed

INCH = 96  # CSS pixels
PAPER, MARGIN = (8.27, 11.69), 0.6  # inches: A4
LINE = round((PAPER[0] - 2 * MARGIN) * INCH)  # pixels between the margins
FOOT = '<div style="width: 100%; font-size: 8px; text-align: center" class="title"></div>'

# Argument: ids that pages link to. Chromium keeps the place of an id that is linked to.
PREPARE = """
const [wanted] = arguments;
const article = document.querySelector("article");
document.body.className = "";
document.body.replaceChildren(article);
article.className = "bd-content bd-article book";
article.querySelectorAll("script, .headerlink, .filters, .claim-links").forEach(e => e.remove());
article.querySelectorAll("details").forEach(e => { e.open = true; });
const places = Object.assign(document.createElement("p"), {style: "font-size: 1px; opacity: 0"});
for (const id of wanted) {
  places.append(Object.assign(document.createElement("a"), {href: "#" + id, textContent: "."}));
}
article.append(places);
"""

# Formulas wider than the line are made smaller; returns what still sticks out or is hidden.
FIT = """
const sizes = [...document.querySelectorAll("mjx-container")].map(formula => [
  formula, formula.clientWidth || formula.parentElement.clientWidth,
  Math.max(formula.scrollWidth, formula.firstElementChild?.offsetWidth ?? 0),
  parseFloat(getComputedStyle(formula).fontSize)]);  // all are read before one is changed
for (const [formula, room, wide, size] of sizes) {
  if (wide > room + 1) formula.style.fontSize = `${0.98 * size * room / wide}px`;
}
const edge = document.documentElement.clientWidth;
const unseen = e => e.closest("mjx-assistive-mml, span.math, .visually-hidden, svg *");
const cut = e => e.getBoundingClientRect().right > edge + 1
  || (e.clientWidth && e.scrollWidth > e.clientWidth + 1
    && getComputedStyle(e).overflowX !== "visible");
const outer = e => !unseen(e) && cut(e) && !cut(e.parentElement);
return [...document.querySelectorAll("article *")].filter(outer).map(e =>
  `${e.tagName.toLowerCase()}.${e.className} ${e.textContent.trim().slice(0, 40)}`);
"""


class Printed(NamedTuple):
    """A page of the site: its title, its PDF, and what is cut off."""

    title: str
    pdf: bytes
    cut: list[str]


def wanted(site: Path, pages: Sequence[str]) -> dict[str, list[str]]:
    """For each page the ids that links of all pages lead to."""
    found: dict[str, dict[str, None]] = {page: {} for page in pages}
    for page in pages:
        for url in links.read((site / page).read_text(encoding="utf-8")).links:
            parts = urlsplit(urljoin(page, url))
            if parts.fragment and not parts.netloc and parts.path in found:
                found[parts.path][unquote(parts.fragment)] = None
    return {page: list(ids) for page, ids in found.items()}


def print_page(driver: webdriver.Chrome, address: str, ids: Sequence[str]) -> Printed:
    """Print one page of the site."""
    look_through(driver, Viewport(LINE, 900, False))
    driver.get(address)
    dress(driver, "light")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    settle(driver)
    driver.execute_script(PREPARE, ids)
    cut = driver.execute_script(FIT)
    options = {
        "paperWidth": PAPER[0],
        "paperHeight": PAPER[1],
        **{f"margin{side}": MARGIN for side in ("Top", "Bottom", "Left", "Right")},
        "displayHeaderFooter": True,
        "headerTemplate": "<span></span>",
        "footerTemplate": FOOT,
        "printBackground": True,
        "generateTaggedPDF": True,
        "generateDocumentOutline": True,
    }
    pdf = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", options)["data"])
    return Printed(driver.title, pdf, cut)


def joined(printed: Mapping[str, Printed], origin: str) -> bytes:
    """One PDF of all pages; links to ``origin`` become links within it."""
    writer = PdfWriter()
    places: dict[tuple[str, str], ArrayObject] = {}  # (page of the site, id)
    starts: dict[str, range] = {}
    for page, part in printed.items():
        reader = PdfReader(io.BytesIO(part.pdf))
        first = len(writer.pages)
        writer.append(reader, import_outline=True)
        starts[page] = range(first, len(writer.pages))
        for name, place in reader.named_destinations.items():
            at = reader.get_destination_page_number(place) or 0
            target = writer.pages[first + at].indirect_reference
            fit = [NameObject("/XYZ"), place.left or NumberObject(0), place.top or NullObject()]
            places[page, _id(name)] = ArrayObject([target, *fit, NullObject()])
        top = writer.pages[first].indirect_reference
        places[page, ""] = ArrayObject([top, NameObject("/Fit")])
    for page, numbers in starts.items():
        for number in numbers:
            for entry in writer.pages[number].get("/Annots", ArrayObject()):
                _lead(entry.get_object(), page, origin, places)
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


def _id(name: object) -> str:
    return unquote(str(name).removeprefix("/"))


def _lead(
    link: DictionaryObject, page: str, origin: str, places: Mapping[tuple[str, str], ArrayObject]
) -> None:
    """Make a link of ``page`` lead to a place of the document, if it is one of the site's."""
    action = link.get("/A", DictionaryObject()).get_object()
    name = link.get("/Dest", action.get("/D"))
    if name is not None:
        target = places.get((page, _id(name)))
    elif str(action.get("/URI", "")).startswith(f"{origin}/"):
        parts = urlsplit(str(action["/URI"]))
        path = parts.path.lstrip("/")
        target = places.get((path, unquote(parts.fragment))) or places.get((path, ""))
    else:
        return
    link.pop("/A", None)
    link.pop("/Dest", None)
    if target is not None:
        link[NameObject("/Dest")] = target


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the book was printed and nothing is cut."""
    any_locale()
    parser = argparse.ArgumentParser(description="Print a built site as one PDF.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--file", type=Path, default=Path("build/book.pdf"))
    parser.add_argument("--toc", type=Path, default=Path("book/_toc.yml"))
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    pages = links.toc_pages(options.toc)
    targets = wanted(options.site, pages)
    printed: dict[str, Printed] = {}
    with chromium() as driver, serve(options.site) as origin:
        for number, page in enumerate(pages, 1):
            start = time.perf_counter()
            printed[page] = print_page(driver, f"{origin}/{page}", targets[page])
            passed(number, len(pages), page, start)
            for place in printed[page].cut:
                print(f"          cut: {place}", flush=True)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_bytes(joined(printed, origin))
    size, seconds = options.file.stat().st_size / 1e6, time.perf_counter() - begin
    cuts = sum(len(part.cut) for part in printed.values())
    print(f"{options.file}: {size:.1f} MB, {seconds:.0f} s, {cuts} places cut")
    return 1 if cuts else 0


if __name__ == "__main__":
    sys.exit(main())
