"""Faults of a built site that can be read from its files, with no browser.

    python -m ci.links build/html

Dead internal links and fragments, ids used twice, images without a text alternative (those
waiting in the frames of an explorer too) and pages of the table of contents that were not built.
"""

import argparse
import json
import posixpath
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import yaml

from ci.console import any_locale

SOURCE_SUFFIXES = (".md", ".ipynb", ".rst")


class Problem(NamedTuple):
    """One fault; page is relative to the site's root."""

    page: str
    what: str


@dataclass
class Page:
    """What one HTML file declares and asks for."""

    ids: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    images: list[tuple[str, str | None, bool]] = field(default_factory=list)  # as of alt_fault
    redirect: str | None = None


class _Reader(HTMLParser):
    """Fills a Page; markup inside scripts is text, as it is for a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._explorer: str | None = None  # the folder of its frames
        self._alts: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if named.get("id"):
            self.page.ids.append(str(named["id"]))
        if tag == "a" and named.get("name"):
            self.page.anchors.add(str(named["name"]))
        wanted = [named.get("href"), named.get("src")]
        if tag == "object":
            wanted.append(named.get("data"))
        self.page.links.extend(url for url in wanted if url is not None)
        if tag == "img":
            alt = named["alt"] or "" if "alt" in named else None
            hidden = named.get("aria-hidden") == "true"
            decoration = hidden or named.get("role") in ("presentation", "none")
            self.page.images.append((named.get("src") or "", alt, decoration))
        if tag == "meta" and (named.get("http-equiv") or "").lower() == "refresh":
            _, _, target = (named.get("content") or "").partition("=")
            self.page.redirect = target.strip(" '\"") or None
            self.page.links.extend([self.page.redirect] if self.page.redirect else [])
        self._explorer = named.get("data-frames", self._explorer)
        if tag == "script" and self._explorer and named.get("type") == "application/json":
            self._alts = []

    def handle_data(self, data: str) -> None:
        if self._alts is not None:
            self._alts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._alts is not None:
            for at, alt in enumerate(json.loads("".join(self._alts))):
                frame = f"{self._explorer}/{at}.webp"
                self.page.images.append((frame, alt, False))
                self.page.links.append(frame)
            self._explorer = self._alts = None


def read(html: str) -> Page:
    """Page of an HTML text."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page


def pages(site: Path) -> list[str]:
    """Pages a reader can open: every HTML file outside _static."""
    found = (path.relative_to(site) for path in site.rglob("*.html"))
    return sorted(path.as_posix() for path in found if path.parts[0] != "_static")


def toc_pages(toc: Path) -> list[str]:
    """Pages that a jupyter-book table of contents promises."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, list):
            for item in node:
                yield from walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key in ("root", "file"):
                    name = PurePosixPath(str(value))
                    bare = name.with_suffix("") if name.suffix in SOURCE_SUFFIXES else name
                    yield f"{bare}.html"
                else:
                    yield from walk(value)

    return list(walk(yaml.safe_load(toc.read_text(encoding="utf-8"))))


def alt_fault(src: str, alt: str | None, decoration: bool) -> str | None:
    """Why an image has no text alternative, None when it has one or is marked as decoration.

    The mark is role="presentation" or aria-hidden="true"; an empty alt alone is none, because
    Markdown writes it for an image whose author said nothing.
    """
    shown = src if len(src) <= 80 else src[:77] + "..."
    if decoration:
        return None
    if alt is None:
        return f"img without alt: {shown}"
    if not alt.strip():
        return f"img with an empty alt, not marked as decoration: {shown}"
    if alt in (src, posixpath.basename(unquote(urlsplit(src).path))):
        return f"img whose alt is its own file name: {shown}"  # docutils' stand-in for no alt
    return None


def _link_fault(site: Path, page: str, url: str, known: dict[str, Page]) -> str | None:
    """Why an internal link leads nowhere."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"malformed link: {url}"
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    base = "" if path.startswith("/") else posixpath.dirname(page)
    target = posixpath.normpath(posixpath.join(base, path.lstrip("/"))) if path else page
    if target.split("/")[0] == "..":
        return f"link out of the site: {url}"
    if (site / target).is_dir():
        target = posixpath.normpath(posixpath.join(target, "index.html"))
    if not (site / target).is_file():
        return f"dead link: {url}"
    fragment = unquote(parts.fragment.partition(":~:")[0])
    if fragment in ("", "top") or not target.endswith(".html"):
        return None
    if target not in known:
        known[target] = read((site / target).read_text(encoding="utf-8"))
    if fragment in known[target].anchors or fragment in known[target].ids:
        return None
    return f"dead fragment: {url}"


def problems(site: Path, wanted: Iterable[str] = ()) -> list[Problem]:
    """Every static fault of a site; wanted: pages that must exist beside index.html."""
    found = [
        Problem(name, "page is missing")
        for name in dict.fromkeys(("index.html", *wanted))
        if not (site / name).is_file()
    ]
    known = {name: read((site / name).read_text(encoding="utf-8")) for name in pages(site)}
    for name, page in list(known.items()):
        faults = [f"duplicate id: {key}" for key, n in Counter(page.ids).items() if n > 1]
        faults += [fault for image in page.images if (fault := alt_fault(*image))]
        faults += [fault for url in page.links if (fault := _link_fault(site, name, url, known))]
        found += [Problem(name, fault) for fault in dict.fromkeys(faults)]
    return found


def main(arguments: list[str] | None = None) -> int:
    """0 when the site has no static fault, else 1 with one line for each."""
    any_locale()
    parser = argparse.ArgumentParser(description="Static faults of a built site.")
    parser.add_argument("site", type=Path)
    parser.add_argument("--toc", type=Path, default=Path("book/_toc.yml"))
    options = parser.parse_args(arguments)
    found = problems(options.site, toc_pages(options.toc))
    for page, what in found:
        print(f"{page}: {what}")
    print(f"{len(pages(options.site))} pages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
