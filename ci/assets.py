"""The MathJax that pages load, kept by its content.

    python -m ci.assets        # make the folder if it is missing, print it

It comes out of the wheel `sphinx-mathjax-offline` (its files, not its extension): the components
that pages use in one file, without the menu, which is a third of MathJax's own. The folder lies in
`.cache/`, is named after the SHA-256 of its files and is compared with it before each use.
"""

import shutil
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

from ci.chapters import ROOT, digest, files_under

MATHJAX = ("sphinx-mathjax-offline", "0.0.2")
SCRIPT = "vendor/mathjax/mathjax.js"
COMPONENTS = (  # each rests on those before it
    *("startup", "core", "input/tex", "output/chtml", "output/chtml/fonts/tex"),
    *("a11y/assistive-mml", "ui/lazy"),
)
BESIDE = ("output/chtml/fonts/woff-v2/", "input/tex/extensions/")  # loaded when they are needed
SHA256 = "eafdc2fc953e92f3987163b380b4c891a3b48373749c953ae664779ae168e39b"


class AssetError(Exception):
    """The files could not be had, or are not the pinned ones."""


def add_mathjax(folder: Path) -> None:
    """Make `SCRIPT` in a folder, and copy what it loads when it needs it."""
    name, pinned = MATHJAX
    wheel = distribution(name)
    if wheel.version != pinned:
        raise AssetError(f"{name} {pinned} is pinned, {wheel.version} is installed")
    source = Path(str(wheel.locate_file(f"{name}/static/mathjax")))
    script = folder / SCRIPT
    for file in files_under(source):
        part = file.relative_to(source)
        if part.as_posix().startswith(BESIDE):
            (script.parent / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, script.parent / part)
    parts = [(source / f"{each}.js").read_text(encoding="utf-8") for each in COMPONENTS]
    script.write_text("\n;\n".join(parts), encoding="utf-8")


def ensure(cache: Path = ROOT / ".cache") -> Path:
    """The folder with `vendor/mathjax`, made if it is not there or not whole.

    Raises `AssetError` when it cannot be made, or comes out with another content.
    """
    folder = cache / "assets" / SHA256[:16]
    if folder.is_dir() and digest(files_under(folder), folder) == SHA256:
        return folder
    shutil.rmtree(folder.parent, ignore_errors=True)  # older ones, and what a kill left
    folder.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary) / "new"
        add_mathjax(new)
        found = digest(files_under(new), new)
        if found != SHA256:
            raise AssetError(f"the assets have the SHA-256 {found}, not the pinned one")
        new.rename(folder)
    return folder


if __name__ == "__main__":
    try:
        print(ensure())
    except AssetError as error:
        sys.exit(f"error: {error}")
