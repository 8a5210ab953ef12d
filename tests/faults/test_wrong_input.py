"""Records that are damaged, foreign or newer, keys of a wrong type, and URLs that lead nowhere."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from allocator import Job, NewerVersion, QueueDamaged, QueueUnavailable, open_queue
from allocator.queue.base import Queue
from allocator.services import Server, free_port
from tests.faults import servers
from tests.faults.layout import read_layout
from tests.faults.running import raised_within

pytestmark = pytest.mark.faults

TOLD_WITHIN_S = 5.0


class RedisHand:
    """Changes a queue behind its back."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.prefix = f"allocator:{{{name}}}:"

    def __call__(self, command: str, key: str, *arguments: Any) -> Any:
        """A command on a key of the queue."""
        return self.client.execute_command(command, self.prefix + key, *arguments)

    def record(self, job_id: str) -> bytes:
        """Alive or dead, header and all."""
        return self("HGET", "jobs", job_id) or self("HGET", "dead:jobs", job_id)

    def dump(self) -> dict[bytes, Any]:
        """Every key but the replies that are kept for repeats, which say nothing about jobs."""
        pattern = self.prefix.replace("[", r"\[") + "*"
        keys = sorted(key for key in self.client.scan_iter(pattern) if b":call:" not in key)
        return {key: self.client.dump(key) for key in keys}


@pytest.fixture
def hand(redis_server: Server, name: str) -> Iterator[RedisHand]:
    with servers.raw_redis(redis_server) as client:
        yield RedisHand(client, name)


def enqueue_three(queue: Queue) -> None:
    """`bad` stands between two others."""
    queue.enqueue_many(Job(type="faults", id=job_id) for job_id in ("first", "bad", "last"))


def take_all(queue: Queue) -> list[str]:
    """The ids of all that can be leased, acked."""
    taken = []
    while leases := queue.dequeue_many(10, timeout=0):
        taken += [lease.job.id for lease in leases]
        queue.settle(acks=leases)
    return taken


HEADER = b"1 0000000000000002 0 3 1700000000000000"

DAMAGED_RECORDS = {
    "bytes": b"\xff\xfe\x00junk",
    "empty": b"",
    "no header": b'{"type":"faults"}',
    "no body": HEADER + b"\n",
    "cut JSON": HEADER + b'\n{"type":"fau',
    "a list": HEADER + b"\n[1,2]",
    "a wrong type": HEADER + b'\n{"type":5}',
    "not UTF-8": HEADER + b'\n{"type":"\xff\xff"}',
    "header of words": b"one two three four five\n{}",
}


def check_damaged(queue: Queue, job_id: str = "bad") -> None:
    """The damaged one is a dead letter with that reason, the others come, and it can be put back and purged."""
    assert take_all(queue) == ["first", "last"]
    letters = queue.dead_letters()
    assert [letter.job.id for letter in letters] == [job_id]
    assert "damaged record" in letters[0].error
    assert queue.counts()["dead"] == 1
    assert queue.requeue_dead(job_id) == 1
    assert take_all(queue) == []
    assert ["damaged record" in letter.error for letter in queue.dead_letters()] == [True]
    assert queue.purge_dead(all=True) == 1
    assert queue.dead_letters() == []
    counts = queue.counts()
    assert (counts["ready"], counts["leased"], counts["dead"], counts["done"]) == (0, 0, 0, 2)


@pytest.mark.parametrize("damage", DAMAGED_RECORDS)
def test_a_damaged_record_stops_nobody(
    damage: str, hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]
) -> None:
    """It goes to the dead letters, whose reason says that it is damaged."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    hand("HSET", "jobs", "bad", DAMAGED_RECORDS[damage])

    check_damaged(queue)


def test_a_missing_record_stops_nobody(hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]) -> None:
    """A place without a record is damage too."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    hand("HDEL", "jobs", "bad")

    check_damaged(queue)


