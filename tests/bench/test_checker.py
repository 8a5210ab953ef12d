"""The checker: it believes a sound history, names what is wrong with every other, and says what it cannot judge."""

from collections.abc import Callable
from math import nan

import msgspec
import pytest

from allocator.bench.checker import (
    PROMISES,
    Fault,
    History,
    Letter,
    Promise,
    Record,
    Removal,
    Run,
    Stop,
    check,
)
from allocator.bench.checker.controls import CONTROLS
from tests.bench.histories import KILLED, WORKER, another, change, drop, sound

Mutation = Callable[[History], object]


def test_a_sound_history_is_believed() -> None:
    """Every promise is judged, and holds."""
    judgement = check(sound())

    assert judgement.told() == []
    assert judgement.not_judged() == []


def test_what_was_counted_is_told() -> None:
    """Jobs, runs, repeats and what caused them."""
    judgement = check(sound())

    assert (judgement.jobs, judgement.runs, judgement.done, judgement.dead) == (9, 12, 8, 1)
    assert judgement.planned_failures == 3
    assert dict(judgement.repeats) == {"kill": 1}
    assert (judgement.kills_that_hit, judgement.most_repeats) == (1, 1)


# Mutations: one bug put into the sound history breaks its promise, and no other.


def lost(history: History) -> None:
    drop(history, "plain", "attempts", "runs", "records")
    history.counts = {**(history.counts or {}), "done": 7}


def invented(history: History) -> None:
    history.records = [*(history.records or ()), Record("stranger", "queued")]


def ran_without_attempt(history: History) -> None:
    history.runs = [*(history.runs or ()), Run("plain", 2, "nobody's", started_at=12.0, finished_at=13.0)]


def partly_listed(history: History) -> None:
    drop(history, "listed-2", "attempts", "runs", "records")
    history.counts = {**(history.counts or {}), "done": 7}


def enqueued_again(history: History) -> None:
    history.records = history.counts = None
    another(history, "plain/1", token="again", asked_at=13.0, leased_at=13.01, expires_at=28.0, told_at=13.4)


def stale_end(history: History) -> None:
    """Stopped for longer than its lease, it ends the job while another has the lease."""
    change(history.attempts, "killed/1", outcome="done", told_at=26.2)
    change(history.attempts, "killed/2", outcome="running", told_at=nan)
    change(history.runs, "killed/1", finished_at=26.1)
    change(history.runs, "killed/2", finished_at=nan)
    history.records = None


def result_of_another(history: History) -> None:
    change(history.records, "killed", result="killed/1")


def kill_repeats_too_much(history: History) -> None:
    history.settle_group = 0
    history.faults = [Fault("kill", 10.45, 10.46, frozenset([KILLED]), running=0)]


def stop_repeats(history: History) -> None:
    another(history, "stopped/1", token="stopped/2", number=2, asked_at=45.0, leased_at=45.01, expires_at=60.0)
    change(history.attempts, "stopped/1", outcome="lost", told_at=nan)
    change(history.attempts, "stopped/2", told_at=46.0)
    change(history.records, "stopped", result="stopped/2")


def same_token(history: History) -> None:
    change(history.attempts, "listed-2", token="listed-1/1")
    change(history.runs, "listed-2", token="listed-1/1")
    change(history.records, "listed-2", result="listed-1/1")


def swap_order(history: History) -> None:
    change(history.attempts, "plain/1", asked_at=10.2, leased_at=10.21)
    change(history.attempts, "retried/1", asked_at=10.1, leased_at=10.11)
    change(history.runs, "plain/1", started_at=10.22)
    change(history.runs, "retried/1", started_at=10.12)


