"""
Each notebook, executed by papermill from an empty folder with small parameters, and what came of it.

Durations are not asserted, as the machine may be busy; what was counted is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from papermill.exceptions import PapermillExecutionError

from allocator import Job, Queue
from allocator.bench.runs import Run
from allocator.bench.runs.comparing import AGAIN, BASELINE, CANDIDATE
from allocator.bench.scratch import scratch_queue
from allocator.bench.workload import Workload
from allocator.persistence import open_store
from allocator.report.artefacts import read_comparisons, read_tables
from tests.ingest.samples import a_picture, a_sound
from tests.notebooks.executing import FOLDER, Executed

# papermill and what it stands on warn of their own affairs.
pytestmark = [pytest.mark.service, pytest.mark.filterwarnings("ignore")]

ALL = ["memory", "redis", "postgres"]


def runs_of(executed: Executed) -> list[Run]:
    """The runs that it made, in their order."""
    return [Run(folder) for folder in sorted((executed.out / "runs").iterdir())]


@pytest.mark.full
def test_a_parameter_that_does_not_exist_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """papermill itself only warns."""
    with pytest.raises(PapermillExecutionError, match=r"nothing was run.*rate: there is no such parameter"):
        Executed("10-latency", tmp_path, {"rate": 50.0, "out": str(tmp_path / "report")})

    assert not (tmp_path / "report").exists()


def test_the_tour_ends_with_every_job_done(tmp_path: Path) -> None:
    """Also the one that was a dead letter, and was put back."""
    executed = Executed("00-tour", tmp_path, {"work_s": 0.1, "jobs": 2})

    assert "'leased': 1" in executed.shown("take")
    assert executed.shown("letters").count("no header that holds") == 2
    assert "(1, {'queued': 0, 'processing': 0, 'done': 3, 'dead': 0" in executed.shown("put-back")
    assert executed.shown("end") == "True"


@pytest.mark.postgres
def test_the_lab_demonstrates_itself_where_there_are_no_controls(tmp_path: Path) -> None:
    """Each step had the effect that a person would have seen."""
    executed = Executed("lab", tmp_path, {"backend": "postgres", "controls": False})

    seen = ["jobs are done", "more jobs arrive", "another took its place", "there are dead letters", "none is dead"]
    assert [text for text in seen if text in executed.shown("lab")] == seen


def check_latency(executed: Executed, backends: list[str]) -> None:
    """What `10-latency` measured is the figure of its runs, which are kept."""
    measures, runs = executed.measures, runs_of(executed)
    assert [run.about.backend for run in runs] == backends
    for run in runs:
        backend = run.about.backend
        assert run.summary.states == {"done": len(run.jobs)}
        assert measures[f"{backend}/sojourn_mean_s"].value == run.summary.tables["sojourn"].mean_s
        assert measures[f"{backend}/sojourn_mean_s"].runs == [run.about.id]
        assert measures[f"{backend}/wait_p99_s"].value is None, "there are too few jobs for it"
        assert {measures[f"{backend}/{call}_mean_s"].n for call in ("enqueue", "dequeue", "ack")} == {20}
        assert backend in executed.shown("runs")
    assert executed.figures() == 3


def test_latency_is_measured_on_a_schedule(tmp_path: Path) -> None:
    """Every job that was sent is done; a percentile for which there are too few is not measured."""
    small = {"rate_per_s": 100.0, "duration_s": 1.0, "warmup_s": 0.2, "calls": 20, "out": str(tmp_path / "report")}

    executed = Executed("10-latency", tmp_path, {"backends": ["memory"], **small})

    check_latency(executed, ["memory"])


@pytest.mark.full
@pytest.mark.redis
@pytest.mark.postgres
def test_latency_is_measured_on_every_backend(tmp_path: Path) -> None:
    """Backends take turns, in the order given."""
    small = {"rate_per_s": 60.0, "duration_s": 2.0, "warmup_s": 0.2, "calls": 20, "out": str(tmp_path / "report")}

    executed = Executed("10-latency", tmp_path, small)

    check_latency(executed, ALL)


@pytest.mark.full
def test_a_parameter_changes_what_is_measured(tmp_path: Path) -> None:
    """Another rate is another workload, by its hash, and another number of jobs."""
    small = {"backends": ["memory"], "duration_s": 1.0, "warmup_s": 0.0, "calls": 20}

    def runs_at(rate_per_s: float, folder: Path) -> list[Run]:
        parameters = {**small, "rate_per_s": rate_per_s, "out": f"{folder}/report"}
        return runs_of(Executed("10-latency", folder, parameters))

    slow, fast = runs_at(40.0, tmp_path / "slow"), runs_at(120.0, tmp_path / "fast")

    assert slow[0].workload.hash != fast[0].workload.hash
    assert len(slow[0].jobs) < len(fast[0].jobs)


THROUGHPUT: dict[str, Any] = {
    "jobs": 400,
    "clients": 8,
    "workers": 2,
    "overload_s": 0.5,
    "curve_per_s": [40.0, 80.0],
    "curve_s": 0.5,
    "scaling_workers": [1, 2],
    "scaling_jobs": 20,
}


def check_throughput(executed: Executed, backends: list[str]) -> None:
    """What `20-throughput` measured, and the tables that it left."""
    measures, curve = executed.measures, read_tables(executed.out, "load_latency")
    assert curve is not None
    assert curve["rate_per_s"].tolist() == [40.0, 80.0] * len(backends)
    for backend in backends:
        assert (measures[f"{backend}/throughput_per_s"].value or 0.0) > 0
        assert (measures[f"{backend}/scaling_speedup"].value or 0.0) > 0
        assert measures[f"{backend}/scaling_speedup"].note == "2 workers beside 1"
        assert measures[f"{backend}/capacity_per_s"].reason == "this profile searches none"
    assert all(run.holds for run in runs_of(executed))


def test_throughput_is_measured(tmp_path: Path) -> None:
    """Without work, overloaded, at rising rates and with more workers; the capacity only where it is asked for."""
    executed = Executed("20-throughput", tmp_path, {**THROUGHPUT, "backends": ["memory"], "out": f"{tmp_path}/report"})

    check_throughput(executed, ["memory"])
    assert executed.figures() == 5


@pytest.mark.full
@pytest.mark.redis
@pytest.mark.postgres
def test_throughput_is_measured_on_every_backend(tmp_path: Path) -> None:
    """The same on servers."""
    executed = Executed("20-throughput", tmp_path, {**THROUGHPUT, "out": f"{tmp_path}/report"})

    check_throughput(executed, ALL)


@pytest.mark.full
def test_the_capacity_is_an_interval(tmp_path: Path) -> None:
    """Two workers that take 20 ms do at most a hundred a second."""
    parameters = {
        **THROUGHPUT,
        "backends": ["memory"],
        "service_s": 0.02,
        "curve_per_s": [],
        "scaling_workers": [],
        "capacity_from_per_s": 40.0,
        "capacity_to_per_s": 130.0,
        "capacity_s": 26.0,
        "target_s": 0.5,
        "out": f"{tmp_path}/report",
    }

    # The search tries some ten rates, each for as long as a rate takes to be judged.
    executed = Executed("20-throughput", tmp_path, parameters, time_limit_s=600)

    measure = executed.measures["memory/capacity_per_s"]
    assert measure.value is not None
    assert measure.low is not None
    assert measure.high is not None
    assert measure.low == measure.value < measure.high <= 130.0


def check_retries(executed: Executed, backends: list[str]) -> None:
    """Those that had to die did, and nobody else; all as the draws have it."""
    measures, letters = executed.measures, read_tables(executed.out, "dead_letters")
    assert letters is not None
    for backend in backends:
        assert (measures[f"{backend}/dead_share"].value, measures[f"{backend}/success_share"].value) == (1.0, 1.0)
        assert (measures[f"{backend}/backoff_error_max_s"].value or 0.0) < 60
    assert set(letters["backend"]) == set(backends)
    assert set(letters["reason"]) == {"PlannedFailure: this attempt fails on purpose"}
    assert executed.figures() == 4


RETRIES: dict[str, Any] = {"rate_per_s": 50.0, "duration_s": 1.0, "p_poison": 0.2, "base_s": 0.1, "max_retries": 2}


def test_retries_and_dead_letters_are_held_against_the_draws(tmp_path: Path) -> None:
    """By hand: one done, one done late, one never, one of a type that nobody knows."""
    executed = Executed(
        "30-retries-and-dead-letters", tmp_path, {**RETRIES, "backends": ["memory"], "out": f"{tmp_path}/report"}
    )

    check_retries(executed, ["memory"])
    by_hand = executed.shown("submit-letters")
    assert "never-3" in by_hand
    assert "stranger-4" in by_hand
    assert "well-1" not in by_hand


@pytest.mark.full
@pytest.mark.redis
@pytest.mark.postgres
def test_retries_are_held_against_the_draws_on_every_backend(tmp_path: Path) -> None:
    """The same draws on each."""
    executed = Executed("30-retries-and-dead-letters", tmp_path, {**RETRIES, "out": f"{tmp_path}/report"})

    check_retries(executed, ALL)


@pytest.mark.full
@pytest.mark.faults
@pytest.mark.redis
@pytest.mark.postgres
def test_faults_lose_nothing(tmp_path: Path) -> None:
    """Each hits a run of its own; one of Redis alone is left out on PostgreSQL."""
    faults = ["kill_worker", "kill_server", "flushall"]
    parameters = {"faults": faults, "rate_per_s": 40.0, "duration_s": 3.0, "out": f"{tmp_path}/report"}

    executed = Executed("40-faults", tmp_path, parameters)

    table = read_tables(executed.out, "faults")
    assert table is not None
    made = set(zip(table["backend"], table["fault"], strict=True))
    assert made == {("redis", fault) for fault in faults} | {("postgres", fault) for fault in faults[:2]}
    assert table[["lost", "invented", "unexplained", "stale"]].to_numpy().sum() == 0
    measures = executed.measures
    assert (measures["redis/faults_lost"].value, measures["redis/faults_lost"].n) == (0, 3)
    assert measures["postgres/recovery_s"].value is not None
    assert measures["memory/faults_lost"].value is None


def test_files_are_placed_or_refused_and_come_back(tmp_path: Path) -> None:
    """What cannot be read for what it claims to be is refused with its reason, which accounts for it too."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "picture.png").write_bytes(a_picture())
    (folder / "broken.png").write_bytes(a_picture()[:20])
    (folder / "sound.wav").write_bytes(a_sound())
    (folder / "document.json").write_text('{"a": 1}', "utf-8")
    (folder / "twice.json").write_text('{"a": 1}', "utf-8")

    executed = Executed("50-ingest", tmp_path, {"folder": "files", "processes": 1, "out": f"{tmp_path}/report"})

    measures = executed.measures
    assert (measures["ingest/accounted_share"].value, measures["ingest/accounted_share"].n) == (1.0, 5)
    assert measures["ingest/identical_share"].value == 1.0
    assert measures["ingest/accept_p95_s"].reason == "5 files are too few for it"
    assert "{202: 5}, {'done': 4, 'failed': 1}, " in executed.shown("send")
    assert "broken.png" in executed.shown("refused")


