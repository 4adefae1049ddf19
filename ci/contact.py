"""One contact sheet of all figures: to see, in five minutes, whether each shows what it says.

    python -m ci.contact build/html --shots build/shots     # `ci.browse` leaves it too

`figures.html` in the folder of shots, and the same in pages `figures-01.png` …: for every picture
of the book, in its order, the page, the number, the caption, the text alternative, and what a
reader sees in the light and in the dark theme. An explorer shows the frame it starts with.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from selenium import webdriver

from ci import links
from ci.browser import (
    DESKTOP,
    Viewport,
    chromium,
    dress,
    look_through,
    serve,
    settle,
    shoot,
)

THEMES = ("light", "dark")
A_PAGE = 12  # figures
WINDOW = DESKTOP._replace(height=2_400)  # taller than any figure
PAPER = Viewport(1600, 6_000, False)  # taller than any page of the sheet


class Figure(NamedTuple):
    """A picture of the book; the files of both themes are relative to the folder of shots."""

    page: str
    label: str
    number: str  # "Fig. 2.1", or what stands there without one: explorer, image, graph
    caption: str
    alt: str
    light: str
    dark: str


# ---- pictures of a page --------------------------------------------------------------------------


def photograph(driver: webdriver.Chrome, page: str, theme: str, shots: Path) -> list[Figure]:
    """Every picture of the open page in the theme it wears; the other theme's file is named too.

    Call it once for each theme: the figures come out the same, the files differ. The page is seen
    through `WINDOW` afterwards.
    """
    stem = page.removesuffix(".html").replace("/", ".")
    found = []
    look_through(driver, WINDOW)
    for place, seen in enumerate(driver.execute_script(PICTURES), 1):
        light, dark = (f"figures/{stem}-{place:02}-{name}.png" for name in THEMES)
        texts = {key: seen[key] for key in ("label", "number", "caption", "alt")}
        found.append(Figure(page, **texts, light=light, dark=dark))
        driver.execute_async_script(SCROLL, seen["clip"]["y"])
        shoot(driver, shots / (light if theme == "light" else dark), seen["clip"])
    return found


# ---- the sheet -----------------------------------------------------------------------------------


def in_order(figures: Iterable[Figure], pages: Sequence[str]) -> list[Figure]:
    """Figures by the book's order of pages; those of other pages last."""
    rank = {page: place for place, page in enumerate(pages)}
    return sorted(figures, key=lambda figure: (rank.get(figure.page, len(rank)), figure.page))


def _cell(figure: Figure) -> str:
    pictures = "".join(
        f'<img class="{theme}" src="{escape(file)}" alt="{theme} theme">'
        for theme, file in zip(THEMES, (figure.light, figure.dark), strict=True)
    )
    where = f"{figure.page}#{figure.label}" if figure.label else figure.page
    return (
        f'<article><h2>{escape(figure.number)} <span>{escape(where)}</span></h2><div class="pair">'
        f"{pictures}</div><p><b>Caption</b> {escape(figure.caption) or '–'}</p>"
        f"<p><b>Alt</b> {escape(figure.alt) or '–'}</p></article>"
    )


def sheet(figures: Sequence[Figure]) -> str:
    """The contact sheet as HTML: one section for each `A_PAGE` figures."""
    cut = [figures[at : at + A_PAGE] for at in range(0, len(figures), A_PAGE)]
    sections = "".join(f"<section>{''.join(map(_cell, part))}</section>" for part in cut)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Contact sheet</title><style>{STYLE}</style></head><body>"
        f"<h1>{len(figures)} figures: does each show what it says?</h1>{sections}</body></html>\n"
    )


def lay_out(
    driver: webdriver.Chrome, figures: Iterable[Figure], pages: Sequence[str], shots: Path
) -> list[Path]:
    """Write `figures.html` and its pages as PNG; return all of them. Older ones are removed."""
    html = shots / "figures.html"
    shots.mkdir(parents=True, exist_ok=True)
    for old in shots.glob("figures-*.png"):
        old.unlink()
    html.write_text(sheet(in_order(figures, pages)), encoding="utf-8")
    written = [html]
    with serve(shots) as origin:
        look_through(driver, PAPER)
        driver.get(f"{origin}/figures.html")
        settle(driver)
        for number, clip in enumerate(driver.execute_script(SECTIONS), 1):
            written.append(shots / f"figures-{number:02}.png")
            driver.execute_async_script(SCROLL, clip["y"])
            shoot(driver, written[-1], clip)
    return written


