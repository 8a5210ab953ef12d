"""The evidence in the order in which it is judged: by job, by token, by process."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from math import inf, isnan
from typing import Protocol, TypeVar

from allocator.bench.checker.history import Attempt, Enqueue, Fault, History, Layout, Record, Removal, Run


class _OfJob(Protocol):
    job: str


T = TypeVar("T", bound=_OfJob)

CHARGED = frozenset({"failed", "buried", "lost"})
"""Outcomes that cost a retry."""

ENDS = frozenset({"done", "failed", "buried", "released", "cancelled"})
"""Outcomes that a holder tells."""


class Case:
    """A history, looked up by job."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.enqueues: dict[str, list[Enqueue]] = _by_job(history.enqueues)
        self.attempts: dict[str, list[Attempt]] = _by_job(history.attempts or ())
        for attempts in self.attempts.values():
            if len(attempts) > 1:
                attempts.sort(key=_leased)
        self.by_token = {attempt.token: attempt for attempt in history.attempts or ()}
        self.runs: dict[str, list[Run]] = _by_job(history.runs or ())
        self.records: dict[str, Record] = {record.job: record for record in history.records or ()}
        self.removals: dict[str, list[Removal]] = _by_job(history.removals)
        self.faults = Faults(history.faults or (), history.settle_within_s)
        self.stale: set[str] = set()
        """Tokens of ends that were taken and should not have been."""

    @cached_property
    def places(self) -> dict[str, str] | None:
        """Where the queue has each job at the end; None where that is not known."""
        if self.history.layout is not None:
            return {job: places[0] for job, places in self.history.layout.places.items()}
        if self.history.found is not None:
            return {job: state for job, state in self.history.found.items() if state != "cancelled"}
        return None

    @property
    def layout(self) -> Layout | None:
        return self.history.layout

    def state(self, job: str) -> str | None:
        """How a job stands at the end, by store or queue; empty where it is gone, None where that is not known."""
        if self.history.records is not None:
            record = self.records.get(job)
            return "" if record is None else record.state
        return None if self.places is None else self.places.get(job, "")

    def had_at(self, attempt: Attempt) -> float:
        """When the holder of a lease had it, for sure."""
        if not isnan(attempt.given_at):
            return attempt.given_at
        for run in self.runs.get(attempt.job, ()):
            if run.token == attempt.token and not isnan(run.started_at):
                return run.started_at
        return attempt.leased_at

    def single(self, job: str) -> Enqueue | None:
        """The only call that enqueued a job, if nobody touched the job but those who leased it."""
        enqueues = self.enqueues.get(job, ())
        return enqueues[0] if len(enqueues) == 1 and job not in self.removals else None


class Faults:
    """Faults, to be looked up by what they hit."""

    def __init__(self, faults: Sequence[Fault], settle_within_s: float) -> None:
        self.explained: Counter[Fault] = Counter()
        self._settle_within_s = settle_within_s
        self._of_all = sorted((fault for fault in faults if fault.processes is None), key=lambda fault: fault.ended_at)
        self._ends = [fault.ended_at for fault in self._of_all]
        self._of_process: dict[int, list[Fault]] = defaultdict(list)
        for fault in faults:
            for process in fault.processes or ():
                self._of_process[process].append(fault)
        self._forgetting = sorted((fault for fault in faults if fault.forgets), key=lambda fault: fault.ended_at)
        self._forgot_at = [fault.ended_at for fault in self._forgetting]

    def hit(self, run: Run, leased_at: float, until: float = inf) -> Fault | None:
        """The first fault that hit the run's process, or everything, between its lease and the time to settle it."""
        begin = leased_at if leased_at < run.started_at else run.started_at
        end = inf if isnan(run.finished_at) else run.finished_at + self._settle_within_s
        end = min(end, until)
        hits = [
            fault
            for process in (run.process, run.parent)
            for fault in self._of_process.get(process, ())
            if fault.began_at <= end and fault.ended_at >= begin
        ]
        at = bisect_left(self._ends, begin)
        if at < len(self._of_all) and self._of_all[at].began_at <= end:
            hits.append(self._of_all[at])
        return min(hits, key=lambda fault: fault.began_at, default=None)

    def forgot(self, begin: float, end: float) -> bool:
        """Whether the queue forgot what it held at some instant between these two."""
        at = bisect_left(self._forgot_at, begin)
        return at < len(self._forgetting) and self._forgetting[at].began_at <= end


def _by_job(things: Iterable[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for thing in things:
        if (of_job := found.get(thing.job)) is None:
            found[thing.job] = [thing]
        else:
            of_job.append(thing)
    return found


def _leased(attempt: Attempt) -> float:
    # Without an instant it comes last, where nothing is concluded from its place.
    return inf if isnan(attempt.leased_at) else attempt.leased_at


def said(attempt: Attempt) -> str:
    """An attempt, for a witness."""
    number = f" {attempt.number}" if attempt.number else ""
    return f"attempt{number} (token {attempt.token})"
