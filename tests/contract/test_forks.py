"""A queue object is of the process that opened it: a forked child is refused, and harms nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.builders import Clients, counts

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

SCRIPT = """
import json, os, sys, threading
from allocator import Job, QueueForked, open_queue

url, name = sys.argv[1:]
queue, other = open_queue(url, name=name), open_queue(url, name=name)
queue.enqueue_many([Job(type="json", id="held"), Job(type="json", id="dead"), Job(type="json", id="child")])
lease, doomed = queue.dequeue_many(2, timeout=0)
queue.nack(doomed, "broken", dead=True)
queue.pause()

# A thread that waits while the process forks: it exists in the parent only, and must not notice.
taken = []
waits, wait = threading.Event(), other._wait
other._wait = lambda seconds: (waits.set(), wait(seconds))
blocked = threading.Thread(target=lambda: taken.append(other.dequeue(timeout=None)))
blocked.start()
waits.wait(20)

uses = {
    "enqueue": lambda: queue.enqueue(Job(type="json")),
    "enqueue_many": lambda: queue.enqueue_many([Job(type="json")]),
    "dequeue": lambda: queue.dequeue(timeout=0),
    "dequeue_blocking": lambda: queue.dequeue(timeout=None),
    "dequeue_many": lambda: queue.dequeue_many(3, timeout=0),
    "dequeue_other": lambda: other.dequeue(timeout=None),
    "extend": lambda: queue.extend(lease),
    "extend_many": lambda: queue.extend_many([lease]),
    "ack": lambda: queue.ack(lease),
    "nack": lambda: queue.nack(lease, "broken"),
    "release": lambda: queue.release(lease),
    "settle": lambda: queue.settle(acks=[lease]),
    "size": lambda: queue.size(),
    "counts": lambda: queue.counts(),
    "find": lambda: queue.find(["held"]),
    "dead_letters": lambda: queue.dead_letters(),
    "requeue_dead": lambda: queue.requeue_dead("dead"),
    "purge_dead": lambda: queue.purge_dead(all=True),
    "cancel": lambda: queue.cancel("held"),
    "reap": lambda: queue.reap(),
    "pause": lambda: queue.pause(),
    "resume": lambda: queue.resume(),
}
read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    told = {}
    for use, act in uses.items():
        try:
            told[use] = f"returned {act()!r}"
        except QueueForked as error:
            told[use] = str(error)
        except BaseException as error:
            told[use] = repr(error)
    queue.close()
    other.close()
    if not url.startswith("memory:"):
        with open_queue(url, name=name) as own:
            told["own"] = own.enqueue(Job(type="json", id="own")).id
    os.write(write_end, json.dumps(told).encode())
    os._exit(0)
os.close(write_end)
with os.fdopen(read_end) as pipe:
    told = json.loads(pipe.read())
os.waitpid(child, 0)
queue.ack(lease)
queue.resume()
blocked.join(20)
print(json.dumps({
    "uses": list(uses),
    "told": told,
    "blocked": [lease.job.id for lease in taken],
    "alive": blocked.is_alive(),
    "counts": queue.counts(),
}))
queue.close()
other.close()
"""


def test_a_forked_child_is_refused_and_harms_nothing(open_client: Clients) -> None:
    """Every call says what to do instead; the parent, and a thread of it that waits, go on as if nothing had been."""
    program = subprocess.run(
        [sys.executable, "-c", SCRIPT, open_client.url, open_client.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert program.returncode == 0, program.stderr
    report = json.loads(program.stdout)
    own = report["told"].pop("own", None)
    assert report["uses"] == list(report["told"])
    wrong = {use: text for use, text in report["told"].items() if "opened before a fork" not in text}
    assert wrong == {}
    assert "open a queue of its own there, or start processes with the 'spawn' method" in report["told"]["ack"]
    assert (report["blocked"], report["alive"]) == (["child"], False)
    in_process = open_client.url.startswith("memory:")
    assert (None if in_process else "own") == own
    assert counts(ready=0 if in_process else 1, leased=1, dead=1, done=1) == report["counts"]
