"""Judge a mutant in a child of this process: what is loaded already costs it nothing."""

import contextlib
import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

from ci.tied import tie

MEMORY = 6 << 30  # bytes that a child may have beside what is loaded


class Dead(Exception):
    """The child ended without an answer."""


def ask(question: Callable[[], Any], seconds: float) -> Any:
    """What `question` returns in a child process, as JSON; None at the time limit.

    The child has its own session, no output, and a limit of memory. Raises `Dead` if it ends
    without an answer (killed for its memory, say), with what it raised.
    """
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _answer(question, writing, parent)
    os.close(writing)
    try:
        return _read(reading, seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # before it had a session
        os.waitpid(child, 0)


def _answer(question: Callable[[], Any], writing: int, parent: int) -> None:
    """The child's life: a list with its answer, or the text of what it raised."""
    try:
        tie(parent)
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
        _say(writing, [question()])
    except BaseException:
        _say(writing, traceback.format_exc())
    finally:
        os._exit(0)


def _say(writing: int, answer: Any) -> None:
    text = json.dumps(answer).encode() + b"\n"
    while text:
        text = text[os.write(writing, text) :]


def _read(reading: int, seconds: float) -> Any:
    until, said = time.monotonic() + seconds, b""
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        part = os.read(reading, 1 << 16)
        if not part:
            raise Dead("it ended without an answer")
        said += part
    answer = json.loads(said)
    if isinstance(answer, str):
        raise Dead(answer)
    return answer[0]
