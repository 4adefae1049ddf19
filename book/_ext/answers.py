"""``{answer} KEY``: a number that the reader types is judged in the page, without a kernel.

What is right is the value glued under KEY by the page's own run; it cannot be typed. The body is
the solution, folded, and so is the hint. ``answers.js`` reads and judges; without it, and on
paper, there is a line to write on.
"""

import math
import re
from html import escape
from typing import Any

from atlas_html import fold, text
from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.core.variables import RetrievalError
from myst_nb.ext.glue.utils import retrieve_glue_data
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CLOSE = "1 %"  # how far off an answer may be, unless told
SCALAR = re.compile(r"(?:np\.)?\w+\((.*?)(?:, dtype=[\w.]+)?\)")  # how numpy and torch show one


def tolerance(text: str) -> str:
    """``2 %`` (of the value) or ``0.05`` (of its unit), checked; raises ValueError."""
    number = text.strip().removesuffix("%")
    if not math.isfinite(value := float(number)) or value < 0:
        raise ValueError(f"a tolerance is a positive number or percentage, not {text!r}")
    return text.strip()


def allowed(expected: float, close: str) -> float:
    """How far from ``expected`` an answer may be; raises ValueError for a share of nothing."""
    if not close.endswith("%"):
        return float(close)
    if expected == 0:
        raise ValueError("the value is 0: a percentage of it allows nothing; give a number")
    return abs(expected) * float(close.removesuffix("%")) / 100


def as_number(shown: str) -> float:
    """A glued value as Python shows it, as a number; raises ValueError where it is none."""
    found = SCALAR.fullmatch(shown)
    if not math.isfinite(value := float(found[1] if found else shown)):
        raise ValueError("not finite")
    return value


class AnswerDirective(SphinxDirective):
    """A field to answer an exercise in, with a hint and a solution that fold."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012
        "tolerance": tolerance,
        "unit": directives.unchanged_required,
        "hint": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """The form, the hint, the solution."""
        key = self.arguments[0]
        self.assert_has_content()
        if "hint" not in self.options:
            raise self.error(f"answer {key!r} needs the option :hint:")
        expected = self._expected(key)
        try:
            close = allowed(expected, self.options.get("tolerance", CLOSE))
        except ValueError as error:
            raise self.error(f"answer {key!r}: {error}") from error
        form = nodes.raw(
            "", field(key, expected, close, self.options.get("unit", "")), format="html"
        )
        hint, messages = self.state.inline_text(self.options["hint"], self.lineno)
        solution = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, solution)
        return [
            form,
            fold(text("Hint"), nodes.paragraph("", "", *hint), style="answer"),
            fold(text("Solution"), *solution.children, style="answer"),
            *messages,
        ]

    def _expected(self, key: str) -> float:
        try:
            data = retrieve_glue_data(self.state.document, key).data
            return as_number(data.get("text/plain", ""))
        except RetrievalError:
            raise self.error(f"answer {key!r}: the page glues no value of this name") from None
        except ValueError:
            raise self.error(f"answer {key!r}: what is glued is not a number") from None


def field(key: str, expected: float, close: float, unit: str) -> str:
    """The HTML of a form; its button and its verdict are there only where a script is."""
    name = f"answer-{re.sub(r'[^a-z0-9]+', '-', key.lower())}"
    words = f'<span class="unit">{escape(unit)}</span>' if unit else ""
    return (
        f'<form class="answer" novalidate data-expected="{expected!r}" data-close="{close!r}" '
        f'data-unit="{escape(unit)}"><label for="{name}">Your answer</label>'
        f'<input id="{name}" type="text" autocomplete="off" spellcheck="false" '
        f'aria-describedby="{name}-verdict">{words}'
        '<button type="submit" class="pst-js-only">Check</button>'
        f'<output id="{name}-verdict" for="{name}" aria-live="polite"></output></form>'
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("answer", AnswerDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
