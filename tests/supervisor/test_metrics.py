"""Metrics as Prometheus sees them, of supervisors that do real jobs."""

import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from allocator import Backoff, Queue
from allocator.supervisor import Context, Supervisor
from allocator.supervisor.metrics import BUCKETS_S, Metrics
from tests.contract.builders import BOUND_S, Clients, a_job, bury, some_jobs, take
from tests.faults.servers import start
from tests.supervisor.test_supervisor import Seen

Processors = dict[str, Callable[[Context], Any]]
Samples = dict[tuple[str, str], float]


@pytest.fixture
def eager_queue(open_client: Clients) -> Queue:
    """Real time, and no pause before the next attempt."""
    return open_client(clock=None, backoff=Backoff(base=0.0))


def read(text: str) -> Samples:
    """(name, type or state or "") -> value, as Prometheus would parse it; buckets are left out."""
    return {
        (sample.name, sample.labels.get("type") or sample.labels.get("state") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def scrape(metrics: Metrics) -> Samples:
    """All that there is now."""
    return read(generate_latest(metrics.registry).decode())


def drained(queue: Queue, processors: Processors, **options: Any) -> Metrics:
    """The metrics of a supervisor that has done all that waited."""
    metrics = Metrics(queue.name, processors)
    with Supervisor(queue, processors, events=[metrics], **options) as supervisor:
        assert supervisor.drain(BOUND_S), supervisor.stats()
    return metrics


def test_every_end_is_counted_by_type(eager_queue: Queue) -> None:
    """And every attempt is in the histograms, also those that failed."""
    eager_queue.enqueue_many([a_job(type="film"), *some_jobs(3)])

    def third_time_lucky(context: Context) -> None:
        if context.attempt < 3:
            raise ValueError("not yet")

    found = scrape(drained(eager_queue, {"film": third_time_lucky, "json": lambda context: None}))

    assert found["allocator_jobs_done_total", "film"] == 1
    assert found["allocator_jobs_done_total", "json"] == 3
    assert found["allocator_jobs_retried_total", "film"] == 2
    assert found["allocator_jobs_retried_total", "json"] == 0
    assert found["allocator_job_wait_seconds_count", "film"] == 3
    assert found["allocator_job_service_seconds_count", "film"] == 3
    assert found["allocator_job_service_seconds_count", "json"] == 3


def test_dead_released_and_lost_are_counted(open_client: Clients) -> None:
    """Each where it belongs."""
    queue = open_client(clock=None, lease_s=0.5)
    slow, dead = queue.enqueue_many([a_job(type="slow"), a_job(type="dead", max_retries=0)])
    may_end, seen, metrics = threading.Event(), Seen(), Metrics(queue.name, ["dead", "json", "slow"])

    def broken(context: Context) -> None:
        raise ValueError("no such colour")

    processors: Processors = {"slow": lambda context: may_end.wait(BOUND_S), "dead": broken, "json": lambda _: None}
    with Supervisor(queue, processors, limits={"json": 0}, events=[metrics, seen]) as supervisor:
        seen.wait_for(("started", slow.id), ("dead", dead.id))
        # Somebody else ends the job that runs here.
        for held in supervisor._all_held():
            queue.ack(held.lease)
        (json,) = queue.enqueue_many(some_jobs(1))
        seen.wait_for(("released", json.id))
        may_end.set()
        seen.wait_for(("lost", slow.id))

    found = scrape(metrics)
    assert found["allocator_jobs_dead_total", "dead"] == 1
    assert found["allocator_jobs_released_total", "json"] >= 1
    assert found["allocator_jobs_lost_total", "slow"] == 1
    assert found["allocator_jobs_done_total", "slow"] == 0


def test_unknown_types_make_no_series(eager_queue: Queue) -> None:
    """However many a producer thinks of: together they are "other"."""
    eager_queue.enqueue_many([a_job(type=f"made-up-{n}") for n in range(50)])

    found = scrape(drained(eager_queue, {"json": lambda context: None}))

    assert found["allocator_jobs_dead_total", "other"] == 50
    assert {label for name, label in found if name == "allocator_jobs_dead_total"} == {"json", "other"}


def test_every_series_is_there_before_the_first_event() -> None:
    """At zero, or the first event would be no increase."""
    found = scrape(Metrics("default", ["json"]))

    assert {value for (name, _), value in found.items()} == {0}
    assert {name for name, label in found if label == "json"} == {
        *(f"allocator_jobs_{end}_total" for end in ("done", "retried", "dead", "released", "lost")),
        *(f"allocator_job_{time}_seconds_{part}" for time in ("wait", "service") for part in ("count", "sum")),
    }


def test_buckets_reach_from_a_millisecond_to_an_hour() -> None:
    """In seconds, as Prometheus wants them."""
    text = generate_latest(Metrics("default", ["json"]).registry).decode()

    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 3600)
    assert 'allocator_job_wait_seconds_bucket{le="0.001",queue="default",type="json"} 0.0' in text


def test_two_supervisors_of_a_process_do_not_collide(eager_queue: Queue) -> None:
    """Each counts for itself; only who forces both into one registry is told."""
    eager_queue.enqueue(a_job())
    idle = Metrics("another", ["json"])
    shared = CollectorRegistry()
    Metrics("one", ["json"], registry=shared)

    busy = drained(eager_queue, {"json": lambda context: None})

    assert scrape(busy)["allocator_jobs_done_total", "json"] == 1
    assert scrape(idle)["allocator_jobs_done_total", "json"] == 0
    with pytest.raises(ValueError, match="allocator_jobs_done"):
        Metrics("two", ["json"], registry=shared)


def test_a_scrape_reads_the_supervisor_and_the_queue(eager_queue: Queue) -> None:
    """What runs, what waits, and how the workers are."""
    bury(eager_queue)
    job = eager_queue.enqueue(a_job())
    eager_queue.enqueue(a_job(delay=60.0))
    seen, may_end, metrics = Seen(), threading.Event(), Metrics(eager_queue.name, ["json"])
    processors: Processors = {"json": lambda context: may_end.wait(BOUND_S)}

    with Supervisor(eager_queue, processors, workers=2, events=[metrics, seen]) as supervisor:
        metrics.watch(supervisor, eager_queue)
        seen.wait_for(("started", job.id))
        found = scrape(metrics)
        may_end.set()

    assert found["allocator_running_jobs", ""] == 1
    assert found["allocator_buffered_jobs", ""] == 0
    assert found["allocator_worker_restarts_total", ""] == 0
    assert [found["allocator_workers", state] for state in ("idle", "running", "stuck", "gone")] == [1, 1, 0, 0]
    assert [found["allocator_queue_jobs", state] for state in ("ready", "scheduled", "leased", "dead")] == [0, 1, 1, 1]
    assert found["allocator_queue_up", ""] == 1
    assert found["allocator_queue_ended_jobs_total", "done"] == 0


def test_the_backlog_is_there_once_it_was_looked_up(eager_queue: Queue) -> None:
    """A scrape does not wait for it; before the first look there is none."""
    eager_queue.enqueue(a_job(delay=60.0))
    metrics, pause = Metrics(eager_queue.name, []), threading.Event()

    with Supervisor(eager_queue, {}, events=[metrics]) as supervisor:
        metrics.watch(supervisor)
        first = scrape(metrics)
        for _ in range(400):
            if (found := scrape(metrics)).get(("allocator_backlog_jobs", "")) is not None:
                break
            pause.wait(0.05)

    assert ("allocator_backlog_jobs", "") not in first
    assert found["allocator_backlog_jobs", ""] == 1


@pytest.mark.service
@pytest.mark.faults
@pytest.mark.redis
def test_a_server_that_is_gone_does_not_spoil_the_scrape(caplog: pytest.LogCaptureFixture) -> None:
    """What this process knows is there, and that the queue is not."""
    from allocator import open_queue

    with start("valkey") as server, open_queue(server.url, reconnect_s=0.1) as queue:
        queue.enqueue(a_job())
        take(queue)
        metrics = Metrics(queue.name, ["json"])
        metrics.watch(Supervisor(queue, {}), queue)
        up = scrape(metrics)
        server.kill()
        down = scrape(metrics)

    assert up["allocator_queue_up", ""] == 1
    assert down["allocator_queue_up", ""] == 0
    assert ("allocator_queue_jobs", "ready") not in down
    assert down["allocator_jobs_done_total", "json"] == 0
    assert "could not be counted" in caplog.text


def test_prometheus_can_ask_over_http(eager_queue: Queue) -> None:
    """By the client library's own server, from the registry."""
    eager_queue.enqueue(a_job())
    metrics = drained(eager_queue, {"json": lambda context: None})
    server, thread = start_http_server(0, "127.0.0.1", metrics.registry)

    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as reply:
        found = read(reply.read().decode())
    server.shutdown()
    server.server_close()
    thread.join(BOUND_S)

    assert found["allocator_jobs_done_total", "json"] == 1
