"""The load generator: it keeps its schedule or records by how much it did not, and nothing is dropped."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from allocator import ManualClock, Queue
from allocator.bench.body import PROCESSOR
from allocator.bench.frames import enqueues_frame
from allocator.bench.generator import Generator, ProducerFailed
from allocator.bench.observer import Observer
from allocator.bench.recorder import Recorder
from allocator.bench.records import read_records
from allocator.supervisor import Supervisor
from tests.contract.builders import BOUND_S, Backend, Clients
from tests.faults.servers import start

ROOT = Path(__file__).parents[2]
PREFIX = "load-"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factories are found by the producers too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def in_process() -> Iterator[Clients]:
    """Opens objects on one queue in process, whose producers are threads."""
    clients = Clients(Backend("inprocess", ""), ManualClock())
    yield clients
    clients.erase()


@pytest.fixture
def on_redis(redis_url: str) -> Iterator[Clients]:
    """Opens objects on one queue on Redis, whose producers are processes."""
    clients = Clients(Backend("redis", redis_url), ManualClock())
    yield clients
    clients.erase()


def generator(
    queues: Clients, folder: Path, schedule_s: np.ndarray, factory: str = "short", **options: Any
) -> Generator:
    """One for the queue of a test."""
    named = {"prefix": PREFIX, **options}
    return Generator(folder, queues.url, queues.name, schedule_s, f"tests.bench.loads:{factory}", **named)


def sent(load: Generator, folder: Path, schedule_s: np.ndarray) -> pd.DataFrame:
    """What a generator has done, when it was left to itself."""
    with load:
        load.prepare()
        origin_ns = load.begin()
        assert load.wait(BOUND_S)
    return enqueues_frame(read_records(folder), origin_ns, schedule_s)


def test_every_job_is_sent_once_and_not_before_its_time(
    real_queue: Queue, open_client: Clients, tmp_path: Path
) -> None:
    """Two producers share a schedule, on every backend."""
    schedule_s = np.linspace(0.0, 0.2, 101)
    load = generator(open_client, tmp_path, schedule_s, producers=2)

    frame = sent(load, tmp_path, schedule_s)

    assert (frame["enqueue"] == "accepted").all()
    assert (frame["intended_at"] == schedule_s).all()
    assert (frame["enqueue_started_at"] >= schedule_s).all()
    assert (frame["enqueued_at"] >= frame["enqueue_started_at"]).all()
    leases = real_queue.dequeue_many(200, timeout=0)
    assert sorted(lease.job.id for lease in leases) == sorted(f"{PREFIX}{number}" for number in range(101))
    assert load.load().accepted == load.load().started == 101
    if open_client.backend.is_server:
        # Turn by turn, in processes of their own.
        assert frame["producer"].nunique() == 2
        assert frame["producer"][::2].nunique() == 1
        assert os.getpid() not in frame["producer"].tolist()


@pytest.mark.redis
@pytest.mark.service
def test_a_stalled_producer_is_late_and_drops_nothing(on_redis: Clients, tmp_path: Path) -> None:
    """Stopped for a while, it sends at once what has become due meanwhile, and how late each was is recorded."""
    schedule_s = np.arange(0.0, 1.0, 0.01)
    with generator(on_redis, tmp_path, schedule_s) as load:
        load.prepare()
        origin_ns = load.begin()
        while load.load().started < 10:
            time.sleep(0.001)
        (process,) = load.processes
        os.kill(process, signal.SIGSTOP)
        stopped_s = (time.monotonic_ns() - origin_ns) / 1e9
        while time.monotonic_ns() < origin_ns + (stopped_s + 0.3) * 1e9:
            time.sleep(0.01)
        gone_on_s = (time.monotonic_ns() - origin_ns) / 1e9
        os.kill(process, signal.SIGCONT)
        assert load.wait(BOUND_S)
        latest_s = load.load().latest_s

    frame = enqueues_frame(read_records(tmp_path), origin_ns, schedule_s)

    assert (frame["enqueue"] == "accepted").all()
    lateness_s = frame["enqueue_started_at"] - frame["intended_at"]
    meanwhile = frame["intended_at"].between(stopped_s + 0.001, gone_on_s)
    assert meanwhile.any()
    # Each is late by at least what was left of the stop when it became due.
    assert (lateness_s[meanwhile] >= gone_on_s - frame["intended_at"][meanwhile]).all()
    assert latest_s >= gone_on_s - stopped_s - 0.011
    assert frame["enqueue_started_at"].is_monotonic_increasing


def test_what_is_due_together_goes_together_if_asked(in_process: Clients, tmp_path: Path) -> None:
    """Ten at one instant, in lists of four; the replies of a list come at once."""
    schedule_s = np.zeros(10)
    in_process(clock=None)

    frame = sent(generator(in_process, tmp_path, schedule_s, together=4), tmp_path, schedule_s)

    assert (frame["enqueue"] == "accepted").all()
    # All of a list are begun before the first has its reply.
    begun_before_reply = [(frame["enqueue_started_at"] < at).sum() for at in frame["enqueued_at"]]
    assert begun_before_reply == [4, 4, 4, 4, 8, 8, 8, 8, 10, 10]


def test_a_job_that_is_refused_stops_nobody(in_process: Clients, tmp_path: Path) -> None:
    """It is recorded with its error; the others are accepted."""
    schedule_s = np.zeros(6)
    queue = in_process(clock=None)

    frame = sent(generator(in_process, tmp_path, schedule_s, "refused"), tmp_path, schedule_s)

    assert frame["enqueue"].tolist() == ["accepted", "refused", "accepted"] * 2
    assert frame["enqueued_at"].isna().tolist() == [False, True, False] * 2
    assert (
        frame["enqueue_error"].str.startswith("InvalidJob: payload").fillna(False).tolist() == [False, True, False] * 2
    )
    assert queue.counts()["ready"] == 4


@pytest.mark.redis
@pytest.mark.service
@pytest.mark.faults
def test_a_job_without_a_reply_is_unknown(tmp_path: Path) -> None:
    """Its server is stopped, and its producer killed in the call: nobody can say whether it was accepted."""
    schedule_s = np.zeros(3)
    with start("redis") as server:
        load = Generator(tmp_path, server.url, "unknown", schedule_s, "tests.bench.loads:short", prefix=PREFIX)
        with load:
            load.prepare()
            server.pause()
            origin_ns = load.begin()
            while not load.load().started:
                time.sleep(0.001)
            ended = load.stop(grace=0.0)
            server.resume()

    frame = enqueues_frame(read_records(tmp_path), origin_ns, schedule_s)

    assert not ended
    assert frame["enqueue"][0] == "unknown"
    assert frame["enqueue"][1:].isna().all()
    assert frame.loc[1:, ["enqueue_started_at", "enqueued_at", "producer"]].isna().all(axis=None)


@pytest.mark.redis
@pytest.mark.service
def test_a_generator_can_be_stopped(on_redis: Clients, tmp_path: Path) -> None:
    """What was not sent is in the rows as not sent."""
    schedule_s = np.array([0.0, 3600.0])
    with generator(on_redis, tmp_path, schedule_s) as load:
        load.prepare()
        origin_ns = load.begin()
        while not load.load().accepted:
            time.sleep(0.001)
        assert load.stop()

    frame = enqueues_frame(read_records(tmp_path), origin_ns, schedule_s)

    assert frame["enqueue"].fillna("").tolist() == ["accepted", ""]


@pytest.mark.redis
@pytest.mark.service
def test_a_closed_loop_has_no_more_jobs_than_clients(on_redis: Clients, tmp_path: Path) -> None:
    """Each sends its next job when the one before has ended."""
    jobs = np.full(40, np.nan)
    records = tmp_path / "attempts"
    records.mkdir()
    with (
        generator(on_redis, tmp_path, jobs, options={"service_s": 0.001}, clients=3) as load,
        Supervisor(
            on_redis(clock=None), {"bench": PROCESSOR}, workers=4, events=[Observer(Recorder(records), load.ended)]
        ) as supervisor,
    ):
        load.prepare()
        origin_ns = load.begin()
        assert load.wait(BOUND_S)
        assert supervisor.drain(BOUND_S)

    frame = enqueues_frame(read_records(tmp_path), origin_ns, jobs)
    settled = read_records(records).frame().set_index("job")["at_ns"].reindex(frame.index)
    settled_at = (settled - origin_ns) / 1e9
    assert (frame["enqueue"] == "accepted").all()
    assert (frame["intended_at"] == frame["enqueue_started_at"]).all()
    in_system = [((frame["enqueue_started_at"] <= at) & (settled_at > at)).sum() for at in frame["enqueue_started_at"]]
    assert max(in_system) <= 3


def test_a_producer_that_breaks_is_told_of(in_process: Clients, tmp_path: Path) -> None:
    """With what it said."""
    with generator(in_process, tmp_path, np.zeros(5), "broken") as load:
        load.prepare()
        load.begin()
        with pytest.raises(ProducerFailed, match="no such job"):
            load.wait(BOUND_S)


@pytest.mark.parametrize(
    ("schedule_s", "options", "problem"),
    [
        ([0.0, 2.0, 1.0], {}, r"schedule_s: must ascend; job 2 is at 1 s, after job 1 at 2 s"),
        ([-1.0], {}, r"schedule_s: the first job is at -1 s"),
        ([float("nan")], {}, r"schedule_s: must be one row of finite seconds"),
        ([0.0], {"producers": 0}, r"producers: must be an integer of at least 1, not 0"),
        ([0.0], {"prefix": "run"}, r"prefix: must end in a dash"),
        ([0.0], {"clients": 1, "producers": 2}, r"clients: 1 cannot be spread over 2 producers"),
        ([0.0], {"factory": "nowhere"}, r"factory: 'tests.bench.loads:nowhere' is not module:function"),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value)[:30],
)
def test_wrong_orders_are_refused(
    tmp_path: Path, schedule_s: list[float], options: dict[str, Any], problem: str
) -> None:
    """Before anything starts."""
    factory = f"tests.bench.loads:{options.pop('factory', 'short')}"
    with pytest.raises(ValueError, match=problem):
        Generator(tmp_path, "memory://wrong", "wrong", np.array(schedule_s), factory, **{"prefix": PREFIX, **options})
