"""The panel *Record*: what is to be believed, recorded as a run like any other; and what was done, exported."""

import html
import os
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets  # type: ignore[import-untyped]

from allocator.lab.orders import Told
from allocator.lab.panels.acting import Acting
from allocator.lab.panels.looks import button, panel
from allocator.lab.recording import Recording

SETTINGS, ACTIONS = "settings", "actions"
PHASES = {
    "preparing": "starting a server, workers and load of its own",
    "sending": "jobs arrive",
    "draining": "the last jobs are done",
    "judging": "the checker looks at every job",
    "drawing": "its notebook is made",
    "over": "over",
}


class RecordPanel:
    """
    Args:
        start: Begins to record what is asked for, SETTINGS (for so many seconds) or ACTIONS.
        recording: The one that runs or was the last, if there is one.
        export: Writes what was done into a file; gives the command that replays it, and its text.
        has_actions: Whether anything was done yet.
    """

    def __init__(
        self,
        acting: Acting,
        start: Callable[[str, float], None],
        recording: Callable[[], Recording | None],
        export: Callable[[], tuple[str, str]],
        has_actions: Callable[[], bool],
    ) -> None:
        self._acting = acting
        self._recording, self._export, self._has_actions = recording, export, has_actions
        self._shown: Told | None = None
        self._what = widgets.Dropdown(
            options=[("the settings as they are now", SETTINGS), ("what I did since Start, again", ACTIONS)],
            description="Record",
            tooltip="Either these settings for a while, or rates, kills and faults at the same instants once more",
            layout={"width": "340px"},
        )
        self._seconds = widgets.IntSlider(
            20, 3, 120, description="Seconds", tooltip="How long jobs arrive", layout={"width": "340px"}
        )
        self._start = button(
            "Start recording", "circle", "A run on a server, workers and load of its own", "start-recording"
        )
        self._stop = button("Stop recording", "stop", "End the run now; what was measured is kept", "stop-recording")
        self._export_it = button("Export", "download", "Write what was done as a workload, to be replayed", "export")
        self._told, self._exported = widgets.HTML(), widgets.HTML()
        self._told.add_class("allocator-lab-recorded")
        self._exported.add_class("allocator-lab-exported")
        # Links in it are opened by JupyterLab itself, which knows where the notebook is.
        self._link = widgets.Output()
        self._link.add_class("allocator-lab-run-link")
        acting.on_click(self._start, "recording", self._begin(start))
        acting.on_click(self._stop, "ending the recording", self._end)
        acting.on_click(self._export_it, "exporting", self._write)
        self._what.observe(lambda _: self.refresh(), names="value")
        self.box = panel(
            "Record",
            "a run that is checked, judged and kept; the lab keeps still meanwhile",
            [
                widgets.HBox([self._what, self._seconds]),
                widgets.HBox([self._start, self._stop, self._export_it]),
                self._told,
                self._link,
                self._exported,
            ],
        )
        self.refresh()

    def refresh(self) -> None:
        """Show how far a recording is, and enable what can be used now."""
        recording = self._recording()
        runs = recording is not None and not recording.is_over
        stoppable = runs and recording is not None and recording.told.phase in ("sending", "draining")
        self._acting.enable([self._what], not runs)
        self._acting.enable([self._seconds], not runs and self._what.value == SETTINGS)
        self._acting.enable([self._start], not runs and (self._what.value == SETTINGS or self._has_actions()))
        self._acting.enable([self._stop], stoppable)
        self._acting.enable([self._export_it], not runs and self._has_actions())
        if recording is not None and recording.told != self._shown:
            self._shown = recording.told
            self._show(recording.told)

    def _begin(self, start: Callable[[str, float], None]) -> Callable[[], str]:
        def begin() -> str:
            self._link.outputs = ()
            start(self._what.value, float(self._seconds.value))
            return "recording: the load of the lab rests, and nothing is drawn"

        return begin

    def _end(self) -> None:
        recording = self._recording()
        if recording is not None:
            recording.stop()

    def _write(self) -> str:
        command, text = self._export()
        self._exported.value = f"Replay it with <code>{html.escape(command)}</code><pre>{html.escape(text)}</pre>"
        return "exported: Record shows the file, and how to replay it"

    def _show(self, told: Told) -> None:
        if told.phase != "over":
            jobs = f", {told.done:,} of {told.total:,} jobs done" if told.total else ""
            self._told.value = html.escape(f"Recording: {PHASES[told.phase]}{jobs}")
            return
        self._told.value = _ended(told)
        if told.notebook:
            # From the notebook's folder, which is where its kernel runs.
            path = os.path.relpath(Path(told.run) / told.notebook)
            link = f'<a href="{html.escape(path, quote=True)}">Open the notebook of this run</a>'
            self._link.outputs = (
                {"output_type": "display_data", "data": {"text/html": link, "text/plain": path}, "metadata": {}},
            )


def _ended(told: Told) -> str:
    problem = f'<div role="alert">{html.escape(told.problem)}</div>' if told.problem else ""
    if not told.run:
        return problem
    said = f"Run <code>{html.escape(Path(told.run).name)}</code>: <b>{told.verdict}</b>"
    if told.interrupted:
        said += ", for it was stopped before its end"
    if told.failed_gates:
        said += f". Its figures decide nothing; gates that failed: {html.escape('; '.join(told.failed_gates))}"
    return f"<div>{said}.</div>{problem}"
