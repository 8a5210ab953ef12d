"""The checker on the frames of a run of the bench."""

from math import nan

import pandas as pd
import pytest

from allocator.bench.checker import Fault, Promise, Stop, check, check_parts
from allocator.bench.checker.frames import from_frames, in_parts
from allocator.domain.backoff import Backoff


def jobs_frame() -> pd.DataFrame:
    """plain: done at once; retried: failed once; killed: ran twice; unheard: never acknowledged, and done."""
    return pd.DataFrame(
        {
            "job": ["plain", "retried", "killed", "unheard"],
            "priority": 0,
            "delay_s": 0.0,
            "enqueue_started_at": [0.0, 1.0, 2.0, 3.0],
            "enqueued_at": [0.1, 1.1, 2.1, nan],
            "state": "done",
        }
    )


def attempts_frame() -> pd.DataFrame:
    """A row for each of the six attempts."""
    rows = [
        ("plain", 1, "p1", 10, 0.05, 0.1, 0.2, 0.5, "done", None),
        ("retried", 1, "r1", 10, 1.05, 1.1, 1.2, 1.5, "failed", "broken"),
        ("retried", 2, "r2", 10, 2.6, 2.7, 2.8, 2.9, "done", None),
        ("killed", 1, "k1", 20, 2.05, 2.1, 2.2, nan, "lost", None),
        ("killed", 2, "k2", 10, 17.1, 17.2, 17.3, 17.4, "done", None),
        ("unheard", 1, "u1", 10, 3.05, 3.1, 3.2, 3.3, "done", None),
    ]
    columns = ["job", "attempt", "token", "process", "due_at", "leased_at", "started_at", "finished_at", "outcome"]
    return pd.DataFrame(rows, columns=[*columns, "error"])


KILL = Fault("kill", 2.3, 2.4, frozenset([20]), running=1)
KNOWN = {"faults": [KILL], "lease_s": 15.0, "max_retries": 3, "backoff": Backoff()}


def test_a_sound_run_is_believed() -> None:
    """But the order is not judged, for want of the instants of calls, nor a store; and nobody was asked to stop."""
    judgement = check(from_frames(jobs_frame(), attempts_frame(), **KNOWN))

    assert judgement.told() == []
    assert judgement.not_judged() == [Promise.ORDER, Promise.TRANSITIONS, Promise.GRACEFUL]
    assert (judgement.jobs, judgement.runs, judgement.done) == (4, 6, 4)


def test_columns_and_arguments_may_add_what_is_missing() -> None:
    """Then all but the store's promise is judged."""
    attempts = attempts_frame().assign(asked_at=lambda frame: frame["leased_at"] - 0.01)

    judgement = check(from_frames(jobs_frame(), attempts, **KNOWN, stops=[Stop(18.0, 19.0, frozenset([10]))]))

    assert judgement.told() == []
    assert judgement.not_judged() == [Promise.TRANSITIONS]


def stored_frame() -> pd.DataFrame:
    """What a store has of these attempts."""
    return attempts_frame()[["job", "attempt", "token", "outcome", "leased_at", "error"]]


def test_a_store_is_judged_by_what_it_has_itself() -> None:
    """An attempt that it has as lost, and whose job it has as done, went from one state to another that it may not."""
    stored = stored_frame()

    sound = check(from_frames(jobs_frame(), attempts_frame(), **KNOWN, stored=stored))
    wrong = check(from_frames(jobs_frame(), attempts_frame(), **KNOWN, stored=stored.replace("done", "lost")))

    assert sound.told() == []
    assert sound[Promise.TRANSITIONS].status == "holds"
    assert wrong[Promise.TRANSITIONS].count == 4


def test_the_order_is_judged_with_a_store_too() -> None:
    """By the calls that were seen to give leases; not of jobs that had several, all of which it need not know."""
    attempts = attempts_frame().assign(asked_at=lambda frame: frame["leased_at"] - 0.01)
    slow = attempts.assign(**{
        name: attempts[name].mask(attempts["job"] == "plain", attempts[name] + 5.0)
        for name in ("leased_at", "started_at", "finished_at", "asked_at")
    })  # fmt: skip

    sound, wrong = (check(from_frames(jobs_frame(), seen, **KNOWN, stored=stored_frame())) for seen in (attempts, slow))

    assert sound[Promise.ORDER].status == "holds"
    assert sound[Promise.ORDER].checked == 2
    assert wrong.broken() == [Promise.ORDER]
    assert "job plain (priority 0, enqueued by 0.100) waited" in wrong[Promise.ORDER].witness


def test_what_nobody_knows_is_lost_if_it_was_accepted() -> None:
    """A job whose enqueue was never acknowledged may be unknown to everybody."""
    jobs, attempts = jobs_frame(), attempts_frame().query("job not in ('plain', 'unheard')")
    jobs.loc[jobs["job"].isin(["plain", "unheard"]), "state"] = "unknown"

    judgement = check(from_frames(jobs, attempts, **KNOWN))

    assert judgement.broken() == [Promise.LOST]
    assert "job plain never ended" in judgement[Promise.LOST].witness


