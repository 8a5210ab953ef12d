"""What the API works with while it runs: the archive, the queue, the supervisor."""

import logging
import os
import threading
import time
from contextlib import ExitStack
from typing import Annotated, Any, Self

from fastapi import Depends, Request

from allocator.api.processing import PROCESSORS
from allocator.api.settings import ApiSettings
from allocator.api.sweeping import Sweeper
from allocator.api.watching import Watches
from allocator.domain.errors import AllocatorError
from allocator.domain.job import Job
from allocator.ingest.intake import Intake
from allocator.ingest.processors import Archive
from allocator.persistence import Keys, default_url
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue
from allocator.supervisor import Supervisor
from allocator.supervisor.metrics import Metrics

log = logging.getLogger(__name__)

RECONNECT_S = 2.0
"""How long a request waits for the queue's server before it says so. The supervisor has more patience."""

PROBE_S = 1.0

SWEEP_STOP_S = 5.0
"""How long the end of the server waits for a sweep to see that it is to stop."""


class Services:
    """
    Opened when the application starts, closed when it ends. Thread-safe.

    Attributes:
        archive: Files and records.
        keys: Who may use the API.
        queue: For requests, which do not wait for its server for long.
        supervisor: None where others work on the queue.
        intake: Accepts uploads.
        watches: Followed uploads; for the event loop alone.
        metrics: Of the supervisor.
        uploads: How many are being read; only the event loop changes it.
        stopping: The server is to end: what is long-lived ends now.
    """

    def __init__(self, settings: ApiSettings) -> None:
        """Open everything, and start the supervisor. Nothing is left open if that fails."""
        self.settings = settings
        self.uploads = 0
        self.stopping = threading.Event()
        self.supervisor: Supervisor | None = None
        self.metrics = Metrics(settings.queue_name, PROCESSORS)
        self._probing = threading.Lock()
        self._probed_at = float("-inf")
        self._troubles: dict[str, str | None] = {}
        self._closing = ExitStack()
        try:
            self._open(settings)
        except BaseException:
            self._closing.close()
            raise

    def _open(self, settings: ApiSettings) -> None:
        self.archive = Archive.open(settings.data, settings.store_url)
        self._closing.callback(self.archive.close)
        self.keys = Keys(self.archive.store)
        if settings.asks_for_key and all(key.revoked_at is not None for key in self.keys.all()):
            log.warning("nobody can use the API yet: it asks for keys, and there are none; allocator keys create NAME")
        in_process = settings.queue_url.startswith("memory:")
        patience: dict[str, Any] = {} if in_process else {"reconnect_s": RECONNECT_S}
        self.queue: Queue = open_queue(settings.queue_url, name=settings.queue_name, **patience)
        self._closing.callback(self.queue.close)
        # A queue of its own beside the real one: a probe must not wait behind a backlog.
        self._probe = open_queue(settings.queue_url, name=f"{settings.queue_name[:58]}.ready", **patience)
        self._closing.callback(self._probe.close)
        self.watches = Watches(self.archive.assets)
        self.intake = Intake(self.archive.objects, self.archive.assets, self.queue)
        if settings.sweep_s:
            sweeper = Sweeper(self.archive, settings.sweep_s, settings.spared_s)
            sweeper.start()
            self._closing.callback(sweeper.stop, SWEEP_STOP_S)
        if settings.processes:
            self._start(settings, in_process)

    def _start(self, settings: ApiSettings, in_process: bool) -> None:
        # Worker processes find the archive by what they inherit.
        os.environ["ALLOCATOR_DATA"] = str(self.archive.objects.root)
        os.environ["ALLOCATOR_STORE_URL"] = settings.store_url or default_url()
        queue = self.queue
        if not in_process:
            queue = open_queue(settings.queue_url, name=settings.queue_name)
            self._closing.callback(queue.close)
        supervisor = Supervisor(
            queue, PROCESSORS, processes=settings.processes, store=self.archive.store, events=[self.metrics]
        )
        self.metrics.watch(supervisor, self.queue)
        supervisor.start()
        self._closing.callback(supervisor.stop, settings.grace_s)
        self.supervisor = supervisor

    def close(self) -> None:
        """Stop the supervisor within the grace, then let go of everything. Idempotent."""
        self.stopping.set()
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Ready?

    def troubles(self) -> dict[str, str | None]:
        """Each part, and what is wrong with it; None where it works, as a probe of it has just shown."""
        asked_at = time.monotonic()
        with self._probing:
            # Who had to wait for another's probe takes the answer of the first one that began since: while a part is
            # down, however many may ask.
            if self._probed_at < asked_at:
                self._probed_at = time.monotonic()
                self._troubles = self._probe_all()
            return self._troubles

    def _probe_all(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for part, probe in (
            ("store", self._probe_store),
            ("objects", self._probe_objects),
            ("queue", self._probe_queue),
            ("supervisor", self._probe_supervisor),
        ):
            try:
                found[part] = probe()
            except AllocatorError as error:
                found[part] = str(error)
        return found

    def _probe_store(self) -> None:
        self.archive.assets.upload("ready")

    def _probe_objects(self) -> None:
        with self.archive.objects.incoming() as incoming:
            incoming.write(b"ready?")

    def _probe_queue(self) -> str | None:
        self._probe.enqueue(Job(type="probe"))
        lease = self._probe.dequeue(PROBE_S)
        if lease is None:
            paused = f"is the queue {self._probe.name} paused, or its server too busy?"
            return f"a probe job that was enqueued did not come within {PROBE_S:g} s: {paused}"
        self._probe.ack(lease)
        return None

    def _probe_supervisor(self) -> str | None:
        if self.stopping.is_set():
            return "the server is ending"
        if self.supervisor is None:
            return None
        if self.supervisor.failed:
            return "so many workers had to be given up that no more jobs are taken; restart the server"
        workers = self.supervisor.stats().workers
        if all(worker.state == "gone" for worker in workers):
            return f"none of its {len(workers)} worker processes is there; new ones are being started"
        return None


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Opened = Annotated[Services, Depends(_services)]
"""A parameter of this type gets the services of the application."""