MUTATIONS: list[tuple[str, Promise, Mutation]] = [
    ("accepted and gone", Promise.LOST, lost),
    (
        "done and never ran",
        Promise.LOST,
        lambda history: change(history.runs, "plain", finished_at=nan),
    ),
    ("dead and not made to die", Promise.LOST, lambda history: change(history.enqueues, "dead", dies=False)),
    ("counted too few", Promise.LOST, lambda history: history.counts.update(done=7, dead=1)),
    ("known to nobody", Promise.INVENTED, invented),
    ("ran without a lease", Promise.INVENTED, ran_without_attempt),
    (
        "refused and there",
        Promise.INVENTED,
        lambda history: (
            change(history.enqueues, "later", taken=False),
            history.counts.update(done=8),
        ),
    ),
    ("another payload", Promise.INVENTED, lambda history: history.layout.marks.update(dead="of another")),
    ("counted too many", Promise.INVENTED, lambda history: history.counts.update(cancelled=1)),
    ("found and not there", Promise.INVENTED, lambda history: history.found.update(plain="ready")),
    ("half a list", Promise.ONCE, partly_listed),
    ("done for each time it was sent", Promise.ONCE, enqueued_again),
    ("no fault at all", Promise.EXPLAINED, lambda history: setattr(history, "faults", [])),
    (
        "a fault elsewhere",
        Promise.EXPLAINED,
        lambda history: setattr(history, "faults", [Fault("kill", 10.45, 10.46, frozenset([30]))]),
    ),
    ("more than a kill can hit", Promise.EXPLAINED, kill_repeats_too_much),
    ("a stale end", Promise.STALE, stale_end),
    ("the result of another", Promise.STALE, result_of_another),
    (
        "leased while leased",
        Promise.OVERLAP,
        lambda history: (
            change(history.attempts, "killed/2", asked_at=20.0, leased_at=20.01),
            change(history.runs, "killed/2", started_at=20.02),
        ),
    ),
    ("one token for two", Promise.OVERLAP, same_token),
    ("dead twice", Promise.RETRIED, lambda history: change(history.attempts, "dead", outcome="buried")),
    ("given up too early", Promise.RETRIED, lambda history: change(history.letters, "dead", attempt_count=1)),
    ("another last error", Promise.RETRIED, lambda history: change(history.letters, "dead", error="odd")),
    ("an attempt not counted", Promise.RETRIED, lambda history: change(history.attempts, "retried/2", number=1)),
    ("tried too often", Promise.RETRIED, lambda history: change(history.enqueues, "retried", max_retries=0)),
    ("a swallowed retry", Promise.RETRIED, lambda history: change(history.runs, "plain", failed=True)),
    (
        "before the backoff was over",
        Promise.DUE,
        lambda history: (
            change(history.attempts, "retried/2", asked_at=11.4, leased_at=11.41),
            change(history.runs, "retried/2", started_at=11.42),
        ),
    ),
    (
        "before the delay was over",
        Promise.DUE,
        lambda history: (
            change(history.attempts, "later", asked_at=24.0, leased_at=24.01, due_at=nan),
            change(history.runs, "later", started_at=24.02),
        ),
    ),
    ("before its lease", Promise.DUE, lambda history: change(history.runs, "plain", started_at=10.0)),
    (
        "a lower priority first",
        Promise.ORDER,
        lambda history: (
            change(history.attempts, "urgent", asked_at=10.15, leased_at=10.16),
            change(history.runs, "urgent", started_at=10.17),
        ),
    ),
    ("last in, first out", Promise.ORDER, swap_order),
    ("one left", Promise.DRAINED, lambda history: setattr(history, "left", 1)),
    (
        "begun after it was done",
        Promise.TRANSITIONS,
        lambda history: another(
            history, "plain/1", token="again", outcome="running", leased_at=40.0, asked_at=40.0, told_at=nan
        ),
    ),
    ("a stop that repeats", Promise.GRACEFUL, stop_repeats),
    (
        "a stop that hangs",
        Promise.GRACEFUL,
        lambda history: setattr(history, "stops", [Stop(30.0, 91.0, frozenset([WORKER]), orderly=False)]),
    ),
]


@pytest.mark.parametrize(("promise", "mutate"), [pytest.param(*rest, id=name) for name, *rest in MUTATIONS])
def test_what_is_wrong_is_named(promise: Promise, mutate: Mutation) -> None:
    """One thing was changed; its promise is broken, with a witness that names what it is about, and no other is."""
    history = sound()

    mutate(history)
    judgement = check(history)

    assert judgement.broken() == [promise], judgement.told()
    assert judgement[promise].witness


def test_every_promise_has_a_mutation() -> None:
    """And every control one of the promises, so that none is judged by code that never found anything."""
    assert {promise for _, promise, _ in MUTATIONS} == set(PROMISES)
    assert {promise for control in CONTROLS.values() for promise in control.caught_by} <= set(PROMISES)


@pytest.mark.parametrize("control", CONTROLS)
def test_every_control_names_what_must_catch_it(control: str) -> None:
    """By the name that it has in the table, with the fault under which it shows."""
    assert CONTROLS[control].name == control
    assert CONTROLS[control].fault
    assert CONTROLS[control].caught_by


# Evidence that is missing


def without(*parts: str) -> Mutation:
    """Parts of the history that are not known."""
    return lambda history: [setattr(history, part, None) for part in parts]


