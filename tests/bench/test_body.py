"""The job body: does what its payload plans, and what it recorded becomes the attempts of a run."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from allocator import Backoff, Job, open_queue
from allocator.bench.body import PROCESSOR, Fate, burn, payload
from allocator.bench.frames import attempts_frame
from allocator.bench.observer import Observer
from allocator.bench.recorder import Event, Recorder, process_recorder, record_to
from allocator.bench.records import read_records
from allocator.bench.scratch import scratch_queue
from allocator.bench.serverclock import Offset, ServerClock, find_offset
from allocator.queue.base import Queue
from allocator.supervisor import Supervisor
from tests.contract.builders import BOUND_S

PREFIX = "run-"
AT_ONCE = Backoff(base=0.0)


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Of this process; bodies record with it, or in worker processes into the same folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with record_to(tmp_path) as recorder:
        assert recorder is not None
        yield recorder


def run(queue: Queue, recorder: Recorder, jobs: list[Job], **options: Any) -> pd.DataFrame:
    """The attempts of these jobs, from the first to the last."""
    start = find_offset("memory://")
    origin_ns = time.monotonic_ns()
    queue.enqueue_many(jobs)
    with Supervisor(queue, {"bench": PROCESSOR}, events=[Observer(recorder)], **options) as supervisor:
        assert supervisor.drain(BOUND_S), supervisor.stats()
    clock = ServerClock(start, find_offset("memory://"))
    return attempts_frame(read_records(recorder.path.parent), origin_ns, clock, PREFIX)


def a_job(number: int, fates: list[Fate], rest: Fate = "done", max_retries: int = 3) -> Job:
    """A short one."""
    return Job(
        id=f"{PREFIX}{number}",
        type="bench",
        payload=payload(0.001, fates=fates, rest=rest),
        max_retries=max_retries,
        backoff=AT_ONCE,
    )


def test_every_attempt_has_its_instants_in_order(recorder: Recorder) -> None:
    """A job that fails twice and a poisoned one, in threads."""
    with scratch_queue("memory://") as queue:
        frame = run(queue, recorder, [a_job(0, ["error", "error"]), a_job(1, [], rest="error", max_retries=1)])

    assert frame[["job", "attempt", "outcome"]].to_numpy().tolist() == [
        ["run-0", 1, "failed"],
        ["run-0", 2, "failed"],
        ["run-0", 3, "done"],
        ["run-1", 1, "failed"],
        ["run-1", 2, "failed"],
    ]
    assert frame["token"].is_unique
    assert frame["worker"].str.match(rf"{os.getpid()}/worker-\d").all()
    assert (frame["process"] == os.getpid()).all()
    # The server's clock and ours are told apart, to a fraction of a millisecond.
    assert (frame["due_at"] <= frame["leased_at"]).all()
    assert (frame["leased_at"] <= frame["started_at"] + 0.001).all()
    assert (frame["started_at"] + 0.001 <= frame["finished_at"]).all()
    assert (frame["finished_at"] <= frame["settled_at"]).all()
    assert frame["error"].fillna("").str.contains("fails on purpose").tolist() == [True, True, False, True, True]
    assert frame["next_due_at"].notna().tolist() == [True, True, False, True, False]
    assert frame["next_due_at"][0] == frame["due_at"][1]


def test_a_body_crashes_in_its_process(recorder: Recorder) -> None:
    """The attempt has begun and never came to its end; the next one runs in another process of the same worker."""
    with scratch_queue("memory://") as queue:
        frame = run(queue, recorder, [a_job(0, ["crash"])], processes=1)

    assert frame["outcome"].tolist() == ["failed", "done"]
    assert frame["finished_at"].isna().tolist() == [True, False]
    assert "SIGKILL" in frame["error"][0]
    assert frame["worker"].tolist() == [f"{os.getpid()}/process-1"] * 2
    assert frame["process"].nunique() == 2
    assert os.getpid() not in frame["process"].tolist()
    assert (frame["due_at"] <= frame["leased_at"]).all()


def test_a_body_that_hangs_ends_when_nobody_waits_for_it(recorder: Recorder) -> None:
    """Its job was cancelled; the lease keeper tells it so."""
    with open_queue("memory://", name="hang", lease_s=0.3) as queue:
        queue.enqueue(a_job(0, ["hang"]))
        with Supervisor(queue, {"bench": PROCESSOR}, events=[Observer(recorder)]) as supervisor:
            deadline = time.monotonic() + BOUND_S
            while not (read_records(recorder.path.parent).frame()["event"] == Event.STARTED).any():
                assert time.monotonic() < deadline
            queue.cancel("run-0")
            assert supervisor.drain(BOUND_S)
        clock = ServerClock(find_offset("memory://"), find_offset("memory://"))

    assert attempts_frame(read_records(recorder.path.parent), 0, clock, PREFIX)["outcome"].tolist() == ["cancelled"]


def test_without_a_folder_nothing_is_recorded(recorder: Recorder) -> None:
    """The same body is the arm without records; afterwards it records again."""
    with record_to(None), scratch_queue("memory://") as queue:
        queue.enqueue(a_job(0, []))
        with Supervisor(queue, {"bench": PROCESSOR}) as supervisor:
            assert supervisor.drain(BOUND_S)

        assert queue.counts()["done"] == 1
    assert read_records(recorder.path.parent).frame().empty
    assert process_recorder() is recorder


def test_work_takes_time_of_its_thread() -> None:
    """At least what was asked for, and not a second look at the clock more."""
    before = time.thread_time()
    burn(0.01)

    assert time.thread_time() - before >= 0.01


def test_attempts_that_only_others_tell_of_are_lost(tmp_path: Path) -> None:
    """One was leased by who was killed before it began; one began and was never settled; the last still runs."""
    recorder = Recorder(tmp_path)
    recorder.record(Event.STARTED, 3, 2, "b", due_at=100.0, leased_at=101.0)
    recorder.record(Event.STARTED, 3, 3, "c", due_at=100.0, leased_at=102.0)
    clock = ServerClock(Offset(0, 0.0, 0.0), Offset(1, 0.0, 0.0))

    frame = attempts_frame(read_records(tmp_path), 0, clock, PREFIX)

    assert frame["attempt"].tolist() == [1, 2, 3]
    assert frame["outcome"].tolist() == ["lost", "lost", "running"]
    assert frame.loc[0, ["token", "leased_at", "started_at", "process"]].isna().all()


def test_a_run_without_attempts_has_no_rows(tmp_path: Path) -> None:
    """But every column, each of its type."""
    clock = ServerClock(Offset(0, 0.0, 0.0), Offset(1, 0.0, 0.0))

    frame = attempts_frame(read_records(tmp_path), 0, clock, PREFIX)

    assert frame.empty
    assert frame.dtypes[["due_at", "started_at", "settled_at", "next_due_at"]].eq("float64").all()


def test_the_servers_clock_is_converted_in_a_straight_line() -> None:
    """A clock that gains a tenth of a second in ten."""
    clock = ServerClock(Offset(int(5e9), 1000.0, 0.001), Offset(int(15e9), 1000.1, 0.001))

    instants = clock.to_monotonic(pd.Series([1005.0, 1010.05, 1015.1, float("nan")]).to_numpy())

    assert clock.drift_s == pytest.approx(0.1)
    assert instants[:3] == pytest.approx([5.0, 10.0, 15.0], abs=1e-3)
    assert pd.isna(instants[3])