def test_a_damaged_state_stops_nobody(hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]) -> None:
    """What cannot be read about earlier attempts is damage; the job itself is still to be seen."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    hand("HSET", "tries", "bad", "nonsense")

    assert take_all(queue) == ["first", "last"]
    (letter,) = queue.dead_letters()
    assert (letter.job.id, letter.job.type) == ("bad", "faults")
    assert "damaged" in letter.error


FOREIGN_MEMBERS = {
    "a word": b"stranger",
    "one of our form": b"0000000000000009:stranger",
    "bytes": b"0000000000000009:\xff\xfe",
    "empty": b"",
}


@pytest.mark.parametrize("place", ["ready", "scheduled", "leased"])
@pytest.mark.parametrize("member", FOREIGN_MEMBERS)
def test_a_foreign_member_stops_nobody(
    member: str, place: str, hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]
) -> None:
    """Something that nobody enqueued is put away with a reason, and can be purged."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    hand("ZADD", place, 0 if place == "ready" else 1, FOREIGN_MEMBERS[member])

    assert take_all(queue) == ["first", "bad", "last"]
    assert ["damaged record" in letter.error for letter in queue.dead_letters()] == [True]
    assert queue.purge_dead(all=True) == 1
    assert queue.counts()["dead"] == 0
    assert take_all(queue) == []


def test_a_damaged_lease_stops_nobody(hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]) -> None:
    """A leased job whose state was overwritten is put away when its lease has run out."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    hand("HSET", "tries", lease.job.id, "nonsense")
    hand("ZADD", "leased", 1, lease.job.id)

    assert queue.settle(acks=[lease]) == [lease]
    assert take_all(queue) == ["bad", "last"]
    assert [letter.job.id for letter in queue.dead_letters()] == ["first"]


@pytest.mark.parametrize("key", ["dead:info", "attempts"])
def test_a_damaged_dead_letter_stops_nobody(
    key: str, hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]
) -> None:
    """The other dead letters are still listed, put back and purged."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    for lease in queue.dequeue_many(3, timeout=0):
        queue.nack(lease, "an error", dead=True)
    if key == "attempts":
        hand("LSET", "attempts:bad", 0, "nonsense")
    else:
        hand("HSET", key, "bad", "nonsense")

    assert [letter.job.id for letter in queue.dead_letters()] == ["first", "bad", "last"]
    assert queue.requeue_dead("last") == 1
    assert queue.purge_dead(all=True) == 2
    assert take_all(queue) == ["last"]


@pytest.mark.parametrize("key", ["meta", "jobs", "tries", "ready", "scheduled", "leased", "dead:order", "wake"])
def test_a_key_of_a_wrong_type_is_told(
    key: str, hand: RedisHand, redis_server: Server, name: str, opened: Callable[..., Queue]
) -> None:
    """The error says which queue; once the key is gone again, nothing was done by halves."""
    queue = opened(redis_server.url)
    hand("SET", key, "nonsense")

    told = []
    for call in (
        lambda: queue.enqueue(Job(type="faults", id="job")),
        lambda: queue.dequeue(timeout=0),
        queue.dead_letters,
    ):
        try:
            call()
        except QueueDamaged as error:
            told.append(str(error))

    assert told
    assert all(name in text for text in told)
    hand("DEL", key)
    if key not in ("meta", "jobs", "tries"):
        assert not read_layout(redis_server, name).problems
    assert queue.enqueue(Job(type="faults", id="another")).id == "another"
    assert "another" in take_all(queue)


