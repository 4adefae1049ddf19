"""Scripts that `ci.browse` runs inside a page to find out what a reader meets, beside `ci.axe`."""

_WHERE = """
const where = e => e.tagName.toLowerCase() + (e.id ? "#" + e.id : "")
  + [...e.classList].slice(0, 2).map(c => "." + c).join("");
const path = e => [e.parentElement?.parentElement, e.parentElement, e]
  .filter(Boolean).map(where).join(" > ");
const seen = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true});
const words = e => e.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
"""

UNFOLD = """
for (const fold of document.querySelectorAll("details")) fold.open = true;
for (const fold of document.querySelectorAll(".toggle-hidden")) fold.classList.remove("toggle-hidden");
"""

FACTS = (
    _WHERE
    + """
const all = selector => [...document.querySelectorAll(selector)];
const raw = [], skip = "script, style, noscript, template, textarea, pre, code, .math, mjx-container";
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const source = /\\\\[(\\[]|\\$\\$|\\\\begin\\{|\\$[^$\\s][^$]*[\\\\^_][^$]*\\$/;
while (texts.nextNode()) {
  const text = texts.currentNode;
  if (source.test(text.data) && !text.parentElement.closest(skip)) raw.push(words(text.parentElement));
}
const sliders = all("[role=slider], input[type=range]");
return {
  "unset formula": [...all(".math").filter(e => !e.querySelector("mjx-container")).map(words), ...raw],
  "formula with an error": all("mjx-merror, [data-mjx-error]")
    .map(e => (e.getAttribute("data-mjx-error") || e.title || "") + " " + words(e)),
  "explorer without sliders": all(".explorer").filter(e => ![...e.querySelectorAll("input")].some(seen)).map(path),
  "formula that is a tab stop": all("mjx-container")
    .filter(e => e.tabIndex >= 0 && e.scrollWidth <= e.clientWidth).map(words),
  "broken image": [...document.images].filter(i => i.complete && !i.naturalWidth)
    .map(i => i.src.slice(0, 80)),
  "img": [...document.images].map(i => [
    i.getAttribute("src") || "", i.getAttribute("alt"),
    i.ariaHidden === "true" || ["presentation", "none"].includes(i.getAttribute("role")),
  ]),
  "slider out of the keyboard's reach": sliders.filter(e => e.tabIndex < 0).map(path),
  "slider less than 24 px high": sliders.filter(e => seen(e) && e.getBoundingClientRect().height < 24).map(path),
};
"""
)

_SHOWN = (
    _WHERE
    + """
const home = slider => slider.closest(".explorer, figure, section") || document.body;
const shown = slider => {  // what the reader sees around the knobs, else (no frame) on the knob
  const root = home(slider), frame = [], readout = [];
  const nodes = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  while (nodes.nextNode()) {
    const node = nodes.currentNode, text = node.nodeType === Node.TEXT_NODE;
    const e = text ? node.parentElement : node;
    if (!(text ? node.data.trim() : e.matches("img, svg")) || e.closest("script, style") || !seen(e)) continue;
    const what = text ? node.data : e.matches("img") ? e.src + e.alt : e.outerHTML;
    (e.closest(".knob, label") ? readout : frame).push(what);
  }
  return (frame.length ? frame : readout).join("\\n");
};
"""
)

# Argument: a slider. Focuses it and notes what is shown; null when it is not on display.
WATCH = (
    _SHOWN
    + """
const [slider] = arguments;
if (!seen(slider)) return null;
slider.focus();
window.shownBefore = shown(slider);
const value = slider.value ?? slider.getAttribute("aria-valuenow");
const most = slider.max ?? slider.getAttribute("aria-valuemax");
return {name: slider.getAttribute("aria-label") || path(slider), last: +value >= +most};
"""
)

# Argument: the slider. Whether what is shown differs from before, within a second.
CHANGED = (
    _SHOWN
    + """
const [slider, done] = arguments, limit = performance.now() + 1000;
const look = () => {
  const changed = shown(slider) !== window.shownBefore;
  if (changed || performance.now() > limit) done(changed);
  else setTimeout(look, 20);
};
look();
"""
)

# Width of the document, and the elements that stick out of it without a scrollbar of their own.
WIDTH = (
    _WHERE
    + """
const edge = document.documentElement.clientWidth;
const held = e => e && (getComputedStyle(e).overflowX !== "visible" || held(e.parentElement));
const out = [...document.body.querySelectorAll("*")].filter(
  e => e.getBoundingClientRect().right > edge + 0.5 && !held(e.parentElement));
return [document.documentElement.scrollWidth, out.slice(-3).map(path)];
"""
)
