"""The commands print in any locale."""

import os
import subprocess
import sys

import pytest

from ci.chapters import ROOT

ASCII = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
PROGRESS = (
    "from ci.run import Progress; import sys; Progress(sys.stdout).say('1 of 2 \\u00b7 \\u03b5')"
)


def said(program: str) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **ASCII, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True)


def test_what_the_locale_lacks_is_a_question_mark() -> None:
    assert said(PROGRESS).returncode == 1  # the fault
    done = said(f"from ci.console import any_locale; any_locale(); {PROGRESS}")
    assert done.returncode == 0 and done.stdout == b"1 of 2 ? ?\n"


@pytest.mark.parametrize("name", ["run", "build", "links", "browse", "bench", "gpu"])
def test_every_command_is_prepared(name: str) -> None:
    main = (ROOT / f"ci/{name}.py").read_text(encoding="utf-8").partition("def main(")[2]
    assert "any_locale()" in main.partition("\ndef ")[0]


@pytest.mark.parametrize("name", ["prose", "glued", "checkcells"])
def test_the_lints_are_prepared_by_their_one_command(name: str) -> None:
    main = (ROOT / f"ci/{name}.py").read_text(encoding="utf-8").partition("def main(")[2]
    assert "lints.run(" in main
    run = (ROOT / "ci/lints.py").read_text(encoding="utf-8").partition("def run(")[2]
    assert "any_locale()" in run
