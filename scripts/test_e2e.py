"""
The whole system end to end, on each backend found: store, queue, supervisor, retries, dead letters, status.

    .venv/bin/python scripts/test_e2e.py

A line a step; exit status 1 at the first that fails. A backend whose server cannot be had is named and left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from allocator import Backoff, Job, Queue
from allocator.bench.scratch import scratch_queue
from allocator.persistence import JobState, Store, open_store
from allocator.services import ServiceUnavailable, open_postgres, open_redis
from allocator.supervisor import Context, GiveUp, Supervisor

JOBS = 200


def work(context: Context) -> dict[str, int]:
    """Done at the first attempt, at the third, never, or given up: as the payload says."""
    match context.job.payload["kind"]:
        case "retry" if context.attempt < 3:
            raise ValueError("not yet")
        case "broken":
            raise ValueError("no such colour")
        case "refused":
            raise GiveUp("not an image")
    return {"attempt": context.attempt}


def check(step: str, holds: bool, seen: object = "") -> None:
    """Print the step; leave at the first that does not hold."""
    print(f"  {'ok  ' if holds else 'FAIL'} {step}" + ("" if holds else f": {seen}"), flush=True)
    if not holds:
        raise SystemExit(1)


def end_to_end(queue: Queue, store: Store) -> None:
    """One backend."""
    kinds = ["plain"] * JOBS + ["retry", "broken", "refused"]
    jobs = store.submit_many(queue, [Job(type="work", payload={"kind": kind}, max_retries=2) for kind in kinds])
    check(f"{len(jobs)} jobs submitted through store and queue", queue.size() == len(jobs), queue.counts())
    retried, broken, refused = jobs[-3:]

    with Supervisor(queue, {"work": work}, store=store) as supervisor:
        drained = supervisor.drain(timeout=60)
    check("a supervisor drains them", drained, supervisor.stats())
    counts = queue.counts()
    check(f"{JOBS + 1} are done, 2 are dead letters", (counts["done"], counts["dead"]) == (JOBS + 1, 2), counts)

    def stored(job: Job, test: Callable[[JobState, int], bool], step: str) -> None:
        row = store.job(job.id)
        check(step, row is not None and test(row.state, len(row.attempts)), row)

    stored(retried, lambda state, tries: (state, tries) == (JobState.DONE, 3), "the third attempt of one was its last")
    stored(broken, lambda state, tries: (state, tries) == (JobState.DEAD, 3), "one is dead after three attempts")
    stored(refused, lambda state, tries: (state, tries) == (JobState.DEAD, 1), "one was given up at the first")
    check("the store's status agrees", store.counts()["done"] == JOBS + 1, store.counts())
    check("dead letters are put back by their error", queue.requeue_dead(all=True, error="colour") == 1)
    check("and purged", queue.purge_dead(refused.id) == 1, queue.counts())


def main() -> int:
    """Every backend that can be had."""
    with ExitStack() as stack:
        urls = {"in process": "memory://"}
        for name, open_server in (("Redis", open_redis), ("PostgreSQL", open_postgres)):
            try:
                server = stack.enter_context(open_server())
            except ServiceUnavailable as error:
                print(f"{name} is left out: {error}")
                continue
            urls[server.describe()] = server.url
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number, (name, url) in enumerate(urls.items()):
            print(name, flush=True)
            store = stack.enter_context(open_store(f"sqlite:///{folder / f'{number}.db'}"))
            end_to_end(stack.enter_context(scratch_queue(url, "e2e", backoff=Backoff(base=0.05))), store)
    print("all steps hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
