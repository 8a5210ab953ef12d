"""
Connections that break around a call: whatever was lost, the call takes effect once and gives the reply it would have.

Each case runs twice on queues of their own, undisturbed and through a proxy that loses something, and must end alike.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from allocator import Backoff, Job, ManualClock, QueueUnavailable
from allocator.bench.proxy import Fault, Proxy
from allocator.domain.lease import Lease, Nack, Release
from allocator.queue.base import Queue
from allocator.queue.sessions import Sessions
from allocator.services import Server
from tests.faults.running import LONG_S, Running

pytestmark = pytest.mark.faults

LEASE_S = 15.0


def ids(leases: Sequence[Lease]) -> list[str]:
    return [lease.job.id for lease in leases]


class Case:
    """
    One changing call, in a setting where doing it twice shows.

    `queue` is the client whose connection breaks, `other` one whose does not. All times are the clock's.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def prepare(self, queue: Queue, other: Queue) -> None:
        """Before the fault."""

    def act(self, queue: Queue) -> Any:
        """The call; returns what its reply says, without instants and tokens."""
        raise NotImplementedError

    def meddle(self, other: Queue) -> None:
        """What another client does once the call has taken effect, in the gap before the repeat where there is one."""

    def jobs(self, *job_ids: str) -> list[Job]:
        return [Job(type="faults", id=job_id, payload={"of": job_id}) for job_id in job_ids]


class Enqueue(Case):
    """Meanwhile the job is done, so that its id is not known any more when the repeat comes."""

    def act(self, queue: Queue) -> Any:
        stored = queue.enqueue(self.jobs("a")[0])
        return stored.id, stored.payload

    def meddle(self, other: Queue) -> None:
        other.settle(acks=other.dequeue_many(10, timeout=0))


class EnqueueMany(Enqueue):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue(Job(type="faults", id="b", payload="before", delay=60))

    def act(self, queue: Queue) -> Any:
        return [(job.id, job.payload) for job in queue.enqueue_many(self.jobs("a", "b", "c", "a"))]


class DequeueMany(Case):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("a", "b", "c"))

    def act(self, queue: Queue) -> Any:
        self.leases = queue.dequeue_many(2, timeout=0)
        first_use = [lease.job.id for lease in queue.extend_many(self.leases)]
        return [(lease.job.id, lease.attempt, lease.job.payload) for lease in self.leases], first_use


class Dequeue(Case):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("a", "b", "c"))

    def act(self, queue: Queue) -> Any:
        lease = queue.dequeue(timeout=0)
        assert lease is not None
        queue.ack(lease)
        return lease.job.id, lease.attempt


class Settle(Case):
    """Meanwhile the job that failed is leased again."""

    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("stale", "acked", "failed", "fatal", "released"))
        self.leases = {lease.job.id: lease for lease in queue.dequeue_many(5, timeout=0)}
        queue.ack(self.leases["stale"])

    def act(self, queue: Queue) -> Any:
        held = self.leases
        lost = queue.settle(
            acks=[held["acked"], held["stale"]],
            nacks=[Nack(held["failed"], "an error", delay=0.0), Nack(held["fatal"], "fatal", "trace", dead=True)],
            releases=[Release(held["released"], 60.0)],
        )
        return ids(lost)

    def meddle(self, other: Queue) -> None:
        other.dequeue_many(10, timeout=0)


class Ack(Settle):
    def act(self, queue: Queue) -> Any:
        return queue.ack(self.leases["acked"])


class Extend(Case):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("gone", "held"))
        self.leases = queue.dequeue_many(2, timeout=0)
        queue.ack(self.leases[0])
        other.cancel("held")

    def act(self, queue: Queue) -> Any:
        lost = queue.extend_many(self.leases, 100.0)
        return ids(lost), self.leases[1].cancelled, self.leases[1].expires_at - self.clock.now()


class Cancel(Case):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("a", "b"))

    def act(self, queue: Queue) -> Any:
        return queue.cancel("a")

    def meddle(self, other: Queue) -> None:
        other.enqueue_many(self.jobs("a"))


class Dead(Case):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("a", "b"))
        queue.settle(nacks=[Nack(lease, "fatal", dead=True) for lease in queue.dequeue_many(2, timeout=0)])


class RequeueDead(Dead):
    """Meanwhile it dies again."""

    def act(self, queue: Queue) -> Any:
        return queue.requeue_dead("a")

    def meddle(self, other: Queue) -> None:
        other.settle(nacks=[Nack(lease, "again", dead=True) for lease in other.dequeue_many(2, timeout=0)])


class PurgeDead(Dead):
    def act(self, queue: Queue) -> Any:
        return queue.purge_dead("a")


class Reap(Case):
    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("a", "b"))
        queue.dequeue_many(2, timeout=0)
        self.clock.advance(LEASE_S + 1)

    def act(self, queue: Queue) -> Any:
        return queue.reap()


