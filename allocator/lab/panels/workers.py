"""The panel *Workers*: who works at what, and what can be done to them and to the server."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from allocator.lab.figure import duration
from allocator.lab.panels.acting import Acting, asked
from allocator.lab.panels.looks import button, columns, panel
from allocator.lab.rows import WorkerRow
from allocator.lab.session import Session

HEADINGS = ("worker", "state", "job", "for", "jobs done", "restarts")


@dataclass
class _Row:
    """The widgets of one worker."""

    told: Any
    pause: Any
    controls: list[Any]
    box: Any
    is_paused: bool = False


class WorkersPanel:
    """
    Args:
        session: The one that runs, if one does.
    """

    def __init__(self, acting: Acting, session: Callable[[], Session | None]) -> None:
        self._acting = acting
        self._session = session
        self._rows: dict[int, _Row] = {}
        self._list = widgets.VBox()
        self._add = button("Add a worker", "plus", "One process more", "add")
        self._pause = button("Pause server", "pause", "SIGSTOP: nothing answers until it is resumed", "pause-server")
        self._resume = button("Resume server", "play", "SIGCONT: it answers again", "resume-server")
        self._restart = button("Restart server", "refresh", "An orderly stop, and a start", "restart-server")
        self._flush = button("FLUSHALL", "trash", "Redis forgets everything at once", "flushall")
        self._note = widgets.HTML()
        acting.on_click(self._add, "adding a worker", lambda: f"worker {self._running().add_worker()} added")
        acting.on_click(self._pause, "pausing the server", lambda: self._running().pause_server())
        acting.on_click(self._resume, "resuming the server", lambda: self._running().resume_server())
        questions = [
            asked(
                acting,
                self._restart,
                "Connections are cut; what the server has acknowledged must still be there afterwards. Restart it?",
                "restarting the server",
                lambda: self._running().restart_server(),
            ),
            asked(
                acting,
                self._flush,
                "Every job and dead letter of this lab is lost for good. Flush?",
                "flushing the server",
                lambda: self._running().flush_server(),
            ),
        ]
        self.box = panel(
            "Workers",
            "a process each; who dies is replaced",
            [
                widgets.HTML(columns(HEADINGS, heading=True)),
                self._list,
                widgets.HBox([self._add, self._pause, self._resume, self._restart, self._flush]),
                *questions,
                self._note,
            ],
        )
        self.refresh()

    def refresh(self) -> None:
        """Show the workers that there are, and enable what can be done now."""
        session = self._session()
        rows = {} if session is None else {row.number: row for row in session.workers()}
        if rows.keys() != self._rows.keys():
            self._rows = {number: self._rows.get(number) or self._new_row(number) for number in rows}
            self._list.children = [row.box for row in self._rows.values()]
        for number, row in rows.items():
            self._show(self._rows[number], row)
        active = session is not None and not session.resting
        harmable = active and session is not None and session.server.owned
        paused = session is not None and session.server_paused
        self._acting.enable([self._add], active)
        self._acting.enable([control for row in self._rows.values() for control in row.controls], active)
        self._acting.enable([self._pause], harmable and not paused)
        self._acting.enable([self._resume], paused)
        self._acting.enable([self._restart], harmable)
        self._acting.enable(
            [self._flush], harmable and not paused and session is not None and session.backend == "redis"
        )
        self._note.value = _note(session)

    def _running(self) -> Session:
        session = self._session()
        if session is None:
            raise RuntimeError("nothing runs; press Start first")
        return session

    def _new_row(self, number: int) -> _Row:
        kill = button("Kill -9", "bolt", f"SIGKILL to worker {number}: its lease must run out", "kill")
        pause = button("Pause", "pause", f"SIGSTOP to worker {number}: after 5 s its lease is lost", "pause")
        remove = button("Remove", "minus", f"Let worker {number} finish its job, and end", "remove")
        told = widgets.HTML(layout={"width": "580px"})
        row = _Row(told, pause, [kill, pause, remove], widgets.HBox([told, kill, pause, remove]))
        row.box.add_class(f"allocator-lab-worker-{number}")

        def pause_or_resume() -> str:
            session = self._running()
            return (session.resume_worker if row.is_paused else session.pause_worker)(number)

        self._acting.on_click(kill, f"killing worker {number}", lambda: self._running().kill_worker(number))
        self._acting.on_click(pause, f"pausing or resuming worker {number}", pause_or_resume)
        self._acting.on_click(remove, f"removing worker {number}", lambda: self._running().remove_worker(number))
        return row

    def _show(self, row: _Row, worker: WorkerRow) -> None:
        row.is_paused = worker.state == "paused"
        row.pause.description, row.pause.icon = ("Resume", "play") if row.is_paused else ("Pause", "pause")
        row.told.value = columns(
            (
                f"{worker.number}",
                worker.state,
                "–" if worker.job is None else f"{worker.job:,}",
                "–" if worker.since_s is None else duration(worker.since_s),
                f"{worker.done:,}",
                f"{worker.restarts}",
            )
        )


def _note(session: Session | None) -> str:
    if session is None:
        return "Nothing runs: press Start."
    if not session.server.owned:
        return "The server was given by URL, not started here, and is left unharmed."
    if session.resting:
        return "The lab rests while a run is recorded, with a server and workers of its own."
    if session.server_paused:
        return "The server is paused: nothing moves until it is resumed."
    return ""
