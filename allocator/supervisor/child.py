"""
`python -m allocator.supervisor.child FD NAME`: a worker process.

Speaks JSON messages over the socket FD with the supervisor that started it. From there: the processors, then jobs, and
`cancel`. To there: `ready`, then for each job `started`, any number of `progress` and `beat`, and one end. When the
socket is closed the supervisor is gone, and so goes this process, whatever it is at; on Linux the kernel sees to that
also where it is stopped or its interpreter is held in C.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import msgspec

from allocator.domain.lease import Lease
from allocator.supervisor.held import Held
from allocator.supervisor.messages import Reply, Task
from allocator.supervisor.pools import Died, attempt
from allocator.supervisor.processors import Context, resolve_all


class _BeatingHeld(Held):
    """A heartbeat in this process must reach the one that measures the timeout."""

    __slots__ = ("_tell",)

    def __init__(self, lease: Lease, tell: Callable[[Reply], None]) -> None:
        super().__init__(lease, 0.0, time.monotonic())
        self._tell = tell

    def beat(self) -> None:
        self._tell(Reply("beat"))


_PR_SET_PDEATHSIG = 1


def main(descriptor: int, name: str) -> None:
    """Serve until the supervisor goes; jobs run in the main thread, under the worker's name."""
    threading.current_thread().name = name
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A program that a job starts must not keep it open beyond this process.
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    lock = threading.Lock()
    encode = msgspec.json.Encoder().encode
    pid = os.getpid()

    def tell(reply: Reply) -> None:
        # Of a fork that a job makes nobody waits for a word: it would be taken for that of the next job.
        if os.getpid() != pid:
            return
        with lock:
            connection.send_bytes(encode(reply))

    try:
        processors = resolve_all(msgspec.json.decode(connection.recv_bytes(), type=dict[str, str]))
    except ValueError as error:
        tell(Reply("failed", str(error)))
        return
    tell(Reply("ready"))

    tasks: list[Task] = []
    arrived = threading.Semaphore(0)
    current: list[Held] = []

    def listen() -> None:
        decode = msgspec.json.Decoder(Task).decode
        while True:
            try:
                task = decode(connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)
            if task.cancel:
                for held in current:
                    held.lease.cancelled = True
            else:
                tasks.append(task)
                arrived.release()

    threading.Thread(target=listen, name="allocator-listener", daemon=True).start()
    while True:
        arrived.acquire()
        task = tasks.pop(0)
        assert task.job is not None
        held = _BeatingHeld(Lease(task.job, task.attempt, task.token, 0.0, task.due_at, task.leased_at), tell)
        current[:] = [held]
        tell(Reply("started"))
        context = Context(
            held, lambda _, done, total, message: tell(Reply("progress", done=done, total=total, message=message))
        )
        try:
            ending = attempt(processors[task.job.type], context, held)
        except Died as died:
            tell(Reply("died", died.ending.error, died.ending.traceback))
            os._exit(1)
        if os.getpid() != pid:
            # It was to end in the job, which came back twice.
            os._exit(1)
        result = ending.result_json()
        tell(Reply(ending.verb, ending.error, ending.traceback, None if result is None else msgspec.Raw(result)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