def test_a_newer_record_is_left_alone(hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]) -> None:
    """It is not damage: the client takes nothing, changes nothing, and says what to upgrade."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    newer = hand.record("first").replace(b"1 ", b"2 ", 1)
    hand("HSET", "jobs", "first", newer)
    before = hand.dump()

    for _ in range(2):
        with pytest.raises(NewerVersion, match=r"first.*format 2.*[Uu]pgrade"):
            queue.dequeue_many(10, timeout=0)

    assert before == hand.dump()
    # A newer client took it away.
    hand("HDEL", "jobs", "first")
    hand("ZREM", "ready", hand("ZRANGE", "ready", 0, 0)[0])
    assert take_all(queue) == ["bad", "last"]


def test_a_newer_schema_is_left_alone(hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]) -> None:
    """Whatever is asked for, the answer is to upgrade, and no key changes."""
    queue = opened(redis_server.url)
    enqueue_three(queue)
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    hand("HSET", "meta", "schema", 2)
    before = hand.dump()

    check_refuses(queue, lease)

    assert before == hand.dump()
    hand("HSET", "meta", "schema", 1)
    queue.ack(lease)
    assert take_all(queue) == ["bad", "last"]


def check_refuses(queue: Queue, lease: Any) -> None:
    """Every operation raises NewerVersion."""
    for refused in (
        lambda: queue.enqueue(Job(type="faults")),
        lambda: queue.dequeue(timeout=0),
        lambda: queue.dequeue(timeout=None),
        lambda: queue.ack(lease),
        lambda: queue.nack(lease, "an error"),
        lambda: queue.extend(lease),
        lambda: queue.cancel("bad"),
        lambda: queue.requeue_dead("bad"),
        lambda: queue.purge_dead("bad"),
        queue.reap,
        queue.pause,
        queue.counts,
        queue.dead_letters,
        lambda: queue.find(["bad"]),
    ):
        error = raised_within(TOLD_WITHIN_S, refused)
        assert isinstance(error, NewerVersion), repr(error)
        assert "pgrade" in str(error)


def test_unknown_fields_are_kept(hand: RedisHand, redis_server: Server, opened: Callable[..., Queue]) -> None:
    """What a newer release wrote into a record beside what is known here goes with the job, byte for byte."""
    queue = opened(redis_server.url)
    queue.enqueue(Job(type="faults", id="job", payload=[1, 2]))
    record = hand.record("job")[:-1] + b',"colour":"red", "more" : {"n":1e2}}'
    hand("HSET", "jobs", "job", record)

    def body() -> bytes:
        return hand.record("job").partition(b"\n")[2]

    walk_through_states(queue, body, record.partition(b"\n")[2])


def walk_through_states(queue: Queue, body: Callable[[], bytes], expected: bytes) -> None:
    """Lease, nack, dead letter, requeue: the stored record stays as it is, and is read all the same."""
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    assert lease.job.payload == [1, 2]
    assert body() == expected
    queue.nack(lease, "an error", delay=0.0)
    assert body() == expected
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    queue.nack(lease, "an error", dead=True)
    assert body() == expected
    assert [letter.job.payload for letter in queue.dead_letters()] == [[1, 2]]
    assert queue.requeue_dead("job") == 1
    assert body() == expected
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    assert (lease.job.payload, lease.attempt) == ([1, 2], 1)


# PostgreSQL


class PostgresHand:
    """Changes a queue behind its back."""

    def __init__(self, connection: "psycopg.Connection[Any]", name: str) -> None:
        self.connection = connection
        self._name = name

    def __call__(self, statement: str, *arguments: Any) -> Any:
        """A statement in which QUEUE is the queue's id; its rows, if it gives any."""
        queue_id = "(SELECT id FROM allocator.queues WHERE name = %s)"
        cursor = self.connection.execute(statement.replace("QUEUE", queue_id), (self._name, *arguments))
        return cursor.fetchall() if cursor.description else None

    def record(self) -> bytes:
        return bytes(self("SELECT record FROM allocator.jobs WHERE queue_id = QUEUE AND id = 'job'")[0][0])

    def dump(self) -> dict[str, Any]:
        tables = ("jobs", "ready", "scheduled", "leases", "dead", "attempts", "cancelled")
        return {table: self(f"SELECT * FROM allocator.{table} WHERE queue_id = QUEUE ORDER BY id") for table in tables}


@pytest.fixture
def sql(postgres_server: Server, name: str) -> Iterator[PostgresHand]:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        yield PostgresHand(connection, name)


POSTGRES = [pytest.mark.postgres, pytest.mark.service]


def _marked(test: Any) -> Any:
    for mark in POSTGRES:
        test = mark(test)
    return test


@_marked
@pytest.mark.parametrize("damage", ["bytes", "empty", "cut JSON", "a list", "a wrong type", "not UTF-8"])
def test_a_damaged_row_stops_nobody(
    damage: str, sql: PostgresHand, postgres_server: Server, opened: Callable[..., Queue]
) -> None:
    """It goes to the dead letters, whose reason says that it is damaged."""
    queue = opened(postgres_server.url)
    enqueue_three(queue)
    record = DAMAGED_RECORDS[damage].removeprefix(HEADER + b"\n")
    sql("UPDATE allocator.jobs SET record = %s WHERE queue_id = QUEUE AND id = 'bad'".replace("%s", _bytea(record)))

    check_damaged(queue)


def _bytea(value: bytes) -> str:
    return f"'\\x{value.hex()}'::bytea"


