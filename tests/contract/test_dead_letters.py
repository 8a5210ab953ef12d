"""Point 5: dead letters keep the job and its attempts, for a time and up to a count."""

import pytest

from allocator import DeadLetter, ManualClock, Queue, State
from tests.contract.builders import Clients, a_job, bury, counts, ids, some_jobs, take, take_all

KIB = 1024
DAY_S = 86400.0


def letter_ids(letters: list[DeadLetter]) -> list[str]:
    """The ids of the jobs on a page."""
    return [letter.job.id for letter in letters]


def bury_many(queue: Queue, count: int, prefix: str = "dead") -> list[str]:
    """Many dead letters in one go; the queue must have nothing else ready."""
    stored = queue.enqueue_many([a_job(id=f"{prefix}-{n:04}", payload={"n": n}, max_retries=0) for n in range(count)])
    leases = take_all(queue, 1000)
    assert queue.settle(nacks=[(lease, f"broken {lease.job.payload['n']}") for lease in leases]) == []
    return [job.id for job in stored]


def test_a_dead_letter_tells_the_whole_story(open_client: Clients, clock: ManualClock) -> None:
    """The job as it was enqueued, and each attempt with error, traceback, worker and instants."""
    queue, other = open_client(worker="one"), open_client(worker="two")
    stored = queue.enqueue(a_job(payload=["x"], meta={"a": "b"}, priority=3, max_retries=1))
    began = clock.now()
    clock.advance(1.0)
    first = take(queue)
    clock.advance(2.0)
    queue.nack(first, "broken", "Traceback: line 1", delay=0)
    clock.advance(3.0)
    second = take(other)
    clock.advance(4.0)
    other.nack(second, "broken for good", "Traceback: line 2")

    (letter,) = queue.dead_letters()

    job = letter.job
    assert (stored.id, ["x"], {"a": "b"}, 3, 1, began) == (
        job.id,
        job.payload,
        job.meta,
        job.priority,
        job.max_retries,
        job.enqueued_at,
    )
    assert ("broken for good", 2, began + 10.0) == (letter.error, letter.attempt_count, letter.dead_at)
    assert [
        (1, "broken", "Traceback: line 1", "one", began + 1.0, began + 3.0),
        (2, "broken for good", "Traceback: line 2", "two", began + 6.0, began + 10.0),
    ] == [
        (entry.number, entry.error, entry.traceback, entry.worker, entry.leased_at, entry.failed_at)
        for entry in letter.attempts
    ]


def test_a_dead_letter_is_not_dequeued(queue: Queue, clock: ManualClock) -> None:
    """It waits for a person, not for time."""
    bury(queue)

    clock.advance(DAY_S)

    assert queue.dequeue(timeout=0) is None
    assert queue.size() == 0
    assert queue.reap() == []


def test_an_attempt_without_traceback_has_none(queue: Queue) -> None:
    """None is not the empty text."""
    bury(queue)

    assert queue.dead_letters()[0].attempts[0].traceback is None


def test_the_first_and_the_last_twenty_attempts_are_kept(queue: Queue) -> None:
    """And the count of all of them."""
    queue.enqueue(a_job(max_retries=49))
    for number in range(1, 51):
        queue.nack(take(queue), f"broken {number}", delay=0)

    (letter,) = queue.dead_letters()

    assert [*range(1, 21), *range(31, 51)] == [entry.number for entry in letter.attempts]
    assert [f"broken {number}" for number in (1, 20, 31, 50)] == [
        letter.attempts[index].error for index in (0, 19, 20, 39)
    ]
    assert letter.attempt_count == 50


