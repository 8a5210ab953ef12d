"""Faults as steps of a run, each made on a server of its own, and what the checker says of it."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from allocator.bench.checker import Promise
from allocator.bench.runs import Run, run
from allocator.bench.runs.backends import Backend
from allocator.bench.runs.injecting import Injector
from allocator.bench.runs.sampling import Sampler
from allocator.bench.runs.workers import Programs
from allocator.bench.storing import Kind
from allocator.bench.worker import Orders
from allocator.queue.inprocess import InProcessQueue
from allocator.services import ServiceUnavailable, open_redis
from tests.bench.runs.small import small

pytestmark = [pytest.mark.faults, pytest.mark.service]

LEASE_S = 1.0

PROCESSES = {"count": 2, "kind": "processes", "supervisors": 1}
THREADS = {"count": 4, "kind": "threads", "supervisors": 2}


def harmed(folder: Path, where: str, *faults: dict[str, Any], store: Kind = "none", **fields: Any) -> Run:
    """A run under faults, that has time to get over them."""
    workload = small(faults=faults, **{"workers": THREADS, "drain_s": 40} | fields)
    return run(workload, where, folder=folder, lease_s=LEASE_S, store=store)


def kinds(made: Run) -> list[str]:
    """What was done, in the order in which it was over."""
    return [fault.kind for fault in made.about.faults]


@pytest.mark.redis
def test_a_run_gets_over_what_befalls_its_workers_and_connections(tmp_path: Path) -> None:
    """A killed supervisor is started again, one that was paused for longer than its lease does no harm."""
    # While the one is paused, the other has three jobs at any instant: the kill hits some.
    slow = {"model": "constant", "seconds": 0.03}

    made = harmed(
        tmp_path,
        "redis",
        {"kind": "pause_worker", "at_s": 0.2, "seconds": 1.5 * LEASE_S, "number": 0},
        {"kind": "script_flush", "at_s": 0.4},
        {"kind": "kill_worker", "at_s": 0.6, "number": 1},
        {"kind": "cut_connections", "at_s": 1.2},
        service=slow,
    )

    assert made.judgement.told() == []
    assert made.about.problem is None
    assert kinds(made) == ["script flush", "kill", "cut connections", "pause"]
    assert set(made.jobs["state"]) == {"done"}
    assert (made.attempts["outcome"] == "lost").any()
    assert made.verify() == []


@pytest.mark.redis
def test_with_a_store_a_run_survives_the_loss_of_its_queue(tmp_path: Path) -> None:
    """Everything that FLUSHALL took is put back by the reconciler; the store's own record is judged too."""
    slow = {"model": "constant", "seconds": 0.1}

    made = harmed(tmp_path, "redis", {"kind": "flushall", "at_s": 0.5}, store="sqlite", service=slow, duration_s=0.8)

    assert made.judgement.told() == []
    assert made.judgement[Promise.TRANSITIONS].status == "holds"
    assert set(made.jobs["state"]) == {"done"}
    assert made.stored is not None
    assert set(made.stored["job"]) == set(made.jobs["job"])
    assert made.about.store == "sqlite"
    assert made.verify() == []


@pytest.mark.redis
@pytest.mark.parametrize(
    ("appendfsync", "broken"),
    [("none", [Promise.LOST]), pytest.param("everysec", [], marks=pytest.mark.full)],
)
def test_a_killed_server_loses_what_it_does_not_write_down(
    appendfsync: str, broken: list[Promise], tmp_path: Path
) -> None:
    """The control: without persistence a kill loses the backlog, and the run is judged broken by name."""
    slow = {"model": "constant", "seconds": 0.1}

    made = harmed(
        tmp_path,
        "redis",
        {"kind": "kill_server", "at_s": 0.8},
        service=slow,
        duration_s=1.0,
        durability={"redis_appendfsync": appendfsync},
    )

    assert made.judgement.broken() == broken
    assert made.holds == (not broken)


class Unforeseen(InProcessQueue):
    """A queue of which the first question already meets with what nobody has foreseen."""

    def counts(self) -> dict[str, int]:
        raise ZeroDivisionError("unforeseen")


def test_a_backlog_that_cannot_be_asked_for_is_told() -> None:
    """Its samples end there, and whoever judges them must know."""
    sampler = Sampler(Unforeseen(), 0)
    sampler.start()
    sampler.join()

    assert sampler.stop().empty
    assert isinstance(sampler.error, ZeroDivisionError)


