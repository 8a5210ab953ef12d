"""No program of the lab outlives who started it."""

import ctypes
import os
import signal
import sys
import threading
import time

LOOK_S = 1.0
_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """
    End this process, without any more ado, once its parent is gone.

    On Linux the kernel sees to that also where this process is stopped; it does so when the thread ends that started
    it, which therefore must live as long.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="lab-parent", daemon=True).start()
