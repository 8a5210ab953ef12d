"""Whatever ends the process that holds a lab, nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.lab.waiting import BOUND_S, until

pytestmark = [pytest.mark.service, pytest.mark.redis, pytest.mark.faults]

HOLDER = """
import signal, sys, time
from pathlib import Path
from allocator.lab.recording import Recording
from allocator.lab.replay import settings_workload
from allocator.lab.session import Session
from allocator.lab.settings import Settings

session = Session("redis", Settings(rate_per_s=20.0), workers=2)
while session.reader.look().throughput_per_s in (None, 0):
    time.sleep(0.1)
recording = Recording(settings_workload(Settings(), 60.0, 1), "redis", Path(sys.argv[1]))
while recording.told.phase != "sending":
    time.sleep(0.1)
session.pause_worker(0)
print(session.server.data_dir, flush=True)
signal.pause()
"""


def test_a_kernel_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """Neither load, nor workers, one of them stopped, nor servers, nor a run that is being recorded; nor files."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with holder:
        try:
            assert holder.stdout is not None
            folder = Path(holder.stdout.readline().strip())
            assert list(folder.glob("allocator-lab-*/*.tally"))
            started = psutil.Process(holder.pid).children(recursive=True)
            modules = {word for process in started for word in process.cmdline() if word.startswith("allocator.lab.")}
        finally:
            holder.send_signal(signal.SIGKILL)

    _, left = psutil.wait_procs(started, BOUND_S)

    assert modules == {"allocator.lab.load", "allocator.lab.worker", "allocator.lab.recorded"}
    assert left == []
    until(lambda: not folder.exists(), "the folder of its server goes")