class Pause(Case):
    """Meanwhile somebody else lets the queue go on."""

    def prepare(self, queue: Queue, other: Queue) -> None:
        queue.enqueue_many(self.jobs("a"))

    def act(self, queue: Queue) -> Any:
        return queue.pause()

    def meddle(self, other: Queue) -> None:
        other.resume()


CASES = [
    Enqueue,
    EnqueueMany,
    Dequeue,
    DequeueMany,
    Ack,
    Settle,
    Extend,
    Cancel,
    RequeueDead,
    PurgeDead,
    Reap,
    Pause,
]
each_case = pytest.mark.parametrize("case_class", CASES, ids=lambda case: case.__name__)


def outcome(
    server: Server,
    name: str,
    case_class: type[Case],
    opened: Callable[..., Queue],
    fault: Fault | None,
    *,
    overtaken: bool = False,
    seed: int = 0,
) -> tuple[Any, Any]:
    """The reply of the case's call, and all that can be seen of the queue afterwards."""
    clock = ManualClock(1_000_000.0)
    options = {"lease_s": LEASE_S, "clock": clock, "backoff": Backoff(), "name": f"{name}-{fault.name if fault else 0}"}
    with Proxy(server.url, seed) as proxy:
        queue, other = opened(proxy.url, **options), opened(server.url, **options)
        case = case_class(clock)
        case.prepare(queue, other)
        has_acted = fault in (Fault.REPLY_LOST, Fault.REPLY_TORN, Fault.REPLY_LATE)
        if fault is not None:
            proxy.arm(fault, then=(lambda: case.meddle(other)) if has_acted else None)
        reply = case.act(queue)
        if not has_acted:
            case.meddle(other)
        assert fault is None or proxy.struck.is_set()
        if overtaken:
            queue.cancel("never-made")
        if fault is Fault.DUPLICATE:
            proxy.deliver()
        seen = look(other)
        queue.close()
    return reply, seen


def look(queue: Queue) -> Any:
    """Everything that tells one state of a queue from another, instants aside. Changes it."""
    before = queue.counts()
    letters = [
        (letter.job.id, letter.error, letter.attempt_count, [(each.number, each.error) for each in letter.attempts])
        for letter in queue.dead_letters()
    ]
    found = queue.find(["a", "b", "c", "stale", "acked", "failed", "fatal", "released", "gone", "held"])
    left = []
    while leases := queue.dequeue_many(10, timeout=0):
        left += [(lease.job.id, lease.attempt, lease.job.payload) for lease in leases]
    return before, letters, found, left


@each_case
@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.REPLY_LOST, Fault.REPLY_TORN], ids=lambda f: f.value)
def test_a_broken_connection_changes_nothing(
    fault: Fault, case_class: type[Case], server: Server, name: str, opened: Callable[..., Queue]
) -> None:
    """Nothing is doubled, no lease is lost, no attempt is charged, and the caller is told the same."""
    plain = outcome(server, name, case_class, opened, None)

    disturbed = outcome(server, name, case_class, opened, fault, seed=CASES.index(case_class))

    assert plain == disturbed


@each_case
@pytest.mark.parametrize("overtaken", [False, True], ids=["last", "overtaken"])
def test_a_duplicate_that_arrives_late_changes_nothing(
    overtaken: bool, case_class: type[Case], server: Server, name: str, opened: Callable[..., Queue]
) -> None:
    """A request that was stuck on a dead connection reaches the server after its repeat, or after a later call."""
    plain = outcome(server, name, case_class, opened, None)

    disturbed = outcome(server, name, case_class, opened, Fault.DUPLICATE, overtaken=overtaken)

    assert plain == disturbed


@pytest.mark.parametrize("case_class", [Enqueue, DequeueMany, Settle, RequeueDead], ids=lambda case: case.__name__)
def test_a_reply_that_comes_too_late_changes_nothing(
    case_class: type[Case],
    server: Server,
    name: str,
    opened: Callable[..., Queue],
    set_reply_time: Callable[[float], None],
) -> None:
    """A server so slow that the client gives up and asks again on another connection."""
    set_reply_time(0.5)
    plain = outcome(server, name, case_class, opened, None)

    disturbed = outcome(server, name, case_class, opened, Fault.REPLY_LATE)

    assert plain == disturbed


