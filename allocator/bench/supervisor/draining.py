"""Programs that empty a queue: how fast, with how much memory, and with how many cores."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

import psutil

from allocator.bench.scratch import scratch_queue, scratch_store
from allocator.domain.job import Job
from allocator.persistence import Store
from allocator.queue.base import Queue
from allocator.supervisor import Context, Supervisor

GROUP = 64
"""As the supervisor settles."""

LIST = 1000
DRAIN_S = 900.0


def nothing(context: Context) -> None:
    """The job whose only cost is the machinery around it."""


def fill(queue: Queue, count: int, store: Store | None = None) -> None:
    """Put no-op jobs in, through the store if there is one."""
    for start in range(0, count, LIST):
        jobs = [Job(type="bench", payload=None) for _ in range(min(LIST, count - start))]
        if store is None:
            queue.enqueue_many(jobs)
        else:
            store.submit_many(queue, jobs)


def empty(queue: Queue, count: int) -> None:
    """The bare loop: take a group, settle it."""
    done = 0
    while done < count:
        leases = queue.dequeue_many(GROUP, timeout=0)
        if not leases:
            raise RuntimeError(f"queue {queue.name} ran dry after {done} of {count} jobs")
        queue.settle(acks=leases)
        done += len(leases)


def drain_all(supervisor: Supervisor, count: int) -> None:
    """Wait until the queue is empty; `count` is how many jobs must be done by then."""
    if not supervisor.drain(DRAIN_S):
        raise RuntimeError(f"not empty after {DRAIN_S:g} s: {supervisor.stats()}")
    done = supervisor.stats().done
    # A count that is not right would make the rate a lie.
    deadline = time.monotonic() + 5.0
    while done != count and time.monotonic() < deadline:
        time.sleep(0.01)
        done = supervisor.stats().done
    if done != count:
        raise RuntimeError(f"{done} of {count} jobs were done: {supervisor.stats()}")


def bare_loop(url: str, count: int) -> dict[str, list[float]]:
    """Jobs a second of the bare loop."""
    with scratch_queue(url, "bare") as queue:
        fill(queue, count)
        start = time.perf_counter()
        empty(queue, count)
        return {"rate": [count / (time.perf_counter() - start)]}


def drain(url: str, count: int, store_url: str | None = None) -> dict[str, list[float]]:
    """
    Jobs a second of a supervisor, from its start until the queue is empty.

    With a store the first comparison of store and queue falls into that time.
    """
    with ExitStack() as stack:
        queue = stack.enter_context(scratch_queue(url, "drain"))
        store = None if store_url is None else stack.enter_context(scratch_store(store_url))
        start = time.perf_counter()
        fill(queue, count, store)
        filled = time.perf_counter()
        with Supervisor(queue, {"bench": nothing}, store=store) as supervisor:
            drain_all(supervisor, count)
            took_s = time.perf_counter() - filled
        return {"rate": [count / took_s], "submit_rate": [count / (filled - start)]}


def memory(url: str, count: int, wave: int, bare: bool) -> dict[str, list[float]]:
    """
    Resident bytes of a process that fills and empties a queue in waves.

    Returns:
        `jobs` done and `rss` after each wave, with the start in front.
    """
    process = psutil.Process()
    jobs, rss = [0.0], []
    with ExitStack() as stack:
        queue = stack.enter_context(scratch_queue(url, "memory"))
        supervisor = None
        if not bare:
            supervisor = stack.enter_context(Supervisor(queue, {"bench": nothing}))
        rss.append(float(process.memory_info().rss))
        for done in range(wave, count + 1, wave):
            fill(queue, wave)
            if supervisor is None:
                empty(queue, wave)
            else:
                drain_all(supervisor, done)
            jobs.append(float(done))
            rss.append(float(process.memory_info().rss))
    return {"jobs": jobs, "rss": rss}


def spin(turns: int) -> int:
    """Keep an interpreter busy."""
    total = 0
    for turn in range(turns):
        total += turn & 3
    return total


def busy(context: Context) -> int:
    """A job that does nothing but compute."""
    return spin(context.job.payload)


def turns_for(seconds: float) -> int:
    """How many turns of `spin` take so long here, by the fastest of some."""
    tries = []
    for _ in range(7):
        start = time.perf_counter()
        spin(100_000)
        tries.append(time.perf_counter() - start)
    return int(100_000 * seconds / min(tries))


def scaling(turns: int, count: int) -> dict[str, list[float]]:
    """
    CPU-bound jobs a second of two processes, of two threads, and of the bare machine.

    Returns:
        `processes`, `workers`: jobs a second. `machine`: turns a second of two bare programs at once over those of one.
    """
    alone, together = _bare_programs(1, turns * count // 4), _bare_programs(2, turns * count // 4)
    return {
        "workers": [_busy_rate(turns, count, workers=2)],
        "processes": [_busy_rate(turns, count, processes=2)],
        "machine": [2 * alone / together],
    }


def _busy_rate(turns: int, count: int, workers: int | None = None, processes: int = 0) -> float:
    name = f"{busy.__module__}:{busy.__name__}"
    with (
        scratch_queue("memory://", "busy") as queue,
        Supervisor(queue, {"busy": name}, workers=workers, processes=processes) as supervisor,
    ):
        # Until each process is up and knows the pace.
        warm_up = 8
        queue.enqueue_many([Job(type="busy", payload=turns) for _ in range(warm_up)])
        drain_all(supervisor, warm_up)
        start = time.perf_counter()
        queue.enqueue_many([Job(type="busy", payload=turns) for _ in range(count)])
        drain_all(supervisor, warm_up + count)
        return count / (time.perf_counter() - start)


def _bare_programs(number: int, turns: int) -> float:
    """Seconds until so many programs that start together have made their turns, start-up excluded."""
    code = (
        "import sys; from allocator.bench.supervisor.draining import spin; "
        "print(flush=True); sys.stdin.readline(); spin(int(sys.argv[1])); print(flush=True)"
    )
    command: Sequence[str] = [sys.executable, "-c", code, str(turns)]
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(number)
    ]
    for program in programs:
        assert program.stdout is not None
        program.stdout.readline()
    start = time.perf_counter()
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        assert program.stdout is not None
        program.stdout.readline()
    took_s = time.perf_counter() - start
    for program in programs:
        program.communicate()
    return took_s
