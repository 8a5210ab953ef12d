"""Ctrl-C in the middle of a call."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from allocator import Queue
from allocator.services import Server
from tests.contract.builders import a_job
from tests.faults.interrupted_client import JOB
from tests.faults.running import LONG_S

INTERRUPTS = 300


@pytest.mark.service
@pytest.mark.faults
def test_a_client_outlives_its_interrupts(server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """Wherever they come: the process goes on, and no call is given the answer to one that was broken off."""
    opened(server.url).enqueue(a_job(id=JOB))

    command = [sys.executable, "-m", "tests.faults.interrupted_client", server.url, name, str(INTERRUPTS)]
    client = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)

    assert client.returncode == 0, client.stderr
    interrupted, answered = map(int, client.stdout.split())
    assert interrupted == INTERRUPTS
    assert answered > 0
