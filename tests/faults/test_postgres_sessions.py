"""PostgreSQL alone: jobs enqueued within a caller's transaction, and sessions that the server ends."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from allocator import Job
from allocator.queue.base import Queue
from allocator.queue.postgres import PostgresQueue
from allocator.services import Server
from tests.faults.killed_client import Client
from tests.faults.layout import read_layout
from tests.faults.load import Load
from tests.faults.running import Running

pytestmark = [pytest.mark.faults, pytest.mark.postgres, pytest.mark.service]


@pytest.fixture
def queue(postgres_server: Server, opened: Callable[..., Queue]) -> PostgresQueue:
    queue = opened(postgres_server.url)
    assert isinstance(queue, PostgresQueue)
    return queue


@pytest.fixture
def mine(postgres_server: Server) -> Iterator["psycopg.Connection[Any]"]:
    """The caller's own connection."""
    with psycopg.connect(postgres_server.url) as connection:
        yield connection


def terminate_sessions(connection: "psycopg.Connection[Any]") -> int:
    """End every session of this package's clients; returns how many there were."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'allocator'"
    return len(connection.execute(query).fetchall())


@pytest.mark.parametrize("many", [False, True], ids=["one", "list"])
def test_a_rollback_leaves_no_job(many: bool, queue: PostgresQueue, mine: "psycopg.Connection[Any]") -> None:
    """What the caller takes back was never accepted, and its id is free."""
    mine.execute("CREATE TEMPORARY TABLE orders (id text)")
    mine.commit()
    mine.execute("INSERT INTO orders VALUES ('order')")
    if many:
        queue.enqueue_many([Job(type="faults", id="job"), Job(type="faults", id="later", delay=60)], connection=mine)
    else:
        queue.enqueue(Job(type="faults", id="job"), connection=mine)

    mine.rollback()

    assert mine.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    assert sum(queue.counts().values()) == 0
    assert queue.find(["job", "later"]) == {}
    assert queue.dequeue(timeout=0) is None
    assert queue.enqueue(Job(type="faults", id="job", payload="again")).payload == "again"


def test_a_commit_makes_the_job_visible(queue: PostgresQueue, mine: "psycopg.Connection[Any]") -> None:
    """Not before, even to a dequeue that is blocked already; then at once."""
    blocked = Running(queue.dequeue, None)
    stored = queue.enqueue(Job(type="faults", payload={"n": 1}), connection=mine)
    assert queue.find([stored.id]) == {}
    assert queue.size() == 0
    assert not blocked.done

    mine.commit()

    lease = blocked.result(within_s=5.0)
    assert lease is not None
    assert (lease.job.id, lease.job.payload) == (stored.id, {"n": 1})
    queue.ack(lease)


def test_a_savepoint_takes_back_its_jobs_alone(queue: PostgresQueue, mine: "psycopg.Connection[Any]") -> None:
    """Nested transactions of the caller count too."""
    with mine.transaction():
        queue.enqueue(Job(type="faults", id="kept"), connection=mine)
        with mine.transaction():
            queue.enqueue(Job(type="faults", id="taken"), connection=mine)
            raise psycopg.Rollback

    assert queue.find(["kept", "taken"]) == {"kept": "ready"}


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
def test_two_who_enqueue_one_id(commits: bool, queue: PostgresQueue, mine: "psycopg.Connection[Any]") -> None:
    """The second waits for what becomes of the first, and either gets its job or is accepted itself."""
    queue.enqueue(Job(type="faults", id="job", payload="first"), connection=mine)
    second = Running(queue.enqueue, Job(type="faults", id="job", payload="second"))
    mine.commit() if commits else mine.rollback()

    stored = second.result(within_s=10.0)

    assert stored.payload == ("first" if commits else "second")
    assert queue.size() == 1


def test_a_caller_who_dies_leaves_no_job(
    queue: PostgresQueue, postgres_server: Server, mine: "psycopg.Connection[Any]"
) -> None:
    """A transaction whose session ends is taken back by the server."""
    with psycopg.connect(postgres_server.url, autocommit=True) as dying:
        dying.execute("BEGIN")
        queue.enqueue(Job(type="faults", id="job"), connection=dying)
        mine.execute("SELECT pg_terminate_backend(%s)", (dying.info.backend_pid,))

        with pytest.raises(psycopg.OperationalError):
            dying.execute("COMMIT")

    assert queue.enqueue(Job(type="faults", id="job", payload="again")).payload == "again"


def test_sessions_terminated_under_load(
    postgres_server: Server, name: str, opened: Callable[..., Queue], mine: "psycopg.Connection[Any]"
) -> None:
    """As an administrator does it, again and again: callers notice nothing, a blocked dequeue too."""
    mine.autocommit = True
    queue = opened(postgres_server.url, lease_s=60.0)
    idle = opened(postgres_server.url, name=f"{name}-idle")
    blocked = Running(idle.dequeue, None)
    ended = 0
    with Load(queue) as load:
        for _ in range(15):
            load.await_done(30)
            ended += terminate_sessions(mine)
        job = idle.enqueue(Job(type="faults"))
        lease = blocked.result(within_s=5.0)
        assert lease is not None
        assert lease.job.id == job.id
        load.finish()

    assert ended >= 15
    assert load.judge().told() == []
    assert {attempt.number for attempt in load.done} == {1}
    assert not read_layout(postgres_server, name).problems


def test_clients_who_come_late_to_new_tables(
    postgres_server: Server, name: str, opened: Callable[..., Queue], mine: "psycopg.Connection[Any]"
) -> None:
    """
    Who has looked before the tables were there, and makes them when others work with them already, disturbs nobody.

    One client in hundreds is that late by chance; here one is again and again.
    """
    mine.autocommit = True
    late = opened(postgres_server.url)
    assert isinstance(late, PostgresQueue)

    def deadlocks() -> int:
        row = mine.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert row is not None
        return int(row[0])

    def work(seed: int, log: int) -> None:
        client = Client(postgres_server.url, name, seed, log, log)
        for _ in range(150):
            client.step()
        client.queue.close()

    before = deadlocks()
    with open(os.devnull, "wb") as nowhere:
        workers = [Running(work, seed, nowhere.fileno()) for seed in range(3)]
        while not all(worker.done for worker in workers):
            Running(late._sessions.call, late._install).result()
        for worker in workers:
            worker.result()

    assert deadlocks() == before
    assert not read_layout(postgres_server, name).problems


@pytest.mark.parametrize("attempt", range(3))
def test_many_come_first_to_a_new_database(
    attempt: int, postgres_server: Server, name: str, mine: "psycopg.Connection[Any]"
) -> None:
    """Clients that start together where there are no tables yet all get to work; making the tables stops nobody."""
    mine.autocommit = True
    database = f"fresh_{name[-12:]}"
    mine.execute(f"CREATE DATABASE {database}")
    url = postgres_server.url.rpartition("/")[0] + f"/{database}"
    start = threading.Barrier(12)

    def work(number: int) -> int:
        start.wait(30)
        acked = 0
        with PostgresQueue(url, name=f"{name}-{number % 3}") as queue:
            for _ in range(10):
                queue.enqueue_many(Job(type="faults") for _ in range(3))
                leases = queue.dequeue_many(3, timeout=0)
                assert queue.settle(acks=leases) == []
                acked += len(leases)
        return acked

    try:
        workers = [Running(work, number) for number in range(12)]

        acked = sum(worker.result() for worker in workers)

        assert acked > 0
    finally:
        mine.execute(f"DROP DATABASE {database} WITH (FORCE)")


def test_tables_of_version_1_are_brought_up(
    postgres_server: Server, opened: Callable[..., Queue], mine: "psycopg.Connection[Any]"
) -> None:
    """With the jobs in them; indexes of the release before are gone."""
    old = opened(postgres_server.url)
    old.enqueue(Job(type="json", payload={}, delay=3600.0))
    job = old.enqueue(Job(type="json", payload={}))
    mine.execute(
        """
        DROP FUNCTION allocator.dequeue;
        CREATE FUNCTION allocator.dequeue(integer, integer, text, bigint, double precision, integer, integer,
            double precision, text, double precision, integer) RETURNS TABLE (id text) LANGUAGE sql AS 'SELECT NULL';
        DROP INDEX allocator.scheduled_in_order;
        CREATE INDEX scheduled_due ON allocator.scheduled ((-queue_id), due_at);
        UPDATE allocator.version SET version = 1;
        """
    )
    mine.commit()

    lease = opened(postgres_server.url).dequeue(timeout=0)

    assert lease is not None
    assert (lease.job.id, lease.lost_before) == (job.id, False)
    names = {row[0] for row in mine.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'scheduled'")}
    assert "scheduled_in_order" in names
    assert "scheduled_due" not in names


def test_what_comes_behind_a_job_that_comes_alone_is_not_passed_over(
    postgres_server: Server, opened: Callable[..., Queue], mine: "psycopg.Connection[Any]"
) -> None:
    """While one client's dequeue takes such a job and has not committed yet, another takes the very next one."""
    queue = opened(postgres_server.url)
    lost = queue.enqueue(Job(type="json", payload={}))
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    mine.execute("UPDATE allocator.leases SET expires_at = 0, expires_second = 0 WHERE id = %s", [lost.id])
    mine.commit()
    assert queue.reap() == [lost.id]
    following = [queue.enqueue(Job(type="json", payload={})).id for _ in range(3)]
    found = mine.execute("SELECT id FROM allocator.queues WHERE name = %s", [queue.name]).fetchone()
    version = mine.execute("SELECT version FROM allocator.version").fetchone()
    assert found is not None
    assert version is not None
    taken = mine.execute(
        "SELECT id FROM allocator.dequeue(%s, %s, 'by hand', 1, NULL, 1, 10, 60, 'by hand', 1e9, 1000)",
        [version[0], found[0]],
    ).fetchall()

    next_lease = queue.dequeue(timeout=0)

    mine.rollback()
    assert taken == [(lost.id,)]
    assert next_lease is not None
    assert next_lease.job.id == following[0]


