"""Chapters as notebooks to download: to be run, with what they need said first.

    python -m ci.downloads [--only NAME]     # runs them as a reader would

The command makes the library's wheel and source distribution, installs the wheel into an
environment of its own with nothing of the book, and executes notebooks of `build/html` there.
`PIP_ARGS` go to pip.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from ci.chapters import ROOT
from ci.console import any_locale

FOLDER = "_sources/chapters"  # of a site
RUNS_ELSEWHERE = "convolutions_and_colouring"  # the chapter that is run when none is named
NEEDS = "# Needs Python 3.11 and the book's library"
EXTRAS = {"zotk.encoder(": "[text]"}  # what a notebook calls, and the extra of zotk that it takes
THREADS = """
import torch

torch.set_num_threads(1)  # the tensors of this book are small: more threads take longer"""


def repository(root: Path) -> str:
    """The address that `book_repository` in `_config.yml` names, "" when it names none."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return str(config.get("sphinx", {}).get("config", {}).get("book_repository") or "")


def prepared(notebook: Any, address: str) -> Any:
    """The notebook of a page, to download: with a first cell that sets up, without outputs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    extra = extra_of(notebook)
    if address:
        source = f'{NEEDS}.\n%pip install --quiet "zotk{extra} @ git+{address}"'
    else:
        source = f"{NEEDS}: `pip install .{extra}` in a copy of its repository."
    source += "\n" + THREADS
    notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="set-up"))
    return notebook


def extra_of(notebook: Any) -> str:
    """What a notebook needs beside the library, as pip writes it; "" for most."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return next((extra for call, extra in EXTRAS.items() if call in code), "")


def prepare(site: Path, root: Path) -> None:
    """Prepare all notebooks of a site."""
    address = repository(root)
    for file in (site / FOLDER).glob("*.ipynb"):
        nbformat.write(prepared(nbformat.read(file, as_version=4), address), file)


def distributions(root: Path, folder: Path) -> tuple[Path, Path]:
    """Wheel and source distribution of the library, made in ``folder`` of a copy of its files."""
    copy = folder / "copy"
    copy.mkdir()
    shutil.copytree(root / "zotk", copy / "zotk", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    for hook in ("build_sdist", "build_wheel"):
        call = f"from setuptools import build_meta as b; b.{hook}({str(folder)!r})"
        subprocess.run([sys.executable, "-c", call], cwd=copy, check=True, capture_output=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def run(notebook: Path, wheel: Path, folder: Path) -> None:
    """Execute a notebook where there is the wheel, a kernel, and nothing else; or raise."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv/bin"
    pip = [f"{programs / 'pip'}", "install", "--quiet", "--disable-pip-version-check"]
    extra = extra_of(nbformat.read(notebook, as_version=4))
    wanted = [f"{wheel}{extra}", "ipykernel", "nbclient"]  # the latter two are in any Jupyter
    for pins in ("requirements.txt", "constraints.txt"):
        wanted += ["-c", str(ROOT / pins)]
    subprocess.run([*pip, *wanted, *shlex.split(os.environ.get("PIP_ARGS", ""))], check=True)
    copy = shutil.copy(notebook, folder)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([programs / "jupyter", "execute", copy], cwd=folder, env=clean, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    any_locale()
    parser = argparse.ArgumentParser(description="Run downloaded notebooks in a fresh environment.")
    parser.add_argument("--only", default=RUNS_ELSEWHERE, help="the chapter to run")
    args = parser.parse_args(arguments)
    notebook = ROOT / "build/html" / FOLDER / f"{args.only}.ipynb"
    if not notebook.is_file():
        parser.error(f"{notebook} is missing: `make book` makes it")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        wheel, source = distributions(ROOT, Path(folder))
        print(f"{wheel.name}, {source.name}", flush=True)
        run(notebook, wheel, Path(folder))
    print(f"{args.only} ran in a fresh environment, {time.perf_counter() - start:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
