"""The load generator: producers that follow a stored schedule together, each in a process of its own."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from allocator.bench import control as counters
from allocator.bench.control import Control, Ended
from allocator.bench.producer import Orders, Producer, find_factory
from allocator.bench.storing import StorePlace
from allocator.domain.errors import AllocatorError

READY_S = 60.0
SOON_S = 0.02
"""From `begin` until the schedule's 0: until then every producer has seen that it begins."""

_LOOK_S = 0.005


class ProducerFailed(AllocatorError):
    """A producer ended before its schedule did: the run's load was not what it should have been."""


@dataclass(frozen=True)
class Load:
    """
    How far the producers are, together.

    Args:
        started: Jobs that they have begun to send.
        accepted, refused, unknown: What became of those whose call has returned.
        latest_s: The greatest lateness so far.
        cpu_s: Seconds of a core that producers have used which have ended.
        ended: Whether all have.
    """

    started: int
    accepted: int
    refused: int
    unknown: int
    latest_s: float
    cpu_s: float
    ended: bool


class Generator:
    """
    Sends the jobs of a run to a queue; a context manager, which stops what still runs at its end.

    An in-process queue is fed by threads of this process, for no other could reach it; they share its interpreter.

    Args:
        folder: Of the run, which exists; orders, schedule, records and logs go there.
        url, name: Of the queue.
        schedule_s: Shape (jobs,), seconds from the start to the intended arrival of each job, ascending. For a closed
            loop only its length counts.
        factory, options: `module:function`, called in each producer with the options; gives the function from a number
            to its job. See `allocator.bench.producer.Factory`.
        prefix: Of the job ids, which are the prefix and the job's number; ends in a dash.
        producers: Among them the jobs go round.
        together: Most jobs sent in one call, of those that are due at that moment; 1 sends each in its own.
        clients: 0 is an open loop. Else so many clients, spread over the producers, each send a job, wait for its end
            and send the next; `Observer(…, ended=generator.ended)` lets them know.
        store: That jobs are submitted through; None: they are enqueued.
    Raises:
        ValueError: An argument is out of range, or there is no such factory; the text names it.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        name: str,
        schedule_s: npt.NDArray[np.float64],
        factory: str,
        options: Mapping[str, Any] | None = None,
        *,
        prefix: str,
        producers: int = 1,
        together: int = 1,
        clients: int = 0,
        store: StorePlace | None = None,
    ) -> None:
        for argument, value, least in (("producers", producers, 1), ("together", together, 1), ("clients", clients, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{argument}: must be an integer of at least {least}, not {value!r}")
        if not prefix.endswith("-"):
            raise ValueError(f"prefix: must end in a dash, so that the number behind it is found, not {prefix!r}")
        if clients and clients < producers:
            raise ValueError(f"clients: {clients} cannot be spread over {producers} producers")
        if url == "memory://":
            raise ValueError("url: memory:// is another queue each time it is opened; name it, as in memory://bench")
        if not clients:
            _check_schedule(schedule_s)
        find_factory(factory)
        self._folder = folder
        self._in_process = url.startswith("memory:")
        due_ns = np.zeros(len(schedule_s)) if clients else np.round(schedule_s * 1e9)
        (folder / "schedule").write_bytes(due_ns.astype("<i8").tobytes())
        self._control = Control(folder / "control", producers)
        self.ended = Ended(folder / "ended", len(schedule_s))
        self._orders = [
            Orders(
                url=url,
                name=name,
                folder=str(folder),
                factory=factory,
                options=dict(options or {}),
                prefix=prefix,
                producer=number,
                producers=producers,
                together=together,
                clients=clients // producers + (number < clients % producers),
                store=store,
            )
            for number in range(producers)
        ]
        self._producers: list[_Running] = []

    def prepare(self) -> None:
        """
        Start the producers; returns when all are connected and wait for `begin`.

        Raises:
            ProducerFailed: One could not start, or took more than a minute.
        """
        for orders in self._orders:
            self._producers.append(_Thread(orders) if self._in_process else _Process(orders, self._folder))
        deadline = time.monotonic() + READY_S
        while not all(row[counters.READY] for row in self._rows()):
            self._check()
            if time.monotonic() > deadline:
                raise ProducerFailed(f"the producers were not ready within {READY_S:g} s; see {self._folder}/*.log")
            time.sleep(_LOOK_S)

    def begin(self) -> int:
        """Let the schedule begin, in a moment; gives its origin on CLOCK_MONOTONIC in nanoseconds."""
        self._control.start_ns = origin_ns = time.monotonic_ns() + int(SOON_S * 1e9)
        return origin_ns

    def load(self) -> Load:
        """How far it is; costs nothing to ask."""
        rows = [row.tolist() for row in self._rows()]
        total = [sum(column) for column in zip(*rows, strict=True)]
        return Load(
            started=total[counters.STARTED],
            accepted=total[counters.ACCEPTED],
            refused=total[counters.REFUSED],
            unknown=total[counters.UNKNOWN],
            latest_s=max(row[counters.LATEST_NS] for row in rows) / 1e9,
            cpu_s=total[counters.CPU_NS] / 1e9,
            ended=all(row[counters.ENDED] for row in rows),
        )

    def wait(self, timeout: float | None = None) -> bool:
        """
        Wait until everything was sent; False if that takes longer than `timeout` seconds.

        Raises:
            ProducerFailed: One has ended before its time.
        """
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while not self.load().ended:
            self._check()
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def stop(self, grace: float = 5.0) -> bool:
        """
        Send nothing more, and end the producers; those that are still in a call after `grace` seconds are killed.

        Returns:
            Whether all ended by themselves. A job in a call that was cut off has no reply: it counts as unknown.
        """
        self._control.stop()
        deadline = time.monotonic() + grace
        ends = [producer.end(max(0.0, deadline - time.monotonic())) for producer in self._producers]
        return all(ends)

    @property
    def processes(self) -> list[int]:
        """Of the producers, for whoever is to stop or kill one; none where they are threads."""
        return [producer.pid for producer in self._producers if producer.pid is not None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _rows(self) -> list[memoryview]:
        return [self._control.row(orders.producer) for orders in self._orders]

    def _check(self) -> None:
        for orders, producer in zip(self._orders, self._producers, strict=True):
            problem = producer.problem()
            if problem is not None and not self._control.row(orders.producer)[counters.ENDED]:
                raise ProducerFailed(
                    f"producer {orders.producer} of {orders.producers} ended before its schedule did: {problem}"
                )


class _Running(Protocol):
    @property
    def pid(self) -> int | None: ...

    def problem(self) -> str | None:
        """Why it has ended; None while it runs."""
        ...

    def end(self, seconds: float) -> bool:
        """Wait for its end, which was asked for; whether it came by itself."""
        ...


class _Process:
    """A producer in a process of its own."""

    def __init__(self, orders: Orders, folder: Path) -> None:
        path = folder / f"producer-{orders.producer}.json"
        path.write_bytes(msgspec.json.encode(orders))
        self._log = path.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "allocator.bench.producer", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def problem(self) -> str | None:
        status = self._process.poll()
        return None if status is None else f"exit status {status}: …{self._log.read_text('utf-8', 'replace')[-800:]}"

    def end(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds) == 0
        self._process.kill()
        self._process.wait()
        return False


class _Thread:
    """A producer beside an in-process queue."""

    def __init__(self, orders: Orders) -> None:
        self._problem: str | None = None
        self._producer = Producer(orders)
        self._thread = threading.Thread(target=self._run, name=f"producer-{orders.producer}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> None:
        return None

    def _run(self) -> None:
        try:
            self._producer.run()
        except Exception as error:
            self._problem = f"{type(error).__name__}: {error}"

    def problem(self) -> str | None:
        return None if self._thread.is_alive() else self._problem or "it was stopped"

    def end(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive() and self._problem is None


def _check_schedule(schedule_s: npt.NDArray[np.float64]) -> None:
    if schedule_s.ndim != 1 or not np.isfinite(schedule_s).all():
        raise ValueError("schedule_s: must be one row of finite seconds")
    if len(schedule_s) and schedule_s[0] < 0:
        raise ValueError(f"schedule_s: the first job is at {schedule_s[0]:g} s, before the start")
    (back,) = np.nonzero(np.diff(schedule_s) < 0)
    if len(back):
        place = int(back[0])
        raise ValueError(
            f"schedule_s: must ascend; job {place + 1} is at {schedule_s[place + 1]:g} s, after job {place} at "
            f"{schedule_s[place]:g} s"
        )
