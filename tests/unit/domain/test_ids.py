"""Job ids."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from allocator.domain.ids import new_id
from tests.contract.builders import InThread


def test_an_id_is_a_uuid_of_version_7() -> None:
    """In the usual spelling, with the variant of RFC 9562, and the time in front."""
    before_ms = time.time_ns() // 1_000_000
    job_id = new_id()
    after_ms = time.time_ns() // 1_000_000

    parsed = uuid.UUID(job_id)

    assert job_id == str(parsed)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert before_ms - 1000 <= parsed.int >> 80 <= after_ms + 1000


def test_ids_are_unique() -> None:
    """Two hundred thousand in a row."""
    made = [new_id() for _ in range(200_000)]

    assert len(set(made)) == 200_000
    assert {"7"} == {job_id[14] for job_id in made}


def test_ids_are_unique_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast they are made: the time in front need not move."""
    stopped_ns = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: stopped_ns)

    made = [new_id() for _ in range(50_000)]

    assert len(set(made)) == 50_000


def test_threads_share_no_id() -> None:
    """Eight of them, making ids at the same time."""
    threads = [InThread(lambda: [new_id() for _ in range(20_000)]) for _ in range(8)]

    made = [job_id for thread in threads for job_id in thread.result()]

    assert len(set(made)) == 160_000


def test_ids_sort_by_the_time_they_were_made() -> None:
    """By the millisecond; within one, their order is nobody's promise."""
    made = [new_id() for _ in range(20_000)]

    milliseconds = [job_id[:13] for job_id in made]

    assert milliseconds == sorted(milliseconds)
    assert milliseconds[0] < milliseconds[-1]


def test_ids_do_not_repeat_when_the_wall_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in front goes on all the same."""
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)

    second = new_id()

    assert first[:13] <= second[:13]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_makes_ids_of_its_own() -> None:
    """Parent and child share no id, not even those made in the same millisecond."""
    script = (
        "import os, sys\n"
        "from allocator.domain.ids import new_id\n"
        "new_id()\n"
        "child = os.fork()\n"
        "made = [new_id() for _ in range(5000)]\n"
        "os.write(1, ('\\n'.join(made) + '\\n').encode()) if child == 0 else None\n"
        "if child == 0: os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "sys.stdout.write('\\n'.join(made) + '\\n')\n"
    )

    output = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ).stdout

    made = output.split()
    assert 10_000 == len(made) == len(set(made))
