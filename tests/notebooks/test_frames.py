"""What notebooks look at: attempts of a supervisor, single calls, a live queue, and what came of files and runs."""

import math
from pathlib import Path

import pandas as pd
import pytest

from allocator import Backoff, DeadLetter, Job, open_queue
from allocator.bench.attending import Attended
from allocator.bench.calls import CONNECTIONS, time_calls
from allocator.bench.looking import oldest_waiting, watch_counts
from allocator.bench.runs.series import CapacitySearch, Scaling
from allocator.bench.statistics.capacity import Capacity, Probe
from allocator.bench.statistics.curves import scaling
from allocator.domain.deadletter import Attempt
from allocator.persistence import open_store
from allocator.report.artefacts import Artefacts, read_measures
from allocator.report.measuring import measure_calls, measure_capacity, measure_scaling
from allocator.report.outcomes import faults_of, ingest_of, letters_of, measure_faults, measure_ingest
from allocator.supervisor import Context, Supervisor


def fail_at_first(context: Context) -> None:
    """Done in the second attempt; one of them never."""
    if context.attempt == 1 or context.job.id == "never":
        raise ValueError("not yet")


def test_attempts_of_a_supervisor_are_rows() -> None:
    """Each with what came of it; one that another follows has the delay until then."""
    seen = Attended()
    with open_queue("memory://", backoff=Backoff(base=0.01)) as queue:
        queue.enqueue_many([Job(type="media", id="once", max_retries=1), Job(type="media", id="never", max_retries=1)])
        with Supervisor(queue, {"media": fail_at_first}, workers=1, events=[seen]) as supervisor:
            assert supervisor.drain(timeout=30)

    frame = seen.frame().set_index(["job", "attempt"])
    assert frame["outcome"].to_dict() == {
        ("once", 1): "failed",
        ("once", 2): "done",
        ("never", 1): "failed",
        ("never", 2): "failed",
    }
    assert frame.loc[("once", 1), "delay_s"] == 0.01
    assert math.isnan(frame.loc[("never", 2), "delay_s"])
    assert frame["error"].dropna().unique().tolist() == ["ValueError: not yet"]
    assert (frame["wait_s"] >= 0).all()
    assert str(frame["due_at"].dt.tz) == "UTC"


def test_nothing_attended_is_an_empty_frame_with_its_columns() -> None:
    """So that cells after it work."""
    assert Attended().frame()["outcome"].value_counts().empty


def test_single_calls_are_timed_and_kept(tmp_path: Path) -> None:
    """Mean and p95 of each kind where there are enough of them, which are 200."""
    timed = time_calls("memory://calls", 20)

    measure_calls(Artefacts(tmp_path, "10-latency"), timed.assign(backend="memory"))

    assert timed["call"].value_counts().to_dict() == {"connect": CONNECTIONS, "enqueue": 20, "dequeue": 20, "ack": 20}
    measures = read_measures(tmp_path)
    enqueue = timed.loc[timed["call"] == "enqueue", "seconds"]
    assert measures["memory/enqueue_mean_s"].value == pytest.approx(enqueue.mean())
    assert measures["memory/enqueue_p95_s"].reason == "20 calls are too few for p95"
    assert measures["memory/enqueue_p95_s"].command.endswith("-p calls 200")


@pytest.mark.parametrize("kept", [True, False])
def test_a_rate_that_the_sender_could_not_send_is_no_capacity(tmp_path: Path, kept: bool) -> None:
    """It says nothing of the queue; a rate that was sent and not held says that there is less."""
    probe = Probe(200.0, passed=False, generator_kept=kept, reason="whatever")
    search = CapacitySearch(Capacity(0.0, 200.0, None, "Below 200 jobs/s.", [probe]), {})

    measure_capacity(Artefacts(tmp_path, "20-throughput"), ["redis", "postgres"], {"redis": search})

    measures = read_measures(tmp_path)
    assert measures["redis/capacity_per_s"].value == (0.0 if kept else None)
    assert measures["redis/capacity_per_s"].high == (200.0 if kept else None)
    assert measures["postgres/capacity_per_s"].reason == "this profile searches none"


def test_a_rate_that_only_a_short_run_held_is_no_capacity(tmp_path: Path) -> None:
    """A longer one at less than that did not."""
    longer = [Probe(190.0, False, reason="the backlog grows"), Probe(440.0, False, reason="the backlog grows")]
    search = CapacitySearch(Capacity(200.0, 400.0, False, "Not confirmed.", [Probe(200.0, True)], longer), {})

    measure_capacity(Artefacts(tmp_path, "20-throughput"), ["redis"], {"redis": search})

    measure = read_measures(tmp_path)["redis/capacity_per_s"]
    assert (measure.value, measure.reason) == (None, "Not confirmed.")


def test_scaling_is_told_of_as_many_workers_as_the_claim_is_of(tmp_path: Path) -> None:
    """Eight of them might do twice as much where four do not."""
    points = scaling({1: [100.0], 4: [150.0], 8: [250.0]}, "sleep")

    measure_scaling(Artefacts(tmp_path, "20-throughput"), ["redis", "memory"], {"redis": Scaling(points, {})})

    measures = read_measures(tmp_path)
    assert (measures["redis/scaling_speedup"].value, measures["redis/scaling_speedup"].note) == (
        1.5,
        "4 workers beside 1",
    )
    assert measures["memory/scaling_speedup"].value is None


