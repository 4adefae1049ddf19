"""Time and memory of a piece of work."""

import resource
import time
from collections.abc import Callable, Sequence
from typing import Any


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Least of the wall times in seconds, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def times(works: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """The wall times in seconds of several pieces of work, done by turns."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for seconds, work in zip(found, works, strict=True):
            seconds.append(timed(work, 1)[0])
    return found


def peak() -> float:
    """The most memory the process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
