"""The lab: panels in a notebook by which a person operates a queue under load, and watches what it does."""

import atexit
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets as widgets  # type: ignore[import-untyped]
from IPython.display import display

from allocator.lab.attached import Attached
from allocator.lab.panels.acting import Acting
from allocator.lab.panels.letters import LettersPanel
from allocator.lab.panels.live import LivePanel
from allocator.lab.panels.looks import STYLE
from allocator.lab.panels.record import ACTIONS, RecordPanel
from allocator.lab.panels.workers import WorkersPanel
from allocator.lab.panels.workload import WorkloadPanel
from allocator.lab.reading import INTERVAL_S
from allocator.lab.recording import Recording
from allocator.lab.replay import left_out, replayed, settings_workload, written
from allocator.lab.session import Session, check_backend
from allocator.lab.settings import Settings
from allocator.queue.base import Queue
from allocator.report.places import reports_folder


class Lab:
    """
    A queue under load, with panels to work it: `Lab().show()` in a notebook.

    Nothing runs before *Start* is pressed, and everything that runs ends with *Stop*, with another lab that is shown,
    and with the kernel.

    Args:
        url: Of a queue that is in use elsewhere, to look at that one: there is no load then, and nothing to kill.
        name: Of that queue.
        write: Whether dead letters of that queue may be put back and purged. A job store beside it is not told, and
            hears of a job when its next attempt begins.
        backend: The one that is chosen at first: redis or postgres.
    Raises:
        QueueUnavailable: The server of `url` could not be reached.
        ValueError: There is no such backend.
    """

    _shown: ClassVar["Lab | None"] = None

    def __init__(
        self, url: str | None = None, *, name: str = "default", write: bool = False, backend: str = "redis"
    ) -> None:
        check_backend(backend)
        self.session: Session | None = None
        self.recording: Recording | None = None
        self._last: Session | None = None
        """The session that runs, or that ran last: what was done in it can still be exported."""
        self._attached = None if url is None else Attached(url, name)
        self._ending, self._refreshing = threading.Event(), threading.RLock()
        self._acting = Acting(self._refresh)
        self._said, self._records = "", False
        self.live = LivePanel(is_ours=url is None)
        self.letters = LettersPanel(self._acting, lambda: self._queue, write or url is None, self._note)
        self.workload = self.workers = self.record = None
        parts: list[Any] = [widgets.HTML(STYLE), self._acting.box]
        if self._attached is None:
            self.workload = WorkloadPanel(self._acting, backend, self.start, self.stop, lambda: self.session)
            self.workers = WorkersPanel(self._acting, lambda: self.session)
            self.record = RecordPanel(
                self._acting, self.start_recording, lambda: self.recording, self.export, lambda: self._last is not None
            )
            self._acting.say("Nothing runs yet: press Start.")
            parts += [self.workload.box, self.live.box, self.workers.box, self.letters.box, self.record.box]
        else:
            self._acting.say(f"attached to {self._attached.queue.identity}, " + ("may write" if write else "read only"))
            parts += [self.live.box, self.letters.box]
        self.box = widgets.VBox(parts)
        self.box.add_class("allocator-lab")
        self._ticker = threading.Thread(target=self._tick_on, name="lab-ticker", daemon=True)

    def show(self) -> None:
        """Show the panels below the cell; a lab that was shown before is closed."""
        if Lab._shown is not None:
            Lab._shown.close()
        Lab._shown = self
        atexit.register(self.close)
        display(self.box)  # type: ignore[no-untyped-call]
        self._ticker.start()

    def start(self, backend: str, settings: Settings, workers: int) -> str:
        """Start a session, if there is none; gives what to tell. Raises what `Session` raises."""
        if self.session is None:
            self.session = self._last = Session(backend, settings, workers)
        return f"running on {self.session.server.describe()}"

    def stop(self) -> str:
        """End the session, if there is one; gives what to tell."""
        session, self.session = self.session, None
        if session is not None:
            session.close()
        return "stopped: load, workers and server have ended"

    def start_recording(self, what: str, seconds: float) -> None:
        """
        Record a run beside the session, which rests meanwhile; nothing is done where one is being recorded.

        Args:
            what: `settings`, for so many seconds, or `actions`: what was done in the session.
        Raises:
            InvalidWorkload: Nothing would arrive.
        """
        assert self.workload is not None
        if self._records:
            return
        session = self.session
        if what == ACTIONS:
            assert self._last is not None
            workload, place = replayed(self._last.log), self._last.place
        else:
            workload = settings_workload(self.workload.settings, seconds, self.workload.worker_count)
            place = self.workload.backend if session is None else session.place
        self.recording = Recording(workload, place, reports_folder() / "runs")
        self._records = True
        self.live.say("Not drawn while a run is recorded: it would take part of a core from what is measured.")
        if session is not None:
            session.rest()

    def export(self) -> tuple[str, str]:
        """
        Write what was done as a workload, into the folder of reports.

        Returns:
            The command that replays it, and the file's text.
        Raises:
            InvalidWorkload: Nothing arrived.
        """
        assert self._last is not None
        log = self._last.log
        text = written(replayed(log), left_out(log))
        path = reports_folder() / f"lab-{datetime.now(UTC):%Y%m%dT%H%M%S}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return f"allocator bench run {path} --backend {self._last.backend}", text

    def close(self) -> None:
        """End everything. Idempotent."""
        atexit.unregister(self.close)
        self._ending.set()
        if self.recording is not None:
            self.recording.close()
        self._acting.stop()
        self.stop()
        if self._attached is not None:
            self._attached.close()

    def tick(self) -> None:
        """Look once, and show it; what fails is shown too."""
        watched = self.session or self._attached
        try:
            if self._records:
                self._look_at_recording()
            elif watched is not None:
                self.live.tick(watched.reader)
            else:
                self.live.clear()
            if self.session is not None and self.session.crew.problem != self._said:
                self._said = self.session.crew.problem
                self._acting.fail(self._said)
            self._refresh()
        except Exception as error:
            self._acting.fail(error)

    def _look_at_recording(self) -> None:
        assert self.recording is not None
        if not self.recording.is_over:
            return
        if self.session is not None and self.session.resting:
            # First: where it fails, as while the server is away, it is tried again at the next look.
            self.session.go_on()
        self._records = False
        self.live.say("")
        told = self.recording.told
        self._acting.say(f"recorded {Path(told.run).name}: {told.verdict}" if told.run else "nothing was recorded")

    @property
    def _queue(self) -> Queue | None:
        watched = self.session or self._attached
        return None if watched is None else watched.queue

    def _note(self, kind: str, told: str) -> None:
        if self.session is not None:
            self.session.log.note(kind, told)

    def _refresh(self) -> None:
        with self._refreshing:
            if self.workload is not None and self.workers is not None:
                self.workload.refresh()
                self.workers.refresh()
            if self.record is not None:
                self.record.refresh()
            watched = self.session or self._attached
            self.letters.refresh(None if watched is None else watched.reader.latest.dead)

    def _tick_on(self) -> None:
        while not self._ending.wait(INTERVAL_S):
            self.tick()
