"""What is measured, part by part: the API, and beside it the bare work."""

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from allocator.bench.ingest.archive import fill
from allocator.bench.ingest.bare import BareStore
from allocator.bench.ingest.server import FORM_END, Client, client_of, form_head, form_of, payload_form, running

PARTS = {
    "files": "many small files by several clients",
    "large": "one large file, and the memory of the server",
    "accept": "how soon a small payload is accepted, at a fixed rate",
    "status": "reading the status of an upload among many assets",
    "pages": "listing many assets, page by page",
}

FILE_BYTES = 20_000
CLIENTS = 8
TOGETHER = 32
"""Files of a request, as `allocator ingest` sends small ones."""

WARM_UP_FILES = 64
"""Sent before the clock starts, so that each worker process has some."""

BLOCK_BYTES = 1024 * 1024
PAYLOAD_BYTES = 1000
ACCEPT_PER_S = 100.0
SENDERS = 16
"""Connections of the open loop: as many uploads as a server reads at a time."""

IDLE_LOOK_S = 0.02
SPIN_S = 0.0003
PAGE = 1000


@dataclass(frozen=True)
class Profile:
    """
    How much is measured.

    Args:
        files: In each round.
        large_bytes: Size of the large file.
        accept_s: Seconds of the open loop in each round.
        assets, reads: In the database, and how often a status is read.
    """

    files: int
    large_bytes: int
    accept_s: float
    assets: int
    reads: int
    rounds: int
    large_rounds: int
    accept_rounds: int


FULL = Profile(2000, 1024**3, 20.0, 1_000_000, 2000, 5, 3, 3)
QUICK = Profile(400, 256 * 1024**2, 3.0, 50_000, 300, 2, 1, 1)


