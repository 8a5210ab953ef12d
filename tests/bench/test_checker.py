"""The checker of the chaos run: it believes a sound history, and names what is wrong with every other."""

from dataclasses import dataclass, field, replace

import pytest

from allocator.bench.checker import (
    BOUNDED,
    DONE_ONCE,
    DRAINED,
    EXPLAINED,
    INVENTED,
    LOST,
    NO_STALE_END,
    RETRIED,
    SETTLE_GROUP,
    SETTLE_WITHIN_S,
    Expected,
    Fault,
    Judgement,
    RecordedAttempt,
    RecordedJob,
    Run,
    check,
)


@dataclass
class History:
    """What was seen of one job, `a`, unless more is put into it."""

    accepted: list[Expected] = field(default_factory=lambda: [Expected("a")])
    runs: list[Run] = field(default_factory=list)
    jobs: list[RecordedJob] = field(default_factory=list)
    attempts: list[RecordedAttempt] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    left: int = 0

    def judge(self) -> Judgement:
        return check(self.accepted, self.runs, self.jobs, self.attempts, self.faults, self.left)

    def broken(self) -> list[str]:
        return self.judge().broken()


FIRST = Run("a", 1, "t1", process=10, parent=1, started=100.0, ended=101.0)
SECOND = Run("a", 2, "t2", process=20, parent=2, started=105.0, ended=106.0)
DONE_1 = RecordedAttempt("a", "t1", "done", 100.0)
LOST_1 = RecordedAttempt("a", "t1", "lost", 100.0)
FAILED_1 = RecordedAttempt("a", "t1", "failed", 100.0)
DONE_2 = RecordedAttempt("a", "t2", "done", 105.0)
KILL = Fault("kill", 100.5, 100.6, frozenset([10]), running=1)


def done_at_once() -> History:
    """One job, one run."""
    return History(runs=[FIRST], jobs=[RecordedJob("a", "done", "t1")], attempts=[DONE_1])


def killed_once() -> History:
    """The first run's process was killed in the middle of it; another did the job."""
    return History(
        runs=[replace(FIRST, ended=None), SECOND],
        jobs=[RecordedJob("a", "done", "t2")],
        attempts=[LOST_1, DONE_2],
        faults=[KILL],
    )


def failed_once() -> History:
    """As planned; the second attempt did the job."""
    history = killed_once()
    history.accepted = [Expected("a", failures=1)]
    history.runs = [replace(FIRST, failed=True), SECOND]
    history.attempts = [FAILED_1, DONE_2]
    history.faults = []
    return history


def poisoned() -> History:
    """It failed in all of its attempts, and was given up."""
    return History(
        accepted=[Expected("a", poison=True, max_retries=1)],
        runs=[replace(FIRST, failed=True), replace(SECOND, failed=True)],
        jobs=[RecordedJob("a", "dead")],
        attempts=[FAILED_1, RecordedAttempt("a", "t2", "failed", 105.0)],
    )


@pytest.mark.parametrize("history", [done_at_once, killed_once, failed_once, poisoned])
def test_a_sound_history_is_believed(history: object) -> None:
    """Every promise held."""
    assert callable(history)
    assert history().broken() == []


def test_what_was_counted_is_told() -> None:
    """Runs, repeats and what caused them."""
    judgement = killed_once().judge()

    assert (judgement.jobs, judgement.runs, judgement.done, judgement.dead) == (1, 2, 1, 0)
    assert dict(judgement.repeats) == {"kill": 1}
    assert judgement.most_repeats == 1


# The bugs that `allocator.bench.chaos.sabotage` builds into real workers, as their histories look.


def test_ack_before_run_is_caught() -> None:
    """Told done, killed before it ran to its end, and never run again."""
    history = killed_once()
    history.runs = history.runs[:1]
    history.jobs = [RecordedJob("a", "done")]
    history.attempts = [DONE_1]

    assert LOST in history.broken()


def test_an_end_without_the_token_is_caught() -> None:
    """The first attempt, stopped for longer than its lease, ends the job while the second has the lease."""
    history = killed_once()
    history.runs = [replace(FIRST, ended=105.5), SECOND]
    history.faults = [Fault("pause", 100.5, 105.4, frozenset([10]), 1)]
    history.jobs = [RecordedJob("a", "done", "t1")]

    assert history.broken() == [NO_STALE_END]


