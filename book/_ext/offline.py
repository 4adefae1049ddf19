"""Formulas and widgets from the site itself: no page asks a third party for anything.

MathJax and the embedder of ipywidgets come from `ci.assets`. Their folder joins the static path
here and not in `_config.yml`, because jupyter-book loads every script it finds under the paths
that are listed there on every page.
"""

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

from ci import assets

# The embedder typesets labels by the call of MathJax 2, `Hub.Queue`, which MathJax 3 lacks, and
# may do so before MathJax has loaded. Labels wait for it and for each other, as MathJax 3 must not
# typeset two things at once. They write $…$; the rest of the page does not, and is left alone, as
# Sphinx has MathJax look at its own formulas only.
MATHJAX_2 = """(() => {
  const config = window.MathJax;
  if (!config) return;  // a page without formulas does not load MathJax
  let ready;
  let last = new Promise(resolve => { ready = resolve; });
  const Hub = {Queue: ([, , element]) => {
    last = last.then(() => window.MathJax.typesetPromise([element])).catch(console.error);
  }};
  config.Hub = Hub;
  config.tex = {...config.tex, inlineMath: [["\\\\(", "\\\\)"], ["$", "$"]]};
  config.startup = {...config.startup, ready() {
    const {MathJax} = window;
    MathJax.Hub = Hub;
    MathJax.startup.defaultReady();
    ready(MathJax.startup.promise);
  }};
})();"""

# The embedder's sliders have a handle without a name, and it announces positions, not values.
SLIDERS = """(() => {
  const set = (element, name, value) => {
    if (value && element.getAttribute(name) !== value) element.setAttribute(name, value);
  };
  const plain = element => {
    const copy = element.cloneNode(true);  // a typeset formula holds its text twice
    copy.querySelectorAll("mjx-container").forEach(formula => {
      formula.textContent = formula.querySelector("mjx-assistive-mml")?.textContent ?? "";
    });
    return copy.textContent.trim().replaceAll("$", "");
  };
  const describe = widget => {
    const label = widget.querySelector(".widget-label");
    const readout = widget.querySelector(".widget-readout")?.textContent.trim();
    if (label?.title === "null") label.removeAttribute("title");  // no tooltip was given
    const handles = [...widget.querySelectorAll("[role=slider]")];
    const name = (label && plain(label)) || widget.title || "slider";
    handles.forEach((handle, i) => {
      const one = handles.length === 1;
      set(handle, "aria-label", one ? name : name + [" from", " to"][i]);
      if (one) set(handle, "aria-valuetext", readout);
    });
  };
  new MutationObserver(records => {
    const widgets = new Set();
    for (const {target, addedNodes} of records) {
      const element = target.closest ? target : target.parentElement;
      widgets.add(element?.closest(".widget-slider"));
      for (const node of addedNodes) {
        node.querySelectorAll?.("[role=slider]").forEach(handle =>
          widgets.add(handle.closest(".widget-slider") ?? handle.parentElement));
      }
    }
    widgets.delete(undefined);
    widgets.delete(null);
    widgets.forEach(describe);
  }).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true, attributeFilter: ["aria-valuetext"],
  });
})();"""


def configure(app: Sphinx, config: Config) -> None:
    """At `config-inited`: use the local copies."""
    try:
        folder = assets.ensure()
    except assets.AssetError as error:
        raise ConfigError(str(error)) from error
    config.html_static_path.append(str(folder))
    config.mathjax_path = "vendor/mathjax/tex-mml-chtml.js"
    # this one file holds all core widgets: no require.js, nothing to ask a CDN for
    config.nb_ipywidgets_js = {"vendor/widgets/embed.js": {}}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register; the scripts come after the one that configures MathJax (priority 500)."""
    app.add_js_file(None, body=MATHJAX_2, priority=800)
    app.add_js_file(None, body=SLIDERS, priority=800)
    app.connect("config-inited", configure, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
