"""A history in which every promise can be judged and none is broken: what the mutations of the tests start from."""

from math import nan
from typing import Any

import msgspec

from allocator.bench.checker import Attempt, Enqueue, Fault, History, Layout, Letter, Record, Run, Stop
from allocator.domain.backoff import Backoff

WORKER, KILLED = 10, 20
"""Processes."""

LEASE_S = 15.0


def sound() -> History:
    """
    Nine jobs. plain: done at once; urgent: of a higher priority; retried: failed once; dead: failed until it was given
    up; killed: its first worker was killed; later: delayed; listed-1, listed-2: in a list whose reply never came;
    stopped: ran when its worker was asked to stop.
    """
    enqueues = [
        _enqueue("plain", 1.0),
        _enqueue("retried", 2.0),
        _enqueue("dead", 3.0, max_retries=1, dies=True),
        _enqueue("killed", 4.0),
        _enqueue("later", 5.0, delay_s=20.0),
        _enqueue("urgent", 6.0, priority=5),
        _enqueue("listed-1", 7.0, taken=None, call="list", answered_at=nan),
        _enqueue("listed-2", 7.0, taken=None, call="list", answered_at=nan),
        _enqueue("stopped", 8.0),
    ]
    attempts = [
        _attempt("urgent", 10.0, "done", told_at=11.0),
        _attempt("plain", 10.1, "done", told_at=10.4),
        _attempt("retried", 10.2, "failed", told_at=10.5, error="broken"),
        _attempt("retried", 12.0, "done", told_at=12.4, number=2),
        _attempt("dead", 10.3, "failed", told_at=10.6, error="at first"),
        _attempt("dead", 12.1, "failed", told_at=12.5, number=2, error="at last"),
        _attempt("killed", 10.4, "lost"),
        _attempt("killed", 26.0, "done", told_at=26.4, number=2),
        _attempt("later", 25.5, "done", told_at=25.9, due_at=25.0),
        _attempt("listed-1", 10.5, "done", told_at=10.8),
        _attempt("listed-2", 10.6, "done", told_at=10.9),
        _attempt("stopped", 29.8, "done", told_at=30.6),
    ]
    states = dict.fromkeys((enqueue.job for enqueue in enqueues), "done") | {"dead": "dead"}
    last = {attempt.job: attempt.token for attempt in attempts}
    return History(
        enqueues,
        attempts=attempts,
        runs=[_run(attempt) for attempt in attempts],
        records=[Record(job, state, last[job] if state == "done" else None) for job, state in states.items()],
        layout=Layout({"dead": ["dead"]}, {"dead": "of dead"}),
        counts={"ready": 0, "scheduled": 0, "leased": 0, "dead": 1, "done": 8, "cancelled": 0, "purged": 0},
        found={"dead": "dead"},
        letters=[Letter("dead", "at last", 2)],
        faults=[Fault("kill", 10.45, 10.46, frozenset([KILLED]), running=1)],
        stops=[Stop(30.0, 31.0, frozenset([WORKER]))],
        left=0,
    )


def _enqueue(job: str, asked_at: float, **facts: Any) -> Enqueue:
    known = {"max_retries": 3, "dies": False, "backoff": Backoff(), "mark": f"of {job}", "answered_at": asked_at + 0.1}
    return Enqueue(job, asked_at=asked_at, **known | facts)


def _attempt(job: str, asked_at: float, outcome: str, number: int = 1, **facts: Any) -> Attempt:
    leased_at = asked_at + 0.01
    return Attempt(
        job,
        f"{job}/{number}",
        outcome,
        number,
        asked_at=asked_at,
        leased_at=leased_at,
        expires_at=leased_at + LEASE_S,
        **facts,
    )


def _run(attempt: Attempt) -> Run:
    process = KILLED if attempt.outcome == "lost" else WORKER
    return Run(
        attempt.job,
        attempt.number,
        attempt.token,
        process,
        started_at=attempt.leased_at + 0.01,
        finished_at=attempt.told_at - 0.01,
        failed=attempt.outcome == "failed",
    )


def change(things: Any, key: str, **facts: Any) -> None:
    """Change the evidence of a job, or of a token, in a list."""
    found = [thing for thing in things if key in (thing.job, getattr(thing, "token", ""))]
    assert found, key
    for thing in found:
        for name, value in facts.items():
            assert name in thing.__struct_fields__
            setattr(thing, name, value)


def drop(history: History, job: str, *parts: str) -> None:
    """Take everything of a job out of some parts of the evidence."""
    for part in parts:
        setattr(history, part, [thing for thing in getattr(history, part) if thing.job != job])


def another(history: History, like: str, **facts: Any) -> None:
    """An attempt like the one of a token, and its run, with some facts changed."""
    attempt = next(attempt for attempt in history.attempts or () if attempt.token == like)
    attempt = msgspec.structs.replace(attempt, **facts)
    history.attempts = [*(history.attempts or ()), attempt]
    if history.runs is not None:
        history.runs = [*history.runs, _run(attempt)]
