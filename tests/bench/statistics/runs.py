"""Rows of runs whose figures are known: simulated ones, and small ones written out by hand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass
class Rows:
    """The three frames of a run."""

    jobs: pd.DataFrame
    attempts: pd.DataFrame
    backlog: pd.DataFrame


def one_server(
    rng: np.random.Generator, count: int, utilisation: float, service_s: float = 0.01, polls_per_s: float = 10.0
) -> Rows:
    """M/M/1 from empty, recorded without a fault; the first tenth is warm-up. Above 1, utilisation saturates it."""
    service = rng.exponential(service_s, count)
    intended = np.cumsum(rng.exponential(service_s / utilisation, count))
    steps = np.concatenate([[0.0], service[:-1] - np.diff(intended)])
    walk = np.cumsum(steps)
    started = intended + walk - np.minimum.accumulate(walk)
    finished = started + service
    ids = [f"j{number}" for number in range(count)]
    jobs = pd.DataFrame(
        {
            "job": ids,
            "type": "a",
            "priority": 0,
            "payload_bytes": 100,
            "delay_s": 0.0,
            "intended_at": intended,
            "enqueue_started_at": intended,
            "enqueued_at": intended,
            "state": "done",
            "attempts": 1,
            "settled_at": finished,
            "warmup": np.arange(count) < count // 10,
        }
    )
    attempts = pd.DataFrame(
        {
            "job": ids,
            "attempt": 1,
            "token": ids,
            "worker": "w0",
            "process": 1,
            "due_at": intended,
            "leased_at": started,
            "started_at": started,
            "finished_at": finished,
            "settled_at": finished,
            "outcome": "done",
            "error": pd.Series([None] * count, dtype="str"),
            "next_due_at": np.nan,
        }
    )
    at = np.arange(0.0, intended[-1], 1 / polls_per_s)
    arrived, begun, ended = (np.searchsorted(np.sort(times), at, "right") for times in (intended, started, finished))
    backlog = pd.DataFrame(
        {"at": at, "ready": arrived - begun, "scheduled": 0, "leased": begun - ended, "dead": 0},
    )
    return Rows(jobs, attempts, backlog)


def by_hand(jobs: list[dict[str, Any]], attempts: list[dict[str, Any]]) -> Rows:
    """Rows that name only what the case is about; jobs are accepted on time, and done."""
    usual_job = {
        "delay_s": 0.0,
        "intended_at": 0.0,
        "enqueue_started_at": 0.0,
        "enqueued_at": 0.0,
        "state": "done",
        "settled_at": np.nan,
        "warmup": False,
    }
    usual_attempt = {
        "attempt": 1,
        "worker": "w0",
        "process": 1,
        "due_at": np.nan,
        "leased_at": np.nan,
        "started_at": np.nan,
        "finished_at": np.nan,
        "settled_at": np.nan,
        "outcome": "done",
        "error": None,
        "next_due_at": np.nan,
    }
    backlog = pd.DataFrame({"at": [0.0], "ready": [0], "scheduled": [0], "leased": [0], "dead": [0]})
    return Rows(
        pd.DataFrame([usual_job | job for job in jobs]),
        pd.DataFrame([usual_attempt | attempt for attempt in attempts], columns=["job", *usual_attempt]),
        backlog,
    )
