"""A training run of the book, killed by the system in the middle, goes on with the same numbers."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import pytest
import torch

CHAPTER = Path(__file__).parent.parent / "chapters/hzo_training.md"
SHORT = """
data = [(x[:40], y[:40]) for x, y in task("digits")]
run = train("short", start(1, True), data, "chain", 60, noise=1e-4, folder=folder, every=4)
print(*(value.hex() for value in run["loss"]))
"""


def source() -> str:
    """The cells that define tasks, networks and runs, and a short run."""
    cells = [c for c in jupytext.read(CHAPTER, fmt="md:myst").cells if c.cell_type == "code"]
    last = next(k for k, cell in enumerate(cells) if "def train(" in cell.source)
    assert not any("figure" in c.metadata.get("tags", []) for c in cells[: last + 1])
    return "import sys\nfolder = sys.argv[1]\n" + "\n".join(
        [*(cell.source for cell in cells[: last + 1]), "torch.set_num_threads(1)", SHORT]
    )


def start(folder: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", source(), folder], stdout=subprocess.PIPE, text=True
    )


def losses(folder: str) -> list[str]:
    process = start(folder)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return printed.splitlines()[-1].split()


def test_a_killed_run_resumes_bit_by_bit(tmp_path: Path) -> None:
    process = start(str(tmp_path))
    deadline = time.monotonic() + 60
    kept: list[Path] = []
    while not kept and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
        kept = list(tmp_path.glob("*.pt"))
    if process.poll() is not None:
        pytest.fail("the run ended before it left a file")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (file,) = tmp_path.glob("*.pt")
    done = len(torch.load(file, weights_only=True)["history"]["loss"])
    assert 0 < done < 60
    resumed = losses(str(tmp_path))
    assert not list(tmp_path.glob("*.pt"))
    assert resumed == losses("")
