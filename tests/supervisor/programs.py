"""Processors that worker processes run by name."""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from allocator.supervisor import Context


def pid(context: Context) -> int:
    """Tell which process it was."""
    return os.getpid()


def write_pid(context: Context) -> None:
    """Append the process's number to a file."""
    with open(context.job.payload["path"], "a") as file:
        file.write(f"{os.getpid()}\n")


def die(context: Context) -> None:
    """As if someone had typed kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_die(context: Context) -> None:
    """Leave a fork behind, which has everything open that this process had, and its number in a file."""
    if (pid := os.fork()) == 0:
        signal.pause()
    with open(context.job.payload["path"], "w") as file:
        file.write(str(pid))
    die(context)


def stop_itself(context: Context) -> None:
    """As if someone had typed kill -STOP, having told which process it is."""
    write_pid(context)
    os.kill(os.getpid(), signal.SIGSTOP)


def die_of_a_nameless_signal(context: Context) -> None:
    """As if someone had typed kill -40."""
    os.kill(os.getpid(), 40)


def talk_nonsense(context: Context) -> None:
    """Say to the supervisor what it cannot read."""
    with Connection(int(sys.argv[1])) as connection:
        connection.send_bytes(b"nonsense")
        threading.Event().wait()


def leave(context: Context) -> None:
    """End the process without a word."""
    os._exit(3)


def crash(context: Context) -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def raise_system_exit(context: Context) -> None:
    """What a worker must not survive."""
    raise SystemExit(4)


def hang(context: Context) -> None:
    """Never end."""
    threading.Event().wait()


def hang_telling(context: Context) -> None:
    """Never end, and tell that it has begun."""
    with open(context.job.payload["path"], "w") as file:
        file.write(str(os.getpid()))
    threading.Event().wait()


def hang_in_c(context: Context) -> None:
    """Never end, and keep the interpreter to itself."""
    ctypes.PyDLL(None).pause()


def fail(context: Context) -> None:
    """The plain kind of failure."""
    raise ValueError("no such colour")


class Unspeakable(Exception):
    """One that fails even at saying what it is."""

    def __str__(self) -> str:
        raise RuntimeError("there are no words")


def fail_without_words(context: Context) -> None:
    """With an error that has no text."""
    raise Unspeakable


def fail_at_a_name(context: Context) -> None:
    """As over a file whose name is no UTF-8."""
    raise FileNotFoundError("nothing at caf\udce9.txt")


def fork_and_come_back(context: Context) -> str:
    """As one does who forgets to end the fork, here after it has come back."""
    fork = os.fork()
    if not fork:
        context.progress(1, message="from the fork")
        return "of the fork"
    os.waitpid(fork, 0)
    return "of the job"


def name_itself(context: Context) -> str:
    """Tell which job it was."""
    return context.job.id


def tell_halves(context: Context) -> None:
    """Progress in fractions, with a message that is no UTF-8."""
    context.progress(0.5, 1.5, "caf\udce9.txt")


def tell_no_number(context: Context) -> None:
    """Progress that no store could take."""
    context.progress(float("nan"))


def give_a_name(context: Context) -> str:
    """A result that JSON cannot carry."""
    return "caf\udce9.txt"


async def co(context: Context) -> str:
    """A coroutine."""
    await asyncio.sleep(0)
    return "done"


def write_lease(context: Context) -> None:
    """Tell what the body sees of its lease, and under whose name it runs."""
    with open(context.job.payload["path"], "w") as file:
        file.write(f"{context.due_at!r} {context.leased_at!r} {threading.current_thread().name}")