def test_a_swallowed_retry_is_caught() -> None:
    """The attempt that failed as planned was told done."""
    history = failed_once()
    history.runs = history.runs[:1]
    history.jobs = [RecordedJob("a", "done", "t1")]
    history.attempts = [DONE_1]

    assert RETRIED in history.broken()


def test_an_ignored_expiry_is_caught() -> None:
    """What the killed worker held is leased for ever."""
    history = killed_once()
    history.runs = history.runs[:1]
    history.jobs = [RecordedJob("a", "processing")]
    history.attempts = [RecordedAttempt("a", "t1", "running", 100.0)]
    history.left = 1

    assert history.broken() == [LOST, DRAINED]


def test_a_reconciler_that_is_off_is_caught() -> None:
    """Accepted, wiped out of the queue, and never run."""
    history = History(jobs=[RecordedJob("a", "queued")], faults=[Fault("flush", 99.0, 99.1)])

    assert history.broken() == [LOST]


def test_a_lease_keeper_that_is_off_is_caught() -> None:
    """The job ran longer than its lease and was done elsewhere, and no fault was made."""
    history = killed_once()
    history.runs = [replace(FIRST, ended=107.0), SECOND]
    history.faults = []

    assert history.broken() == [EXPLAINED]


# What else may be wrong


def test_a_job_that_the_database_does_not_know_is_lost() -> None:
    """Whatever ran."""
    history = done_at_once()
    history.jobs = []

    assert LOST in history.broken()


def test_a_job_of_nobody_is_invented() -> None:
    """In the database, or among what ran."""
    history = done_at_once()
    history.accepted = []

    assert history.broken() == [INVENTED]


def test_a_run_that_the_database_does_not_know_is_invented() -> None:
    """It was to be recorded before it began."""
    history = done_at_once()
    history.runs = [FIRST, SECOND]

    assert history.broken() == [INVENTED]


def test_done_twice_is_told() -> None:
    """Two attempts of one job are recorded as done."""
    history = killed_once()
    history.attempts = [DONE_1, DONE_2]

    assert DONE_ONCE in history.broken()


def test_a_job_that_was_not_to_die_is_lost_when_it_is_dead() -> None:
    """Kills are no reason to give a job up while it has retries left."""
    history = poisoned()
    history.accepted = [Expected("a", failures=1, max_retries=1)]

    assert LOST in history.broken()


def test_giving_up_too_early_is_told() -> None:
    """One of two promised attempts was made."""
    history = poisoned()
    history.runs = history.runs[:1]
    history.attempts = [FAILED_1]

    assert history.broken() == [RETRIED]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(replace(KILL, processes=frozenset([11])), id="another process"),
        pytest.param(replace(KILL, began=99.0, ended=99.1), id="before its lease"),
        pytest.param(replace(KILL, began=102.0 + SETTLE_WITHIN_S, ended=200.0), id="long after its end"),
    ],
)
def test_a_fault_that_did_not_hit_the_run_explains_nothing(fault: Fault) -> None:
    """Neither one elsewhere nor one at another time."""
    history = killed_once()
    history.runs = [FIRST, SECOND]
    history.faults = [fault]

    assert history.broken() == [EXPLAINED]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(replace(KILL, processes=frozenset([1])), id="its supervisor"),
        pytest.param(replace(KILL, kind="server restart", processes=None), id="the server"),
        pytest.param(replace(KILL, began=101.2, ended=101.3), id="between its end and its settling"),
    ],
)
def test_a_fault_that_hit_the_run_explains_it(fault: Fault) -> None:
    """Its process, the supervisor of that, or the server, from its lease until it was settled."""
    history = killed_once()
    history.runs = [FIRST, SECOND]
    history.faults = [Fault("server restart", 1.0, 2.0), fault, Fault("server restart", 300.0, 301.0)]

    assert history.broken() == []


def test_a_kill_that_repeats_too_much_is_told() -> None:
    """More than what ran and one group that was being settled."""
    ids = [f"job-{number}" for number in range(SETTLE_GROUP + 2)]
    history = History([Expected(id) for id in ids], faults=[KILL])
    for id in ids:
        history.runs += [replace(FIRST, job=id), replace(SECOND, job=id)]
        history.attempts += [replace(LOST_1, job=id), replace(DONE_2, job=id)]
        history.jobs.append(RecordedJob(id, "done", "t2"))

    assert history.broken() == [BOUNDED]
