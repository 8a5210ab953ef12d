"""Worker processes: a thread here for each, which hands it one job at a time and sees it die."""

import logging
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

import msgspec

from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.messages import Reply, Task
from allocator.supervisor.pools import Report, ThreadWorker

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often it is looked whether a job was cancelled, and whether its process is still there."""

START_S = 60.0

RESTART_PAUSE_S = 0.1
"""Where processes cannot even be started, they are not started in a loop."""


_SIGNALS = {int(known): known.name for known in signal.Signals}
"""Real-time signals have no names."""


class NotStarted(Exception):
    """A worker process that cannot do jobs: its processors are not found there, or it hangs."""


class Child:
    """A process that runs `allocator.supervisor.child`, and the socket to it."""

    def __init__(self, name: str, processors: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for the supervisor, which then stops its workers in order.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "allocator.supervisor.child", str(theirs.fileno()), name],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        # That of the connection makes a selector for every look.
        self._arrived = select.poll()
        self._arrived.register(self._connection, select.POLLIN)
        self._decode = msgspec.json.Decoder(Reply).decode
        self._encode = msgspec.json.Encoder().encode
        self.send_raw(self._encode(dict(processors)))

    def send_raw(self, message: bytes) -> None:
        self._connection.send_bytes(message)

    def send(self, task: Task) -> None:
        self.send_raw(self._encode(task))

    def receive(self, seconds: float) -> Reply | None:
        """The next message, or None after `seconds`. Raises EOFError when the process is gone."""
        deadline = time.monotonic() + seconds
        try:
            gone = False
            while True:
                left_s = deadline - time.monotonic()
                if self._arrived.poll(0 if gone else max(0.0, min(LOOK_S, left_s)) * 1000):
                    return self._decode(self._connection.recv_bytes())
                if gone:
                    raise EOFError
                # Then looked at once more, so that what it said last is heard. A process of its own may keep the socket
                # open.
                gone = self.process.poll() is not None
                if left_s <= LOOK_S and not gone:
                    return None
        except OSError as error:
            raise EOFError from error

    def kill(self) -> None:
        """End it at once; safe from any thread."""
        self.process.kill()

    def close(self) -> str:
        """Let it go, and tell how it ended."""
        self._connection.close()
        try:
            status = self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if status < 0:
            return f"killed by {_SIGNALS.get(-status, f'signal {-status}')}"
        return f"exited with status {status}"


class ProcessWorker(ThreadWorker):
    """Tries jobs in a process of its own, which is replaced when it dies."""

    def __init__(
        self,
        name: str,
        take: Callable[[], Held | None],
        processors: Mapping[str, str],
        put: Callable[[Ending], None],
        report: Report,
        listeners: Listeners,
        restarted: Callable[[], None],
    ) -> None:
        super().__init__(name, lambda: self._take_ready(take), {}, put, report, listeners, lambda worker: None)
        self._names = processors
        self._restarted = restarted
        self._child: Child | None = None
        self._releasing = False
        self._ending = False
        self._getting_ready = False
        self._begun = False
        self._child_lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process at the moment."""
        child = self._child
        return None if child is None else child.process.pid

    def run(self) -> None:
        try:
            super().run()
        finally:
            with self._child_lock:
                child, self._child = self._child, None
            if child is not None:
                child.close()

    def kill(self, *, release: bool = False) -> None:
        """
        End the process at once.

        Args:
            release: Its job goes back uncharged, for the fault is not the job's, and no other process is started.
        """
        with self._child_lock:
            self._releasing = release
            if self._child is not None:
                self._child.kill()

    def no_more_jobs(self) -> None:
        """There will be none to start a process for: the one that is being started for the next job is ended."""
        with self._child_lock:
            self._ending = True
            if self._getting_ready and self._child is not None:
                self._child.kill()

    def _take_ready(self, take: Callable[[], Held | None]) -> Held | None:
        """Have a process first, so that no job waits for it: loading its processors may take seconds."""
        if self._child is None:
            self._getting_ready = True
            try:
                self._start_child()
            except Exception as error:
                # Whatever it is: the next job tries again, and has it in its error.
                self._drop_child()
                if not self._ending and not self._releasing:
                    log.warning("%s: its process did not start: %s; tried again with its next job", self.name, error)
            self._getting_ready = False
        return take()

    def _start_child(self) -> Child:
        with self._child_lock:
            if self._releasing or (self._getting_ready and self._ending):
                raise EOFError
            if self._child is not None:
                return self._child
            child = self._child = Child(self.name, self._names)
        try:
            ready = child.receive(START_S)
        except EOFError:
            if self._releasing:
                raise
            raise NotStarted(self._drop_child()) from None
        if ready is None or ready.kind != "ready":
            raise NotStarted(f"it said nothing for {START_S:g} s" if ready is None else ready.error)
        return child

    def _attempt(self, held: Held) -> Ending:
        self._begun = False
        try:
            child = self._start_child()
            # Starting a process takes a while; the job's time begins when it is handed over.
            held.started = time.monotonic()
            lease = held.lease
            child.send(Task(lease.job, lease.attempt, lease.token, lease.due_at, lease.leased_at))
            return self._follow(child, held)
        except NotStarted as error:
            # The next one will hardly do better; the job's attempts and their backoff keep this from being a loop.
            self._restarted()
            self._drop_child()
            return Ending(held, "failed", f"the worker process did not start: {error}", finished=time.monotonic())
        except (EOFError, OSError):
            return self._bury_child(held)
        except Exception as error:
            # Whatever it is: without this thread nobody would ever end the job, whose lease is extended.
            log.exception("%s: its process is replaced, in job %s", self.name, held.lease.job.id)
            self._restarted()
            self._drop_child()
            error_text = f"the worker process cannot be understood: {error}"
            return Ending(held, "failed", error_text, finished=time.monotonic())

    def _follow(self, child: Child, held: Held) -> Ending:
        cancel_sent = False
        while True:
            reply = child.receive(LOOK_S)
            if reply is None:
                if (held.lease.cancelled or held.lost) and not cancel_sent:
                    cancel_sent = True
                    child.send(Task(cancel=True))
                continue
            match reply.kind:
                case "progress":
                    self._report(held, reply.done, reply.total, reply.message)
                case "beat":
                    held.beat()
                case "started":
                    self._begun = True
                case "died":
                    self._restarted()
                    self._drop_child()
                    return Ending(held, "failed", reply.error, reply.traceback, finished=time.monotonic())
                case verb:
                    now = time.monotonic()
                    return Ending(held, verb, reply.error, reply.traceback, result=reply.result, finished=now)

    def _drop_child(self) -> str:
        """Let the process go; tells how it ended, or nothing when there was none."""
        with self._child_lock:
            child, self._child = self._child, None
        return "" if child is None else child.close()

    def _bury_child(self, held: Held) -> Ending:
        how = self._drop_child()
        now = time.monotonic()
        if self._releasing:
            return Ending(held, "released", finished=now)
        self._restarted()
        if not self._begun and not held.abandoned:
            # It was gone before it heard of the job, which is not to blame.
            log.warning("%s: its process had died (%s) before job %s began", self.name, how, held.lease.job.id)
            return Ending(held, "released", delay_s=RESTART_PAUSE_S, finished=now)
        if held.abandoned:
            error = f"timeout: ran longer than {held.timeout_s:g} s; its process was killed"
            return Ending(held, "failed", error, finished=now)
        error = f"the worker process died: {how}"
        log.error("%s: %s, in job %s attempt %d", self.name, error, held.lease.job.id, held.lease.attempt)
        # Ready again at once, as after an expired lease: the fault may well have been the machine's.
        return Ending(held, "failed", error, delay_s=0.0, finished=now)
