"""The command of a lint: its findings in pages of the book, one line each."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ci.console import any_locale


def run(
    arguments: Sequence[str],
    folders: Sequence[str],
    lint: Callable[[str], Iterable[tuple[int, str]]],
    said: str,
) -> int:
    """Lint the files named, or every page of the folders; 1 where something is found.

    ``lint`` gives lines, from 1, and messages for the text of a page; ``said`` names what it finds.
    """
    any_locale()
    pages = [Path(a) for a in arguments]
    pages = pages or sorted(page for folder in folders for page in Path(folder).glob("*.md"))
    if not pages:
        print(
            f"no {', no '.join(f'{f}/*.md' for f in folders)}: run from the root of the repository"
        )
        return 1
    count = 0
    for page in pages:
        for line, message in lint(page.read_text(encoding="utf-8")):
            print(f"{page.as_posix()}:{line}: {message}")
            count += 1
    print(f"{len(pages)} pages, {count} {said}")
    return 1 if count else 0
