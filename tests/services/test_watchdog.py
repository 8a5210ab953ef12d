"""The table of processes that faults rely on."""

import os
import subprocess
import sys

import pytest

from allocator.services import watchdog


def test_the_process_table_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc, `ps` tells the same; where there is neither, nothing is known and nothing raised."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        row = watchdog.process_table()[child.pid]
        real_listing, real_run = os.listdir, subprocess.run

        def no_proc(path: str) -> list[str]:
            if path == "/proc":
                raise FileNotFoundError(path)
            return real_listing(path)

        def no_ps(*_: object, **__: object) -> None:
            raise FileNotFoundError("ps")

        monkeypatch.setattr(os, "listdir", no_proc)
        try:
            real_run(["ps", "-A"], capture_output=True, check=False)
        except FileNotFoundError:
            row_by_ps = None
        else:
            row_by_ps = watchdog.process_table()[child.pid]
        monkeypatch.setattr(subprocess, "run", no_ps)
        nothing = watchdog.process_table()
        child.communicate(b"\n")

    assert row[0] == os.getpid()
    assert row_by_ps is None or row_by_ps[0] == os.getpid()
    assert nothing == {}
