"""The head of a chapter says how long it takes: its words, proofs slowly, are the measure."""

import re
from pathlib import Path

import pytest

CHAPTERS = Path(__file__).parent.parent / "chapters"
PROSE, PROOF = 60, 25  # words a minute; a formula is a word
FACTOR = 1.6
UNREAD = re.compile(r"^(`{3,})\{(?:code-cell|solution)\b.*?^\1$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"^(?:%|:[\w-]+:).*$", re.MULTILINE)
FORMULA = re.compile(
    r"\$\$.*?\$\$(?: \([\w:-]+\))?|^```\{math\}.*?^```$|\$[^$\n]+\$", re.MULTILINE | re.DOTALL
)
PROOFS = re.compile(r"^(`{3,})\{prf:proof\}\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
TIME = re.compile(r"^\*\*Time\*\* (.*?), \{chapter-seconds\}", re.MULTILINE)
TENS = ["ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = {word: 10 * number for number, word in enumerate(TENS, 1)} | {"five": 5, "fifteen": 15}
WORDS |= {f"{word}-five": 10 * number + 5 for number, word in enumerate(TENS, 1) if number > 1}
WORDS["hour"] = 60


def needed(text: str) -> float:
    """Minutes for a chapter with all its proofs, without the solutions of its exercises."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = FORMULA.sub(" x ", OPTION.sub("", UNREAD.sub("", text)))
    proofs = sum(len(proof[2].split()) for proof in PROOFS.finditer(text))
    return len(PROOFS.sub("", text).split()) / PROSE + proofs / PROOF


def stated(text: str) -> int | None:
    """Minutes in the head: "twenty-five minutes", "half an hour of text and an hour of proofs"."""
    if not (said := TIME.search(text)):
        return None
    words = said[1].replace("half an hour", "thirty minutes").split()
    return sum(WORDS.get(word, 0) for word in words)


@pytest.mark.parametrize("name", sorted(path.stem for path in CHAPTERS.glob("*.md")))
def test_a_chapter_states_an_honest_time(name: str) -> None:
    text = (CHAPTERS / f"{name}.md").read_text(encoding="utf-8")
    minutes, said = needed(text), stated(text)
    if said is None:
        assert minutes < 10, f"{minutes:.0f} minutes to read, and the head does not say so"
    else:
        assert max(said / minutes, minutes / said) <= FACTOR, (
            f"{said} minutes stated, {minutes:.0f} needed"
        )


def test_times_and_words_are_read() -> None:
    head = "**Time** about {} to read, {{chapter-seconds}}`x` seconds to run."
    assert stated(head.format("forty-five minutes of text and an hour of proofs")) == 105
    assert stated(head.format("half an hour")) == 30
    proof = "````{prf:proof}\n" + "word $a + b$\n" * 25 + "````\n"
    assert needed("word " * 60 + "\n" + proof) == 3
    assert needed("word " * 60 + "\n```{code-cell}\nx = 1\n```\n% typed: why\n") == 1
