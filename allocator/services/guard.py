"""The owner's end of a watchdog: a process that cannot outlive whoever started it."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from allocator.services import watchdog

# A machine with overloaded cores was seen to take seconds for a process that otherwise takes milliseconds.
SPAWN_LIMIT_S = 60.0


class Guarded:
    """
    A command running under a watchdog, in a session of its own, out of reach of a terminal's Ctrl-C.

    Args:
        log: Gets what the command prints, appended.
        account: User and group id to run the command under; needs root.
        lock_fd: Stays open in watchdog and command, so that a lock taken on it lasts until the command has
            ended.
        remove: A folder to delete once the owner is gone, or has called `close`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        stop_signal: int,
        stop_limit_s: float,
        account: tuple[int, int] | None = None,
        lock_fd: int | None = None,
        remove: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        lock_fds = [] if lock_fd is None else [lock_fd]
        orders = {
            "command": list(command),
            "stop_signal": int(stop_signal),
            "stop_limit_s": stop_limit_s,
            "account": list(account or ()),
            "lock_fds": lock_fds,
            "remove": str(remove or ""),
        }
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.failure: str | None = None
        self._unread = b""
        self._stop_limit_s = stop_limit_s
        # Pipes are closed on exec by default, so no other child of this process gets an end.
        their_orders, self._orders = os.pipe()
        self._reports, their_reports = os.pipe()
        try:
            with open(log, "ab") as log_file:
                self._watchdog = subprocess.Popen(
                    [sys.executable, "-I", "-S", watchdog.__file__, json.dumps(orders)],
                    stdin=their_orders,
                    stdout=their_reports,
                    stderr=log_file,
                    start_new_session=True,
                    pass_fds=lock_fds,
                    cwd="/",
                    env=None if env is None else {**os.environ, **env},
                )
        except BaseException:
            os.close(self._orders)
            os.close(self._reports)
            raise
        finally:
            os.close(their_orders)
            os.close(their_reports)
        self._open = True
        _guards.add(self)
        try:
            self._await("pid", SPAWN_LIMIT_S)
        except BaseException:
            self.close()
            raise

    def poll(self, wait_s: float = 0.0) -> bool:
        """Whether the command has ended; gives it up to `wait_s` to do so."""
        deadline = time.monotonic() + wait_s
        while not self._ended and self._read_report(deadline - time.monotonic()):
            pass
        return self._ended

    def stop(self) -> None:
        """End the command with its stop signal, and with SIGKILL if that takes longer than its limit."""
        self._order(watchdog.STOP, "exit", self._stop_limit_s + SPAWN_LIMIT_S)

    def kill(self) -> None:
        self._order(watchdog.KILL, "exit", SPAWN_LIMIT_S)

    def pause(self) -> None:
        self._order(watchdog.PAUSE, "done", SPAWN_LIMIT_S)

    def resume(self) -> None:
        self._order(watchdog.RESUME, "done", SPAWN_LIMIT_S)

    def dismiss(self) -> None:
        """Part with the watchdog of a command that has ended, leaving its folder."""
        if self._open:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._orders, watchdog.DISMISS)
        self.close()

    def close(self) -> None:
        """Do what happens when the owner dies: the command is stopped, a temporary folder deleted."""
        if not self._open:
            return
        self._open = False
        _guards.discard(self)
        os.close(self._orders)
        try:
            self._watchdog.wait(self._stop_limit_s + SPAWN_LIMIT_S)
            while self._read_report(0.0):
                pass
        finally:
            os.close(self._reports)

    @property
    def _ended(self) -> bool:
        return self.exit_code is not None or self.failure is not None

    def _order(self, order: bytes, answer: str, limit_s: float) -> None:
        if self.poll():
            return
        try:
            os.write(self._orders, order)
        except BrokenPipeError:
            self.failure = "its watchdog was killed"
            raise RuntimeError(f"the watchdog of process {self.pid} was killed; that process may still run") from None
        self._await(answer, limit_s)

    def _await(self, wanted: str, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not self._ended:
            report = self._read_report(deadline - time.monotonic())
            if report == wanted:
                return
            if report is None:
                raise RuntimeError(f"the watchdog of process {self.pid} did not answer for {limit_s:g} s")

    def _read_report(self, wait_s: float) -> str | None:
        """Take in one report and return its first word; None if there is none in time."""
        while b"\n" not in self._unread:
            with selectors.DefaultSelector() as selector:
                selector.register(self._reports, selectors.EVENT_READ)
                if not selector.select(max(0.0, wait_s)):
                    return None
            piece = os.read(self._reports, 4096)
            if not piece:
                if not self._ended:
                    self.failure = "its watchdog ended early"
                return None
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        word, _, rest = line.decode(errors="replace").partition(" ")
        if word == "pid":
            self.pid = int(rest)
        elif word == "exit":
            self.exit_code = int(rest)
        elif word == "failed":
            self.failure = rest
        return word

    def _forget(self) -> None:
        self._open = False
        os.close(self._orders)
        os.close(self._reports)
        # The watchdog is not this process's child, so there is nothing to wait for.
        self._watchdog.returncode = 0


_guards: weakref.WeakSet[Guarded] = weakref.WeakSet()


def _forget_all() -> None:
    for guard in list(_guards):
        guard._forget()
    _guards.clear()


# A forked copy of the owner would hold the pipe open and keep the server alive after the owner's death.
os.register_at_fork(after_in_child=_forget_all)
