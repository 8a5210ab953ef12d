"""
The checker: whether what was seen of a run can be believed of a queue that loses nothing.

It knows nothing of queue, supervisor and store. It compares what clients did, what job bodies wrote down themselves,
what store and queue say at the end and which faults were made, and gives a verdict on each of twelve promises.

    history     the evidence: what may be known of a run, any part of which may be missing
    verdicts    the promises by name, and what came of each
    judging     `check` and `check_parts`: from a history, or the parts of one, to its judgement
    frames      a history from the pandas frames of a run, in parts if they are large
    controls    bugs that must be caught, and the verdicts that must catch them
"""

from allocator.bench.checker.history import (
    Attempt,
    Enqueue,
    Fault,
    History,
    Layout,
    Letter,
    Record,
    Removal,
    Run,
    Stop,
)
from allocator.bench.checker.judging import check, check_parts
from allocator.bench.checker.verdicts import PROMISES, Judgement, Promise, Verdict

__all__ = [
    "PROMISES",
    "Attempt",
    "Enqueue",
    "Fault",
    "History",
    "Judgement",
    "Layout",
    "Letter",
    "Promise",
    "Record",
    "Removal",
    "Run",
    "Stop",
    "Verdict",
    "check",
    "check_parts",
]
