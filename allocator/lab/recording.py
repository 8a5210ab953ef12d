"""A recording under way: a run in a process of its own, while the lab itself keeps still."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec

from allocator.bench.workload import Workload
from allocator.lab.orders import RunOrders, Told

SAID_CHARS = 600
CLOSE_S = 5.0


class Recording:
    """
    Begins at once. The thread that makes it must live as long as it runs: the kernel ends the process with it.

    Args:
        backend: As `allocator.bench.runs.run` takes it.
        folder: Where runs are kept.
    Attributes:
        told: How far it is.
    """

    def __init__(self, workload: Workload, backend: str, folder: Path) -> None:
        self.told = Told(phase="preparing")
        self._over = threading.Event()
        orders = RunOrders(
            workload=workload.to_yaml(), backend=backend, folder=str(folder.resolve()), parent=os.getpid()
        )
        # Closed by the reader.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "allocator.lab.recorded", msgspec.json.encode(orders).decode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="lab-recording", daemon=True)
        self._reader.start()

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end, whichever that is; `told` says."""
        return self.told.phase == "over"

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        return self._over.wait(seconds)

    def stop(self) -> None:
        """End the run in order: what was measured until now is kept, judged and shown."""
        if self.told.phase not in ("drawing", "over"):
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End it at once; what was measured is not kept. Idempotent."""
        self._process.kill()
        # A kernel that it had started ends a moment later, and holds its end of the pipe until then.
        self._reader.join(CLOSE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        decode = msgspec.json.Decoder(Told).decode
        with self._process.stdout as lines:
            for line in lines:
                self._tell(decode(line))
        status = self._process.wait()
        with self._errors as errors:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()[-SAID_CHARS:]
        if self.told.phase != "over":
            problem = f"the recording ended with status {status} while {self.told.phase}: {said or 'it said nothing'}"
            self._tell(msgspec.structs.replace(self.told, phase="over", problem=problem))

    def _tell(self, told: Told) -> None:
        self.told = told
        if self.is_over:
            self._over.set()
