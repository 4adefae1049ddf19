"""Build the site from `book/` and the executed chapters.

    python -m ci.build [--profile quick|full] [--seed N]

jupyter-book builds into a fresh folder with warnings as errors; only a site without one takes
the place of `build/html`. A site that was made of what lies here now is kept as it is.
"""

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from ci import budget, downloads, explorers, gpu, markup, messages, pictures, previews, styles
from ci.chapters import ROOT, Chapter, ChapterError, digest, files_under, plan
from ci.console import any_locale
from ci.judge import ANSI, tail
from ci.run import TIED, environment, only_one

INPUTS = ("_config.yml", "requirements.txt", "constraints.txt", "pyproject.toml")
NUMPY = re.compile(r"np\.(?:float|int)\d+\((.*)\)")  # how numpy 2 shows a scalar
MADE_OF = ".made-of.json"  # in the site: digests of its inputs and of itself
REDIRECT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={target}">
<link rel="icon" href="_static/favicon.svg">
<title>Title page</title>
</head>
<body><p><a href="{target}">Title page</a></p></body>
</html>
"""


class BuildError(Exception):
    """The site could not be built; the message says why."""


def stage(root: Path, chapters: Sequence[Chapter]) -> Path:
    """Copy the pages of `book/` and the executed chapters with their records to `build/source`.

    Kept figures fill the cells that could not draw theirs.
    """
    stale = [chapter.name for chapter in chapters if chapter.fresh() is None]
    if stale:
        raise BuildError(f"no valid run of {', '.join(stale)}: `make book` executes what it lacks")
    source = root / "build/source"
    shutil.rmtree(source, ignore_errors=True)
    skipped = shutil.ignore_patterns("_ext", "__pycache__", ".*")
    shutil.copytree(root / "book", source, ignore=skipped)
    (source / "chapters").mkdir(exist_ok=True)
    try:
        rows = json.dumps(gpu.elsewhere(root))
        for chapter in chapters:
            notebook = plain(gpu.fill(root, chapter.name, nbformat.read(chapter.notebook, 4)))
            explorers.unpack(notebook, chapter.name, "../explorers", source / "explorers")
            filled = nbformat.writes(notebook)
            (source / "chapters" / chapter.notebook.name).write_text(filled, encoding="utf-8")
            shutil.copyfile(chapter.record, source / "chapters" / chapter.record.name)
    except ValueError as error:
        raise BuildError(str(error)) from error
    (source / "elsewhere.json").write_text(rows, encoding="utf-8")
    return source


def plain(notebook: Any) -> Any:
    """The notebook with glued numpy scalars as plain numbers, which formats can read."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind in data if kind.endswith("text/plain")]:  # glue has a prefix
                if found := NUMPY.fullmatch(data[kind]):
                    data[kind] = found[1]
    return notebook


def inputs_digest(root: Path, source: Path) -> str:
    """A digest of everything the site depends on; the assets are pinned in `ci`."""
    files = [path for name in INPUTS if (path := root / name).is_file()]
    for folder in (source, root / "book/_ext", root / "ci", root / "zotk"):
        files += files_under(folder)
    return hashlib.sha256((platform.python_version() + digest(files, root)).encode()).hexdigest()


def site_digest(site: Path) -> str:
    """A digest of the names and contents of a site's files, but for the one that records it."""
    return digest((path for path in files_under(site) if path != site / MADE_OF), site)


