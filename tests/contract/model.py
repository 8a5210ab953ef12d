"""
What a queue ought to do, as simply as it can be said: one dictionary of jobs, searched from end to end.

Written from the words of the contract and from no backend, so that a mistake is not made twice.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

LEASE_S = 15.0


@dataclass
class ModelJob:
    """A job that the queue knows."""

    id: str
    number: int
    """In the payload; tells jobs of one id apart."""
    priority: int
    place: int
    max_retries: int
    failed_count: int
    enqueued_at: float
    due_at: float
    is_waiting: bool = True
    token: str | None = None
    expires_at: float = 0.0
    lost_a_lease: bool = False
    is_marked: bool = False
    is_dead: bool = False
    error: str = ""
    died_at: float = 0.0
    died_in: int = 0
    """The step in which it died: within one, the order of letters is nobody's promise."""
    failures: list[tuple[int, str, float]] = field(default_factory=list)


@dataclass
class Model:
    """The whole queue."""

    now: float
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    cancelled_ids: set[str] = field(default_factory=set)
    totals: Counter[str] = field(default_factory=Counter)
    is_paused: bool = False
    _places: int = 0
    _step: int = 0

    # What calls do

    def enqueue(
        self, job_id: str, number: int, priority: int, delay: float, max_retries: int, failed_count: int
    ) -> ModelJob:
        """A known id is left as it is."""
        if job_id not in self.jobs:
            self._places += 1
            self.cancelled_ids.discard(job_id)
            self.jobs[job_id] = ModelJob(
                job_id, number, priority, self._places, max_retries, failed_count, self.now, self.now + delay
            )
        return self.jobs[job_id]

    def dequeue(self, limit: int) -> list[ModelJob]:
        """Who comes, in order; `lease` tells which tokens they got."""
        self.reap()
        if self.is_paused:
            return []
        ready = [job for job in self.jobs.values() if job.is_waiting and job.due_at <= self.now]
        ready.sort(key=lambda job: (-job.priority, job.place))
        taken: list[ModelJob] = []
        for job in ready[:limit]:
            if job.lost_a_lease:
                # Alone: not after others, and none after it.
                if not taken:
                    taken.append(job)
                break
            taken.append(job)
        return taken

    def lease(self, job: ModelJob, token: str) -> None:
        """The job is leased under this token."""
        job.is_waiting, job.token, job.expires_at, job.is_marked = False, token, self.now + LEASE_S, False

    def holder(self, token: str) -> ModelJob | None:
        """The job that this token may settle now."""
        for job in self.jobs.values():
            if job.token == token and self.now < job.expires_at:
                return job
        return None

    def extend(self, token: str, seconds: float) -> bool:
        """Whether the lease was held."""
        job = self.holder(token)
        if job is not None:
            job.expires_at = max(job.expires_at, self.now + seconds)
        return job is not None

    def ack(self, token: str) -> bool:
        """Whether the lease was held."""
        job = self.holder(token)
        if job is not None:
            del self.jobs[job.id]
            self.totals["done"] += 1
        return job is not None

    def nack(self, token: str, error: str, delay: float | None, dead: bool) -> bool:
        """Whether the lease was held."""
        job = self.holder(token)
        if job is None:
            return False
        self._step += 1
        self._fail(job, error)
        if job.is_marked:
            self._cancel(job)
        elif dead or job.failed_count > job.max_retries:
            self._bury(job, error)
        else:
            seconds = 2.0 ** (job.failed_count - 1) if delay is None else delay
            self._put_back(job, self.now + seconds)
        return True

    def release(self, token: str, delay: float) -> bool:
        """Whether the lease was held."""
        job = self.holder(token)
        if job is None:
            return False
        if job.is_marked:
            self._cancel(job)
        else:
            self._put_back(job, self.now + delay if delay else job.due_at)
        return True

    def reap(self) -> set[str]:
        """Who was taken back."""
        self._step += 1
        expired = [job for job in self.jobs.values() if job.token and job.expires_at <= self.now]
        for job in expired:
            self._fail(job, "lease expired")
            job.lost_a_lease = True
            if job.is_marked:
                self._cancel(job)
            elif job.failed_count > job.max_retries:
                self._bury(job, "lease expired")
            else:
                self._put_back(job, self.now)
        return {job.id for job in expired}

    def cancel(self, job_id: str) -> bool:
        """Whether there was something to cancel."""
        job = self.jobs.get(job_id)
        if job is None or job.is_dead:
            return False
        if job.token:
            job.is_marked = True
        else:
            self._cancel(job)
        return True

    def requeue_dead(self, job_ids: Iterable[str]) -> int:
        """In this order; how many there were."""
        count = 0
        for job_id in job_ids:
            job = self.jobs.get(job_id)
            if job is not None and job.is_dead:
                self._places += 1
                job.place, job.failed_count, job.is_dead = self._places, 0, False
                self._put_back(job, self.now)
                count += 1
        return count

    def purge_dead(self, job_ids: Iterable[str]) -> int:
        """How many there were."""
        dead = [job_id for job_id in job_ids if job_id in self.jobs and self.jobs[job_id].is_dead]
        for job_id in dead:
            del self.jobs[job_id]
            self.totals["purged"] += 1
        return len(dead)

    # What can be seen

    def state(self, job: ModelJob) -> str:
        """As `find` tells it."""
        if job.is_dead:
            return "dead"
        if job.token:
            return "leased"
        return "ready" if job.due_at <= self.now else "scheduled"

    def find(self) -> dict[str, str]:
        """Every id that is known."""
        return dict.fromkeys(self.cancelled_ids, "cancelled") | {job.id: self.state(job) for job in self.jobs.values()}

    def counts(self) -> dict[str, int]:
        """As `Queue.counts` gives them."""
        states = Counter(self.state(job) for job in self.jobs.values())
        now = {state: states[state] for state in ("ready", "scheduled", "leased", "dead")}
        return now | {total: self.totals[total] for total in ("done", "cancelled", "purged")}

    def next_event(self) -> float | None:
        """When something comes due or expires next, if anything does."""
        waiting = [job.due_at for job in self.jobs.values() if job.is_waiting and job.due_at > self.now]
        leased = [job.expires_at for job in self.jobs.values() if job.token and job.expires_at > self.now]
        return min([*waiting, *leased], default=None)

    # How jobs move

    def _put_back(self, job: ModelJob, due_at: float) -> None:
        job.is_waiting, job.token, job.due_at = True, None, due_at

    def _fail(self, job: ModelJob, error: str) -> None:
        job.failed_count += 1
        job.failures.append((job.failed_count, error, self.now))

    def _cancel(self, job: ModelJob) -> None:
        del self.jobs[job.id]
        self.cancelled_ids.add(job.id)
        self.totals["cancelled"] += 1

    def _bury(self, job: ModelJob, error: str) -> None:
        job.is_dead, job.is_waiting, job.token = True, False, None
        job.error, job.died_at, job.died_in = error, self.now, self._step
