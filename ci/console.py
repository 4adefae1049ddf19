"""Printing where the terminal's encoding lacks a character."""

import io
import sys


def any_locale() -> None:
    """From here on, print `?` for what the locale cannot say, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
