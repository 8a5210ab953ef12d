"""
A queue on paper: what its clients and bodies would leave behind in a random run that keeps every promise.

Time moves with each step. Clients enqueue, lease, tell ends and are killed; replies get lost. With one of `BUGS` built
in the run breaks a promise as soon as the bug has had a chance.
"""

import random

from allocator.bench.checker import Attempt, Enqueue, Fault, History, Layout, Letter, Promise, Record, Removal, Run
from allocator.domain.backoff import Backoff

LEASE_S = 5.0
BACKOFF = Backoff(base=0.5)

BUGS = {
    "forgets a job": Promise.LOST,
    "runs what nobody sent": Promise.INVENTED,
    "keeps a job that is done": Promise.ONCE,
    "leases what is leased": Promise.OVERLAP,
    "takes a stale end": Promise.STALE,
    "gives up too early": Promise.RETRIED,
    "does not wait": Promise.DUE,
    "last in, first out": Promise.ORDER,
}


class Simulation:
    """
    A run of `steps` steps.

    Attributes:
        struck: Whether the bug has had its chance.
    """

    def __init__(self, source: random.Random, steps: int, bug: str = "") -> None:
        self.random = source
        self.bug = bug
        self.struck = False
        self.now = 100.0
        self.enqueues: dict[str, Enqueue] = {}
        self.due_at: dict[str, float] = {}
        self.failed: dict[str, int] = {}
        self.states: dict[str, str] = {}
        self.results: dict[str, str | None] = {}
        self.errors: dict[str, str | None] = {}
        self.held: list[tuple[Attempt, Run]] = []
        self.attempts: list[Attempt] = []
        self.runs: list[Run] = []
        self.faults: list[Fault] = []
        self.removals: list[Removal] = []
        self.counts = dict.fromkeys(("ready", "scheduled", "leased", "dead", "done", "cancelled", "purged"), 0)
        for _ in range(steps):
            self.pass_time()
            self.random.choices((self.enqueue, self.lease, self.tell, self.kill, self.cancel), (6, 8, 8, 1, 1))[0]()
        self.drain()

    def pass_time(self) -> None:
        """Between two steps, each of which has an instant of its own."""
        self.now += self.random.choice((0.05, 0.1, 0.7))
        for attempt, _ in list(self.held):
            if attempt.expires_at <= self.now and self.states[attempt.job] == f"leased {attempt.token}":
                self._charge(attempt, "lease expired")

    def enqueue(self) -> None:
        job = f"job-{len(self.enqueues)}"
        enqueue = Enqueue(
            job,
            taken=self.random.choice((True, True, True, None, False)),
            asked_at=self.now,
            answered_at=self.now + 0.01,
            priority=self.random.choice((0, 0, 5)),
            delay_s=self.random.choice((0.0, 0.0, 1.0)),
            max_retries=self.random.choice((0, 1, 5)),
            backoff=BACKOFF,
        )
        self.enqueues[job] = enqueue
        # What is not known to have been taken may have been.
        if enqueue.taken or (enqueue.taken is None and self.random.random() < 0.5):
            if self.bug == "forgets a job" and enqueue.taken and not self.struck:
                self.struck = True
                return
            self.states[job], self.failed[job], self.due_at[job] = "ready", 0, self.now + enqueue.delay_s

    def _takeable(self) -> list[str]:
        early = self.bug == "does not wait"
        jobs = [
            job for job, state in self.states.items() if state == "ready" and (early or self.due_at[job] <= self.now)
        ]
        jobs.sort(key=lambda job: (-self.enqueues[job].priority, self.enqueues[job].asked_at))
        if self.bug == "leases what is leased":
            jobs += [job for job, state in self.states.items() if state.startswith("leased")]
        return jobs

    def lease(self) -> None:
        jobs = self._takeable()
        if not jobs:
            return
        job = jobs[-1 if self.bug == "last in, first out" else 0]
        if self.bug == "last in, first out":
            self.struck |= self._certainly_before(jobs[0], job)
        self.struck |= self.bug == "does not wait" and self.due_at[job] > self.now + 0.01
        self.struck |= self.bug == "leases what is leased" and self.states[job].startswith("leased")
        token = f"token-{len(self.attempts)}"
        self.states[job] = f"leased {token}"
        attempt = Attempt(
            job,
            token,
            "running",
            self.failed[job] + 1,
            None,
            leased_at=self.now + 0.01,
            expires_at=self.now + 0.01 + LEASE_S,
            asked_at=self.now,
            due_at=self.due_at[job],
        )
        run = Run(job, attempt.number, token, 1 + len(self.runs), started_at=self.now + 0.02)
        self.attempts.append(attempt)
        self.runs.append(run)
        self.held.append((attempt, run))
        if self.bug == "runs what nobody sent":
            self.struck = True
            self.runs.append(Run("stranger", 1, "its own", 7, started_at=self.now))

    def _certainly_before(self, job: str, other: str) -> bool:
        one, two = self.enqueues[job], self.enqueues[other]
        first_leased = {attempt.job for attempt in self.attempts}
        is_known = one.taken is True and not one.delay_s and job not in first_leased and other not in first_leased
        # One that is cancelled or never leased is no witness.
        return False if not is_known or job == other else (one.priority > two.priority or one.asked_at < two.asked_at)

    def tell(self) -> None:
        if not self.held:
            return
        attempt, run = self.held.pop(self.random.randrange(len(self.held)))
        run.finished_at = self.now - 0.01
        attempt.told_at = self.now
        attempt.outcome = self.random.choice(("done", "done", "failed", "buried", "released"))
        run.failed = attempt.outcome in ("failed", "buried")
        attempt.error = f"error of {attempt.token}" if run.failed else None
        holds = self.states[attempt.job] == f"leased {attempt.token}"
        attempt.taken = holds
        if not holds:
            if self.bug == "takes a stale end" and attempt.outcome == "done" and self._leased_again(attempt):
                self.struck = True
                attempt.taken = True
            # Too slow, which is a pause to whoever looks.
            self.faults.append(Fault("pause", run.started_at, self.now, frozenset([run.process])))
            return
        match attempt.outcome:
            case "done":
                self.counts["done"] += 1
                self.states[attempt.job], self.results[attempt.job] = "done", attempt.token
                if self.bug == "keeps a job that is done":
                    self.struck = True
                    self.states[attempt.job] = "ready"
            case "released":
                attempt.delay_s = self.random.choice((0.0, 1.0))
                self.states[attempt.job], self.due_at[attempt.job] = "ready", self.now + attempt.delay_s
                self.faults.append(Fault("slow", run.started_at, self.now, frozenset([run.process])))
            case _:
                self._charge(attempt, attempt.error or "")

    def _leased_again(self, attempt: Attempt) -> bool:
        return any(other.job == attempt.job and other.leased_at > attempt.leased_at for other in self.attempts)

    def _charge(self, attempt: Attempt, error: str) -> None:
        job = attempt.job
        self.failed[job] += 1
        limit = self.enqueues[job].max_retries or 0
        early = self.bug == "gives up too early" and attempt.outcome != "buried" and self.failed[job] <= limit
        self.struck |= early
        if attempt.outcome == "buried" or self.failed[job] > limit or early:
            self.states[job], self.errors[job] = "dead", error
            return
        delay_s = BACKOFF.delay(self.failed[job]) if attempt.outcome == "failed" else 0.0
        self.states[job], self.due_at[job] = "ready", self.now + delay_s

    def kill(self) -> None:
        if not self.held:
            return
        attempt, run = self.held.pop(self.random.randrange(len(self.held)))
        attempt.outcome, attempt.taken = "lost", True
        self.faults.append(Fault("kill", self.now, self.now, frozenset([run.process]), running=1))
        if self.states[attempt.job] == f"leased {attempt.token}":
            self.now = max(self.now, attempt.expires_at)
            self._charge(attempt, "lease expired")

    def cancel(self) -> None:
        jobs = [job for job, state in self.states.items() if state == "ready"]
        if jobs and not self.bug:
            job = self.random.choice(jobs)
            self.states[job] = "cancelled"
            self.counts["cancelled"] += 1
            self.removals.append(Removal(job, "cancel"))

    def drain(self) -> None:
        """Until nothing waits and nothing is leased."""
        for _ in range(10_000):
            if not self.held and not any(state == "ready" for state in self.states.values()):
                return
            self.now += 1.0
            for step in (self.lease, self.tell):
                self.pass_time()
                step()
        raise AssertionError("the simulation does not end")

    def history(self) -> History:
        """What it left behind."""
        dead = [job for job, state in self.states.items() if state == "dead"]
        self.counts["dead"] = len(dead)
        return History(
            list(self.enqueues.values()),
            self.removals,
            self.attempts,
            self.runs,
            [Record(job, state, self.results.get(job), self.errors.get(job)) for job, state in self.states.items()],
            Layout({job: ["dead"] for job in dead}),
            self.counts,
            dict.fromkeys(dead, "dead"),
            [Letter(job, self.errors[job] or "", self.failed[job]) for job in dead],
            self.faults,
            [],
            left=0,
        )
