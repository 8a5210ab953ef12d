"""Any sequence of calls, on every backend, does what a simple model of the contract says."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from allocator import Job, Lease, LeaseLost, ManualClock, Nack, Queue, QueueClosed, Release
from tests.contract.builders import Backend, Clients, LostReplies, a_job
from tests.contract.model import LEASE_S, Model

NORMAL = settings(
    max_examples=30,
    stateful_step_count=30,
    # The same examples in every run: a failure here is of this change, and the next run shows it again.
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
FULL = settings(NORMAL, max_examples=2000, stateful_step_count=50, derandomize=False, print_blob=True)

IDS = [f"id-{letter}" for letter in "abcdef"]

a_description = st.fixed_dictionaries(
    {
        # A fresh id more often than a known one, or queues stay small.
        "job_id": st.sampled_from([*IDS, *[""] * 6]),
        "priority": st.sampled_from([0, 0, 0, 1, -1]),
        "delay": st.sampled_from([0.0, 0.0, 0.0, 1.0, 20.0]),
        "max_retries": st.sampled_from([3, 0, 1]),
        "failed_count": st.sampled_from([0, 0, 0, 0, 2]),
    }
)
Description = dict[str, Any]
a_pick = st.integers(0, 15)
has_leases = precondition(lambda self: self.leases)
has_dead = precondition(lambda self: any(job.is_dead for job in self.model.jobs.values()))
a_delay = st.sampled_from([0.0, 0.0, 3.0])
a_nack_delay = st.sampled_from([None, None, 0.0, 5.0])


class QueueMachine(RuleBasedStateMachine):
    """Calls on two clients of one queue, each compared with the model."""

    backend: ClassVar[Backend]

    def __init__(self) -> None:
        super().__init__()
        began = float(int(time.time()))
        self.clock = ManualClock(began)
        self.model = Model(began)
        self.open_client = Clients(self.backend, self.clock)
        self.clients = [self.open_client(lease_s=LEASE_S) for _ in range(2)]
        self.number = 0
        self.seen_ids = set(IDS)
        self.leases: list[Lease] = []
        self.tokens: set[str] = set()
        self.losing = 0

    def teardown(self) -> None:
        """Leave nothing on the server."""
        self.open_client.erase()

    def call(self, which: int, act: Callable[[Queue], Any]) -> Any:
        """One call, whose first replies may be lost; then another client goes next."""
        queue = self.clients[which]
        lost: AbstractContextManager[object] = LostReplies(queue, self.losing) if self.losing else nullcontext()
        self.losing = 0
        with lost:
            return act(queue)

    def lease(self, pick: int) -> Lease:
        """One of all the leases that were ever given: mostly one that is held, sometimes one that is stale."""
        held = [lease for lease in self.leases if self.model.holder(lease.token)]
        return held[pick % len(held)] if held and pick < 12 else self.leases[-1 - pick % len(self.leases)]

    def described(self, description: Description) -> tuple[Job, Description]:
        """A job and what the model is told of it; an empty id becomes a new one."""
        self.number += 1
        told = description | {"job_id": description["job_id"] or f"new-{self.number}", "number": self.number}
        self.seen_ids.add(told["job_id"])
        job = a_job(
            id=told["job_id"],
            payload={"n": self.number},
            priority=told["priority"],
            delay=told["delay"],
            max_retries=told["max_retries"],
            failed_count=told["failed_count"],
        )
        return job, told

    # Enqueue and dequeue

    @initialize(descriptions=st.lists(a_description, min_size=2, max_size=8))
    def begin_with_a_backlog(self, descriptions: list[Description]) -> None:
        """An empty queue has little to show."""
        self.enqueue_many(0, descriptions)

    @rule(which=st.integers(0, 1), description=a_description)
    def enqueue(self, which: int, description: Description) -> None:
        """One job."""
        job, told = self.described(description)

        stored = self.call(which, lambda queue: queue.enqueue(job))

        self.check_stored(stored, told)

    @rule(which=st.integers(0, 1), descriptions=st.lists(a_description, min_size=1, max_size=6))
    def enqueue_many(self, which: int, descriptions: list[Description]) -> None:
        """Several jobs, ids among them that are known or come twice."""
        pairs = [self.described(description) for description in descriptions]

        stored = self.call(which, lambda queue: queue.enqueue_many([job for job, _ in pairs]))

        assert len(stored) == len(pairs)
        for job, (_, told) in zip(stored, pairs, strict=True):
            self.check_stored(job, told)

    def check_stored(self, stored: Job, told: Description) -> None:
        """The reply is the job that is in the queue now."""
        expected = self.model.enqueue(**told)
        assert (expected.id, {"n": expected.number}, expected.failed_count, expected.enqueued_at) == (
            stored.id,
            stored.payload,
            stored.failed_count,
            stored.enqueued_at,
        )

    @rule(which=st.integers(0, 1), limit=st.integers(1, 5))
    def dequeue(self, which: int, limit: int) -> None:
        """Whoever comes first, in order; the leases are kept, and used again when they are long stale."""
        expected = self.model.dequeue(limit)

        taken = self.call(which, lambda queue: queue.dequeue_many(limit, timeout=0))

        now = self.model.now
        assert [
            (job.id, {"n": job.number}, job.priority, job.failed_count + 1, job.due_at, now, now + LEASE_S)
            for job in expected
        ] == [
            (
                lease.job.id,
                lease.job.payload,
                lease.job.priority,
                lease.attempt,
                lease.due_at,
                lease.leased_at,
                lease.expires_at,
            )
            for lease in taken
        ]
        for job, lease in zip(expected, taken, strict=True):
            assert lease.token not in self.tokens, f"token {lease.token} was given before"
            self.tokens.add(lease.token)
            self.model.lease(job, lease.token)
            self.leases.append(lease)

    @rule(limit=st.integers(1, 5))
    def dequeue_more(self, limit: int) -> None:
        """The same, so that it happens more often."""
        self.dequeue(0, limit)

    # Extend and settle

    @has_leases
    @rule(which=st.integers(0, 1), pick=a_pick, seconds=st.sampled_from([1.0, 15.0, 40.0]))
    def extend(self, which: int, pick: int, seconds: float) -> None:
        """One lease, held or lost."""
        lease = self.lease(pick)
        self.check_lost(
            lambda: self.call(which, lambda queue: queue.extend(lease, seconds)),
            was_held=self.model.extend(lease.token, seconds),
        )
        job = self.model.holder(lease.token)
        if job is not None:
            assert (job.expires_at, job.is_marked) == (lease.expires_at, lease.cancelled)

    @has_leases
    @rule(which=st.integers(0, 1), picks=st.lists(a_pick, max_size=4))
    def extend_many(self, which: int, picks: list[int]) -> None:
        """Several, held and lost."""
        some = [self.lease(pick) for pick in picks]
        lost = self.call(which, lambda queue: queue.extend_many(some))

        held = {lease.token: self.model.extend(lease.token, LEASE_S) for lease in some}
        assert [lease.token for lease in some if not held[lease.token]] == [lease.token for lease in lost]

    @has_leases
    @rule(which=st.integers(0, 1), pick=a_pick)
    def ack(self, which: int, pick: int) -> None:
        """One lease, held or lost."""
        lease = self.lease(pick)
        self.check_lost(lambda: self.call(which, lambda queue: queue.ack(lease)), was_held=self.model.ack(lease.token))

    @has_leases
    @rule(which=st.integers(0, 1), pick=a_pick, delay=a_nack_delay, dead=st.sampled_from([False, False, True]))
    def nack(self, which: int, pick: int, delay: float | None, dead: bool) -> None:
        """One lease, held or lost."""
        lease = self.lease(pick)
        self.check_lost(
            lambda: self.call(which, lambda queue: queue.nack(lease, "broken", delay=delay, dead=dead)),
            was_held=self.model.nack(lease.token, "broken", delay, dead),
        )

    @has_leases
    @rule(which=st.integers(0, 1), pick=a_pick, delay=a_delay)
    def release(self, which: int, pick: int, delay: float) -> None:
        """One lease, held or lost."""
        lease = self.lease(pick)
        self.check_lost(
            lambda: self.call(which, lambda queue: queue.release(lease, delay)),
            was_held=self.model.release(lease.token, delay),
        )

    @has_leases
    @rule(
        which=st.integers(0, 1),
        ack_picks=st.lists(a_pick, max_size=2),
        nack_picks=st.lists(st.tuples(a_pick, a_nack_delay, st.booleans()), max_size=2),
        release_picks=st.lists(st.tuples(a_pick, a_delay), max_size=2),
    )
    def settle(
        self,
        which: int,
        ack_picks: list[int],
        nack_picks: list[tuple[int, float | None, bool]],
        release_picks: list[tuple[int, float]],
    ) -> None:
        """Any mixture of held, lost and doubled leases."""
        acks = [self.lease(pick) for pick in ack_picks]
        nacks = [(self.lease(pick), delay, dead) for pick, delay, dead in nack_picks]
        releases = [(self.lease(pick), delay) for pick, delay in release_picks]

        lost = self.call(
            which,
            lambda queue: queue.settle(
                acks,
                [Nack(lease, f"broken {n}", None, delay, dead) for n, (lease, delay, dead) in enumerate(nacks)],
                [Release(lease, delay) for lease, delay in releases],
            ),
        )

        expected = [lease.token for lease in acks if not self.model.ack(lease.token)]
        expected += [
            lease.token
            for n, (lease, delay, dead) in enumerate(nacks)
            if not self.model.nack(lease.token, f"broken {n}", delay, dead)
        ]
        expected += [lease.token for lease, delay in releases if not self.model.release(lease.token, delay)]
        assert Counter(expected) == Counter(lease.token for lease in lost)

    def check_lost(self, act: Callable[[], object], *, was_held: bool) -> None:
        """LeaseLost is raised when, and only when, the lease was not held."""
        if was_held:
            act()
            return
        with pytest.raises(LeaseLost):
            act()

    # Time

    @rule(seconds=st.sampled_from([1.0, 15.0, 60.0]))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.model.now += seconds
        self.clock.advance(seconds)

    @precondition(lambda self: self.model.next_event() is not None)
    @rule(early=st.sampled_from([0.0, 0.0, 0.0, 0.25]))
    def advance_to_the_next_event(self, early: float) -> None:
        """Exactly to when something comes due or expires, or to just before."""
        event = self.model.next_event()
        assert event is not None
        seconds = max(0.0, event - early - self.model.now)
        self.model.now += seconds
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1))
    def reap(self, which: int) -> None:
        """What has expired is taken back."""
        taken = self.call(which, lambda queue: queue.reap())

        assert sorted(self.model.reap()) == sorted(taken)

    # Cancel, dead letters, pause

    @rule(which=st.integers(0, 1), data=st.data())
    def cancel(self, which: int, data: st.DataObject) -> None:
        """Any id that was ever seen."""
        job_id = data.draw(st.sampled_from(sorted(self.seen_ids)))

        cancelled = self.call(which, lambda queue: queue.cancel(job_id))

        assert self.model.cancel(job_id) == cancelled

    @has_dead
    @rule(which=st.integers(0, 1), verb=st.sampled_from(["requeue_dead", "purge_dead"]), data=st.data())
    def move_one_dead(self, which: int, verb: str, data: st.DataObject) -> None:
        """By id, of a dead letter mostly."""
        dead = sorted(job.id for job in self.model.jobs.values() if job.is_dead)
        job_id = data.draw(st.sampled_from([*dead, *dead, IDS[0]]))

        count = self.call(which, lambda queue: getattr(queue, verb)(job_id))

        assert getattr(self.model, verb)([job_id]) == count

    @has_dead
    @rule(
        which=st.integers(0, 1),
        verb=st.sampled_from(["requeue_dead", "purge_dead"]),
        error=st.sampled_from([None, "expired", "broken"]),
    )
    def move_all_dead(self, which: int, verb: str, error: str | None) -> None:
        """All at once, or those with an error."""
        letters = self.clients[which].dead_letters(limit=1000)
        wanted = [letter.job.id for letter in letters if error is None or error in letter.error]

        count = self.call(which, lambda queue: getattr(queue, verb)(all=True, error=error))

        assert getattr(self.model, verb)(wanted) == count

    @rule(which=st.integers(0, 1), paused=st.sampled_from([False, False, False, True]))
    def pause_or_resume(self, which: int, paused: bool) -> None:
        """For all clients."""
        self.call(which, lambda queue: queue.pause() if paused else queue.resume())

        self.model.is_paused = paused

    # Clients that come, go and lose replies

    @rule(which=st.integers(0, 1), is_closed=st.booleans())
    def replace_a_client(self, which: int, is_closed: bool) -> None:
        """One crashes, and is heard of no more, or is closed, and neither gives nor accepts; another comes."""
        queue = self.clients[which]
        if is_closed:
            queue.close()
            assert queue.dequeue(timeout=None) is None
            with pytest.raises(QueueClosed):
                queue.enqueue(a_job())
        self.clients[which] = self.open_client(lease_s=LEASE_S)

    @precondition(lambda self: self.backend.is_server and not self.losing)
    @rule(times=st.integers(1, 2))
    def lose_the_next_replies(self, times: int) -> None:
        """Of the call that follows, whichever it is."""
        self.losing = times

    # What must hold after every step

    @invariant()
    def figures_agree(self) -> None:
        """Counts, and the state of every id that was ever seen."""
        queue = self.clients[0]
        assert self.model.counts() == queue.counts()
        assert self.model.find() == queue.find(sorted(self.seen_ids))

    @invariant()
    def dead_letters_agree(self) -> None:
        """Each with its whole story; oldest first."""
        letters = self.clients[1].dead_letters(limit=1000)
        dead = {job.id: job for job in self.model.jobs.values() if job.is_dead}
        assert {
            job.id: (job.number, job.error, job.died_at, len(job.failures), job.failures) for job in dead.values()
        } == {
            letter.job.id: (
                letter.job.payload["n"],
                letter.error,
                letter.dead_at,
                letter.attempt_count,
                [(entry.number, entry.error, entry.failed_at) for entry in letter.attempts],
            )
            for letter in letters
        }
        order = [dead[letter.job.id].died_in for letter in letters]
        assert order == sorted(order)
        positions = [letter.position for letter in letters]
        assert positions == sorted(set(positions))


def run_machine(backend: Backend, how: settings) -> None:
    """The machine on one backend."""
    machine = type(f"QueueMachine_{backend.kind}", (QueueMachine,), {"backend": backend})
    run_state_machine_as_test(machine, settings=how)


def test_any_sequence_of_calls_does_what_the_model_says(backend: Backend) -> None:
    """Order, leases, figures and dead letters agree after every step."""
    # In process an example costs a hundredth of a second, so there may be more of them.
    run_machine(backend, NORMAL if backend.is_server else settings(NORMAL, max_examples=150))


@pytest.mark.full
def test_a_great_many_sequences_do_what_the_model_says(backend: Backend) -> None:
    """As above, longer and at random."""
    run_machine(backend, FULL)
