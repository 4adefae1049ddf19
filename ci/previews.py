"""What a reader may look up: the statements behind links, and an index of claims for the search.

They are made of the finished pages and loaded only when they are needed: `previews/CHAPTER.js` by
the first link into that chapter that a pointer rests on, `previews/glossary.js` by the first word
that is explained there, `previews/index.js` by the search page. They are scripts and not data, so
that a site that is opened as files works, too.
"""

import json
import re
from html import unescape
from pathlib import Path
from typing import NamedTuple

BOX = re.compile(
    r'<div class="proof [\w -]*admonition" id="([^"]+)">\n(.*?</section>)\n</div>', re.DOTALL
)
TERM = re.compile(r'<dt id="([^"]+)">(.*?)</dt>\s*<dd>(.*?)</dd>', re.DOTALL)
TITLE = re.compile(r'<p class="admonition-title">(.*?)</p>', re.DOTALL)
TAG = re.compile(r"<[^>]+>")
UNWANTED = re.compile(
    r'<a class="headerlink".*?</a>|</?a\b[^>]*>|<span class="claim-links">.*?</span>| id="[^"]*"',
    re.DOTALL,
)

# words that readers type, and claims that answer them; they need not say the word themselves
ALIASES = {
    "bf16 fp16 fp32 bfloat16 float16 float32 half precision format": (
        "two-point.round-off", "two-point.best-eps", "hzo-errors.rounding",
    ),
    "epsilon eps step size smoothing radius mu": (
        "two-point.best-eps", "two-point.bias", "two-point.budget", "hzo-errors.best-eps",
    ),
    "mezo malladi fine-tuning finetuning memory": (
        "one-step.expansion", "kernel-ends.two-truths", "kernel-ends.decrease", "again.broadcast",
    ),
    "lora low-rank adapter effective rank": (
        "perturbations.effective-rank", "kernel-ends.two-truths", "one-step.rank",
    ),
    "spsa rademacher simultaneous perturbation signs": (
        "two-point.variance", "two-point.not-a-gradient", "mean-square.signs",
        "perturbations.signs", "moments.three-numbers",
    ),
    "es evolution strategies gaussian smoothing": (
        "two-point.smoothing", "again.best", "moments.three-numbers",
    ),
}  # fmt: skip


class Box(NamedTuple):
    """A numbered statement: id, "Theorem 1.6 (title)" as text, and all of it as HTML."""

    id: str
    title: str
    html: str


def boxes(page: str) -> list[Box]:
    """The statements on a page, without links and ids."""
    found = []
    for name, html in BOX.findall(page):
        if title := TITLE.search(html):
            words = " ".join(unescape(TAG.sub("", title[1])).split())
            found.append(Box(name, words, UNWANTED.sub("", html)))
    return found


def terms(page: str) -> dict[str, str]:
    """The entries of the glossary, by their ids."""
    return {
        name: f"<p><strong>{TAG.sub('', UNWANTED.sub('', word)).strip()}</strong></p>"
        f"{UNWANTED.sub('', meaning)}"
        for name, word, meaning in TERM.findall(page)
    }


def write(site: Path) -> None:
    """Write the previews of each chapter and the index; aliases lead to some of them."""
    folder = site / "previews"
    folder.mkdir()
    glossary = site / "glossary.html"
    if glossary.is_file():
        found = terms(glossary.read_text(encoding="utf-8"))
        _script(folder / "glossary.js", "zotkPreviews", found)
    index = []
    for page in sorted((site / "chapters").glob("*.html")):
        stated = boxes(page.read_text(encoding="utf-8"))
        _script(folder / f"{page.stem}.js", "zotkPreviews", {box.id: box.html for box in stated})
        for box in stated:
            aliases = " ".join(words for words, ids in ALIASES.items() if box.id in ids)
            words = " ".join(unescape(TAG.sub("", TITLE.sub("", box.html))).split())
            entry = (box.id, box.title, f"chapters/{page.name}#{box.id}", aliases, words)
            index.append(entry)
    _script(folder / "index.js", "zotkIndex", index)


def dead(known: set[str]) -> list[str]:
    """Claims that an alias names and the book does not have."""
    return sorted({name for ids in ALIASES.values() for name in ids} - known)


def _script(path: Path, function: str, content: object) -> None:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    path.write_text(f"{function}({text});\n", encoding="utf-8")
