"""The evidence in the order in which it is judged: by job, and by what faults hit."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from math import inf, isnan

import msgspec

from allocator.bench.checker.history import Attempt, Enqueue, Fault, History, Record, Removal, Run

CHARGED = frozenset({"failed", "buried", "lost"})
"""Outcomes that cost a retry."""

ENDS = frozenset({"done", "failed", "buried", "released", "cancelled"})
"""Outcomes that a holder tells."""


class OfJob(msgspec.Struct, gc=False):
    """
    Everything that is known of one job.

    Args:
        attempts: By when their holders had them, which is in their order; by the server's instants it may not be.
        place: Where the queue has it at the end, if it has it.
    """

    job: str
    enqueues: tuple[Enqueue, ...] = ()
    removals: tuple[Removal, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    runs: tuple[Run, ...] = ()
    record: Record | None = None
    place: str | None = None

    @property
    def only(self) -> Enqueue | None:
        """The only call that enqueued it, if nobody touched it but those who leased it."""
        return self.enqueues[0] if len(self.enqueues) == 1 and not self.removals else None

    @property
    def is_there(self) -> bool:
        """Whether something is known of it besides the calls that enqueued it."""
        return bool(self.attempts or self.runs or self.record or self.place) or any(
            removal.verb == "purge" and removal.taken for removal in self.removals
        )

    def attempt(self, token: str) -> Attempt | None:
        """The one of a token."""
        for attempt in self.attempts:
            if attempt.token == token:
                return attempt
        return None

    def had_at(self, attempt: Attempt) -> float:
        """When the holder of a lease had it, for sure."""
        if not isnan(attempt.given_at):
            return attempt.given_at
        for run in self.runs:
            if run.token == attempt.token and not isnan(run.started_at):
                return run.started_at
        return attempt.leased_at

    def order(self, attempt: Attempt) -> float:
        """To sort by: what has no instant comes last, where nothing is concluded from its place."""
        had_at = self.had_at(attempt)
        return inf if isnan(had_at) else had_at


class Case:
    """
    A history, by job: that of a run, or of a part of its jobs.

    Attributes:
        faults: Those of the run, which its parts have in common.
        knows_places: Whether it is known what the queue has at the end.
        stale: Tokens of ends that were taken and should not have been.
    """

    def __init__(self, history: History, faults: "Faults") -> None:
        self.history = history
        self.faults = faults
        self.jobs: dict[str, OfJob] = {}
        self._sort_out(history)
        self.knows_places = history.layout is not None or history.found is not None
        self.stale: set[str] = set()

    def _sort_out(self, history: History) -> None:
        of = self._of
        # Tuples, as nearly all have one element or none, and there are millions.
        for enqueue in history.enqueues:
            of_job = of(enqueue.job)
            of_job.enqueues += (enqueue,)
        for removal in history.removals:
            of_job = of(removal.job)
            of_job.removals += (removal,)
        for attempt in history.attempts or ():
            of_job = of(attempt.job)
            of_job.attempts += (attempt,)
        for run in history.runs or ():
            of_job = of(run.job)
            of_job.runs += (run,)
        for of_job in self.jobs.values():
            if len(of_job.attempts) > 1:
                of_job.attempts = tuple(sorted(of_job.attempts, key=of_job.order))
        for record in history.records or ():
            of(record.job).record = record
        if history.layout is not None:
            for job, places in history.layout.places.items():
                of(job).place = places[0]
        elif history.found is not None:
            for job, state in history.found.items():
                of(job).place = None if state == "cancelled" else state

    def _of(self, job: str) -> OfJob:
        found = self.jobs.get(job)
        if found is None:
            found = self.jobs[job] = OfJob(job)
        return found

    def state(self, of_job: OfJob) -> str | None:
        """How a job stands at the end, by store or queue; empty where it is gone, None where that is not known."""
        if self.history.records is not None:
            return "" if of_job.record is None else of_job.record.state
        return of_job.place or "" if self.knows_places else None


class Faults:
    """Faults, to be looked up by what they hit."""

    def __init__(self, faults: Sequence[Fault], settle_within_s: float) -> None:
        self.explained: Counter[Fault] = Counter()
        self._settle_within_s = settle_within_s
        self._all = sorted(faults, key=lambda fault: fault.ended_at)
        self._ended_at = [fault.ended_at for fault in self._all]
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

    def any(self, begin: float, end: float) -> bool:
        """Whether there was one, of whatever, at some instant between these two."""
        at = bisect_left(self._ended_at, begin)
        return at < len(self._all) and self._all[at].began_at <= end

    def forgot(self, begin: float, end: float) -> bool:
        """Whether the queue forgot what it held at some instant between these two."""
        at = bisect_left(self._forgot_at, begin)
        return at < len(self._forgetting) and self._forgetting[at].began_at <= end


def said(attempt: Attempt) -> str:
    """An attempt, for a witness."""
    number = f" {attempt.number}" if attempt.number else ""
    return f"attempt{number} (token {attempt.token})"