def test_a_live_queue_is_watched_without_changing_it() -> None:
    """Two looks at least, so that there is a change to tell."""
    with open_queue("memory://") as queue:
        queue.enqueue_many([Job(type="media"), Job(type="media", delay=60.0)])

        samples = watch_counts(queue, 0.0)

        assert len(samples) == 2
        assert samples[["ready", "scheduled", "leased", "done"]].to_numpy().tolist() == [[1, 1, 0, 0]] * 2


def test_the_job_that_has_waited_longest_is_told_by_the_store(tmp_path: Path) -> None:
    """Of this queue alone; nothing where none waits."""
    with open_store(f"sqlite:///{tmp_path}/store.db") as store, open_queue("memory://") as queue:
        assert oldest_waiting(store, queue).empty
        with open_queue("memory://", name="another") as another:
            store.submit(another, Job(type="media"))
        first, _ = (store.submit(queue, Job(type=kind)) for kind in ("media", "json"))

        found = oldest_waiting(store, queue)

    assert (found["job"], found["type"], found["failed"]) == (first.id, "media", 0)
    assert found["waits_s"] >= 0


def test_dead_letters_are_rows() -> None:
    """With their first and last error; one whose record was damaged has no attempts."""
    attempts = [Attempt(1, "first", None, "w1", 1.0, 2.0), Attempt(2, "last", None, "w2", 3.0, 4.0)]
    letters = [
        DeadLetter(Job(type="media", id="a"), "last", attempts, 2, 4.0),
        DeadLetter(Job(type="damaged", id="b"), "the record is damaged", [], 0, 5.0),
    ]

    frame = letters_of(letters)

    columns = ["job", "attempts", "first_error", "last_error", "worker"]
    assert frame[columns].to_numpy().tolist() == [
        ["a", 2, "first", "last", "w2"],
        ["b", 0, "", "the record is damaged", ""],
    ]
    assert frame["dead_at"].iloc[0] == pd.Timestamp(4.0, unit="s", tz="UTC")
    assert letters_of([])["reason"].empty


def test_a_file_that_is_neither_placed_nor_refused_is_not_accounted_for(tmp_path: Path) -> None:
    """And one that comes back otherwise than it was sent is not identical."""
    at = pd.Timestamp(110.0, unit="s", tz="UTC")
    files = pd.DataFrame(
        {
            "object": ["a", "b", "c", "d", None],
            "sha256_sent": ["1", "2", "3", "4", "5"],
            "sent_at": [100.0] * 5,
            "accept_s": [0.1] * 5,
            "state": ["done", "done", "failed", "processing", None],
            "error": [None, None, "no header that holds", None, None],
            "placed_at": [at, at, pd.NaT, pd.NaT, pd.NaT],
            "problem": [None, None, None, None, "413: too large"],
        }
    )

    found = ingest_of(files, {"a": "1", "b": "other"})
    measure_ingest(Artefacts(tmp_path, "50-ingest"), found, len(files))

    assert found.drop("accept_p95_s").to_dict() == {"accounted_share": 0.8, "identical_share": 0.5, "files_per_s": 0.2}
    measures = read_measures(tmp_path)
    assert (measures["ingest/files_per_s"].value, measures["ingest/files_per_s"].unit) == (0.2, "files/s")
    assert measures["ingest/accept_p95_s"].reason == "5 files are too few for it"


def test_lost_jobs_of_all_faults_are_added_up(tmp_path: Path) -> None:
    """The recovery is the slowest; one that never came is not measured."""
    index = pd.MultiIndex.from_tuples(
        [("redis", "kill_worker"), ("redis", "kill_server"), ("postgres", "kill_server")], names=["backend", "fault"]
    )
    columns = {"accepted": [100, 100, 50], "lost": [1, 2, 0], "recovery_s": [9.0, 0.5, math.nan]}

    measure_faults(Artefacts(tmp_path, "40-faults"), pd.DataFrame(columns, index=index))

    measures = read_measures(tmp_path)
    assert (measures["redis/faults_lost"].value, measures["redis/faults_lost"].n) == (3, 2)
    assert measures["redis/faults_lost"].note == "200 jobs through kill_worker, kill_server"
    assert measures["redis/recovery_s"].value == 0.5
    assert measures["postgres/recovery_s"].value is None


def test_runs_that_do_not_show_whether_jobs_were_lost_count_for_nothing(tmp_path: Path) -> None:
    """Where one shows that some were, that is told all the same."""
    index = pd.MultiIndex.from_tuples(
        [(backend, kind) for backend in ("redis", "postgres") for kind in ("kill_worker", "flushall")],
        names=["backend", "fault"],
    )
    columns = {"accepted": [100] * 4, "lost": [0, math.nan, 2, math.nan], "recovery_s": [1.0] * 4}

    measure_faults(Artefacts(tmp_path, "40-faults"), pd.DataFrame(columns, index=index))

    measures = read_measures(tmp_path)
    assert (measures["redis/faults_lost"].value, measures["postgres/faults_lost"].value) == (None, 2)
    assert measures["redis/faults_lost"].reason == "in 1 of 2 runs it could not be told whether jobs were lost"


def test_without_runs_no_fault_is_told(tmp_path: Path) -> None:
    """Where no server could be had: that of the queue in process still says why."""
    measure_faults(Artefacts(tmp_path, "40-faults"), faults_of({}))

    assert list(read_measures(tmp_path)) == ["memory/faults_lost"]
