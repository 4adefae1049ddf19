"""Printing: where the terminal's encoding lacks a character, and how far one is."""

import io
import sys
import time


def any_locale() -> None:
    """From here on, print `?` for what the locale cannot say, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def passed(number: int, total: int, name: str, start: float, state: str = "") -> None:
    """Say that one of ``total`` things is done that began at ``start`` by ``time.perf_counter``."""
    seconds = time.perf_counter() - start
    print(f"[{number:3}/{total}] {name:50} {seconds:5.1f} s  {state}".rstrip(), flush=True)
