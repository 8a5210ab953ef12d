"""The recorder: what was written survives its writer, in order and whole; what was not is told."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from allocator.bench.recorder import GROW, HEADER, RECORD, Event, Outcome, Recorder, RecordingFailed, boot_id
from allocator.bench.records import has_failed, read_records

WRITER = """
import sys
from pathlib import Path
from allocator.bench.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]))
for number in range(10_000_000):
    recorder.record(3, number, 1, f"token-{number}", due_at=float(number))
    if number == 20_000:
        print(flush=True)
"""


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Every field, with what was not given as missing."""
    recorder = Recorder(tmp_path)
    before = time.monotonic_ns()
    recorder.record(
        Event.SETTLED,
        7,
        2,
        "a-token-3",
        outcome=Outcome.FAILED,
        due_at=1.5,
        leased_at=2.5,
        delay_s=4.0,
        worker=recorder.worker(),
        error=recorder.text("ValueError: Größe"),
    )
    recorder.record(Event.STARTED, 8)
    after = time.monotonic_ns()

    records = read_records(tmp_path)

    assert records.torn == 0
    assert records.boot_id == boot_id()
    first, second = records.frame().to_dict("records")
    assert before <= first.pop("at_ns") <= second.pop("at_ns") <= after
    assert first == {
        "event": Event.SETTLED,
        "job": 7,
        "attempt": 2,
        "outcome": Outcome.FAILED,
        "due_at": 1.5,
        "leased_at": 2.5,
        "delay_s": 4.0,
        "token": "a-token-3",
        "worker": f"{os.getppid()}/MainThread",
        "error": "ValueError: Größe",
        "process": os.getpid(),
    }
    assert (second["job"], second["attempt"], second["token"]) == (8, 0, "")
    assert records.frame().loc[1, ["due_at", "leased_at", "delay_s", "worker", "error"]].isna().all()


def test_a_file_grows_and_threads_share_it(tmp_path: Path) -> None:
    """Each thread's records are all there, in its order."""
    recorder = Recorder(tmp_path)
    each = GROW // 2

    def write(thread: int) -> None:
        for number in range(each):
            recorder.record(Event.STARTED, number, thread)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    records = read_records(tmp_path)
    assert records.torn == 0
    for thread_number in range(4):
        own = records.frame()[records.frame()["attempt"] == thread_number]
        assert own["job"].tolist() == list(range(each))


def test_records_survive_a_kill_of_the_writer(tmp_path: Path) -> None:
    """With -9, at any instant: all are there up to the last, which may be torn and is then counted."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout:
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()

    records = read_records(tmp_path)

    frame = records.frame()
    count = len(frame)
    assert count > 20_000
    assert records.torn <= 1
    assert np.array_equal(records.frame()["job"], np.arange(count))
    assert records.frame()["token"].iloc[-1] == f"token-{count - 1}"
    assert np.array_equal(records.frame()["due_at"], np.arange(count, dtype=float))


@pytest.mark.parametrize("torn", [1, 4], ids=["the last", "one in the middle"])
def test_a_torn_record_is_left_out_and_counted(tmp_path: Path, torn: int) -> None:
    """Its mark, which is written last, is missing."""
    recorder = Recorder(tmp_path)
    for number in range(5):
        recorder.record(Event.STARTED, number)
    with recorder.path.open("r+b") as file:
        file.seek(HEADER.size + (5 - torn) * RECORD.size + RECORD.size - 4)
        file.write(bytes(4))

    records = read_records(tmp_path)

    assert records.torn == 1
    assert records.frame()["job"].tolist() == [number for number in range(5) if number != 5 - torn]


def test_a_full_disk_is_an_error_and_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it learns that records are missing, as does the run that asks."""
    recorder = Recorder(tmp_path)
    for number in range(GROW):
        recorder.record(Event.STARTED, number)
    assert has_failed(tmp_path) is None

    # A limit on the size of files stands for a full disk: the kernel refuses to claim more in the same way.
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (recorder.path.stat().st_size, limits[1]))
        with pytest.raises(RecordingFailed, match="end the run, make room"):
            recorder.record(Event.STARTED, GROW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert has_failed(tmp_path) == recorder.path
    with pytest.raises(RecordingFailed, match="could not record everything"):
        read_records(tmp_path)


def test_a_closed_recorder_records_nothing_more(tmp_path: Path) -> None:
    """And says so; what it has stays."""
    recorder = Recorder(tmp_path)
    recorder.record(Event.STARTED, 1)
    recorder.close()
    recorder.close()

    with pytest.raises(RecordingFailed, match="was closed"):
        recorder.record(Event.STARTED, 2)

    assert read_records(tmp_path).frame()["job"].tolist() == [1]


def test_a_token_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """Cut off, it could be taken for another."""
    with pytest.raises(RecordingFailed, match="more than 48 bytes"):
        Recorder(tmp_path).record(Event.STARTED, 1, 1, "x" * 49)


def test_records_of_two_boots_are_not_compared(tmp_path: Path) -> None:
    """Their clocks have nothing to do with each other."""
    recorder = Recorder(tmp_path)
    recorder.record(Event.STARTED, 1)
    other = tmp_path / "0-0.records"
    other.write_bytes(recorder.path.read_bytes().replace(boot_id().encode(), b"another".ljust(len(boot_id()), b"x")))
    other.with_suffix(".texts").touch()

    with pytest.raises(RecordingFailed, match="different boots"):
        read_records(tmp_path)
