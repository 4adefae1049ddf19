"""Scripts that `ci.browse` runs inside a page to find out what a reader meets."""

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
const named = e => [
  e.getAttribute("aria-label"), e.title, ...[...(e.labels || [])].map(l => l.textContent),
  ...(e.getAttribute("aria-labelledby") || "").split(/\\s+/).map(i => document.getElementById(i)?.textContent),
].some(name => name?.trim());
const ids = all("[id]").map(e => e.id).filter(Boolean);
const sliders = all("[role=slider], input[type=range]");
return {
  "unset formula": [...all(".math").filter(e => !e.querySelector("mjx-container")).map(words), ...raw],
  "formula with an error": all("mjx-merror, [data-mjx-error]")
    .map(e => (e.getAttribute("data-mjx-error") || e.title || "") + " " + words(e)),
  "explorer without sliders": all(".explorer").filter(e => ![...e.querySelectorAll("input")].some(seen)).map(path),
  "formula that is a tab stop": all("mjx-container").filter(e => e.tabIndex >= 0).map(words),
  "broken image": [...document.images].filter(i => i.complete && !i.naturalWidth)
    .map(i => i.src.slice(0, 80)),
  "img": [...document.images].map(i => [
    i.getAttribute("src") || "", i.getAttribute("alt"),
    i.ariaHidden === "true" || ["presentation", "none"].includes(i.getAttribute("role")),
  ]),
  "slider without a name": sliders.filter(e => !named(e)).map(path),
  "slider out of the keyboard's reach": sliders.filter(e => e.tabIndex < 0).map(path),
  "slider less than 24 px high": sliders.filter(e => seen(e) && e.getBoundingClientRect().height < 24).map(path),
  "duplicate id": [...new Set(ids.filter((id, i) => ids.indexOf(id) !== i))],
};
"""
)

# Text elements below the WCAG 2 AA contrast (4.5; 3 for large letters) against what is behind them.
CONTRAST = (
    _WHERE
    + """
const pixel = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
  .getContext("2d", {willReadFrequently: true});
const colours = new Map();
const colour = css => {  // [r, g, b, alpha] in 0..1, whatever colour space the style was written in
  if (!colours.has(css)) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = css;
    pixel.fillRect(0, 0, 1, 1);
    colours.set(css, [...pixel.getImageData(0, 0, 1, 1).data].map(v => v / 255));
  }
  return colours.get(css);
};
const over = (top, alpha, base) => base.map((v, i) => alpha * top[i] + (1 - alpha) * v);
const veil = e => e ? getComputedStyle(e).opacity * veil(e.parentElement) : 1;
const probe = document.createElement("div");
probe.style.background = "Canvas";
document.documentElement.append(probe);
const sheet = colour(getComputedStyle(probe).backgroundColor).slice(0, 3);
probe.remove();
const grounds = new Map();
const ground = e => {
  if (!e) return sheet;
  if (!grounds.has(e)) {
    const own = colour(getComputedStyle(e).backgroundColor), alpha = own[3] && own[3] * veil(e);
    grounds.set(e, alpha === 1 ? own.slice(0, 3) : over(own, alpha, ground(e.parentElement)));
  }
  return grounds.get(e);
};
const luminance = c => c.slice(0, 3).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const hex = c => "#" + c.slice(0, 3).map(v => Math.round(255 * v).toString(16).padStart(2, "0")).join("");
const skip = "script, style, noscript, template, mjx-container, svg, canvas, picture, video, object, option,"
  + " :disabled, [aria-disabled=true], .disabled";
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), met = new Set(), low = [];
while (texts.nextNode()) {
  const e = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || met.has(e)) continue;
  met.add(e);
  const box = e.getBoundingClientRect();
  if (e.closest(skip) || !seen(e) || box.width < 2 || box.height < 2) continue;
  const style = getComputedStyle(e), size = parseFloat(style.fontSize);
  const back = ground(e), own = colour(style.color), fore = over(own, own[3] * veil(e), back);
  const [dim, bright] = [luminance(fore), luminance(back)].sort((a, b) => a - b);
  const ratio = (bright + 0.05) / (dim + 0.05);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  if (ratio < least) {
    low.push({ratio, least, where: path(e), text: words(e), fore: hex(fore), back: hex(back)});
  }
}
return low;
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