@pytest.mark.parametrize(
    ("promise", "jobs", "attempts", "faults"),
    [
        pytest.param(Promise.LOST, {0: {"state": "cancelled"}}, {0: {"outcome": "released"}}, [KILL], id="lost"),
        pytest.param(Promise.INVENTED, {}, {0: {"job": "stranger"}}, [KILL], id="invented"),
        pytest.param(Promise.EXPLAINED, {}, {}, [], id="unexplained"),
        pytest.param(
            Promise.OVERLAP, {}, {4: {"started_at": 12.0, "leased_at": 11.9, "due_at": 11.8}}, [KILL], id="overlap"
        ),
        pytest.param(Promise.DUE, {}, {2: {"due_at": 2.85}}, [KILL], id="early"),
        pytest.param(Promise.DRAINED, {3: {"state": "waiting"}}, {5: {"outcome": "released"}}, [KILL], id="left"),
    ],
)
def test_what_is_wrong_with_a_run_is_named(
    promise: Promise,
    jobs: dict[int, dict[str, object]],
    attempts: dict[int, dict[str, object]],
    faults: list[Fault],
) -> None:
    """By the same promises as everywhere."""
    frames = jobs_frame(), attempts_frame()
    for frame, changes in zip(frames, (jobs, attempts), strict=True):
        for row, facts in changes.items():
            for column, value in facts.items():
                frame.loc[row, column] = value

    judgement = check(from_frames(*frames, **KNOWN | {"faults": faults}))

    assert promise in judgement.broken()


def test_a_run_that_was_not_drained_is_not_judged_by_what_is_left() -> None:
    """What waits at its end may yet be done."""
    jobs, attempts = jobs_frame(), attempts_frame().drop(5)
    jobs.loc[3, "state"] = "waiting"

    judgement = check(from_frames(jobs, attempts, **KNOWN, is_drained=False))

    assert judgement.told() == []
    assert {Promise.LOST, Promise.DRAINED} <= set(judgement.not_judged())


def test_attempts_without_an_end_of_their_own_are_judged_by_what_is_sure() -> None:
    """One that was given back untried, and one whose process died: its job is ready again at once."""
    jobs, attempts = jobs_frame(), attempts_frame()
    attempts.loc[0, ["outcome", "started_at", "finished_at"]] = ["released", nan, nan]
    attempts.loc[1, ["finished_at", "error"]] = [nan, "the worker process died"]
    attempts.loc[2, ["due_at", "leased_at", "started_at"]] = [1.6, 1.6, 1.7]
    again = pd.DataFrame([("plain", 1, "p2", 10, 0.3, 0.4, 0.5, 0.6, "done", None)], columns=attempts.columns)

    judgement = check(from_frames(jobs, pd.concat([attempts, again], ignore_index=True), **KNOWN))

    assert judgement.told() == []
    assert judgement.not_judged() == [Promise.ORDER, Promise.TRANSITIONS, Promise.GRACEFUL]


@pytest.mark.parametrize("with_store", [False, True], ids=["no store", "store"])
@pytest.mark.parametrize("twice", [False, True], ids=["sound", "a token given twice"])
def test_parts_of_a_run_are_judged_as_the_whole(with_store: bool, twice: bool) -> None:
    """Jobs that share a token are in one part, wherever they are in the run."""
    jobs, attempts = jobs_frame(), attempts_frame()
    if twice:
        attempts.loc[5, "token"] = "p1"
    stored = attempts[list(stored_frame())] if with_store else None

    whole = check(from_frames(jobs, attempts, **KNOWN, stored=stored))
    parts = list(in_parts(jobs, attempts, stored, size=1))
    found = check_parts(from_frames(*part[:2], **KNOWN, stored=part[2]) for part in parts)

    assert [len(part[0]) for part in parts] == ([2, 1, 1, 0] if twice else [1, 1, 1, 1])
    assert found == whole
    assert found.broken() == ([Promise.OVERLAP] if twice else [])


def test_a_run_of_no_jobs_is_one_part() -> None:
    """So that what is known of the whole run is judged all the same."""
    (part,) = in_parts(jobs_frame()[:0], attempts_frame()[:0])

    judgement = check(from_frames(*part[:2], **KNOWN, stops=[Stop(18.0, 19.0, frozenset([10]), orderly=False)]))

    assert judgement.broken() == [Promise.GRACEFUL]
    with pytest.raises(ValueError, match="one part without any"):
        check_parts([])


def test_a_missing_column_is_named() -> None:
    """Before anything is judged."""
    with pytest.raises(ValueError, match="attempts: has no column token"):
        from_frames(jobs_frame(), attempts_frame().drop(columns="token"))