@pytest.mark.redis
def test_whatever_cannot_be_ended_all_other_faults_end(tmp_path: Path) -> None:
    """A server that does not come back leaves no process stopped, and what was measured is not thrown away."""
    faults = [{"kind": "kill_server", "at_s": 0, "seconds": 60}, {"kind": "pause_producers", "at_s": 0, "seconds": 90}]
    with subprocess.Popen(["sleep", "60"]) as producer, open_redis(use_url=False) as server:
        place = Backend("redis", server.url, server, "")
        orders = Orders(url="", name="", folder=str(tmp_path), types=[], workers=1, processes=0, lease_s=1.0)
        injector = Injector(
            small(faults=faults, drain_s=100.0), place, Programs(orders, 1), [producer.pid], time.monotonic_ns()
        )
        try:
            injector.start()
            os.waitid(os.P_PID, producer.pid, os.WSTOPPED)
            server.close()

            injector.stop()

            assert isinstance(injector.error, ServiceUnavailable)
            assert psutil.Process(producer.pid).status() != psutil.STATUS_STOPPED
        finally:
            producer.kill()


EVERY_STEP = [
    pytest.param({"kind": "kill_worker", "at_s": 0.5}, THREADS, id="kill supervisor"),
    pytest.param({"kind": "kill_worker", "at_s": 0.5}, PROCESSES, id="kill supervisor of processes"),
    pytest.param({"kind": "kill_worker", "at_s": 0.5, "target": "process"}, PROCESSES, id="kill process"),
    pytest.param({"kind": "pause_worker", "at_s": 0.5, "seconds": 2.0}, THREADS, id="pause supervisor"),
    pytest.param({"kind": "pause_worker", "at_s": 0.5, "seconds": 2.0}, PROCESSES, id="pause supervisor of processes"),
    pytest.param(
        {"kind": "pause_worker", "at_s": 0.5, "seconds": 2.0, "target": "process"}, PROCESSES, id="pause process"
    ),
    pytest.param({"kind": "kill_server", "at_s": 0.5, "seconds": 0.5}, THREADS, id="kill server"),
    pytest.param({"kind": "restart_server", "at_s": 0.5, "seconds": 0.5}, THREADS, id="restart server"),
    pytest.param({"kind": "pause_server", "at_s": 0.5, "seconds": 1.5}, THREADS, id="pause server"),
    pytest.param({"kind": "cut_connections", "at_s": 0.5}, THREADS, id="reset"),
    pytest.param({"kind": "cut_connections", "at_s": 0.5, "seconds": 0.5}, THREADS, id="reset for a while"),
    pytest.param({"kind": "cut_connections", "at_s": 0.5, "how": "mid_reply"}, THREADS, id="mid reply"),
    pytest.param(
        {"kind": "cut_connections", "at_s": 0.5, "how": "lost_reply", "seconds": 0.3}, THREADS, id="lost replies"
    ),
    pytest.param({"kind": "cut_connections", "at_s": 0.5, "how": "half_open"}, THREADS, id="half open"),
    pytest.param({"kind": "delay_replies", "at_s": 0.5, "seconds": 0.5, "delay_s": 0.05}, THREADS, id="late replies"),
]


@pytest.mark.full
@pytest.mark.parametrize("store", ["none", "sqlite"])
@pytest.mark.parametrize(
    "where", [pytest.param("redis", marks=pytest.mark.redis), pytest.param("postgres", marks=pytest.mark.postgres)]
)
@pytest.mark.parametrize(("step", "workers"), EVERY_STEP)
def test_no_fault_breaks_a_promise(
    step: dict[str, Any], workers: dict[str, Any], where: str, store: Kind, tmp_path: Path
) -> None:
    """Every kind of fault on each server, with and without a store: everything is done, and repeats are explained."""
    made = harmed(tmp_path, where, step, store=store, workers=workers)

    assert made.judgement.told() == []
    assert made.about.problem is None
    assert len(made.about.faults) == 1
    assert set(made.jobs.loc[made.jobs["enqueue"] == "accepted", "state"]) == {"done"}


@pytest.mark.redis
@pytest.mark.full
def test_a_reply_that_is_lost_repeats_nothing(tmp_path: Path) -> None:
    """Neither of an enqueue nor of a lease nor of an end, through a proxy of the run's own."""
    made = harmed(
        tmp_path,
        "redis",
        {"kind": "cut_connections", "at_s": 0.3, "how": "lost_reply", "seconds": 0.2},
        {"kind": "delay_replies", "at_s": 0.7, "seconds": 0.2, "delay_s": 0.02},
    )

    assert made.judgement.told() == []
    assert kinds(made) == ["lost reply on all connections", "delayed replies"]
    assert len(made.jobs) == (made.jobs["state"] == "done").sum() == 150
