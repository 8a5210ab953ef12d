"""
Ends a server when its owner is gone, and carries out the owner's orders meanwhile.

Runs as a file, `python -I -S watchdog.py ORDERS`, between the owner (its parent) and the server (its child),
so it may import nothing but the standard library. Standard input is a pipe whose write end only the owner
holds: one byte is one order, and its end means that the owner exited, crashed or was killed. Reports leave by
standard output, a line each: `pid N`, `failed REASON`, `done`, `exit N`.

Signals go to the server from here and not from the owner, because only a parent knows that a process id still
belongs to its child: until it has waited for the child, the id is not given to another process.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

STOP, KILL, PAUSE, RESUME, DISMISS = b"S", b"K", b"P", b"R", b"D"

# How long the kernel may take to stop or reap a process that was told so; a process in a disk wait obeys
# late.
_KERNEL_LIMIT_S = 10.0


def process_table() -> dict[int, tuple[int, str]]:
    """Parent and state (`T` stopped, `Z` dead, not yet waited for) by process id; empty if unknown."""
    with contextlib.suppress(OSError):
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        if pids:
            return {pid: row for pid in pids if (row := _proc_row(pid)) is not None}
    try:
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return {}
    rows = (line.split() for line in listing.splitlines())
    return {int(row[0]): (int(row[1]), row[2][0]) for row in rows if len(row) == 3}


def _proc_row(pid: int) -> tuple[int, str] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The command name stands in brackets and may hold blanks and brackets itself.
    state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
    return int(parent), state.decode()


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie, whoever its parent is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    row = _proc_row(pid) or process_table().get(pid)
    return row is None or row[1] not in "ZX"


def _descendants(root: int) -> list[int]:
    table = process_table()
    found = [root]
    for parent in found:
        found.extend(pid for pid, (its_parent, _) in table.items() if its_parent == parent)
    return found[1:]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _KERNEL_LIMIT_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.002)


def _freeze(root: int) -> list[int]:
    """Stop a process, then its descendants, and return those: a stopped parent neither forks nor waits."""
    _signal(root, signal.SIGSTOP)
    _until(lambda: _is_frozen(root))
    below = _descendants(root)
    for pid in below:
        _signal(pid, signal.SIGSTOP)
    _until(lambda: all(_is_frozen(pid) for pid in below))
    return below


def _is_frozen(pid: int) -> bool:
    row = _proc_row(pid) or process_table().get(pid)
    return row is None or row[1] in "TtZX"


def _thaw(root: int) -> None:
    for pid in [*_descendants(root), root]:
        _signal(pid, signal.SIGCONT)


class _Watchdog:
    def __init__(self, orders: dict[str, object]) -> None:
        self._command = [str(word) for word in _as_list(orders["command"])]
        self._stop_signal = int(str(orders["stop_signal"]))
        self._stop_limit_s = float(str(orders["stop_limit_s"]))
        account = [int(str(number)) for number in _as_list(orders["account"])]
        self._account = (account[0], account[1]) if account else None
        self._lock_fds = [int(str(number)) for number in _as_list(orders["lock_fds"])]
        self._remove = str(orders["remove"] or "")
        self._told_to_end = False
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        # An owner's thread may have blocked signals, and a server would inherit that.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._told_to_end = True

    def run(self) -> None:
        user, group = self._account or (None, None)
        try:
            self._server = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=self._lock_fds,
                user=user,
                group=group,
                extra_groups=[] if self._account else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._report(f"failed {error}")
        else:
            self._report(f"pid {self._server.pid}")
            self._watch()
            self._report(f"exit {self._server.returncode}")
        # The folder's lock goes with the last process that holds it: the server has ended, so let others in.
        for fd in self._lock_fds:
            os.close(fd)
        self._wait_for_dismissal()

    def _watch(self) -> None:
        while not self._server_ended(None, also=[0]):
            order = os.read(0, 1) if select.select([0], [], [], 0)[0] else None
            if order in (b"", STOP) or self._told_to_end:
                self._stop()
            elif order == KILL:
                self._kill()
            elif order == PAUSE:
                _freeze(self._server.pid)
                self._report("done")
            elif order == RESUME:
                _thaw(self._server.pid)
                self._report("done")

    def _server_ended(self, limit_s: float | None, also: list[int] | None = None) -> bool:
        """Whether the server has ended; waits for that, for `also`, for a signal, or for the limit."""
        if self._server.poll() is None:
            select.select([self._wake, *(also or [])], [], [], limit_s)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        return self._server.poll() is not None

    def _stop(self) -> None:
        _thaw(self._server.pid)
        self._server.send_signal(self._stop_signal)
        deadline = time.monotonic() + self._stop_limit_s
        while not self._server_ended(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                self._kill()

    def _kill(self) -> None:
        below = _freeze(self._server.pid)
        for pid in below:
            _signal(pid, signal.SIGKILL)
        self._server.kill()
        self._server.wait()
        _until(lambda: not any(is_running(pid) for pid in below))

    def _wait_for_dismissal(self) -> None:
        """A temporary folder outlives its server, which may start again in it, but not its owner."""
        if not self._remove:
            return
        while not self._told_to_end:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            if 0 in select.select([0, self._wake], [], [])[0]:
                order = os.read(0, 1)
                if order == DISMISS:
                    return
                if order == b"":
                    break
        shutil.rmtree(self._remove, ignore_errors=True)

    def _report(self, line: str) -> None:
        # An owner that is gone reads no reports.
        with contextlib.suppress(BrokenPipeError):
            os.write(1, line.replace("\n", " ").encode() + b"\n")


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


if __name__ == "__main__":
    _Watchdog(json.loads(sys.argv[1])).run()
