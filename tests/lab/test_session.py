"""A session on real servers: the load follows its settings, workers are replaced, servers come back."""

import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from allocator.bench.errors import InvalidWorkload
from allocator.lab.crew import NoSuchWorker
from allocator.lab.rows import WorkerRow
from allocator.lab.session import Session
from allocator.lab.settings import Settings
from allocator.services import ServiceUnavailable
from tests.lab.waiting import until

pytestmark = pytest.mark.service

CALM = Settings(rate_per_s=20.0, service_s=0.005, max_retries=0)

BACKENDS = [
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.full]),
]


@pytest.fixture(scope="module", params=BACKENDS)
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """Two workers at twenty jobs a second; each test leaves it as it was."""
    try:
        session = Session(request.param, CALM, workers=2)
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    with session:
        until(lambda: session.reader.look().throughput_per_s, "jobs are done")
        yield session


def row(session: Session, number: int) -> WorkerRow:
    """One of the workers."""
    return next(row for row in session.workers() if row.number == number)


def done(session: Session) -> int:
    """Jobs, by the queue."""
    return session.queue.counts()["done"]


def test_the_load_follows_its_settings_at_once(session: Session) -> None:
    """Five times the rate is five times the arrivals; at a rate of 0 nothing arrives, and all that did is done."""
    session.change(msgspec.structs.replace(CALM, rate_per_s=100.0))
    until(lambda: (session.reader.look().arrival_per_s or 0) > 60, "more arrives")

    session.change(msgspec.structs.replace(CALM, rate_per_s=0.0))
    until(lambda: session.reader.look().arrival_per_s == 0 and session.reader.latest.backlog == 0, "nothing arrives")

    session.change(CALM)
    until(lambda: session.reader.look().arrival_per_s, "jobs arrive again")


def test_settings_out_of_range_are_refused_and_change_nothing(session: Session) -> None:
    """The error names the field."""
    with pytest.raises(InvalidWorkload, match=r"failure.p_error"):
        session.change(msgspec.structs.replace(CALM, failing_share=1.5))

    assert session.settings == CALM


def test_a_killed_worker_is_replaced(session: Session) -> None:
    """Under its number, by another process; the restart is counted, and what was done before too."""
    before = row(session, 0)

    session.kill_worker(0)

    until(lambda: row(session, 0).pid not in (None, before.pid), "another process takes its place")
    until(lambda: row(session, 0).done > before.done, "it works")
    assert row(session, 0).restarts == before.restarts + 1
    assert session.crew.problem == ""


def test_a_program_that_cannot_be_started_is_tried_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the machine has no room for another process for a while; that is told."""
    before, troubles = row(session, 0), [OSError("no room for another process")]

    def start(*given: Any, **options: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return popen(*given, **options)

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)

    session.kill_worker(0)

    until(lambda: row(session, 0).pid not in (None, before.pid), "another process takes its place")
    assert "trying again: no room" in session.crew.problem
    session.crew.problem = ""


def test_a_paused_worker_rests_until_it_is_resumed(session: Session) -> None:
    """The same process goes on."""
    pid = row(session, 1).pid
    session.pause_worker(1)
    paused = row(session, 1)

    session.resume_worker(1)

    until(lambda: row(session, 1).done > paused.done, "it works again")
    assert (paused.state, row(session, 1).pid) == ("paused", pid)


def test_workers_come_and_go(session: Session) -> None:
    """One that is removed ends in order, and is not known any more."""
    number = session.add_worker()
    until(lambda: row(session, number).done, "the new one works")

    session.remove_worker(number)

    until(lambda: [row.number for row in session.workers()] == [0, 1], "it has gone")
    with pytest.raises(NoSuchWorker, match=f"no worker {number}: it was removed. There are: 0, 1"):
        session.kill_worker(number)


def test_dead_letters_can_be_put_back(session: Session) -> None:
    """Once attempts fail no more, those that are put back are done."""
    session.change(msgspec.structs.replace(CALM, failing_share=1.0))
    until(lambda: (session.reader.look().dead or 0) > 3, "jobs become dead letters")
    session.change(msgspec.structs.replace(CALM, rate_per_s=0.0))
    until(lambda: not sum(session.queue.counts()[state] for state in ("ready", "scheduled", "leased")), "all ended")
    before, dead = done(session), session.queue.counts()["dead"]

    put_back = session.queue.requeue_dead(all=True)

    until(lambda: done(session) == before + dead, "those are done")
    assert put_back == dead
    session.change(CALM)


def test_while_it_rests_nothing_arrives_and_nothing_waits(session: Session) -> None:
    """What is set meanwhile holds once it goes on."""
    session.rest()
    until(lambda: session.reader.look().arrival_per_s == 0, "nothing arrives")
    session.change(msgspec.structs.replace(CALM, rate_per_s=40.0))
    resting = session.queue.counts()

    session.go_on()

    until(lambda: (session.reader.look().arrival_per_s or 0) > 30, "more arrives than before")
    rates = [action.settings.rate_per_s for action in session.log.actions[-2:] if action.settings is not None]
    assert (resting["ready"], resting["leased"]) == (0, 0)
    assert rates == [0.0, 40.0], "so that a replay rests too"
    session.change(CALM)


def test_while_the_server_is_paused_its_counts_are_not_known(session: Session) -> None:
    """And are again once it is resumed; nothing that stood before is shown as how it stands."""
    session.pause_server()
    until(lambda: session.reader.look().backlog is None, "the reading says so")

    session.resume_server()

    until(lambda: session.reader.look().backlog is not None, "it answers")


def test_work_goes_on_after_the_server_was_restarted(session: Session) -> None:
    """By the workers that there were."""
    pids = [row.pid for row in session.workers()]

    session.restart_server()

    worked = sum(row.done for row in session.workers())
    until(lambda: sum(row.done for row in session.workers()) > worked, "jobs are done")
    assert [row.pid for row in session.workers()] == pids


def test_only_redis_can_be_flushed(session: Session) -> None:
    """There it forgets all jobs; elsewhere the refusal says so."""
    if session.backend == "redis":
        session.flush_server()
        assert done(session) < 20
    else:
        with pytest.raises(ValueError, match="only Redis has it, not PostgreSQL"):
            session.flush_server()


def test_everything_that_was_done_is_logged(session: Session) -> None:
    """In the order in which it was done."""
    before = len(session.log.actions)

    session.pause_worker(0)
    session.resume_worker(0)
    session.change(msgspec.structs.replace(CALM, rate_per_s=30.0))
    session.change(CALM)

    told = [(action.kind, action.told) for action in session.log.actions[before:]]
    assert told == [
        ("pause", "worker 0 paused"),
        ("resume", "worker 0 resumed"),
        ("settings", "rate_per_s = 20.0"),
    ]
    assert sorted(action.at_s for action in session.log.actions) == [action.at_s for action in session.log.actions]