@pytest.mark.parametrize("attempts", [39, 40, 41])
def test_nothing_is_left_out_up_to_forty_attempts(queue: Queue, attempts: int) -> None:
    """The forty-first drops the twenty-first."""
    queue.enqueue(a_job(max_retries=attempts - 1))
    for _ in range(attempts):
        queue.nack(take(queue), "broken", delay=0)

    (letter,) = queue.dead_letters()

    kept = [number for number in range(1, attempts + 1) if attempts < 41 or number != 21]
    assert kept == [entry.number for entry in letter.attempts]
    assert attempts == letter.attempt_count


def test_attempts_from_before_it_was_put_back_are_kept(queue: Queue) -> None:
    """The second life starts its numbers anew, below the first's."""
    bury(queue, a_job(id="a"), error="first life")
    queue.requeue_dead("a")
    queue.nack(take(queue), "second life", dead=True)

    (letter,) = queue.dead_letters()

    assert [(entry.number, entry.error) for entry in letter.attempts] == [(1, "first life"), (1, "second life")]
    assert letter.attempt_count == 2


def test_a_new_job_with_an_old_id_has_no_old_attempts(queue: Queue) -> None:
    """Purged is forgotten."""
    bury(queue, a_job(id="a"), error="first")
    queue.purge_dead("a")
    bury(queue, a_job(id="a"), error="second")

    (letter,) = queue.dead_letters()

    assert [entry.error for entry in letter.attempts] == ["second"]
    assert letter.attempt_count == 1


@pytest.mark.parametrize("end", ["done", "cancelled"])
def test_a_new_job_with_the_id_of_a_finished_one_has_no_old_attempts(queue: Queue, end: str) -> None:
    """What was done or cancelled after a failure leaves no history to the next of its name."""
    queue.enqueue(a_job(id="a"))
    queue.nack(take(queue), "first", delay=0)
    if end == "done":
        queue.ack(take(queue))
    else:
        queue.cancel("a")
    bury(queue, a_job(id="a"), error="second")

    (letter,) = queue.dead_letters()

    assert [entry.error for entry in letter.attempts] == ["second"]
    assert (letter.attempt_count, letter.attempts[0].number) == (1, 1)


# Texts


def test_a_long_traceback_is_cut_at_16_kib(queue: Queue) -> None:
    """The end is kept, where Python names the error."""
    queue.enqueue(a_job())

    queue.nack(take(queue), "broken", "x" * 20 * KIB + "ValueError: the end", dead=True)

    traceback = queue.dead_letters()[0].attempts[0].traceback
    assert traceback is not None
    assert len(traceback.encode()) == 16 * KIB
    assert traceback.startswith("[cut] x")
    assert traceback.endswith("xValueError: the end")


def test_a_traceback_of_16_kib_is_kept_whole(queue: Queue) -> None:
    """The limit itself is within it."""
    queue.enqueue(a_job())

    queue.nack(take(queue), "broken", "x" * 16 * KIB, dead=True)

    assert queue.dead_letters()[0].attempts[0].traceback == "x" * 16 * KIB


def test_a_cut_does_not_split_a_character(queue: Queue) -> None:
    """What is kept is text."""
    queue.enqueue(a_job())

    queue.nack(take(queue), "ü" * 4 * KIB, "€" * 16 * KIB, dead=True)

    (letter,) = queue.dead_letters()
    traceback = letter.attempts[0].traceback
    assert traceback is not None
    assert {"€"} == set(traceback.removeprefix("[cut] "))
    assert {"ü"} == set(letter.error.removeprefix("[cut] "))
    assert 4 * KIB - 2 < len(letter.error.encode()) <= 4 * KIB
    assert letter.error == letter.attempts[0].error


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\0b", r"a\0b"),
        ("a\udce4b", r"a\udce4b"),
        ("\ud800", r"\ud800"),
        ("", ""),
        ("snow ☃ man 😀 \u202e \x1b[31m", "snow ☃ man 😀 \u202e \x1b[31m"),
        ("line 1\nline 2\r\n\ttabbed", "line 1\nline 2\r\n\ttabbed"),
        ("'; DROP TABLE jobs; -- %s {} \\x", "'; DROP TABLE jobs; -- %s {} \\x"),
    ],
    ids=["nul", "surrogate", "only-surrogate", "empty", "unicode", "lines", "quotes"],
)
def test_any_error_text_can_be_stored(queue: Queue, given: str, kept: str) -> None:
    """Exception texts come from anywhere; none of them may break the nack."""
    queue.enqueue(a_job())

    queue.nack(take(queue), given, given, dead=True)

    (letter,) = queue.dead_letters()
    assert (kept, kept, kept) == (letter.error, letter.attempts[0].error, letter.attempts[0].traceback)


