"""The prerequisites on the title page: what is said, and no more than is needed."""

import random
import re
from pathlib import Path

import pytest
from claims_book import Book
from prerequisites import arcs, direct


def test_a_later_page_is_no_prerequisite() -> None:
    assert direct({"a": ["b", "a"], "b": ["a"]}) == {"a": [], "b": ["a"]}


def test_what_another_need_brings_is_left_out() -> None:
    stated = {"a": [], "b": ["a"], "c": ["b", "a", "a"], "d": ["a"]}
    assert direct(stated) == {"a": [], "b": ["a"], "c": ["b"], "d": ["a"]}


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_and_nothing_can_go(seed: int) -> None:
    draw = random.Random(seed)
    pages = [str(i) for i in range(9)]
    stated = {p: draw.sample(pages[:i], draw.randint(0, min(i, 4))) for i, p in enumerate(pages)}

    def reach(links: dict[str, list[str]], page: str) -> set[str]:
        return set(links[page]).union(*(reach(links, other) for other in links[page]))

    found = direct(stated)
    for page in pages:
        assert reach(found, page) == reach(stated, page)
        for other in found[page]:
            fewer = {**found, page: [x for x in found[page] if x != other]}
            assert other not in reach(fewer, page)


def test_an_arc_for_each_need_and_a_dot_for_each_page() -> None:
    drawn = arcs({"a": [], "b": ["a"], "c": ["a", "b"]})
    ends = re.findall(r'<path d="M100 ([\d.]+)C.*? 100 ([\d.]+)"', drawn)
    assert ends == [("20.0", "60.0"), ("20.0", "100.0"), ("60.0", "100.0")]
    assert drawn.count('class="dot"') == 3 and 'aria-hidden="true"' in drawn


def test_the_page_lists_chapters_with_what_they_need(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.index += "\n```{prerequisites}\n```\n"
    book.one = "(ch:one)=" + book.one.replace("# One\n", "# One\n\n**You need** {ref}`ch:two`.\n")
    book.two = "(ch:two)=" + book.two.replace("# Two\n", "# Two\n\n**You need** {ref}`ch:one`.\n")
    assert book.build() == (0, "")
    rows = re.findall(r"<li><span>(.*?)</span></li>", book.page("index"), re.DOTALL)
    words = [re.sub(r"<[^>]+>", "", row) for row in rows]
    assert words == ["1 One", "2 Two after 1"]
    assert 'href="chapters/two.html"' in rows[1]


def test_pages_without_a_number_are_not_listed(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.index = (
        book.index.replace("\nchapters/one", "").replace(
            "```{toctree}\natlas", "```{toctree}\nchapters/one\natlas"
        )
        + "\n```{prerequisites}\n```\n"
    )
    book.one = "(ch:one)=" + book.one
    book.two = book.two.replace("# Two\n", "# Two\n\n**You need** {ref}`ch:one`.\n")
    assert book.build() == (0, "")
    rows = re.findall(r"<li><span>(.*?)</span></li>", book.page("index"), re.DOTALL)
    assert [re.sub(r"<[^>]+>", "", row) for row in rows] == ["1 Two"]
