"""A small book, written to disk and built by Sphinx, for tests of the claims extension."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from sphinx.cmd.build import build_main

from ci.evidence import MIME

ROOT = Path(__file__).parent.parent
GENERATED = ("atlas", "errata", "statistics")  # the pages of the real book

CONF = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "book/_ext")!r}]
extensions = ["myst_nb", "sphinx_proof", "sphinx_design", "sphinxcontrib.bibtex"]
extensions += ["claims", "folds", "head", "answers"]
nb_execution_mode = "off"
suppress_warnings = ["mystnb.unknown_mime_type"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
bibtex_bibfiles = ["references.bib"]
prf_realtyp_to_countertyp = {{"definition": "theorem"}}
html_theme = "basic"
html_static_path = [{str(ROOT / "book/_static")!r}]
"""

INDEX = """
# A small book

```{evidence-summary}
```

```{toctree}
:numbered:

chapters/one
chapters/two
```

```{toctree}
atlas
errata
statistics
bibliography
```
"""

BIBLIOGRAPHY = """
# Bibliography

```{bibliography}
```
"""

REFERENCES = """
@article{euler1748, author = {Euler, Leonhard}, title = {Introductio}, year = {1748},
  journal = {Opera}}
@book{gauss1801, author = {Gauss, Carl Friedrich}, title = {Disquisitiones}, year = {1801},
  publisher = {Fleischer}}
"""

SOURCES: dict[str, Any] = {
    "introductio": {
        "title": "Introductio in analysin infinitorum",
        "key": "euler1748",
        "items": {
            "thm-1": {
                "what": "Theorem 1: $1 + 1 = 2$",
                "claims": ["sum.two"],
                "errata": [{"prints": "$1 + 1 = 1$", "ours": "see {cite:t}`gauss1801`"}],
            },
            "thm-2": {
                "what": "Theorem 2: the bound",
                "claims": ["sum.bound"],
                "errata": [{"prints": "$x < 1$", "ours": "$x < 2$", "decided_by": "sum.bound"}],
            },
            "fig-1": {"what": "Figure 1", "figures": ["fig:line"]},
            "lemma-9": {"what": "Lemma 9", "planned": "infinity"},
            "ex-3": {"what": "Exercise 3", "because": "an exercise, see {cite:t}`gauss1801`"},
        },
    }
}

ONE = """
# One

```{{claim}} sum.two One and one make $2$
:source: euler1748, Theorem 1
:tag: count
:verdict: holds

$1 + 1 = 2$.
```

```{{prf:proof}}
Count.
```

```{{prf:definition}} Sum
:label: def:sum

What counting gives.
```

```{{prf:proof}}
See {{prf:ref}}`def:sum` and {{prf:ref}}`{ref}`.
```

```{{figure}} line.png
:name: fig:line
:alt: A line.

A line.
```
"""

TWO = """
# Two

```{prf:definition} Bound
:label: def:bound

What is not passed.
```

```{claim} sum.bound A bound that is mended
:kind: lemma
:source: euler1748, Theorem 2, in the manner of gauss1801
:tag: bound
:verdict: corrected
:uses: sum.two

$x < 2$, by {prf:ref}`sum.two`.
```

```{prf:proof}
Below.
```

It rests on a claim that is {status}`sum.two`.
"""

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63"
    "64f8cf500f0003860180a0a3e8a10000000049454e44ae426082"
)


def record(claim: str, **changes: Any) -> dict[str, Any]:
    """A sound record: an exact equality, measured 2, with the near twin 3."""
    twin = {
        "name": "off by one",
        "predicted": 3.0,
        "claim": 2.0,
        "measured": 2.0,
        "z": 500.0,
        "distance": 0.585,
        "near": True,
        "rejected": True,
    }
    sound = {
        "id": claim,
        "what": "",
        "kind": "equal",
        "measured": 2.0,
        "predicted": 2.0,
        "largest": 2.0,
        "tolerance": 0.002,
        "rtol": 0.001,
        "slack": "",
        "stderr": None,
        "z": None,
        "draws": None,
        "alpha": 0.0,
        "shape": [],
        "index": [],
        "twins": [twin],
        "passed": True,
        "seconds": 0.01,
        "device": "cpu",
        "dtype": "float64",
        "seed": 0,
    }
    return {**sound, **changes}


def twin(**changes: Any) -> dict[str, Any]:
    """The twin of a sound record, changed."""
    return {**record("any")["twins"][0], **changes}


def notebook(text: str, *records: Mapping[str, Any]) -> str:
    """An executed notebook: one cell of text, then one code cell for each record."""
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": text}]
    for entry in records:
        output = {
            "output_type": "display_data",
            "metadata": {},
            "data": {MIME: entry, "text/html": "<div class='zotk-card ok'>card</div>"},
        }
        cells.append(
            {
                "cell_type": "code",
                "execution_count": 1,
                "metadata": {},
                "source": "check()",
                "outputs": [output],
            }
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4})


class Book:
    """A healthy book of two chapters in ``folder``; change its parts, then ``build()``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.one, self.two = ONE.format(ref="sum.two"), TWO
        self.records: dict[str, list[dict[str, Any]]] = {
            "one": [record("sum.two", what="fingers"), record("sum.two", seconds=0.5)],
            "two": [record("sum.bound", kind="bound")],
        }
        self.sources = deepcopy(SOURCES)
        self.elsewhere: list[dict[str, Any]] = []
        self.seconds = {"one": 75.0}
        self.index = INDEX

    def write(self) -> None:
        """Write what differs from the files there are."""
        pages = {name: (ROOT / f"book/{name}.md").read_text() for name in GENERATED}
        texts = {
            "conf.py": CONF,
            "index.md": self.index,
            "bibliography.md": BIBLIOGRAPHY,
            "references.bib": REFERENCES,
            "sources.yml": json.dumps(self.sources),
            "elsewhere.json": json.dumps(self.elsewhere),
            "chapters/one.ipynb": notebook(self.one, *self.records["one"]),
            "chapters/two.ipynb": notebook(self.two, *self.records["two"]),
            **{f"chapters/{k}.json": json.dumps({"seconds": v}) for k, v in self.seconds.items()},
            **{f"{name}.md": text for name, text in pages.items()},
        }
        (self.source / "chapters").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            path = self.source / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
        if not (self.source / "chapters/line.png").exists():
            (self.source / "chapters/line.png").write_bytes(PIXEL)

    def build(self, *options: str) -> tuple[int, str]:
        """Write and build as the real line does; exit status and warnings."""
        self.write()
        log = self.folder / "warnings.txt"
        log.unlink(missing_ok=True)
        strict = ["-W", "-n", "--keep-going", "-q", "-w", str(log), "-d", str(self.trees)]
        status = build_main([*strict, *options, str(self.source), str(self.site)])
        return status, log.read_text() if log.exists() else ""

    @property
    def trees(self) -> Path:
        """Where Sphinx keeps its memory between builds."""
        return self.folder / "trees"

    @property
    def site(self) -> Path:
        """Where the pages come out."""
        return self.folder / "site"

    def page(self, name: str) -> str:
        """The HTML of a page."""
        return (self.site / f"{name}.html").read_text()