# Pages


def test_pages_follow_one_another(queue: Queue) -> None:
    """Oldest first; `after` is the last letter of the page before, or its job's id."""
    buried = bury_many(queue, 12)

    first = queue.dead_letters(limit=5)
    second = queue.dead_letters(limit=5, after=first[-1])
    third = queue.dead_letters(limit=5, after=second[-1].job.id)
    fourth = queue.dead_letters(limit=5, after=third[-1])

    assert [buried[:5], buried[5:10], buried[10:], []] == [letter_ids(page) for page in (first, second, third, fourth)]
    positions = [letter.position for letter in (*first, *second, *third)]
    assert positions == sorted(set(positions))


def test_a_page_has_a_hundred_letters_unless_said(queue: Queue) -> None:
    """And more only when asked for, across the chunks in which they are read."""
    buried = bury_many(queue, 250)

    assert buried[:100] == letter_ids(queue.dead_letters())
    assert buried[:120] == letter_ids(queue.dead_letters(limit=120))
    assert buried == letter_ids(queue.dead_letters(limit=1000))
    assert queue.dead_letters(limit=0) == []


def test_a_page_may_follow_a_letter_that_is_gone(queue: Queue) -> None:
    """By the letter itself the next page is found all the same; by its id it is not, and the error says so."""
    buried = bury_many(queue, 4)
    first = queue.dead_letters(limit=2)
    queue.purge_dead(buried[1])

    page = queue.dead_letters(after=first[-1])
    with pytest.raises(KeyError, match=f"{buried[1]} is not a dead letter any more") as caught:
        queue.dead_letters(after=buried[1])

    assert buried[2:] == letter_ids(page)
    assert "pass the last letter itself" in str(caught.value)


def test_a_letter_that_died_again_stands_last(queue: Queue) -> None:
    """Once, in its new place."""
    bury_many(queue, 3)
    queue.requeue_dead("dead-0000")
    queue.nack(take(queue), "again", dead=True)

    assert letter_ids(queue.dead_letters()) == ["dead-0001", "dead-0002", "dead-0000"]


def test_pages_can_be_narrowed(queue: Queue) -> None:
    """By type, by a text within the error, and by both; also where what fits is rare."""
    bury_many(queue, 230)
    bury(queue, a_job(id="m1", type="media"), error="no such codec")
    bury(queue, a_job(id="m2", type="media"), error="broken pipe")
    bury(queue, a_job(id="m3", type="media"), error="no such codec: AV2")

    by_type = queue.dead_letters(type="media")
    by_error = queue.dead_letters(error="such codec")
    by_both = queue.dead_letters(type="media", error="pipe")
    page = queue.dead_letters(limit=2, type="media")
    next_page = queue.dead_letters(limit=2, type="media", after=page[-1])

    assert letter_ids(by_type) == ["m1", "m2", "m3"]
    assert letter_ids(by_error) == ["m1", "m3"]
    assert letter_ids(by_both) == ["m2"]
    assert letter_ids(page) == ["m1", "m2"]
    assert letter_ids(next_page) == ["m3"]
    assert queue.dead_letters(type="med") == []
    assert queue.dead_letters(error="NO SUCH CODEC") == []