def unknown(part: str, *names: str) -> Mutation:
    """Instants that are not known."""
    return lambda history: [change([thing], thing.job, **dict.fromkeys(names, nan)) for thing in getattr(history, part)]


@pytest.mark.parametrize(
    ("remove", "not_judged"),
    [
        pytest.param(without("runs"), {Promise.EXPLAINED, Promise.GRACEFUL}, id="no traces of bodies"),
        pytest.param(without("faults"), {Promise.EXPLAINED}, id="faults not told"),
        pytest.param(without("stops"), {Promise.GRACEFUL}, id="no stops"),
        pytest.param(without("left"), {Promise.DRAINED}, id="not drained"),
        pytest.param(without("records"), {Promise.TRANSITIONS}, id="no store"),
        pytest.param(
            without("attempts", "counts"),
            {
                *(Promise.LOST, Promise.ONCE, Promise.EXPLAINED, Promise.STALE, Promise.OVERLAP, Promise.RETRIED),
                *(Promise.DUE, Promise.ORDER, Promise.TRANSITIONS, Promise.GRACEFUL),
            },
            id="no attempts",
        ),
        pytest.param(
            without("records", "layout", "found"), {Promise.LOST, Promise.RETRIED, Promise.TRANSITIONS}, id="no end"
        ),
        pytest.param(unknown("attempts", "asked_at"), {Promise.ORDER}, id="no instants of calls"),
        pytest.param(unknown("attempts", "expires_at"), {Promise.OVERLAP}, id="no expiries"),
        pytest.param(
            unknown("attempts", "told_at"), {Promise.STALE, Promise.OVERLAP, Promise.DUE}, id="no instants of ends"
        ),
    ],
)
def test_what_is_not_known_is_not_judged(remove: Mutation, not_judged: set[Promise]) -> None:
    """It neither holds nor is it broken, and the verdict says what it would take."""
    history = sound()

    remove(history)
    judgement = check(history)

    assert judgement.told() == []
    assert set(judgement.not_judged()) == not_judged
    assert all(judgement[promise].reason for promise in not_judged)


def test_nothing_but_what_was_sent_proves_nothing() -> None:
    """None of the promises holds."""
    assert check(History(sound().enqueues)).not_judged() == list(PROMISES)


# What explains a repeat


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("kill", 10.45, 10.46, frozenset([11])), id="another process"),
        pytest.param(Fault("kill", 9.0, 9.1, frozenset([KILLED])), id="before its lease"),
        pytest.param(Fault("kill", 20.1, 21.0, frozenset([KILLED])), id="long after its end"),
    ],
)
def test_a_fault_that_did_not_hit_the_run_explains_nothing(fault: Fault) -> None:
    """Neither one elsewhere nor one at another time."""
    history = sound()
    change(history.runs, "killed/1", finished_at=15.0)
    history.faults = [fault]

    assert check(history).broken() == [Promise.EXPLAINED]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("kill", 10.45, 10.46, frozenset([WORKER])), id="its supervisor"),
        pytest.param(Fault("server restart", 10.45, 10.46), id="the server"),
        pytest.param(Fault("kill", 19.9, 20.0, frozenset([KILLED])), id="between its end and its settling"),
    ],
)
def test_a_fault_that_hit_the_run_explains_it(fault: Fault) -> None:
    """Its process, the supervisor of that, or the server, from its lease until it was settled."""
    history = sound()
    change(history.runs, "killed/1", finished_at=15.0, parent=WORKER)
    history.faults = [Fault("server restart", 1.0, 2.0), fault, Fault("server restart", 300.0, 301.0)]

    assert check(history).broken() == []


def test_a_queue_that_forgot_may_lease_again() -> None:
    """After FLUSHALL it cannot know of the lease; and nobody has an older place."""
    history = sound()
    change(history.attempts, "killed/2", asked_at=20.0, leased_at=20.01)
    change(history.runs, "killed/2", started_at=20.02)
    history.faults = [*(history.faults or ()), Fault("flush", 15.0, 15.1, forgets=True)]

    assert check(history).broken() == []


def test_an_order_that_nobody_can_know_accuses_nobody() -> None:
    """Calls that overlap, a dequeue whose reply never came, a delay: each may explain who went first."""
    overlapping, taken = sound(), sound()
    swap_order(overlapping)
    change(overlapping.enqueues, "plain", answered_at=2.05)
    swap_order(taken)
    taken.unknown_dequeues = [(9.0, 10.05)]

    assert check(overlapping).broken() == []
    assert check(taken).broken() == []


