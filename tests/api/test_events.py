"""Uploads followed live: what is told, when it is told again, and how little the database is asked for it."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from anyio import CapacityLimiter

from allocator.api import watching
from allocator.api.views import ProgressView
from allocator.api.watching import Standing, Watch
from allocator.persistence import StoreUnavailable
from tests.api.servers import INGEST, OBJECTS, ApiServer, problem, run_apart
from tests.ingest.samples import a_picture


class Event(NamedTuple):
    """One event of a stream."""

    name: str
    id: str | None
    data: Any


def events_of(lines: Iterable[str]) -> Iterable[Event]:
    """The events of a stream, as they come."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            field, _, value = line.partition(": ")
            fields[field] = value
        else:
            if "event" in fields:
                yield Event(fields["event"], fields.get("id"), json.loads(fields["data"]))
            fields = {}


def followed(server: ApiServer, upload_id: str, last_id: str | None = None) -> list[Event]:
    """All events of an upload, until the stream ends."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    with server.client.stream("GET", f"{INGEST}/{upload_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events_of(response.iter_lines()))


def test_an_upload_is_followed_live(server: ApiServer) -> None:
    """Each object at every change, the counts after them, and the end, after which the stream closes."""
    accepted = server.send(*[(f"{number}.png", a_picture(size=(20 + number, 30))) for number in range(5)])

    events = followed(server, accepted["job_id"])

    counts = [event.data["done"] for event in events if event.name == "progress"]
    last = {event.data["id"]: event.data for event in events if event.name == "object"}
    assert counts == sorted(counts)
    assert (events[-1].name, events[-1].data["status"], events[-1].data["done"]) == ("end", "done", 5)
    assert list(last) == accepted["system_ids"]
    assert {(one["state"], one["path"] is None) for one in last.values()} == {("done", False)}
    problem(server.client.get(f"{INGEST}/nobody/events"), 404)


def test_who_connects_again_hears_what_is_new(server: ApiServer) -> None:
    """All of it after a standing that has changed; after the last one nothing, and 204 tells a browser to stop."""
    accepted = server.send(("one.txt", b"one"), ("two.txt", b"two"))
    events = followed(server, accepted["job_id"])
    (last_id,) = [event.id for event in events if event.name == "progress"][-1:]

    again = followed(server, accepted["job_id"], "what it was before")
    stopped = server.client.get(f"{INGEST}/{accepted['job_id']}/events", headers={"Last-Event-ID": last_id})

    assert [event.name for event in again] == ["object", "object", "progress", "end"]
    assert stopped.status_code == 204


def test_an_upload_that_was_deleted_is_not_followed(server: ApiServer) -> None:
    """There is none any more, and that is said."""
    accepted = server.send(("gone.txt", b"gone"))
    server.finished(accepted["job_id"])

    assert server.client.delete(f"{OBJECTS}/{accepted['system_ids'][0]}").status_code == 204

    problem(server.client.get(f"{INGEST}/{accepted['job_id']}/events"), 404)


def standing(number: int) -> Standing:
    """One that differs from that of another number."""
    return Standing(str(number), ProgressView(queued=1, processing=0, done=0, failed=0, total=1), {"a": "{}"})


def test_an_upload_is_looked_at_once_for_all_who_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come at a time; and again when the pause is over."""
    monkeypatch.setattr(watching, "POLL_S", (60.0, 60.0))
    looks: list[int] = []
    began = threading.Event()

    def look() -> Standing:
        looks.append(1)
        began.wait(10)
        return standing(len(looks))

    async def follow() -> Counter[str]:
        watch = Watch(look, CapacityLimiter(1))
        waiting = [asyncio.ensure_future(watch.standing()) for _ in range(100)]
        await asyncio.sleep(0)
        began.set()
        first = Counter([(await one).id for one in waiting])
        watch.next_at = float("-inf")
        return first + Counter([(await watch.standing()).id for _ in range(100)])

    assert run_apart(follow) == {"1": 100, "2": 100}


def test_a_look_that_takes_long_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most a tenth of the time is spent on it, however large the upload."""
    now = 1000.0

    def look() -> Standing:
        nonlocal now
        now += 3.0
        return standing(1)

    async def next_at() -> float:
        watch = Watch(look, CapacityLimiter(1))
        await watch.standing()
        return watch.next_at

    monkeypatch.setattr(watching.anyio, "current_time", lambda: now)

    assert run_apart(next_at) == 1003.0 + 30.0


def test_a_database_that_is_down_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everybody hears of the same failure, and of the next look's success."""
    monkeypatch.setattr(watching, "POLL_S", (60.0, 60.0))
    looks: list[int] = []

    def look() -> Standing:
        looks.append(1)
        if len(looks) == 1:
            raise StoreUnavailable(f"sqlite:///{tmp_path}", "down", "gone", "Start it")
        return standing(len(looks))

    async def follow() -> tuple[list[BaseException | Standing], Standing]:
        watch = Watch(look, CapacityLimiter(1))
        failed = await asyncio.gather(*[watch.standing() for _ in range(10)], return_exceptions=True)
        watch.next_at = float("-inf")
        return failed, await watch.standing()

    failed, then = run_apart(follow)

    assert [type(one) for one in failed] == [StoreUnavailable] * 10
    assert then.id == "2"
