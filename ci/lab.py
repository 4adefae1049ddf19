"""Open JupyterLab on the chapters, each paired with a notebook that git ignores.

    python -m ci.lab [OPTION OF JUPYTERLAB …]

Saving a notebook rewrites the chapter's markdown, and the other way round. Settings of the
user's Jupyter, IPython and matplotlib do not apply, so that a chapter runs here as in the book.
"""

import os
import subprocess
import sys

from ci.chapters import ROOT, written
from ci.run import environment


def main(options: list[str]) -> None:
    """Pair the chapters, then become JupyterLab."""
    env = environment(ROOT, "full")
    for runner_only in ("JPY_PARENT_PID", "JUPYTER_PATH"):
        del env[runner_only]
    sources = [f"chapters/{name}.md" for name in written(ROOT)]
    if sources:
        pair = [sys.executable, "-m", "jupytext", "--quiet", "--sync", *sources]
        subprocess.run(pair, cwd=ROOT, env=env, check=True)
    os.chdir(ROOT)
    lab = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}"]  # of jupytext.toml
    os.execve(sys.executable, [*lab, "--LabApp.default_url=/lab/tree/chapters", *options], env)


if __name__ == "__main__":
    main(sys.argv[1:])