def test_a_server_that_looks_at_the_clock_early_accuses_nobody() -> None:
    """The second lease was given after the end of the first was told, though the server dates it before."""
    history = sound()
    change(history.attempts, "retried/1", outcome="released", delay_s=0.0, leased_at=12.0)
    change(history.attempts, "retried/1", told_at=12.3, given_at=12.1, expires_at=27.0)
    change(history.attempts, "retried/2", number=1, leased_at=11.9, given_at=12.35)
    history.runs = None

    assert check(history).broken() == []


def test_attempts_that_a_fault_hid_from_the_store_count() -> None:
    """The second of three had a holder that was killed before it could begin; the third was the last."""
    history = sound()
    change(history.enqueues, "dead", max_retries=2)
    change(history.attempts, "dead/2", number=3)
    change(history.runs, "dead/2", number=3)
    history.letters = None

    assert check(history).broken() == []

    history.faults = [Fault("kill", 40.0, 40.1, frozenset([KILLED]))]

    assert Promise.RETRIED in check(history).broken()


def test_what_the_queue_counted_after_the_last_known_attempt_counts() -> None:
    """The holder of the third and last was killed before it could begin: the letter knows of it, or may know of it."""
    history = sound()
    change(history.enqueues, "dead", max_retries=2)
    history.letters = [Letter("dead", "lease expired", 3)]
    without = sound()
    change(without.enqueues, "dead", max_retries=2)
    change(without.records, "dead", error="lease expired")
    without.letters = None
    without.faults = [*(without.faults or ()), Fault("kill", 40.0, 40.1, frozenset([KILLED]))]

    assert check(history).broken() == []
    assert check(without).broken() == []

    history.letters = [Letter("dead", "at last", 2)]

    assert check(history).broken() == [Promise.RETRIED]


def test_a_queue_that_was_not_told_of_the_last_failure_has_it_as_expired() -> None:
    """Whoever was to tell it was killed when the store had it; the store then tells the error, and nobody else may."""
    history = sound()
    history.letters = [Letter("dead", "lease expired", 2)]
    change(history.records, "dead", error="at last")

    assert check(history).broken() == [Promise.RETRIED]

    history.faults = [*(history.faults or ()), Fault("kill", 12.5, 12.6, frozenset([WORKER]))]

    assert Promise.RETRIED not in check(history).broken()

    change(history.records, "dead", error="lease expired")

    assert Promise.RETRIED in check(history).broken()


def test_a_dead_letter_does_not_count_what_its_queue_forgot() -> None:
    """After FLUSHALL a job that was put back has what attempts it has left, and its letter knows of those alone."""
    history = sound()
    history.faults = [*(history.faults or ()), Fault("flush", 11.0, 11.1, forgets=True)]
    history.letters = [Letter("dead", "at last", 1)]

    assert Promise.RETRIED not in check(history).broken()


def released(history: History) -> None:
    """`retried` was given back for a second at 12.3, and leased again at once."""
    change(history.attempts, "retried/1", outcome="released", delay_s=1.0, told_at=12.3, given_at=10.3)
    change(history.attempts, "retried/2", number=1, leased_at=12.31, given_at=12.35)
    history.runs = None


def test_what_was_given_back_comes_again_when_it_is_due() -> None:
    """Where nothing else can explain it, another lease before that is a broken promise."""
    history = sound()
    released(history)

    assert check(history).broken() == [Promise.DUE]


def test_what_was_enqueued_again_meanwhile_need_not_wait() -> None:
    """A job that was given back, cancelled, and enqueued again with the same id."""
    history = sound()
    released(history)
    first = next(enqueue for enqueue in history.enqueues if enqueue.job == "retried")
    again = msgspec.structs.replace(first, asked_at=12.32, answered_at=12.34, call="again")
    history.enqueues = [*history.enqueues, again]
    history.removals = [Removal("retried", "cancel", True)]

    assert Promise.DUE not in check(history).broken()


def test_a_lease_that_its_holder_heard_of_late_follows_nothing() -> None:
    """It ran out on the way, another had the job meanwhile and gave it back, and then the reply came."""
    history = sound()
    released(history)
    change(history.attempts, "retried/1", leased_at=12.2, expires_at=27.2, given_at=12.25)
    change(history.attempts, "retried/2", leased_at=11.0, expires_at=12.1)

    assert check(history).broken() == []
    assert Promise.DUE not in check(history).not_judged()
