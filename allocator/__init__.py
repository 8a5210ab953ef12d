"""allocator: a job queue whose word can be checked."""

from allocator.domain.backoff import Backoff
from allocator.domain.clock import Clock, ManualClock
from allocator.domain.deadletter import Attempt, DeadLetter
from allocator.domain.errors import (
    AllocatorError,
    InvalidJob,
    LeaseLost,
    NewerVersion,
    QueueClosed,
    QueueDamaged,
    QueueForked,
    QueueFull,
    QueueUnavailable,
)
from allocator.domain.job import Job
from allocator.domain.lease import Lease, Nack, Release
from allocator.domain.states import State
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue

__all__ = [
    "AllocatorError",
    "Attempt",
    "Backoff",
    "Clock",
    "DeadLetter",
    "InvalidJob",
    "Job",
    "Lease",
    "LeaseLost",
    "ManualClock",
    "Nack",
    "NewerVersion",
    "Queue",
    "QueueClosed",
    "QueueDamaged",
    "QueueForked",
    "QueueFull",
    "QueueUnavailable",
    "Release",
    "State",
    "open_queue",
]
__version__ = "0.1.0"
