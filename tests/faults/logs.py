"""What killed clients did, from their logs, as the checker takes it."""

import json
from collections.abc import Iterable
from math import nan
from pathlib import Path
from typing import Any

import msgspec

from allocator.bench.checker import Attempt, Enqueue, History, Removal
from allocator.domain.backoff import Backoff

UNDER_WAY_S = 1.0
"""A call of a client that was killed may take effect so long after it was made."""


class Call(msgspec.Struct):
    """One call of a client; `outcome` is None where the client was killed before it could tell."""

    client: str
    number: int
    op: str
    asked_at: float
    facts: dict[str, Any]
    outcome: dict[str, Any] | None = None
    answered_at: float = nan


class Logs:
    """
    The calls of all clients of a queue.

    Attributes:
        errors: What clients ended with that were not killed.
    """

    def __init__(self, logs: Iterable[Path]) -> None:
        self.calls: list[Call] = []
        self.errors: list[str] = []
        for log in logs:
            self._read(log)

    def _read(self, log: Path) -> None:
        by_number: dict[int, Call] = {}
        # A kill can cut the last line short. Of an intention it says that the call was not begun, of an outcome that it
        # is not known; as if it were not there.
        *lines, _ = log.read_text().split("\n")
        for line in lines:
            entry = json.loads(line)
            if "error" in entry:
                self.errors.append(f"client {log.stem}: {entry['error']}")
            elif "outcome" in entry:
                call = by_number[entry["call"]]
                call.outcome, call.answered_at = entry["outcome"], entry["at"]
            else:
                call = Call(log.stem, entry["call"], entry["op"], entry["at"], entry)
                by_number[call.number] = call
                self.calls.append(call)

    @property
    def unknown(self) -> list[Call]:
        """Calls under way at a kill."""
        return [call for call in self.calls if call.outcome is None]

    def history(self, backoff: Backoff) -> History:
        """
        The same in the words of the checker; what the queue holds is yet to be added.

        Args:
            backoff: Of the queue.
        """
        self._backoff = backoff
        self._attempts: dict[str, Attempt] = {}
        enqueues: list[Enqueue] = []
        removals: list[Removal] = []
        unknown_dequeues: list[tuple[float, float]] = []
        # The calls of a client are in their order, and a lease is told by the client that was given it.
        for call in self.calls:
            if call.op in ("enqueue", "enqueue_many"):
                enqueues += self._enqueues(call)
            elif call.op == "dequeue_many" and call.outcome is None:
                unknown_dequeues.append((call.asked_at, call.asked_at + UNDER_WAY_S))
            elif call.op == "dequeue_many":
                self._lease(call)
            elif call.op == "settle":
                self._settle(call)
            elif call.op == "extend":
                for token, expires_at in [] if call.outcome is None else call.outcome["kept"]:
                    self._attempts[token].expires_at = expires_at
            elif call.op in ("cancel", "purge_dead", "requeue_dead"):
                removals += self._remove(call)
        if any(call.op == "requeue_dead" and call.facts["id"] is None for call in self.calls):
            # Any job may have got a fresh budget.
            for enqueue in enqueues:
                enqueue.max_retries = None
            for attempt in self._attempts.values():
                attempt.number = 0
        attempts = list(self._attempts.values())
        return History(enqueues, removals, attempts, unknown_dequeues=unknown_dequeues)

    def _enqueues(self, call: Call) -> Iterable[Enqueue]:
        stored = None if call.outcome is None else dict(call.outcome["stored"])
        if call.outcome is not None:
            sent = [job for job, *_ in call.facts["jobs"]]
            assert sent == [job for job, _ in call.outcome["stored"]], f"client {call.client}: other jobs came back"
        first: set[str] = set()
        for job, mark, priority, max_retries, delay_s in call.facts["jobs"]:
            # Of one id in a list the first is taken; of one that was known already, none.
            if job in first or (stored is not None and stored[job] != mark):
                continue
            first.add(job)
            yield Enqueue(
                job,
                taken=None if stored is None else True,
                asked_at=call.asked_at,
                answered_at=call.answered_at,
                priority=priority,
                delay_s=delay_s,
                max_retries=max_retries,
                backoff=self._backoff,
                mark=mark,
                call=f"{call.client}.{call.number}",
            )

    def _lease(self, call: Call) -> None:
        assert call.outcome is not None
        for job, token, number, leased_at, expires_at, due_at in call.outcome["leased"]:
            # Until its holder tells an end.
            self._attempts[token] = Attempt(
                *(job, token, "lost", number, True, leased_at),
                expires_at=expires_at,
                asked_at=call.asked_at,
                given_at=call.answered_at,
                due_at=due_at,
            )

    def _settle(self, call: Call) -> None:
        for token, outcome, delay_s in call.facts["ends"]:
            attempt = self._attempts[token]
            attempt.outcome, attempt.told_at = outcome, call.asked_at
            attempt.delay_s = nan if delay_s is None else delay_s
            attempt.taken = None if call.outcome is None else token not in call.outcome["lost"]

    def _remove(self, call: Call) -> Iterable[Removal]:
        verb = {"cancel": "cancel", "purge_dead": "purge", "requeue_dead": "requeue"}[call.op]
        if call.facts["id"] is not None:
            taken = None if call.outcome is None else bool(call.outcome.get("done") or call.outcome.get("count"))
            yield Removal(call.facts["id"], verb, taken)