@pytest.mark.full
def test_real_files_are_placed_and_come_back(tmp_path: Path) -> None:
    """Those of libraries that are installed, of many kinds."""
    executed = Executed("50-ingest", tmp_path, {"out": f"{tmp_path}/report"})

    measures = executed.measures
    assert measures["ingest/accounted_share"].value == measures["ingest/identical_share"].value == 1.0
    assert (measures["ingest/accounted_share"].n or 0) > 200
    assert all(kind in executed.shown("types") for kind in ("image/png", "application/json", "application/pdf"))


@pytest.mark.full
@pytest.mark.redis
@pytest.mark.postgres
def test_backends_are_compared(tmp_path: Path) -> None:
    """One round gives ratios and no verdict."""
    parameters = {"rounds": 1, "rate_per_s": 50.0, "duration_s": 2.0, "out": f"{tmp_path}/report"}

    executed = Executed("60-compare", tmp_path, parameters)

    measure = executed.measures["postgres_over_redis/throughput_ratio"]
    assert (measure.n, measure.level, len(measure.runs)) == (1, None, 3)
    assert "undecided: throughput" in executed.shown("ratios")


@pytest.mark.full
@pytest.mark.skipif(not (FOLDER.parent / ".git").exists(), reason="not a git checkout: there is no earlier commit")
def test_this_tree_is_measured_beside_a_commit(tmp_path: Path) -> None:
    """Runs of both are kept apart, with which of them belong together; one round gives no verdict."""
    small = {"backends": ["memory"], "rounds": 1, "jobs_in_process": 20_000, "duration_s": 0.0}

    executed = Executed("70-baseline", tmp_path, small | {"out": str(tmp_path / "report")})

    (compared,) = read_comparisons(executed.out).values()
    assert compared.ids(CANDIDATE) == [run.about.id for run in runs_of(executed)]
    assert compared.ids(BASELINE, AGAIN) == [path.name for path in sorted((executed.out / "baseline").iterdir())]
    assert "a verdict takes 5 runs of each arm, there are 1" in executed.shown("ratios")


