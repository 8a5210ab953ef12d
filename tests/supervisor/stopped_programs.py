"""Processors for worker programs that are stopped and killed: each run leaves a line in a file."""

import ctypes
import os
import time

from allocator.supervisor import Context


def write(context: Context) -> str:
    """Take 10 ms, then say which attempt of which job it was."""
    time.sleep(0.01)
    say(context, "ran")
    return context.token


def hang_once(context: Context) -> str:
    """Never end in the first attempt."""
    say(context, "began")
    if context.attempt == 1:
        time.sleep(600)
    return context.token


def say(context: Context, what: str) -> None:
    """Append a line in one write."""
    line = f"{what} {context.job.id} {context.attempt} {os.getpid()}\n"
    descriptor = os.open(context.job.payload["path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def slow_first(context: Context) -> str:
    """Take a second in the first attempt, time that passes while the process is stopped too."""
    say(context, "began")
    time.sleep(1.0)
    say(context, "ended")
    return context.token


def hold_first(context: Context) -> str:
    """In the first attempt, a C call that lets no other thread of its process run until someone opens the gate."""
    say(context, "began")
    if context.attempt == 1:
        ctypes.PyDLL(None).open(context.job.payload["gate"].encode(), os.O_RDONLY)
    say(context, "ended")
    return context.token