def test_no_lease_is_older_than_what_made_its_job_due(
    postgres_server: Server, opened: Callable[..., Queue], mine: "psycopg.Connection[Any]"
) -> None:
    """A call that began to look before the job came, and then saw it, dates its lease by the job."""
    queue = opened(postgres_server.url)
    queue.enqueue(Job(type="json", payload={}))
    mine.execute("UPDATE allocator.ready SET due_at = due_at + 0.5")
    mine.commit()

    lease = queue.dequeue(timeout=0)

    assert lease is not None
    assert lease.leased_at == lease.due_at
    assert lease.expires_at == lease.leased_at + queue.lease_s


def test_each_lease_of_a_list_has_its_own_instants(
    postgres_server: Server, opened: Callable[..., Queue], mine: "psycopg.Connection[Any]"
) -> None:
    """Of jobs that came while the call had begun already, each as the table of leases has it."""
    queue = opened(postgres_server.url)
    queue.enqueue_many([Job(type="json", payload={}) for _ in range(3)])
    mine.execute("UPDATE allocator.ready SET due_at = due_at + 0.5 * (1 + sequence % 1024)")
    mine.commit()

    leases = queue.dequeue_many(3, timeout=0)

    query = "SELECT due_at, leased_at, expires_at FROM allocator.leases WHERE id = ANY(%s) ORDER BY sequence"
    rows = mine.execute(query, [[lease.job.id for lease in leases]]).fetchall()
    assert [(lease.due_at, lease.leased_at, lease.expires_at) for lease in leases] == rows
    assert len({lease.leased_at for lease in leases}) == 3
