"""Explorers as the site shows them: frames in files of their own, moved by plain sliders.

`zotk.frame_player` leaves the state of its widgets in an executed notebook, every frame in it.
Here the frames become files, and the output that showed the widget a few lines of HTML, which
`explorers.js` brings to life. No page needs the widgets' own scripts.
"""

import base64
import json
import re
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ci import pictures

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PNG = "data:image/png;base64,"
MATHS = re.compile(r"\$([^$]+)\$")
AS_MATHS = r'<span class="math notranslate nohighlight">\\(\1\\)</span>'


def unpack(notebook: Any, name: str, site: str, folder: Path) -> None:
    """Change every explorer of a notebook to HTML; its frames go to ``folder``.

    ``site`` is the address of ``folder`` from the chapter's page. Raises ValueError for a widget
    that `zotk.frame_player` did not make.
    """
    state = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    number = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if VIEW not in data:
                continue
            stem = f"{name}-{number}"
            knobs, frames = _player(state, data.pop(VIEW)["model_id"], name)
            (folder / stem).mkdir(parents=True, exist_ok=True)
            for at, (image, _) in enumerate(frames):
                small, size = pictures.webp(image)
                (folder / stem / f"{at}.webp").write_bytes(small)
            alts = [alt for _, alt in frames]
            data["text/html"] = player(stem, f"{site}/{stem}", knobs, alts, size)
            number += 1


Knob = tuple[str, list[str], int]  # name, values as shown, where it starts
Frame = tuple[bytes, str]  # PNG, text alternative


def _player(state: dict[str, Any], model: str, name: str) -> tuple[list[Knob], list[Frame]]:
    def known(reference: str, *models: str) -> dict[str, Any]:
        entry = state.get(reference.removeprefix("IPY_MODEL_"), {})
        if entry.get("model_name") not in models:
            raise ValueError(f"{name} shows a widget that zotk.frame_player did not make")
        return {"model": entry["model_name"], **entry["state"]}

    def leaves(reference: str) -> Iterator[Frame]:
        node = known(reference, "StackModel", "HTMLModel")
        if node["model"] == "HTMLModel":
            yield _image(node["value"])
        else:
            for child in node["children"]:
                yield from leaves(child)

    *sliders, stack = known(model, "VBoxModel")["children"]
    knobs = []
    for slider in sliders:
        entry = known(slider, "SelectionSliderModel")
        knobs.append((entry["description"], list(entry["_options_labels"]), entry["index"]))
    return knobs, list(leaves(stack))


def _image(html: str) -> Frame:
    found: dict[str, str] = {}
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.update(  # type: ignore[method-assign]
        {key: value or "" for key, value in attrs}
    )
    parser.feed(html)
    return base64.b64decode(found["src"].removeprefix(PNG)), found["alt"]


def player(
    stem: str, frames_at: str, knobs: list[Knob], alts: list[str], size: tuple[int, int]
) -> str:
    """The HTML of an explorer; without a script it is its first picture."""
    at = 0
    rows = []
    for number, (name, values, start) in enumerate(knobs):
        at = at * len(values) + start
        knob = f"{stem}-{number}"
        label = MATHS.sub(AS_MATHS, escape(name))
        rows.append(
            f'<div class="knob pst-js-only"><label for="{knob}">{label}</label>'
            f'<input id="{knob}" type="range" min="0" max="{len(values) - 1}" value="{start}" '
            f'aria-valuetext="{escape(values[start])}" data-values="{escape(json.dumps(values))}">'
            f'<output for="{knob}">{escape(values[start])}</output></div>'
        )
    all_alts = json.dumps(alts, ensure_ascii=False).replace("<", "\\u003c")
    return (
        f'<div class="explorer" data-frames="{frames_at}">{"".join(rows)}'
        f'<img src="{frames_at}/{at}.webp" width="{size[0]}" height="{size[1]}" loading="lazy" '
        f'alt="{escape(alts[at])}"><script type="application/json">{all_alts}</script></div>'
    )