def test_a_filter_is_plain_text(queue: Queue) -> None:
    """No pattern of any kind: per cent, underscore, star and backslash stand for themselves."""
    bury(queue, a_job(id="a"), error="100 % of _it_ *\\ [x]")
    bury(queue, a_job(id="b"), error="100 of it")

    assert [letter_ids(queue.dead_letters(error=text)) for text in ("%", "_it_", "*\\", "[x]")] == [["a"]] * 4
    assert queue.dead_letters(error="1.*0") == []


# Putting back and purging


def test_one_letter_is_put_back(queue: Queue, clock: ManualClock) -> None:
    """It is ready at once; the others stay."""
    buried = bury_many(queue, 3)
    clock.advance(5.0)

    count = queue.requeue_dead(buried[1])
    lease = take(queue)

    assert count == 1
    assert (buried[1], clock.now()) == (lease.job.id, lease.due_at)
    assert counts(leased=1, dead=2) == queue.counts()
    assert {buried[1]: State.LEASED} == queue.find([buried[1]])


def test_many_letters_are_put_back_in_their_order(queue: Queue) -> None:
    """All of them, over several chunks, in the order in which they died."""
    buried = bury_many(queue, 250)

    count = queue.requeue_dead(all=True)

    assert count == 250
    assert counts(ready=250) == queue.counts()
    assert buried == ids(take_all(queue))


def test_letters_are_put_back_by_type_and_error(queue: Queue) -> None:
    """What does not fit stays."""
    bury_many(queue, 150)
    bury(queue, a_job(id="m1", type="media"), a_job(id="m2", type="media"), error="no such codec")
    bury(queue, a_job(id="m3", type="media"), error="broken pipe")

    by_both = queue.requeue_dead(all=True, type="media", error="codec")
    by_error = queue.requeue_dead(all=True, error="broken 7")

    assert (by_both, by_error) == (2, 11)
    assert counts(ready=13, dead=140) == queue.counts()


def test_letters_are_purged(queue: Queue) -> None:
    """One, some, or all; each is counted, and its id may come again."""
    buried = bury_many(queue, 250)
    bury(queue, a_job(id="m1", type="media"))

    one = queue.purge_dead(buried[0])
    some = queue.purge_dead(all=True, type="media")
    rest = queue.purge_dead(all=True)

    assert (one, some, rest) == (1, 1, 249)
    assert counts(purged=251) == queue.counts()
    assert queue.find([*buried, "m1"]) == {}
    assert queue.dead_letters() == []


@pytest.mark.parametrize("verb", ["requeue_dead", "purge_dead"])
def test_what_is_no_dead_letter_is_left_alone(queue: Queue, verb: str) -> None:
    """Unknown, waiting and leased ids are none; the count is nought."""
    queue.enqueue_many([a_job(id="leased", priority=1), a_job(id="ready"), a_job(id="later", delay=9.0)])
    lease = take(queue)

    moved = [getattr(queue, verb)(job_id) for job_id in ("leased", "ready", "later", "never")]

    assert moved == [0, 0, 0, 0]
    assert getattr(queue, verb)(all=True) == 0
    assert counts(leased=1, ready=1, scheduled=1) == queue.counts()
    queue.ack(lease)


@pytest.mark.parametrize("verb", ["requeue_dead", "purge_dead"])
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["a"], {"all": True}),
        ([], {"type": "json"}),
        (["a"], {"error": "broken"}),
        (["a"], {"type": "json"}),
    ],
    ids=["neither", "both", "only-type", "id-and-error", "id-and-type"],
)
def test_bulk_operations_must_be_meant(
    queue: Queue, verb: str, arguments: list[str], options: dict[str, object]
) -> None:
    """One id or all=True; a slip of the pen moves nothing."""
    bury(queue, a_job(id="a"))

    with pytest.raises(ValueError, match="all=True"):
        getattr(queue, verb)(*arguments, **options)

    assert counts(dead=1) == queue.counts()


# Trimming


