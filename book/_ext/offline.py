"""Scripts from the site itself: no page asks a third party for anything, none waits for a script.

MathJax comes from `ci.assets`, our own scripts from `FILES`. Both join the static path here and
not in `_config.yml`, because jupyter-book loads every script it finds under the paths that are
listed there on every page, in its head.
"""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

from ci import assets

FILES = Path(__file__).parent / "site"  # scripts and styles that pages load after their content


def configure(app: Sphinx, config: Config) -> None:
    """At `config-inited`: use the local copies."""
    try:
        folder = assets.ensure()
    except assets.AssetError as error:
        raise ConfigError(str(error)) from error
    config.html_static_path += [str(folder), str(FILES)]
    config.mathjax_path = assets.SCRIPT
    # Formulas are set when they come near the screen, since a long chapter has hundreds; for a
    # printer, all of them. Sphinx has MathJax look at its own only.
    config.mathjax3_config = {"loader": {"load": []}, "options": {"lazyMargin": "300px"}}
    config.nb_ipywidgets_js = {}  # `ci.explorers` has unpacked the widgets


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the scripts and styles."""
    for file in sorted(FILES.iterdir()):
        if file.suffix == ".css":
            app.add_css_file(file.name)
        else:
            app.add_js_file(file.name, loading_method="defer")
    app.connect("config-inited", configure, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