@_marked
def test_a_missing_row_stops_nobody(sql: PostgresHand, postgres_server: Server, opened: Callable[..., Queue]) -> None:
    """A place without a record is damage too."""
    queue = opened(postgres_server.url)
    enqueue_three(queue)
    sql("DELETE FROM allocator.jobs WHERE queue_id = QUEUE AND id = 'bad'")

    assert take_all(queue) == ["first", "last"]
    assert ["damaged record" in letter.error for letter in queue.dead_letters()] == [True]
    assert queue.purge_dead(all=True) == 1
    assert queue.counts()["dead"] == 0


@_marked
def test_a_newer_row_is_left_alone(sql: PostgresHand, postgres_server: Server, opened: Callable[..., Queue]) -> None:
    """It is not damage: the client takes nothing, changes nothing, and says what to upgrade."""
    queue = opened(postgres_server.url)
    enqueue_three(queue)
    sql("UPDATE allocator.jobs SET format = 2 WHERE queue_id = QUEUE AND id = 'first'")
    before = sql.dump()

    for _ in range(2):
        with pytest.raises(NewerVersion, match=r"format 2.*[Uu]pgrade"):
            queue.dequeue_many(10, timeout=0)

    assert before == sql.dump()
    sql("UPDATE allocator.jobs SET format = 1 WHERE queue_id = QUEUE AND id = 'first'")
    assert take_all(queue) == ["first", "bad", "last"]


@_marked
def test_newer_tables_are_left_alone(sql: PostgresHand, postgres_server: Server, opened: Callable[..., Queue]) -> None:
    """Whatever is asked for, by a client that is connected or one that comes, the answer is to upgrade."""
    queue = opened(postgres_server.url)
    enqueue_three(queue)
    lease = queue.dequeue(timeout=0)
    assert lease is not None
    before = sql.dump()
    sql.connection.execute("UPDATE allocator.version SET version = version + 1")
    try:
        check_refuses(queue, lease)
        error = raised_within(TOLD_WITHIN_S, open_queue, postgres_server.url)
        assert isinstance(error, NewerVersion), repr(error)
        assert before == sql.dump()
    finally:
        sql.connection.execute("UPDATE allocator.version SET version = version - 1")

    queue.ack(lease)
    assert take_all(queue) == ["bad", "last"]


@_marked
def test_unknown_fields_of_a_row_are_kept(
    sql: PostgresHand, postgres_server: Server, opened: Callable[..., Queue]
) -> None:
    """What a newer release wrote into a record beside what is known here goes with the job, byte for byte."""
    queue = opened(postgres_server.url)
    queue.enqueue(Job(type="faults", id="job", payload=[1, 2]))
    record = sql.record()[:-1] + b',"colour":"red", "more" : {"n":1e2}}'
    sql(f"UPDATE allocator.jobs SET record = {_bytea(record)} WHERE queue_id = QUEUE AND id = 'job'")

    walk_through_states(queue, sql.record, record)


# Connections

PASSWORD = "hunter2-and-more"


def check_told(url: str, *texts: str, kind: type[Exception] = QueueUnavailable) -> None:
    """Opening fails in time, with an error that names what to check, and not the password."""
    began = time.monotonic()
    # Somewhat longer, to tell slow from never.
    error = raised_within(2 * TOLD_WITHIN_S, open_queue, url)
    took_s = time.monotonic() - began
    assert isinstance(error, kind), repr(error)
    assert took_s < TOLD_WITHIN_S
    assert PASSWORD not in str(error)
    for text in texts:
        assert text.lower() in str(error).lower()


SCHEMES = pytest.mark.parametrize("scheme", ["redis", "postgresql"])


@SCHEMES
def test_a_refused_connection(scheme: str) -> None:
    """Nothing listens there: is it running, and how to start one."""
    port = free_port()

    check_told(f"{scheme}://user:{PASSWORD}@127.0.0.1:{port}/0", f"127.0.0.1:{port}", "running", "allocator.services")


@SCHEMES
def test_an_unknown_host(scheme: str) -> None:
    """The name leads nowhere."""
    check_told(f"{scheme}://user:{PASSWORD}@no-such-host.invalid/0", "no-such-host.invalid")


@SCHEMES
def test_a_server_that_never_answers(scheme: str) -> None:
    """The connection comes up, and then there is silence."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        check_told(f"{scheme}://user:{PASSWORD}@127.0.0.1:{port}/0", f"127.0.0.1:{port}", "running")


@SCHEMES
def test_a_server_of_another_kind(scheme: str) -> None:
    """Something listens there and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as other, contextlib.ExitStack() as stack:
        port = other.getsockname()[1]
        thread = servers_that_hang_up(other)
        stack.callback(thread.join, 5)
        stack.callback(lambda: other.shutdown(socket.SHUT_RDWR))

        check_told(f"{scheme}://user:{PASSWORD}@127.0.0.1:{port}/0", f"127.0.0.1:{port}")


