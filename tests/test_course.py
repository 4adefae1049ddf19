"""The first course: six pages without claims, short, on one toy and one network, with exercises."""

import re
from pathlib import Path

import jupytext
import pytest
import yaml

ROOT = Path(__file__).parent.parent
TOC = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))
(COURSE,) = (part for part in TOC["parts"] if part["caption"] == "First course")
PAGES = [Path(each["file"]).name for each in COURSE["chapters"]]
CODE = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"^```\{answer\} (\S+)\n(?:^:.*\n)*:hint: \S", re.MULTILINE)


def text(page: str) -> str:
    return (ROOT / f"chapters/{page}.md").read_text(encoding="utf-8")


def code(page: str) -> list[tuple[list[str], str]]:
    cells = jupytext.reads(text(page), fmt="md:myst").cells
    return [(c.metadata.get("tags", []), c.source) for c in cells if c.cell_type == "code"]


def test_six_pages_before_the_first_part_and_without_numbers() -> None:
    captions = [part["caption"] for part in TOC["parts"]]
    assert len(PAGES) == 6 and captions.index("First course") == 1
    assert not COURSE.get("numbered")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_quotes(page: str) -> None:
    whole = text(page)
    assert "{claim}" not in whole
    assert whole.count("{prf:ref}`") >= 3 and "{status}`" in whole
    prose = CODE.sub("", re.sub(r"\A---.*?^---$", "", whole, flags=re.MULTILINE | re.DOTALL))
    assert len(prose.split()) <= 1500 + whole.count("$") // 2
    shown = [source for tags, source in code(page) if "show-input" in tags]
    assert sum(len(source.splitlines()) for source in shown) <= 40
    endings = re.findall(r"^## (.*)$", whole, re.MULTILINE)[-2:]
    assert endings == ["What to do on Monday", "Where the proof stands"]


@pytest.mark.parametrize("page", PAGES)
def test_the_explorer_is_the_question(page: str) -> None:
    whole = text(page)
    question = whole[whole.index("\n## The question") :]
    before_the_next = question[: question.index("\n## ", 4)]
    assert "zotk.frame_player(" in before_the_next


def test_all_pages_have_one_toy_and_one_network() -> None:
    assert len({tuple(source for _, source in code(page)[:2]) for page in PAGES}) == 1


@pytest.mark.parametrize("page", PAGES)
def test_two_warm_ups_two_that_teach_one_to_break(page: str) -> None:
    titles = re.findall(r"^`{4}\{exercise\} (.*)$", text(page), re.MULTILINE)
    assert len(titles) == 5
    assert [title.startswith("Warm-up: ") for title in titles] == [True] * 2 + [False] * 3
    assert titles[-1].startswith("Break")
    keys = ANSWER.findall(text(page))
    assert len(set(keys)) == 5
    for key in keys:
        assert f'glue("{key}"' in text(page)
