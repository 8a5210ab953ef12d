"""
A workload: one document that says what arrives, what it takes, what goes wrong, and who does it.

It names no backend, so that the same one runs on each. Everything random in it is drawn before the run from `seed` (see
`allocator.bench.plan`); two runs of equal documents replay the same jobs at the same instants.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from allocator.bench.arrivals import Arrival, Closed, Ramp, Steps, Trace
from allocator.bench.distributions import ConstantBytes, ConstantSeconds, Durations, Sizes
from allocator.bench.documents import read_yaml
from allocator.bench.errors import InvalidWorkload
from allocator.bench.failures import Failure
from allocator.bench.models import (
    Count,
    CountFromZero,
    Factor,
    Model,
    Priority,
    Seconds,
    Share,
    SomeSeconds,
    SomeWeight,
    Text,
    Weight,
)
from allocator.bench.refusing import explain
from allocator.bench.steps import Fault, KillWorker, PauseWorker
from allocator.domain.backoff import Backoff
from allocator.domain.job import MAX_DELAY_S

MAX_PLANNED_RETRIES = 99
"""The fate of every attempt is drawn before the run, so that their number has a bound."""


class Workers(Model):
    """Who works: `supervisors` programs with `count` workers each."""

    count: Annotated[Count, Field(le=1024)] = Field(4, description="Attempts that each supervisor runs at a time.")
    kind: Literal["threads", "processes"] = "threads"
    supervisors: Annotated[Count, Field(le=64)] = 1

    @property
    def slots(self) -> int:
        """Attempts that can run at a time."""
        return self.supervisors * self.count


class Retry(Model):
    """How often a job is tried again, and when; see `allocator.domain.backoff.Backoff`."""

    max_retries: Annotated[CountFromZero, Field(le=MAX_PLANNED_RETRIES)] = Field(
        3, description="Attempts after the first that may fail before the job becomes a dead letter."
    )
    base_s: Seconds = Field(1.0, description="Delay after the first failed attempt.")
    factor: Factor = Field(2.0, description="Ratio of one delay to the one before it.")
    cap_s: Annotated[Seconds, Field(le=MAX_DELAY_S)] = Field(3600.0, description="The longest delay.")
    jitter: Share = Field(0.0, description="Share of the delay that may be taken off at random.")

    def backoff(self, seed: int) -> Backoff:
        """For each job of the run; its jitter is drawn from `seed`."""
        return Backoff(base=self.base_s, factor=self.factor, cap=self.cap_s, jitter=self.jitter, seed=seed)

    def least_delay_s(self, failed_count: int) -> float:
        """Delay after failed attempt number `failed_count`, if jitter takes off as much as it may."""
        return (1 - self.jitter) * Backoff(base=self.base_s, factor=self.factor, cap=self.cap_s).delay(failed_count)


class Slo(Model):
    """What the system promises: percentiles that a run must not exceed. None: no such promise."""

    wait_s_p99: SomeSeconds | None = Field(None, description="Due until started, first attempts.")
    sojourn_s_p99: SomeSeconds | None = Field(None, description="Intended arrival until ack, backoff included.")


class Durability(Model):
    """When the server of a queue puts to disk what it has acknowledged. Each backend reads its own field."""

    redis_appendfsync: Literal["always", "everysec", "none"] = Field("everysec", description="none: no file at all.")
    postgres_synchronous_commit: bool = True


class Workload(Model):
    """
    What one run does. All instants and durations are seconds, all rates jobs a second.

    Raises:
        InvalidWorkload: However it is made; names the field.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: Text = Field("", description="The question that it answers.")
    seed: Annotated[CountFromZero, Field(lt=2**63)] = Field(1, description="Of everything that is drawn.")

    arrival: Arrival
    duration_s: SomeSeconds | None = Field(None, description="How long jobs arrive, warm-up included.")
    jobs: Count | None = Field(None, description="How many arrive; instead of duration_s.")
    warmup_s: Seconds = Field(0.0, description="Jobs that arrive earlier are kept apart.")
    drain_s: Seconds = Field(30.0, description="Every job must have ended so long after arrivals ended.")

    service: Durations = Field(description="How long an attempt works; the same in each attempt of a job.")
    work: Literal["sleep", "cpu"] = Field("sleep", description="What it does then: wait, or keep a core busy.")
    failure: Failure = Failure()
    retry: Retry = Retry()
    timeout_s: SomeSeconds | None = Field(None, description="For one attempt; none: the supervisor's own, an hour.")

    types: Annotated[dict[Annotated[Text, Field(min_length=1, max_length=200)], Weight], SomeWeight] = Field(
        {"bench": 1.0}, description="Job type -> weight."
    )
    priorities: Annotated[dict[Priority, Weight], SomeWeight] = Field(
        {0: 1.0}, description="Priority -> weight; higher goes first."
    )
    payload_bytes: Sizes = Field(ConstantBytes(bytes=0), description="Padding that a payload carries beside its plan.")
    delay: Durations = Field(ConstantSeconds(seconds=0.0), description="From arrival until due, of delayed jobs.")
    delayed_share: Share = Field(1.0, description="Share of the jobs that are delayed.")

    producers: Annotated[Count, Field(le=64)] = Field(1, description="Processes that enqueue.")
    together: Annotated[Count, Field(le=1000)] = Field(
        1, description="Most jobs in one call, of those that are due by then: who has fallen behind catches up at once."
    )
    workers: Workers = Workers()
    durability: Durability = Durability()
    faults: tuple[Fault, ...] = Field((), description="In the order of at_s.")
    slo: Slo = Slo()

    @model_validator(mode="wrap")
    @classmethod
    def _refuse(cls, document: Any, make: ModelWrapValidatorHandler["Workload"]) -> "Workload":
        try:
            workload = make(document)
        except ValidationError as error:
            raise explain(error, document) from None
        for field, problem in _contradictions(workload):
            raise InvalidWorkload(field, problem)
        return workload

    @classmethod
    def from_yaml(cls, source: str | Path) -> "Workload":
        """
        The workload of a YAML text, or of the file at a Path.

        Raises:
            InvalidWorkload: It is no YAML, or no workload.
            OSError: The file cannot be read.
        """
        try:
            text = source.read_text("utf-8") if isinstance(source, Path) else source
            document = read_yaml(text)
        except UnicodeDecodeError as error:
            raise InvalidWorkload("workload", f"{source} is no text in UTF-8: {error}") from None
        except yaml.YAMLError as error:
            raise InvalidWorkload("workload", f"no valid YAML: {error}") from None
        if not isinstance(document, dict):
            hint = "; a file is read from a Path, not from its name" if isinstance(document, str) else ""
            raise InvalidWorkload("workload", f"must be a mapping of fields, not {document!r:.200}{hint}")
        return cls.model_validate(document)

    def to_yaml(self, *, defaults: bool = True) -> str:
        """
        Its fields, in the order of this class: `from_yaml` gives an equal workload.

        Args:
            defaults: Write also what is as it would be anyway; an older version may not know of all that.
        """
        document, others = self.model_dump(mode="json"), self.model_dump(exclude_defaults=True)
        written = document if defaults else {name: document[name] for name in others}
        text: str = yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120)
        return text

    def changed(self, **fields: Any) -> "Workload":
        """The same but for these fields, checked anew: `steady.changed(seed=2, workers={"count": 8})`."""
        return type(self).model_validate(self.model_dump() | fields)

    @property
    def hash(self) -> str:
        """SHA-256 of the document as canonical JSON (sorted keys, no spaces), in hexadecimal: equal for equal ones."""
        document = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(document.encode()).hexdigest()