@pytest.fixture
def no_call_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every try of a call looks like one of another client, as if the server kept no replies."""
    original = Sessions.call

    def call(self: Any, operation: Any, **options: Any) -> Any:
        def renamed(session: Any) -> Any:
            session.client_id = secrets.token_hex(8)
            return operation(session)

        return original(self, renamed, **options)

    monkeypatch.setattr(Sessions, "call", call)


# To extend twice is to extend.
TELLING = [case for case in CASES if case is not Extend]


@pytest.mark.parametrize("case_class", TELLING, ids=lambda case: case.__name__)
def test_without_call_numbers_it_shows(
    case_class: type[Case],
    server: Server,
    name: str,
    opened: Callable[..., Queue],
    no_call_numbers: None,
) -> None:
    """A control: where the server cannot know a repeat, each of the cases comes out differently."""
    plain = outcome(server, name, case_class, opened, None)

    try:
        disturbed = outcome(server, name, case_class, opened, Fault.REPLY_LOST)
    except Exception as error:
        disturbed = (error, None)

    assert plain != disturbed


@pytest.mark.usefixtures("no_call_numbers")
def test_without_call_numbers_a_late_duplicate_shows(server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """A control of the proxy: it does deliver what it held back."""
    plain = outcome(server, name, Enqueue, opened, None)

    disturbed = outcome(server, name, Enqueue, opened, Fault.DUPLICATE)

    assert plain != disturbed


def test_the_repeat_tells_the_same_instant(server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """The job that comes back is the one that was stored at the first try, not one made up for the repeat."""
    with Proxy(server.url) as proxy:
        queue, other = opened(proxy.url), opened(server.url)
        queue.enqueue(Job(type="faults"))
        proxy.arm(Fault.REPLY_LOST)

        stored = queue.enqueue(Job(type="faults"))

        assert proxy.struck.is_set()
        first, second = other.dequeue_many(5, timeout=0)
        assert stored.enqueued_at == second.job.enqueued_at
        assert first.job.id != second.job.id == stored.id
        queue.close()


def test_a_blocked_dequeue_outlives_its_connection(server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """A client whose connection is cut while it waits comes back by itself and gets the next job."""
    with Proxy(server.url) as proxy:
        queue, other = opened(proxy.url), opened(server.url)
        blocked = Running(queue.dequeue, None)
        for n in range(3):
            proxy.cut()
            job = other.enqueue(Job(type="faults", payload=n))

            lease = blocked.result(within_s=10)

            assert lease is not None
            assert lease.job.id == job.id
            queue.ack(lease)
            blocked = Running(queue.dequeue, None)
        queue.close()
        assert blocked.result(within_s=10) is None


def test_many_cuts_under_load(server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """Connections cut again and again, wherever they are in a call: each job is accepted and done exactly once."""
    with Proxy(server.url) as proxy:
        queue = opened(proxy.url, lease_s=60.0)
        stop = threading.Event()
        moved = threading.Event()
        enough = threading.Event()

        def cut() -> None:
            cuts = 0
            # On a busy machine it may take longer to connect: whoever was cut off gets somewhere before the next cut.
            # Nor is it cut to the end: where connecting is slow, nearly all of the time would go into that.
            while cuts < 100 and not stop.wait(0.02) and moved.wait():
                moved.clear()
                proxy.cut()
                cuts += 1
                if cuts == 10:
                    enough.set()

        def produce(producer: int) -> list[str]:
            made = []
            # However fast the machine, the load lasts until there were cuts enough to hit calls of every kind.
            while not enough.is_set() or len(made) < 100:
                made.append(queue.enqueue(Job(type="faults", id=f"{producer}-{len(made)}")).id)
                moved.set()
            return made

        def consume() -> list[tuple[str, int]]:
            done = []
            while not stop.is_set():
                leases = queue.dequeue_many(7, timeout=0.1)
                lost = queue.settle(acks=leases)
                assert not lost
                done += [(lease.job.id, lease.attempt) for lease in leases]
                moved.set()
            return done

        cutting = Running(cut)
        consumers = [Running(consume) for _ in range(2)]
        producers = [Running(produce, n) for n in range(2)]
        accepted = [job_id for producer in producers for job_id in producer.result(5 * LONG_S)]
        other = opened(server.url)
        waiting = Running(lambda: _until_done(other, len(accepted)))
        waiting.result(5 * LONG_S)
        stop.set()
        moved.set()
        done = [entry for consumer in consumers for entry in consumer.result()]

        assert sorted((job_id, 1) for job_id in accepted) == sorted(done)
        assert other.counts()["done"] == len(accepted)
        cutting.result()
        queue.close()


def _until_done(queue: Queue, count: int) -> None:
    pause = threading.Event()
    while queue.counts()["done"] < count:
        pause.wait(0.02)


def test_a_server_that_stays_away_is_told(server: Server, name: str, opened: Callable[..., Queue]) -> None:
    """After the bound a caller gets an error that says what to check, and not silence."""
    with Proxy(server.url) as proxy:
        queue = opened(proxy.url, reconnect_s=0.5)
        queue.enqueue(Job(type="faults"))
    proxy.cut()

    with pytest.raises(QueueUnavailable, match=r"is it running\?"):
        Running(queue.enqueue, Job(type="faults")).result(within_s=10)
