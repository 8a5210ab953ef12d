"""Worker threads: each takes a job, tries it, and says how it ended."""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping

from allocator.domain.deadletter import MAX_ERROR_BYTES, MAX_TRACEBACK_BYTES, trim_text
from allocator.supervisor.ending import Ending
from allocator.supervisor.events import Listeners
from allocator.supervisor.held import Held
from allocator.supervisor.processors import Context, GiveUp, Processor
from allocator.supervisor.stats import WorkerStats

log = logging.getLogger(__name__)

Report = Callable[[Held, float, float | None, str], None]


def attempt(processor: Processor, context: Context, held: Held) -> Ending:
    """Try a job. Everything it raises becomes an ending; raises Died where the worker must go."""
    try:
        result = processor(context)
    except GiveUp as reason:
        return _failed(held, "dead", _text(reason))
    except BaseException as error:
        ending = _failed(held, "failed", f"{type(error).__name__}: {_text(error)}")
        if not isinstance(error, Exception):
            raise Died(ending) from error
        return ending
    return Ending(held, "done", result=result, finished=time.monotonic())


def _failed(held: Held, verb: str, error: str) -> Ending:
    """With the traceback of the exception that is being handled."""
    trace = trim_text(traceback.format_exc(), MAX_TRACEBACK_BYTES)
    return Ending(held, verb, error, trace, finished=time.monotonic())


def _text(error: BaseException) -> str:
    """What an exception says, in what any database and worker process takes."""
    try:
        return trim_text(str(error), MAX_ERROR_BYTES)
    except Exception as trouble:
        return f"(its text cannot be told: {type(trouble).__name__})"


class Died(Exception):
    """A processor raised what no worker should survive (SystemExit, KeyboardInterrupt, …)."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.error)
        self.ending = ending


class ThreadWorker(threading.Thread):
    """
    Takes jobs until there are no more to come.

    Args:
        take: Gives the next one when it may be started, however long that takes; None: there will be no more.
    Attributes:
        current: What it is at.
        discarded: It was replaced; it ends after its present job, whose end nobody waits for.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[], Held | None],
        processors: Mapping[str, Processor],
        put: Callable[[Ending], None],
        report: Report,
        listeners: Listeners,
        gone: Callable[["ThreadWorker"], None],
    ) -> None:
        # Daemon, or a job that never ends would keep the interpreter from ending.
        super().__init__(name=name, daemon=True)
        self._take = take
        self._processors = processors
        self._put = put
        self._report = report
        self._listeners = listeners
        self._gone = gone
        self.current: Held | None = None
        self.discarded = False
        self.done_count = 0

    def run(self) -> None:
        take, put, listeners = self._take, self._put, self._listeners
        while not self.discarded:
            held = take()
            if held is None:
                return
            self.current = held
            now = time.monotonic()
            if held.lost or held.at(now) >= held.lease.expires_at:
                # By our own clock too: this process may have been stopped while the job was in the buffer.
                self.current = None
                # The queue will say so again, and then it is held no more.
                put(Ending(held, "released"))
                continue
            held.worker = self.name
            held.started = now
            if listeners:
                listeners.tell("on_started", held.lease)
            try:
                ending = self._attempt(held)
            except Died as died:
                self.current = None
                put(died.ending)
                log.error("worker %s died of %s in job %s; it is replaced", self.name, died, held.lease.job.id)
                self._gone(self)
                return
            self.current = None
            self.done_count += 1
            put(ending)

    def wait(self, seconds: float) -> None:
        """Return once it has ended, or after so long; one that was never started has."""
        if self.is_alive():
            self.join(seconds)

    def _attempt(self, held: Held) -> Ending:
        return attempt(self._processors[held.lease.job.type], Context(held, self._report), held)

    def stats(self) -> WorkerStats:
        """What it does now."""
        held = self.current
        if held is None:
            return WorkerStats(self.name, "idle" if self.is_alive() else "gone", "", "", 0.0, self.done_count)
        state = "stuck" if held.abandoned else "running"
        job = held.lease.job
        return WorkerStats(self.name, state, job.id, job.type, time.monotonic() - held.started, self.done_count)