def test_letters_beyond_the_count_are_trimmed(open_client: Clients) -> None:
    """The oldest go, and are counted as purged."""
    queue = open_client(dead_letter_count=3)

    bury(queue, *(a_job(id=name) for name in "abcde"))

    assert letter_ids(queue.dead_letters()) == ["c", "d", "e"]
    assert counts(dead=3, purged=2) == queue.counts()
    assert queue.find(["a", "b"]) == {}


def test_letters_beyond_the_age_are_trimmed(open_client: Clients, clock: ManualClock) -> None:
    """When another one dies; exactly at that age, and not before."""
    queue = open_client(dead_letter_age_s=100.0)
    bury(queue, a_job(id="a"))
    clock.advance(99.75)
    bury(queue, a_job(id="b"))
    before = letter_ids(queue.dead_letters())
    clock.advance(0.25)
    bury(queue, a_job(id="c"))

    assert before == ["a", "b"]
    assert letter_ids(queue.dead_letters()) == ["b", "c"]
    assert counts(dead=2, purged=1) == queue.counts()


def test_letters_are_kept_for_thirty_days_and_to_a_hundred_thousand(open_client: Clients, clock: ManualClock) -> None:
    """Unless something else was asked for."""
    queue = open_client()
    bury(queue, a_job(id="a"))
    clock.advance(30 * DAY_S - 1.0)
    bury(queue, a_job(id="b"))
    within = letter_ids(queue.dead_letters())
    clock.advance(1.0)
    bury(queue, a_job(id="c"))

    assert within == ["a", "b"]
    assert letter_ids(queue.dead_letters()) == ["b", "c"]
    assert (queue.dead_letter_age_s, queue.dead_letter_count) == (30 * DAY_S, 100_000)


def test_expired_leases_that_die_are_trimmed_too(open_client: Clients, clock: ManualClock) -> None:
    """However a job dies, the count holds."""
    queue = open_client(dead_letter_count=2)
    queue.enqueue_many(some_jobs(5, max_retries=0))
    queue.dequeue_many(5, timeout=0)
    clock.advance(queue.lease_s)

    queue.reap()

    assert counts(dead=2, purged=3) == queue.counts()
    assert len(queue.dead_letters()) == 2


def test_a_count_of_nought_keeps_none(open_client: Clients) -> None:
    """What dies is counted and gone."""
    queue = open_client(dead_letter_count=0)

    bury(queue, a_job(id="a"), a_job(id="b"))

    assert queue.dead_letters() == []
    assert counts(purged=2) == queue.counts()


def test_a_smaller_count_trims_in_batches(open_client: Clients) -> None:
    """A client that keeps less catches up over several calls, and the figures agree at every step."""
    bury_many(open_client(), 250)
    queue = open_client(dead_letter_count=5)

    for n in range(4):
        bury(queue, a_job(id=f"more-{n}"))
        figures = queue.counts()
        assert 251 + n == figures["dead"] + figures["purged"]

    assert counts(dead=5, purged=249) == queue.counts()
    assert letter_ids(queue.dead_letters()) == ["dead-0249", "more-0", "more-1", "more-2", "more-3"]


@pytest.mark.on_redis
def test_a_page_of_large_letters_comes_in_several_replies(queue: Queue) -> None:
    """Of some MiB each, so that none holds up the server; whoever asks for the page, or for all, gets them all."""
    stored = queue.enqueue_many([a_job(payload="x" * 1000 * KIB, max_retries=0) for _ in range(12)])
    while leases := queue.dequeue_many(12, timeout=0):
        queue.settle(nacks=[(lease, "broken") for lease in leases])

    reply = queue._dead_page(0, 12)
    page = queue.dead_letters(limit=12)
    put_back = queue.requeue_dead(all=True)

    assert len(reply) == 9
    assert letter_ids(page) == [job.id for job in stored]
    assert put_back == 12
