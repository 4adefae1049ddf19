"""Run a program in Python that dies with the process that started it (Linux).

`python -P ci/tied.py MODULE ARG …` is `python -m MODULE ARG …`, and `MODULE:FUNCTION` calls a
function, except that the system kills it when the process named in `JPY_PARENT_PID` goes, even
by SIGKILL. ipykernel polls for its parent too, but a kernel whose parent died before the poll
began, and which something else than process 1 adopted, escapes it. Elsewhere than on Linux the
poll has to do.
"""

import ctypes
import importlib
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie(parent: int) -> None:
    """Ask for SIGKILL on the death of `parent`; leave at once if it is dead already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    tie(int(os.environ["JPY_PARENT_PID"]))
    del sys.argv[0]
    module, _, function = sys.argv[0].partition(":")
    if function:
        sys.exit(getattr(importlib.import_module(module), function)())
    runpy.run_module(module, run_name="__main__", alter_sys=True)