def main(arguments: list[str] | None = None) -> int:
    """Photograph the figures of a built site and nothing else."""
    parser = argparse.ArgumentParser(description="Contact sheet of all figures of a built site.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--shots", type=Path, default=Path("build/shots"))
    parser.add_argument("--toc", type=Path, default=Path("book/_toc.yml"))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the browser must end with us
    start = time.perf_counter()
    order, found = links.toc_pages(options.toc), []
    with chromium() as driver:
        with serve(options.site) as origin:
            for page in order:
                look_through(driver, DESKTOP)
                driver.get(f"{origin}/{page}")
                dress(driver, "light")
                settle(driver)
                figures = photograph(driver, page, "light", options.shots)
                if figures:
                    dress(driver, "dark")
                    photograph(driver, page, "dark", options.shots)
                found += figures
                print(f"{page:50} {len(figures):2} figures", flush=True)
        lay_out(driver, found, order, options.shots)
    print(
        f"{len(found)} figures, {time.perf_counter() - start:.0f} s: {options.shots}/figures.html"
    )
    return 0


STYLE = """
body {font: 15px/1.35 sans-serif; margin: 0; color: #111; background: #fff; width: 1600px}
h1 {margin: 12px 16px}
section {display: grid; grid-template-columns: 1fr 1fr; gap: 12px; padding: 12px; width: 1576px}
article {border: 1px solid #999; padding: 8px; min-width: 0; overflow-wrap: anywhere}
h2 {font-size: 16px; margin: 0 0 6px} h2 span {font-weight: normal; color: #555}
p {margin: 6px 0 0}
.pair {display: flex; gap: 6px; align-items: start}
.pair img {width: calc(50% - 3px); max-height: 460px; object-fit: contain; object-position: top}
.pair .dark {background: #121212}
"""

# Argument: y in the page, which comes below any header that stays in place.
SCROLL = """
const [y, done] = arguments;
scrollTo({top: y - 200, behavior: "instant"});
requestAnimationFrame(() => requestAnimationFrame(() => done()));
"""

# Where each section of the sheet lies.
SECTIONS = """
return [...document.querySelectorAll("section")].map(section => {
  const box = section.getBoundingClientRect();
  return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, scale: 1};
});
"""

# The pictures of a page in its order: figures, explorers, and images and drawings outside them.
# A drawing wider than its scroller is fitted into it and taken at its own size.
PICTURES = """
const root = document.querySelector("article.bd-article, [role=main], main") || document.body;
const formulas = new Map([...(window.MathJax?.startup?.document?.math ?? [])]
  .map(item => [item.typesetRoot, item.math]));
const words = e => {  // the text of an element, formulas as their source
  if (!e) return "";
  if (formulas.has(e)) return "$" + formulas.get(e) + "$";
  if (e.matches(".headerlink, .caption-number, mjx-container *, script, style")) return "";
  return [...e.childNodes].map(node =>
    node.nodeType === Node.TEXT_NODE ? node.data : node.nodeType === Node.ELEMENT_NODE ? words(node) : ""
  ).join("");
};
const tidy = text => text.trim().replace(/\\s+/g, " ");
const decorative = e => ["presentation", "none"].includes(e.getAttribute("role"))
  || e.closest("[aria-hidden=true]");
const drawn = e => !decorative(e) && !e.closest("button, mjx-container")
  && (!e.matches("svg") || e.matches("[role=img], [role=group], [aria-label], figure *"));
const media = e => (e.matches("img, svg") ? [e] : [...e.querySelectorAll("img, svg")]).filter(drawn);
const explorer = e => {
  const home = e.closest(".cell_output, section");
  return home?.matches(".cell_output") && home.querySelector("[role=slider], input[type=range]")
    ? home : null;
};
const alone = new Set(media(root).map(e => e.closest("figure") ?? explorer(e) ?? e));
return [...alone].map(e => {
  const pictures = media(e), kind = e.matches("svg") ? "graph" : e.matches("img") ? "image" : "explorer";
  let scale = 1;
  for (const svg of pictures.filter(p => p.matches("svg"))) {
    const wide = svg.getBoundingClientRect().width;
    const room = svg.parentElement.getBoundingClientRect().width;
    if (wide > room) Object.assign(svg.style, {width: room + "px", height: "auto"});
    scale = Math.max(scale, +svg.getAttribute("width") / svg.getBoundingClientRect().width || 1);
  }
  const boxes = (kind === "explorer" && !e.matches("figure") ? [e] : pictures)
    .map(p => p.getBoundingClientRect());
  const [x, y] = [Math.min(...boxes.map(b => b.left)), Math.min(...boxes.map(b => b.top))];
  const [right, bottom] = [Math.max(...boxes.map(b => b.right)), Math.max(...boxes.map(b => b.bottom))];
  const caption = e.querySelector("figcaption");
  return {
    label: e.id || e.querySelector("[id]")?.id || "",
    number: tidy(e.querySelector(".caption-number")?.textContent ?? "") || (e.matches("figure") ? "figure" : kind),
    caption: tidy(words(caption)),
    alt: pictures.map(p => p.getAttribute("alt") ?? p.getAttribute("aria-label") ?? "").join(" | "),
    clip: {x: x + scrollX, y: y + scrollY, width: Math.max(1, right - x), height: Math.max(1, bottom - y), scale},
  };
});
"""


if __name__ == "__main__":
    sys.exit(main())
