"""
The job body of the bench: takes its time, ends as planned, and records when it began and when it came to its end.

The same in threads and in processes; named to a supervisor as PROCESSOR. Records go to the folder that the variable
`recorder.FOLDER` names; without it the body does the same and records nothing.
"""

import math
import os
import signal
import time
from collections.abc import Sequence
from typing import Any, Literal

from allocator.bench.recorder import Event, Outcome, Recorder, number_of, process_recorder
from allocator.bench.waiting import be_punctual
from allocator.supervisor import Context

PROCESSOR = "allocator.bench.body:run"

Mode = Literal["sleep", "cpu"]
Fate = Literal["done", "error", "crash", "hang"]
"""How an attempt ends: done; by an exception; by the death of its process, with -9; never."""

_STARTED, _FINISHED, _DONE = int(Event.STARTED), int(Event.FINISHED), int(Outcome.DONE)

_LOOK_S = 0.05
_TURNS = 200
"""Of a loop between two looks at the clock: about 10 us, the most by which work takes too long."""


class PlannedFailure(Exception):
    """What a body raises on purpose."""


def payload(
    service_s: float,
    mode: Mode = "sleep",
    fates: Sequence[Fate] = (),
    rest: Fate = "done",
    filler: str = "",
) -> dict[str, Any]:
    """
    What the body is told; only what is not the default is sent.

    Args:
        service_s: Seconds that each attempt takes before it ends, as far as the machine allows.
        mode: `sleep` waits; `cpu` keeps the interpreter busy for so much time of its thread, however long that takes.
        fates: Of the first attempts, in order.
        rest: Of all later ones; `error` makes the job a poisoned one.
        filler: For the size of the payload; passed over.
    """
    plan: dict[str, Any] = {"service_s": service_s}
    if mode != "sleep":
        plan["mode"] = mode
    if fates:
        plan["fates"] = list(fates)
    if rest != "done":
        plan["rest"] = rest
    if filler:
        plan["filler"] = filler
    return plan


def run(context: Context) -> None:
    """One attempt, as its payload plans it."""
    recorder = process_recorder()
    if recorder is None:
        _attempt(context)
        return
    number, attempt, token = number_of(context.job.id), context.attempt, context.token
    due_at, leased_at = context.due_at, context.leased_at
    recorder.record(_STARTED, number, attempt, token, 0, due_at, leased_at, math.nan, recorder.worker())
    try:
        _attempt(context)
    except PlannedFailure as failure:
        _finish(recorder, number, context, failure)
        raise
    recorder.record(_FINISHED, number, attempt, token, _DONE)


def _finish(recorder: Recorder, number: int, context: Context, failure: PlannedFailure) -> None:
    error = recorder.text(f"{type(failure).__name__}: {failure}")
    recorder.record(Event.FINISHED, number, context.attempt, context.token, outcome=Outcome.FAILED, error=error)


def _attempt(context: Context) -> None:
    plan: dict[str, Any] = context.job.payload
    service_s: float = plan["service_s"]
    if service_s > 0:
        if plan.get("mode") == "cpu":
            burn(service_s)
        else:
            be_punctual()
            time.sleep(service_s)
    fates = plan.get("fates", ())
    match fates[context.attempt - 1] if context.attempt <= len(fates) else plan.get("rest", "done"):
        case "error":
            # The same words each time, as a body of its kind would say.
            raise PlannedFailure("this attempt fails on purpose")
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while not context.cancelled:
                time.sleep(_LOOK_S)
            raise PlannedFailure("this attempt hung until it was told that nobody waits for it")


def burn(cpu_s: float) -> int:
    """Keep the interpreter busy until this thread has used `cpu_s` seconds of a core; gives what nobody needs."""
    end = time.thread_time() + cpu_s
    total = 0
    while time.thread_time() < end:
        for turn in range(_TURNS):
            total += turn & 3
    return total
