"""Open JupyterLab on the chapters, each paired with a notebook that git ignores.

    python -m ci.lab [OPTION OF JUPYTERLAB …]

Pairing makes the notebooks and leaves the markdown as it is. Saving a notebook rewrites the
chapter's markdown, and the other way round. Settings of the user's Jupyter, IPython and matplotlib
do not apply, so that a chapter runs here as in the book; nor does JupyterLab ask for its news.
Claims are shown as boxes (`ci.boxes`).
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jupytext
from jupytext.combine import combine_inputs_with_outputs

from ci.chapters import ROOT, read, written
from ci.run import environment

OPTIONS = (
    "--LabApp.default_url=/lab/tree/chapters",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
    "--ServerApp.contents_manager_class=ci.boxes.Chapters",
)
NEWS = "@jupyterlab/apputils-extension:announcements"  # asks whether it may ask for news


def pair(source: Path) -> None:
    """Bring the notebook beside a chapter up to date; keep the outputs of cells that stay.

    It gets the time of its source, since jupytext takes the inputs from the later of the two. A
    later notebook holds work that a session has not saved in both, and stays.
    """
    notebook, time = source.with_suffix(".ipynb"), source.stat().st_mtime_ns
    made = read(source)
    if notebook.exists():
        if notebook.stat().st_mtime_ns > time:
            return
        made = combine_inputs_with_outputs(made, jupytext.read(notebook))
    jupytext.write(made, notebook)
    os.utime(notebook, ns=(time, time))


def command(root: Path, options: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Pair the chapters of a repository; the command that opens Lab on them, and its variables."""
    env = environment(root, "full")
    for runner_only in ("JPY_PARENT_PID", "JUPYTER_PATH"):
        del env[runner_only]
    for name in written(root):
        pair(root / "chapters" / f"{name}.md")
    pages = Path(env["JUPYTER_CONFIG_DIR"]) / "labconfig/page_config.json"
    pages.parent.mkdir(parents=True, exist_ok=True)
    pages.write_text(json.dumps({"disabledExtensions": {NEWS: True}}), encoding="utf-8")
    lab = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]  # of jupytext.toml
    return [*lab, *OPTIONS, *options], env


def main(options: list[str]) -> None:
    """Become JupyterLab."""
    lab, env = command(ROOT, options)
    os.chdir(ROOT)
    os.execve(sys.executable, lab, env)


if __name__ == "__main__":
    main(sys.argv[1:])