def is_current(site: Path, inputs: str) -> bool:
    """Whether a site was made of these inputs and still has all its files, unchanged."""
    try:
        made_of = json.loads((site / MADE_OF).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(made_of == {"inputs": inputs, "site": site_digest(site)})


def make(root: Path, source: Path) -> Path:
    """Run jupyter-book into a fresh folder; return the folder of the pages.

    Raises `BuildError` on any warning or error; the whole log is in `build/site.log`.
    """
    fresh, log = root / "build/scratch/site", root / "build/site.log"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    command = [sys.executable, "-P", str(TIED), "jupyter_book.cli.main:main", "build", str(source)]
    command += ["--config", str(root / "_config.yml"), "--path-output", str(fresh)]
    command += ["-W", "-n", "--keep-going"]
    with log.open("wb") as stream:
        code = subprocess.run(
            command,
            cwd=root,
            env=environment(root, "quick"),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        ).returncode
    if code:
        text = ANSI.sub("", log.read_text(encoding="utf-8", errors="replace"))
        text = "\n".join(messages.readable(text, root, source)) or tail(text)
        raise BuildError(f"{text}\nthe site was not built; all of the log is in {log}")
    return fresh / "_build/html"


def complete(root: Path, source: Path, site: Path) -> None:
    """Add the frames of explorers, leave out what no reader needs, mend the theme's HTML."""
    if (source / "explorers").exists():
        shutil.copytree(source / "explorers", site / "explorers")
    for file in site.rglob("*.map"):
        file.unlink()
    shutil.rmtree(site / "_static/locales", ignore_errors=True)  # the theme's other languages
    (site / "_static/scripts/fontawesome.js").unlink(missing_ok=True)  # the fonts serve
    for file in (site / "_static/vendor").rglob("*.ttf"):  # every browser reads the woff2 beside it
        file.unlink()
    pictures.slim_all(site / "_images")
    for page in site.rglob("*.html"):
        text = markup.mended(page.read_text(encoding="utf-8"))
        page.write_text(markup.sized(text, page.parent), encoding="utf-8")
    for theme in site.glob("_static/scripts/pydata-sphinx-theme.js"):
        theme.write_text(markup.lighter(theme.read_text(encoding="utf-8")), encoding="utf-8")
    styles.gather(site)
    downloads.prepare(site, root)
    previews.write(site)


def complete_redirect(site: Path) -> None:
    """Make the redirect that stands in for an index page a page of its own right."""
    index = site / "index.html"
    target = re.fullmatch(r'<meta .*content="0; url=([^"]+)" />\s*', index.read_text("utf-8"))
    if target:
        index.write_text(REDIRECT.format(target=target[1]), encoding="utf-8")


def publish(new: Path, site: Path) -> None:
    """Put the new site in the place of the old one; `recover` completes a cut-off swap."""
    old = site.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if site.exists():
        site.rename(old)
    new.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def recover(site: Path) -> None:
    """Bring back the site that a killed `publish` had put aside."""
    old = site.with_name("html.old")
    if old.exists() and not site.exists():
        old.rename(site)


def build(root: Path, profile: str = "quick", seed: int = 0) -> tuple[Path, bool]:
    """Bring `build/html` up to date; return it, and whether it was made anew.

    Raises `ChapterError` or `BuildError`, and then leaves the site there was untouched.
    """
    site = root / "build/html"
    recover(site)
    source = stage(root, plan(root, profile, seed))
    inputs = inputs_digest(root, source)
    if is_current(site, inputs):
        return site, False
    new = make(root, source)
    complete(root, source, new)
    complete_redirect(new)
    if heavy := list(budget.excess(new)):
        raise BuildError("\n".join(heavy))
    made_of = {"inputs": inputs, "site": site_digest(new)}
    (new / MADE_OF).write_text(json.dumps(made_of), encoding="utf-8")
    publish(new, site)
    shutil.rmtree(root / "build/scratch/site")
    return site, True


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    any_locale()
    parser = argparse.ArgumentParser(prog="python -m ci.build", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=("quick", "full"), default="quick")
    parser.add_argument("--seed", type=int, default=0, help="seed of the book")
    args = parser.parse_args(argv)
    started = time.monotonic()
    print("building the site …", flush=True)
    try:
        with only_one(root):
            site, made = build(root, args.profile, args.seed)
    except (BuildError, ChapterError, styles.StyleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    state = f"built in {time.monotonic() - started:.1f} s" if made else "unchanged"
    print(
        f"The site is {state}.\n"
        f"  open   {(site / 'index.html').as_uri()}\n"
        f"  serve  python3 -m http.server --directory '{site}' 8000"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
