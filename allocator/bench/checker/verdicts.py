"""The twelve promises, and what came of each."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Promise(StrEnum):
    """What a queue and its workers promise."""

    LOST = "nothing accepted is lost"
    INVENTED = "nothing is invented"
    ONCE = "an enqueue takes effect at most once, and a list as a whole"
    EXPLAINED = "every repeat is explained by a fault that hit it"
    STALE = "no stale end of an attempt is taken"
    OVERLAP = "leases of a job do not overlap"
    RETRIED = "attempts are made within the limit, then the job is dead once, with its last error"
    DUE = "nothing starts before it is due"
    ORDER = "priority and first in, first out, as promised"
    DRAINED = "everything drains when the faults are over"
    TRANSITIONS = "no illegal transition in the store"
    GRACEFUL = "a graceful stop loses and repeats nothing"


PROMISES = tuple(Promise)

NEEDS = {
    Promise.LOST: "jobs that were accepted, and what store or queue has of them at the end",
    Promise.INVENTED: "what ran, or what store or queue has at the end",
    Promise.ONCE: "jobs that were accepted, and how they ended",
    Promise.EXPLAINED: "what the bodies wrote down, attempts with their ends, and the faults that were made",
    Promise.STALE: "attempts whose end was taken, with the instants of leases and ends",
    Promise.OVERLAP: "two leases of one job, the first with its expiry, and nothing between that makes a queue forget",
    Promise.RETRIED: "attempts that failed, or dead jobs, with the retries they were allowed",
    Promise.DUE: "attempts that had to wait, with instants",
    Promise.ORDER: "leases with the instants of the calls that gave them, of jobs that waited side by side",
    Promise.DRAINED: "what is left once the time for draining is over",
    Promise.TRANSITIONS: "the store's jobs and attempts",
    Promise.GRACEFUL: "workers that were asked to stop in order",
}
"""What each promise is judged by; a run that has none of it leaves it not judged."""


@dataclass(slots=True)
class Verdict:
    """
    Whether one promise held.

    Attributes:
        checked: Cases that were looked at.
        unknown: Cases that could not be, for want of evidence.
        count: Those that break it.
        witness: The first of these, in the few events that prove it.
    """

    promise: Promise
    checked: int = 0
    unknown: int = 0
    count: int = 0
    witness: str = ""

    @property
    def name(self) -> str:
        return self.promise.value

    @property
    def status(self) -> str:
        """holds, broken or not judged: there is no evidence, or not for all cases."""
        return "broken" if self.count else "holds" if self.checked and not self.unknown else "not judged"

    @property
    def reason(self) -> str:
        """Why it is not judged; empty where it is."""
        if self.status != "not judged":
            return ""
        extent = f"in {self.unknown:,} of {self.unknown + self.checked:,} cases" if self.unknown else "in this run"
        return f"{extent} it is not known: {NEEDS[self.promise]}"

    def against(self, witness: str, count: int = 1) -> None:
        """Something breaks it."""
        self.count += count
        if not self.witness:
            self.witness = witness


@dataclass(slots=True)
class Judgement:
    """
    The verdicts, and what was counted on the way.

    Attributes:
        verdicts: One for each promise, in their order.
        repeats: Kind of fault -> runs that did not count because of it.
        kills_that_hit: How many kills repeated a run.
        most_repeats: Of one kill.
    """

    verdicts: dict[Promise, Verdict] = field(default_factory=lambda: {each: Verdict(each) for each in PROMISES})
    jobs: int = 0
    runs: int = 0
    done: int = 0
    dead: int = 0
    planned_failures: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    kills_that_hit: int = 0
    most_repeats: int = 0

    def __getitem__(self, promise: Promise) -> Verdict:
        return self.verdicts[promise]

    @property
    def holds(self) -> bool:
        """Nothing is broken. What is not judged does not count; see `not_judged`."""
        return not self.broken()

    def broken(self) -> list[Promise]:
        """The promises that did not hold."""
        return [verdict.promise for verdict in self.verdicts.values() if verdict.count]

    def not_judged(self) -> list[Promise]:
        """The promises of which this run shows nothing."""
        return [verdict.promise for verdict in self.verdicts.values() if verdict.status == "not judged"]

    def told(self) -> list[str]:
        """A sentence for each promise that did not hold; for assertions."""
        return [f"{self[each].name}: broken {self[each].count} times: {self[each].witness}" for each in self.broken()]
