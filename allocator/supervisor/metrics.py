"""Metrics for Prometheus: counted as things happen, and read from supervisor and queue when they are scraped."""

import logging
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from allocator.domain.errors import AllocatorError
from allocator.domain.lease import Lease
from allocator.queue.base import Queue
from allocator.supervisor.events import Events
from allocator.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

M = TypeVar("M")

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

OTHER = "other"
"""The label of every type without a processor: whoever may enqueue must not be able to make new series."""

WORKER_STATES = ("idle", "running", "stuck", "gone")
WAITING_STATES = ("ready", "scheduled", "leased", "dead")
ENDED_STATES = ("done", "cancelled", "purged")


class Metrics(Events):
    """
    What one supervisor does with one queue, under the labels `queue` and `type`.

    Give it to the supervisor as one of its `events`, then let it `watch` the supervisor:

        metrics = Metrics(queue.name, processors)
        with Supervisor(queue, processors, events=[metrics]) as supervisor:
            metrics.watch(supervisor, queue)
            server, thread = prometheus_client.start_http_server(9100, "127.0.0.1", metrics.registry)

    Every series is there from the start, at zero, so that the first event is seen as an increase.

    Args:
        queue_name: The label `queue`.
        types: The job types that are told apart, those with a processor; all others count as "other".
        registry: Where the metrics are registered; one of their own by default, so that several supervisors of a
            process do not collide.
    Raises:
        ValueError: The registry has metrics of these names already.
    """

    def __init__(self, queue_name: str, types: Iterable[str], *, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self.queue_name = queue_name
        kinds = sorted({*types, OTHER})

        def counters(name: str, text: str) -> dict[str, Counter]:
            counter = Counter(f"allocator_jobs_{name}", text, ("queue", "type"), registry=self.registry)
            return {kind: counter.labels(queue_name, kind) for kind in kinds}

        def histograms(name: str, text: str) -> dict[str, Histogram]:
            histogram = Histogram(
                f"allocator_job_{name}_seconds", text, ("queue", "type"), registry=self.registry, buckets=BUCKETS_S
            )
            return {kind: histogram.labels(queue_name, kind) for kind in kinds}

        self._done = counters("done", "Jobs that were done.")
        self._retried = counters("retried", "Attempts that failed and are followed by another.")
        self._dead = counters("dead", "Jobs that became dead letters.")
        self._released = counters("released", "Leases that were given back untried.")
        self._lost = counters("lost", "Leases that were lost before the end of the attempt could be told.")
        self._wait = histograms("wait", "From due until started, time in a worker's buffer included, of each attempt.")
        self._service = histograms("service", "From started until finished, of each attempt, whatever came of it.")

    def watch(self, supervisor: Supervisor, queue: Queue | None = None) -> None:
        """
        From now on also read the supervisor's figures at every scrape, and the queue's counts, if a queue is given.

        Counting asks the queue's server, for at most as long as the queue's `reconnect_s`. When that is in vain the
        scrape gives everything else, and `allocator_queue_up` is 0.
        """
        self.registry.register(_Scraped(self.queue_name, supervisor, queue))

    def on_attempt(self, lease: Lease, wait_s: float, service_s: float) -> None:
        """See Events."""
        _of(self._wait, lease).observe(wait_s)
        _of(self._service, lease).observe(service_s)

    def on_done(self, lease: Lease, wait_s: float, service_s: float) -> None:
        """See Events."""
        _of(self._done, lease).inc()

    def on_retry(self, lease: Lease, error: str, delay_s: float) -> None:
        """See Events."""
        _of(self._retried, lease).inc()

    def on_dead(self, lease: Lease, error: str) -> None:
        """See Events."""
        _of(self._dead, lease).inc()

    def on_released(self, lease: Lease) -> None:
        """See Events."""
        _of(self._released, lease).inc()

    def on_lost(self, lease: Lease) -> None:
        """See Events."""
        _of(self._lost, lease).inc()


def _of(by_type: dict[str, M], lease: Lease) -> M:
    return by_type.get(lease.job.type, by_type[OTHER])


class _Scraped(Collector):
    """What is read when someone asks for it."""

    def __init__(self, queue_name: str, supervisor: Supervisor, queue: Queue | None) -> None:
        self._name = queue_name
        self._supervisor = supervisor
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        stats = self._supervisor.stats()
        if stats.backlog is not None:
            yield self._gauge(
                "allocator_backlog_jobs", "Jobs that wait in the queue, as last looked up.", stats.backlog
            )
        yield self._gauge("allocator_buffered_jobs", "Leased jobs that wait for a worker here.", stats.buffered)
        yield self._gauge("allocator_running_jobs", "Jobs that a worker here is at.", stats.running)
        found = Tally(worker.state for worker in stats.workers)
        workers = GaugeMetricFamily("allocator_workers", "Workers here, by state.", labels=("queue", "state"))
        for state in WORKER_STATES:
            workers.add_metric((self._name, state), found[state])
        yield workers
        restarts = CounterMetricFamily("allocator_worker_restarts", "Workers that were replaced.", labels=("queue",))
        restarts.add_metric((self._name,), stats.restarts)
        yield restarts
        if self._queue is not None:
            yield from self._counts(self._queue)

    def _counts(self, queue: Queue) -> Iterator[Metric]:
        try:
            counts = queue.counts()
        except AllocatorError as error:
            log.warning("the jobs of queue %s could not be counted for a scrape: %s", self._name, error)
            counts = None
        yield self._gauge("allocator_queue_up", "Whether the queue's server answered.", int(counts is not None))
        if counts is None:
            return
        jobs = GaugeMetricFamily("allocator_queue_jobs", "Jobs in the queue, by state.", labels=("queue", "state"))
        for state in WAITING_STATES:
            jobs.add_metric((self._name, state), counts[state])
        yield jobs
        text = "Jobs that left the queue since it began, by any worker."
        ended = CounterMetricFamily("allocator_queue_ended_jobs", text, labels=("queue", "state"))
        for state in ENDED_STATES:
            ended.add_metric((self._name, state), counts[state])
        yield ended

    def _gauge(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(name, text, labels=("queue",))
        gauge.add_metric((self._name,), value)
        return gauge