def _contradictions(workload: Workload) -> Iterator[tuple[str, str]]:
    """Fields that are right by themselves and wrong together, with what to do."""
    arrival, failure = workload.arrival, workload.failure
    if workload.duration_s is not None and workload.jobs is not None:
        yield "jobs", "either duration_s or jobs says when arrivals end; give one of them"
    if isinstance(arrival, Closed) and workload.jobs is None:
        yield "jobs", "a closed loop ends after so many jobs; give jobs instead of duration_s"
    if isinstance(arrival, Closed) and workload.together > 1:
        yield "together", "each client of a closed loop sends one job and waits for its end; leave it at 1"
    if isinstance(arrival, Ramp) and workload.duration_s is None:
        yield "duration_s", "a ramp rises over its duration; give duration_s instead of jobs"
    if isinstance(arrival, Steps) and workload.duration_s is None:
        yield "duration_s", "steps go by instants, not by jobs; give duration_s instead of jobs"
    if workload.duration_s is None and workload.jobs is None and not isinstance(arrival, Trace):
        yield "duration_s", "arrivals would never end; give duration_s or jobs"
    if workload.duration_s is not None and workload.warmup_s >= workload.duration_s:
        yield "warmup_s", f"{workload.warmup_s:g} leaves nothing of duration_s ({workload.duration_s:g}) to be measured"
    if any(failure.p_hang) and workload.timeout_s is None:
        yield "timeout_s", "failure.p_hang lets attempts hang, and without timeout_s they would do so for an hour"
    if any(failure.p_crash) and workload.workers.kind == "threads":
        yield "failure.p_crash", "a crash in a thread ends its supervisor; set workers.kind to processes"
    if failure.first_k > workload.retry.max_retries:
        yield (
            "failure.first_k",
            f"{failure.first_k} failed attempts are more than retry.max_retries ({workload.retry.max_retries}) allows, "
            "so that no job could end well; lower it, or let p_poison be 1 if that is meant",
        )
    latest_s = 0.0
    for number, fault in enumerate(workload.faults):
        field = f"faults[{number}]"
        if fault.at_s < latest_s:
            yield f"{field}.at_s", f"{fault.at_s:g} is earlier than the fault before it ({latest_s:g}); sort them"
        latest_s = fault.at_s
        if workload.duration_s is not None and fault.at_s > workload.duration_s + workload.drain_s:
            yield f"{field}.at_s", f"{fault.at_s:g} is after the end of the run (duration_s and drain_s)"
        if isinstance(fault, KillWorker | PauseWorker):
            if fault.number is not None and fault.number >= workload.workers.supervisors:
                yield f"{field}.number", f"there is no supervisor {fault.number}; they are numbered from 0"
            if fault.target == "process" and workload.workers.kind == "threads":
                yield f"{field}.target", "there is no worker process; set workers.kind to processes"
