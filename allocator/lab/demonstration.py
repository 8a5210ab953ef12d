"""The lab without hands: what a person would do in it, done by a script, for where there are no controls."""

import time
from collections.abc import Callable

import msgspec
import pandas as pd

from allocator.domain.errors import AllocatorError
from allocator.lab.reading import INTERVAL_S, Reading
from allocator.lab.session import Session
from allocator.lab.settings import Settings

BOUND_S = 60.0
SLOW_PER_S, FAST_PER_S = 20.0, 80.0


class NothingSeen(AllocatorError, TimeoutError):
    """What was to be seen in the lab was not, for a minute."""


def demonstrate(backend: str = "redis") -> pd.DataFrame:
    """
    Work a queue: send more, let attempts fail, kill a worker, put dead letters back.

    Returns:
        A row a step: what was done, what was seen of it, and after how many seconds.
    Raises:
        NothingSeen: A step had no effect within a minute.
    """
    rows: list[dict[str, object]] = []
    settings = Settings(rate_per_s=SLOW_PER_S, max_retries=0)
    with Session(backend, settings, workers=2) as session:

        def see(step: str, seen: str, is_seen: Callable[[Reading], bool]) -> None:
            began = time.monotonic()
            while not is_seen(session.reader.look()):
                if time.monotonic() - began > BOUND_S:
                    raise NothingSeen(f"{step}: {seen!r} was not seen for {BOUND_S:g} s; {session.crew.problem}")
                time.sleep(INTERVAL_S)
            rows.append({"step": step, "seen": seen, "seconds": round(time.monotonic() - began, 1)})

        see("start", "jobs are done", lambda now: (now.throughput_per_s or 0) > 0)
        session.change(msgspec.structs.replace(settings, rate_per_s=FAST_PER_S))
        see("four times the rate", "more jobs arrive", lambda now: (now.arrival_per_s or 0) > 2 * SLOW_PER_S)
        session.kill_worker(0)
        see("kill a worker", "another took its place", lambda _: session.workers()[0].restarts == 1)
        session.change(msgspec.structs.replace(session.settings, failing_share=1.0))
        see("let attempts fail", "there are dead letters", lambda now: (now.dead or 0) > 0)
        session.change(msgspec.structs.replace(session.settings, failing_share=0.0))

        def are_done(now: Reading) -> bool:
            # Again and again: what was under way when the cause was mended may die yet.
            return not session.queue.requeue_dead(all=True) and now.dead == now.backlog == 0

        see("mend the cause, and put them back", "none is dead, none waits", are_done)
    return pd.DataFrame(rows).set_index("step")