def servers_that_hang_up(listener: socket.socket) -> Any:
    import threading

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.sendall(b"220 mail.example ready\r\n")
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "http://localhost",
        f"//user:{PASSWORD}@localhost/0",
        f"redis://user:{PASSWORD}@localhost:port/0",
        f"redis://user:{PASSWORD}@localhost:99999/0",
        f"redis+cluster://user:{PASSWORD}@localhost:port",
        f"redis+sentinel://user:{PASSWORD}@localhost:26379",
        f"redis+sentinel://user:{PASSWORD}@localhost:26379/service/base",
        f"redis://user:{PASSWORD}@localhost/base",
        f"redis://user:{PASSWORD}@localhost/0?foo=bar",
        f"redis://user:{PASSWORD}@localhost/0?decode_responses=1",
        f"postgresql://user:{PASSWORD}@localhost:port/base",
        f"postgresql://user:{PASSWORD}@localhost/base?no_such_option=1",
    ],
)
def test_what_is_no_url(url: str) -> None:
    """Told by a ValueError that says what a URL looks like."""
    check_told(url, "url:", kind=ValueError)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Callable[[str], Server]]:
    """Redis servers that ask for a password."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Server] = {}

        def get(kind: str) -> Server:
            if kind not in started:
                started[kind] = stack.enter_context(servers.start(kind, {"requirepass": "right"}))
            return started[kind]

        yield get


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


def test_a_wrong_password(redis_kind: str, guarded: Callable[[str], Server]) -> None:
    """Or none, or a user that does not exist: check user and password."""
    port = port_of(guarded(redis_kind))

    for credentials in (f":{PASSWORD}@", f"nobody:{PASSWORD}@", ""):
        check_told(f"redis://{credentials}127.0.0.1:{port}/0", f"127.0.0.1:{port}", "check user and password")


def test_a_user_who_may_not(redis_kind: str, guarded: Callable[[str], Server], name: str) -> None:
    """A user without the right to the queue's keys is told which rights are missing."""
    server = guarded(redis_kind)
    with servers.raw_redis(server) as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", f">{PASSWORD}", "~other:*", "+@all")
    queue = open_queue(f"redis://limited:{PASSWORD}@127.0.0.1:{port_of(server)}/0", name=name)

    error = raised_within(TOLD_WITHIN_S, queue.enqueue, Job(type="faults"))

    queue.close()
    assert isinstance(error, QueueUnavailable), repr(error)
    assert f"allocator:{{{name}}}:*" in str(error)
    assert PASSWORD not in str(error)


def test_a_wrong_database_number(redis_server: Server) -> None:
    """Servers have sixteen unless told otherwise."""
    check_told(redis_server.url.removesuffix("/0") + "/99", "check the number in the URL", "99")


@_marked
def test_a_wrong_role_or_database(postgres_server: Server) -> None:
    """Which of the two is wrong is told."""
    address = f"127.0.0.1:{port_of(postgres_server)}"

    check_told(f"postgresql://nobody:{PASSWORD}@{address}/postgres", address, "user", "nobody")
    check_told(f"postgresql://allocator:{PASSWORD}@{address}/nowhere", address, "database", "nowhere")


@_marked
def test_a_wrong_password_of_a_role(postgres_server: Server) -> None:
    """Or none: check user and password."""
    address = f"127.0.0.1:{port_of(postgres_server)}"
    assert postgres_server.data_dir is not None
    access = postgres_server.data_dir / "cluster" / "pg_hba.conf"
    before = access.read_text()
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE limited LOGIN PASSWORD 'right'")
        access.write_text("host all limited 127.0.0.1/32 scram-sha-256\n" + before)
        connection.execute("SELECT pg_reload_conf()")
        try:
            # Reloading is the business of another process of the server, which does not tell when.
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(f"postgresql://limited@{address}/postgres").close()
                    continue
                break

            check_told(f"postgresql://limited:{PASSWORD}@{address}/postgres", address, "check user and password")
            check_told(f"postgresql://limited@{address}/postgres", address, "password")
        finally:
            access.write_text(before)
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("DROP ROLE limited")
