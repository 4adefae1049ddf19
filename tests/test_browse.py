"""Every fault the browser looks for, planted in a small site and found."""

import shutil
from pathlib import Path

import matplotlib
import pytest

from ci import browse, browser
from ci.chapters import ROOT

pytestmark = pytest.mark.skipif(
    browser.programs() is None, reason="Chromium and its driver are not installed (.ci/run does it)"
)

HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>t</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<style>body{background:#fff;color:#222} html[data-theme=dark] body{background:#111;color:#eee}"
    "</style></head><body><main><h1>t</h1>"
)
SLIDER = (
    '<section><input type="range" style="height: 24px" min="0" max="3" value="1" id="k" {name}>'
    '<p id="v">1</p></section>'
)
LIVE = SLIDER + "<script>k.oninput = () => {{ v.textContent = k.value }}</script>"
# ten letters that overflow their box until their font is there; a font loads when it is used.
# The picture is a fault until they have been a stop
LATE_FONT = """
<style>
  mjx-container { display: inline-block; overflow-x: auto }
  mjx-container { width: 60px; height: 40px; font: 16px late, monospace }
</style>
<article><mjx-container>iiiiiiiiii</mjx-container><img src="dot.svg"></article>
<script src="reading.js"></script>
<script>
  const stop = document.querySelector("mjx-container");
  const late = new FontFace("late", "url(cmr10.ttf)", {display: "swap"});
  new MutationObserver((_, once) => {
    if (!stop.hasAttribute("tabindex")) return;
    document.querySelector("img").remove();
    once.disconnect();
    document.fonts.add(late);
  }).observe(stop, {attributes: true});
</script>"""
PAGES = {
    "sound": LIVE.format(name='aria-label="knob"') + '<img src="dot.svg" alt="a dot">'
    '<img src="dot.svg" alt="" role="presentation">',
    "third-party": '<script src="https://elsewhere.example/x.js"></script>',
    "failed": '<img src="gone.png" alt="not there">',
    "script": "<script>throw new Error('boom')</script>",
    "formula": '<span class="math">\\(x^2\\)</span>',
    "raw-formula": "<p>Let \\(x^2\\) be</p>",
    "no-alt": '<img src="dot.svg">',
    "empty-alt": '<img src="dot.svg" alt="">',
    "slider-name": LIVE.format(name=""),
    "deaf-slider": SLIDER.format(name='aria-label="knob"'),
    "same-id": '<p id="a">x</p><p id="a">y</p>',
    "wide": '<div style="width: 900px">wide</div>',
    "faint": '<p style="color: #aaa">faint words</p>',
    "faint-in-the-dark": '<p style="color: #333">words for daylight only</p>',
    "faint-on-a-phone": "<style>@media (width < 500px) { p { color: #aaa } }</style><p>words</p>",
    "faint-token": "<style>.highlight .n { color: #aaa }</style>"
    '<div class="highlight"><pre tabindex="0"><span class="k">for</span> <span class="k">in</span> '
    '<span class="n">names</span></pre></div>',
    "nested": '<details><summary>all <a href="sound.html">of it</a></summary>x</details>',
    "dead-explorer": '<div class="explorer"><img src="dot.svg" alt="a dot"></div>',
    "small-slider": LIVE.format(name='aria-label="knob"').replace("24px", "16px"),
    "tab-stop": '<mjx-container tabindex="0">x</mjx-container>',
    "late-font": LATE_FONT,
}
SOUND = ("sound", "late-font")
EXPECTED = {
    "third-party": "third-party request: https://elsewhere.example/x.js",
    "failed": "failed request: 404 /gone.png",
    "script": "script error: ",
    "formula": "unset formula",
    "raw-formula": "unset formula",
    "no-alt": "img without alt",
    "empty-alt": "img with an empty alt, not marked as decoration",
    "slider-name": "label, light theme, 1280 px",
    "deaf-slider": "slider 'knob': an arrow key changes nothing",
    "same-id": "duplicate-id, light theme, 1280 px",
    "wide": "908 px wide on a phone of 390",
    "faint": "color-contrast, light theme, 1280 px",
    "faint-in-the-dark": "color-contrast, dark theme, 1280 px",
    "faint-on-a-phone": "color-contrast, light theme, 390 px",
    "faint-token": "color-contrast, light theme, 1280 px",
    "nested": "nested-interactive, light theme, 1280 px",
    "dead-explorer": "explorer without sliders",
    "small-slider": "slider less than 24 px high",
    "tab-stop": "formula that is a tab stop: x",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The faults of all pages, from one browser."""
    site = tmp_path_factory.mktemp("site")
    (site / "dot.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>'
    )
    shutil.copy(Path(ROOT, "book/_ext/site/reading.js"), site)
    shutil.copy(Path(matplotlib.get_data_path(), "fonts/ttf/cmr10.ttf"), site)
    for name, body in PAGES.items():
        (site / f"{name}.html").write_text(f"{HEAD}{body}</main></body></html>", encoding="utf-8")
    shots = site.parent / "shots"
    faults = {}
    seconds, browser.SETTLE_SECONDS = browser.SETTLE_SECONDS, 1
    try:
        with browser.serve(site) as origin, browser.chromium() as driver:
            for name in PAGES:
                said = browse.visit(driver, origin, f"{name}.html", shots).faults
                faults[name] = [fault.replace(f"{origin}/", "/") for fault in said]
    finally:
        browser.SETTLE_SECONDS = seconds
    pictures = {path.name for path in shots.glob("*.png")}
    assert {f"sound-{kind}.png" for kind in ("light", "dark", "phone")} <= pictures
    return faults


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_page_has_no_fault(found, name):
    assert found[name] == []


@pytest.mark.parametrize("name", EXPECTED)
def test_a_planted_fault_is_found(found, name):
    assert any(fault.startswith(EXPECTED[name]) for fault in found[name]), found[name]


def test_every_page_is_either_sound_or_planted():
    assert set(PAGES) == {*SOUND, *EXPECTED}