@dataclass
class Figures:
    """Arm -> values: of a rate one each round, of latencies all of a round in a list of their own."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    grown_bytes: list[float] = field(default_factory=list)

    def rate(self, arm: str, value: float) -> None:
        self.rates.setdefault(arm, []).append(value)

    def latencies(self, arm: str, values: list[float]) -> None:
        self.seconds.setdefault(arm, []).append(values)


Sender = TypeVar("Sender")

Told = Callable[[str], None]
"""Is told what is being measured."""


def in_turns(round_number: int, *arms: Callable[[], None]) -> None:
    """Run each; the order alternates, so that drift of the machine falls on all."""
    for arm in arms if round_number % 2 == 0 else reversed(arms):
        arm()


def measure_files(profile: Profile, told: Told) -> Figures:
    """
    Files a second: by clients through the API, one and several in a request, with and without workers beside it, and in
    the bare loop; where there are workers, also until the last file is placed.

    All files stay until the last round has ended: where many were deleted a moment ago, a file system may take far
    longer to create one. Ext4 without a journal leaves their inodes alone for a minute or more, and searches past them.
    """
    figures = Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-bench-")))
        bare = BareStore(folder / "bare")
        stack.callback(bare.close)
        for round_number in range(profile.rounds):

            def through_api(arm: str, processes: int, size: int = 1, number: int = round_number) -> None:
                told(f"{arm}, round {number + 1}")
                # A new server each round: what workers still have to do must not fall on the next.
                own = folder / f"{arm} {number}"
                own.mkdir()
                with running(processes, own) as server:
                    _warm_up(server.port, processes)
                    count, took_s = _send_by_clients(server.port, profile.files, size)
                    figures.rate(arm, count / took_s)
                    if processes:
                        figures.rate(f"{arm}, placed", count / (took_s + _seconds_until_idle(server.port)))

            def alone(number: int = round_number) -> None:
                told(f"bare loop, round {number + 1}")
                contents = [os.urandom(FILE_BYTES) for _ in range(profile.files)]
                start = time.perf_counter()
                for place, content in enumerate(contents):
                    bare.put(f"{place}.bin", (content,))
                figures.rate("bare", profile.files / (time.perf_counter() - start))

            in_turns(
                round_number,
                alone,
                lambda: through_api("api", 2),
                lambda: through_api("api alone", 0),
                lambda: through_api("api together", 2, TOGETHER),
            )
    return figures


def _warm_up(port: int, processes: int) -> None:
    """The first files load what server and workers need for any, as the bare loop has before its clock starts."""
    _send_by_clients(port, WARM_UP_FILES, 1)
    if processes:
        _seconds_until_idle(port)


def _send_by_clients(port: int, count: int, size: int) -> tuple[int, float]:
    """Send about so many files, so many in a request; gives how many, and seconds until all of them were accepted."""
    shares = [
        [
            form_of({f"{client}-{request}-{number}.bin": os.urandom(FILE_BYTES) for number in range(size)})
            for request in range(max(1, count // CLIENTS // size))
        ]
        for client in range(CLIENTS)
    ]
    together = threading.Barrier(CLIENTS + 1)

    def work(bodies: list[bytes]) -> None:
        with client_of(port) as client:
            # The connection is made before the clock starts.
            client.get("/live")
            together.wait()
            for body in bodies:
                client.post(body)

    with ThreadPoolExecutor(CLIENTS) as pool:
        done = [pool.submit(work, share) for share in shares]
        together.wait()
        start = time.perf_counter()
        for one in done:
            one.result()
        return size * sum(map(len, shares)), time.perf_counter() - start


def _seconds_until_idle(port: int) -> float:
    """Until no job waits and none is at work."""
    start = time.perf_counter()
    with client_of(port) as client:
        while True:
            counts = msgspec.json.decode(client.get("/api/v1/queue"))["counts"]
            if not any(counts[state] for state in ("ready", "scheduled", "leased")):
                return time.perf_counter() - start
            time.sleep(IDLE_LOOK_S)


def measure_large(profile: Profile, told: Told) -> Figures:
    """Bytes a second of one large file, and by how many bytes the server grows; beside it the same bytes locally."""
    figures = Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-bench-")))
        bare = BareStore(folder / "bare")
        stack.callback(bare.close)
        server = stack.enter_context(running(2))
        # The first upload loads what the server needs for any.
        with client_of(server.port) as client:
            client.post(form_of({"first.bin": os.urandom(FILE_BYTES)}))
        for round_number in range(profile.large_rounds):
            block = os.urandom(BLOCK_BYTES)
            count = profile.large_bytes // BLOCK_BYTES

            def through_api(number: int = round_number, block: bytes = block, count: int = count) -> None:
                told(f"large file, round {number + 1}")
                head = form_head("large.bin")
                with client_of(server.port) as client, server.peak_rss() as seen:
                    client.get("/live")
                    start = time.perf_counter()
                    body = _large_form(head, block, count)
                    client.post(body, len(head) + count * len(block) + len(FORM_END))
                    figures.rate("api", count * len(block) / (time.perf_counter() - start))
                figures.grown_bytes.append(seen[1] - seen[0])

            def alone(number: int = round_number, block: bytes = block, count: int = count) -> None:
                told(f"large file, locally, round {number + 1}")
                start = time.perf_counter()
                bare.put("large.bin", (block for _ in range(count)))
                figures.rate("bare", count * len(block) / (time.perf_counter() - start))

            in_turns(round_number, alone, through_api)
    return figures


def _large_form(head: bytes, block: bytes, count: int) -> Iterator[bytes]:
    yield head
    for _ in range(count):
        yield block
    yield FORM_END


def measure_accept(profile: Profile, told: Told) -> Figures:
    """
    Seconds until a payload of 1 kB is accepted, from when it was to be sent: requests come at a fixed rate, and wait
    for no answer to the one before. Beside it the bare work on the same schedule.
    """
    figures = Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="allocator-bench-")))
        bare = BareStore(folder / "bare")
        stack.callback(bare.close)
        server = stack.enter_context(running(2))
        count = int(ACCEPT_PER_S * profile.accept_s)
        for round_number in range(profile.accept_rounds):

            def through_api(number: int = round_number) -> None:
                told(f"payloads, round {number + 1}")
                bodies = [payload_form(PAYLOAD_BYTES) for _ in range(count)]
                with ExitStack() as connections:
                    # New ones each round: a server hangs up on those that were idle meanwhile.
                    clients = [connections.enter_context(client_of(server.port)) for _ in range(SENDERS)]
                    for client in clients:
                        client.post(payload_form(PAYLOAD_BYTES))
                    taken, late = _open_loop(count, clients, lambda place, client: client.post(bodies[place]))
                figures.latencies("api", taken)
                figures.latencies("late", late)

            def alone(number: int = round_number) -> None:
                told(f"payloads, bare, round {number + 1}")
                contents = [os.urandom(PAYLOAD_BYTES) for _ in range(count)]
                senders = [None] * SENDERS
                taken, _ = _open_loop(count, senders, lambda place, _: bare.put("payload.json", (contents[place],)))
                figures.latencies("bare", taken)

            in_turns(round_number, alone, through_api)
    return figures


def _open_loop(
    count: int, senders: Sequence[Sender], operation: Callable[[int, Sender], object]
) -> tuple[list[float], list[float]]:
    """Seconds from the intended instant to the end of each operation; and how late each was begun."""
    taken, late = [0.0] * count, [0.0] * count
    places = iter(range(count))
    drawing = threading.Lock()
    began = time.perf_counter() + 0.1

    def work(sender: Sender) -> None:
        while True:
            with drawing:
                place = next(places, None)
            if place is None:
                return
            intended = began + place / ACCEPT_PER_S
            while (left := intended - time.perf_counter()) > 0:
                # Sleep oversleeps; the last of it is spun.
                if left > SPIN_S:
                    time.sleep(left - SPIN_S)
            late[place] = time.perf_counter() - intended
            operation(place, sender)
            taken[place] = time.perf_counter() - intended

    with ThreadPoolExecutor(len(senders)) as pool:
        for one in [pool.submit(work, sender) for sender in senders]:
            one.result()
    return taken, late


def measure_reading(profile: Profile, told: Told, parts: list[str]) -> dict[str, Figures]:
    """Status reads and pages of one database with many assets, each as a client of the API sees it."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="allocator-bench-") as made:
        folder = Path(made)
        written = 0

        def advance(count: int) -> None:
            nonlocal written
            written += count
            told(f"{written:,} of {profile.assets:,} assets written")

        ids = fill(folder, profile.assets, advance)
        with running(0, folder) as server, client_of(server.port) as client:
            if "status" in parts:
                told("status reads")
                found["status"] = _status(client, ids, profile.reads)
            if "pages" in parts:
                found["pages"] = _pages(client, profile.assets, told)
    return found


def _status(client: Client, ids: list[str], reads: int) -> Figures:
    figures = Figures()
    draw = random.Random(7)
    taken: dict[str, list[float]] = {"api": [], "bare": []}
    for upload_id in draw.choices(ids, k=reads):
        for arm, path in (("api", f"/api/v1/ingest/{upload_id}/status"), ("bare", "/live")):
            start = time.perf_counter()
            client.get(path)
            taken[arm].append(time.perf_counter() - start)
    for arm, values in taken.items():
        figures.latencies(arm, values)
    return figures


def _pages(client: Client, count: int, told: Told) -> Figures:
    figures = Figures()
    taken: list[float] = []
    seen, after = 0, ""
    while True:
        start = time.perf_counter()
        content = client.get(f"/api/v1/objects?limit={PAGE}{after}")
        taken.append(time.perf_counter() - start)
        page: dict[str, Any] = msgspec.json.decode(content)
        seen += len(page["objects"])
        if len(taken) % 20 == 0:
            told(f"{seen:,} of {count:,} assets listed")
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    if seen != count:
        raise RuntimeError(f"{seen:,} of {count:,} assets were listed")
    figures.latencies("api", taken)
    return figures