MINE = """
name: mine
arrival: {model: constant, rate_per_s: 40}
jobs: 30
service: {model: constant, seconds: 0.001}
failure: {first_k: 1}
retry: {base_s: 0.1}
types: {thumbnail: 1}
"""


@pytest.mark.full
def test_a_workload_of_ones_own_is_run_and_exported(tmp_path: Path) -> None:
    """What is exported is equal to what was run, so that the shell replays it."""
    (tmp_path / "mine.yaml").write_text(MINE, "utf-8")
    parameters = {"workload": "mine.yaml", "backend": "memory", "out": f"{tmp_path}/report"}

    executed = Executed("05-your-workload", tmp_path, parameters)

    (run,) = runs_of(executed)
    assert run.jobs["attempts"].tolist() == [2] * 30
    assert Workload.from_yaml(executed.out / "mine.yaml").hash == run.workload.hash == Workload.from_yaml(MINE).hash
    assert executed.shown("failures").split()[-3:] == ["thumbnail", "2", "30"]


@pytest.fixture
def live(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue in use, named by the environment, with two dead letters of different reasons and a job that waits."""
    monkeypatch.setenv("ALLOCATOR_QUEUE_URL", redis_url)
    monkeypatch.delenv("ALLOCATOR_STORE_URL", raising=False)
    with scratch_queue(redis_url, "live") as queue:
        for error in ("disk full", "no header that holds"):
            queue.enqueue(Job(type="media"))
            lease = queue.dequeue(timeout=1.0)
            assert lease is not None
            queue.nack(lease, error, dead=True)
        queue.enqueue(Job(type="media"))
        yield queue


@pytest.mark.redis
def test_a_live_queue_is_only_read(live: Queue, tmp_path: Path) -> None:
    """Unless asked otherwise; its dead letters are shown with their reasons."""
    before = live.counts()

    executed = Executed("80-operate", tmp_path, {"name": live.name, "look_s": 0.2})

    assert live.counts() == before
    assert executed.shown("put-back") == "'nothing was changed: write is False'"
    assert "disk full" in executed.shown("letters")
    assert "not known without a store" in executed.shown("oldest")


@pytest.mark.full
@pytest.mark.redis
def test_chosen_dead_letters_are_put_back(live: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `write`, those whose error fits and no others; a store tells which job has waited longest."""
    store_url = f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("ALLOCATOR_STORE_URL", store_url)
    with open_store(store_url) as store:
        waiting = store.submit(live, Job(type="media"))

    executed = Executed("80-operate", tmp_path, {"name": live.name, "look_s": 0.2, "write": True, "error": "disk"})

    assert executed.shown("put-back") == "'1 put back'"
    assert waiting.id in executed.shown("oldest")
    assert [letter.error for letter in live.dead_letters()] == ["no header that holds"]
