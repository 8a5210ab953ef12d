"""A recording: a run like any other, in a process of its own."""

from pathlib import Path

import nbformat
import pytest

from allocator.bench.runs import Run
from allocator.lab.recording import Recording
from allocator.lab.replay import settings_workload
from allocator.lab.settings import Settings
from tests.lab.waiting import BOUND_S, until

pytestmark = pytest.mark.service


@pytest.mark.full
def test_a_recording_that_is_stopped_is_kept_judged_and_shown(tmp_path: Path) -> None:
    """It says that it was cut short; its rows verify, and its notebook shows the same verdict."""
    recording = Recording(settings_workload(Settings(rate_per_s=50.0), 60.0, 1), "memory", tmp_path)
    until(lambda: recording.told.done > 0 or recording.is_over, "jobs are done")

    recording.stop()

    assert recording.wait(BOUND_S)
    told = recording.told
    made = Run(Path(told.run))
    notebook = nbformat.read(Path(told.run) / told.notebook, as_version=4)
    shown = next(cell.outputs[0]["data"]["text/plain"] for cell in notebook.cells if cell.id == "verdict")
    assert (told.problem, made.about.interrupted, made.verify()) == ("", True, [])
    assert told.verdict == made.verdict
    assert shown.startswith(f"('{made.verdict}'")
    assert told.interrupted


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    """Not in a log that nobody reads."""
    recording = Recording(settings_workload(Settings(), 5.0, 1), "redis://127.0.0.1:1/0", tmp_path)

    assert recording.wait(BOUND_S)
    assert recording.told.problem.startswith("nothing was recorded: ")
    assert "127.0.0.1:1" in recording.told.problem
