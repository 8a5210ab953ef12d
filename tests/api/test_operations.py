"""Dead letters, figures, health, and the document that describes all of it."""

import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from allocator import open_queue
from allocator.queue.base import erase
from allocator.services import ServiceUnavailable, open_redis
from tests.api.servers import INGEST, LETTERS, OBJECTS, ApiServer, problem
from tests.faults.running import until
from tests.ingest.samples import a_picture


def broken_picture() -> bytes:
    """It begins like a PNG, and is none; no two are the same."""
    return b"\x89PNG\r\n\x1a\n" + uuid.uuid4().bytes * 10


def letters(server: ApiServer) -> dict[str, Any]:
    """The dead letters by the object that they are about."""
    found = server.client.get(LETTERS).json()["dead_letters"]
    return {letter["object_id"]: letter for letter in found}


def test_a_file_that_cannot_be_read_is_a_dead_letter_and_is_kept(server: ApiServer) -> None:
    """At the first attempt, with the reason; put back, it dies again; purged, the file is still there."""
    sent = broken_picture()
    accepted = server.send(("broken.png", sent), ("whole.png", a_picture()))
    broken, whole = accepted["system_ids"]
    status = server.finished(accepted["job_id"])
    letter = letters(server)[broken]

    back = server.client.post(f"{LETTERS}/{letter['job_id']}/requeue")
    until(lambda: letters(server).get(broken, {}).get("attempt_count") == 2, "it has died again")
    purged = server.client.delete(f"{LETTERS}/{letter['job_id']}")
    content = server.client.get(f"{OBJECTS}/{broken}/content")

    assert (status["status"], status["progress"]["failed"], status["progress"]["done"]) == ("failed", 1, 1)
    assert server.object(whole)["state"] == "done"
    assert "image/png" in letter["error"]
    assert server.object(broken)["error"] == letter["error"]
    assert letter["attempt_count"] == len(letter["attempts"]) == 1
    assert back.json() == purged.json() == {"count": 1}
    assert broken not in letters(server)
    assert content.content == sent
    problem(server.client.post(f"{LETTERS}/{letter['job_id']}/requeue"), 404)
    problem(server.client.delete(f"{LETTERS}/{letter['job_id']}"), 404)


def test_a_deleted_object_takes_its_dead_letter_along(server: ApiServer) -> None:
    """There would be nothing to put back."""
    accepted = server.send(("broken.png", broken_picture()))
    (broken,) = accepted["system_ids"]
    server.finished(accepted["job_id"])
    until(lambda: broken in letters(server), "it is a dead letter")

    assert server.client.delete(f"{OBJECTS}/{broken}").status_code == 204

    assert broken not in letters(server)


def test_dead_letters_are_put_back_and_purged_together(server: ApiServer) -> None:
    """Only if that is said, and narrowed by what the error contains."""
    accepted = server.send(*[(f"{n}.png", broken_picture()) for n in range(3)])
    server.finished(accepted["job_id"])
    until(lambda: letters(server).keys() >= set(accepted["system_ids"]), "all are dead letters")

    first = server.client.get(LETTERS, params={"limit": 2}).json()
    second = server.client.get(LETTERS, params={"limit": 2, "after": first["next"]}).json()
    none = server.client.delete(LETTERS, params={"all": "true", "error": "no such error"})
    purged = server.client.delete(LETTERS, params={"all": "true", "type": "media"})

    assert len(first["dead_letters"]) == 2
    assert len(second["dead_letters"]) >= 1
    assert none.json() == {"count": 0}
    assert purged.json()["count"] >= 3
    assert letters(server) == {}
    problem(server.client.delete(LETTERS), 422)
    problem(server.client.post(f"{LETTERS}/requeue", params={"all": "false"}), 422)
    problem(server.client.get(LETTERS, params={"after": "nobody"}), 410)


def test_figures_are_given(server: ApiServer) -> None:
    """The queue's, the workers', and both for Prometheus."""
    server.finished(server.send(("figure.txt", b"figure"))["job_id"])

    # The database hears of an ending first; queue and worker are through with it a moment later.
    figures: dict[str, Any] = {}

    def is_through() -> bool:
        figures.update(server.client.get("/api/v1/queue").json())
        return figures["supervisor"]["workers"] == ["idle"] and bool(figures["supervisor"]["done"])

    until(is_through, "the worker is idle again")
    scraped = server.client.get("/metrics")

    assert figures["counts"]["done"] >= 1
    assert scraped.headers["content-type"].startswith("text/plain")
    assert 'allocator_jobs_done_total{queue="default",type="other"}' in scraped.text
    assert 'allocator_queue_up{queue="default"} 1.0' in scraped.text


def test_ready_names_the_part_that_is_down(narrow: ApiServer) -> None:
    """503 with what is wrong, and ready again when it is mended; the server lives all the while."""
    before = narrow.client.get("/ready")
    incoming, away = narrow.data / "incoming", narrow.data / "away"
    os.rename(incoming, away)
    try:
        during = narrow.client.get("/ready")
        live = narrow.client.get("/live")
        refused = narrow.post(("a", b"a"))
    finally:
        os.rename(away, incoming)
    after = narrow.client.get("/ready")

    assert (before.status_code, after.status_code, live.status_code) == (200, 200, 200)
    assert before.json()["ready"]
    assert during.status_code == 503
    assert [part for part, found in during.json()["parts"].items() if not found["ok"]] == ["objects"]
    assert "incoming" in during.json()["parts"]["objects"]["problem"]
    assert int(refused.headers["retry-after"]) >= 1
    problem(refused, 503)


@pytest.mark.redis
@pytest.mark.service
def test_it_works_on_redis_and_starts_again_where_it_was(redis_url: str, tmp_path: Path) -> None:
    """What was accepted without workers is done by the next server, on the same queue and database."""
    name = f"api-{uuid.uuid4().hex[:12]}"
    where = {"queue_url": redis_url, "queue_name": name}
    try:
        with ApiServer(tmp_path, processes=0, **where) as first:
            accepted = first.send(("a.png", a_picture()), data={"payload": '{"n": 1}'})
            assert first.status(accepted["job_id"])["status"] == "queued"
            assert first.client.get("/ready").json()["ready"]
            # A stream without an end does not keep the server from ending.
            with first.client.stream("GET", f"{INGEST}/{accepted['job_id']}/events") as followed:
                lines = followed.iter_lines()
                assert "event: progress" in lines
                assert first.stop() in (0, -signal.SIGTERM)
                assert "event: end" not in list(lines)
        with ApiServer(tmp_path, processes=1, **where) as second:
            status = second.finished(accepted["job_id"])
            assert second.client.get("/ready").json()["ready"]
    finally:
        for left in (name, f"{name}.ready"):
            with open_queue(redis_url, name=left) as queue:
                erase(queue)

    assert status["status"] == "done"
    assert [one["kind"] for one in status["objects"]] == ["media", "json"]


@pytest.mark.redis
@pytest.mark.service
@pytest.mark.faults
@pytest.mark.full
def test_uploads_are_accepted_while_redis_is_down(tmp_path: Path) -> None:
    """The database has them, `/ready` says what is down, and they are placed once the reconciler has put them back."""
    try:
        redis = open_redis()
    except ServiceUnavailable as error:
        pytest.skip(str(error))
    with redis, ApiServer(tmp_path, processes=1, queue_url=redis.url) as server:
        server.finished(server.send(("before.txt", b"before"))["job_id"])
        redis.stop()

        key = {"Idempotency-Key": "while it is down"}
        accepted = server.send(("during.txt", b"during"), headers=key)
        again = server.send(("during.txt", b"during"), headers=key)
        ready = server.client.get("/ready")
        refused = server.client.get(LETTERS)
        scraped = server.client.get("/metrics")
        redis.start()
        status = server.finished(accepted["job_id"])

        assert again == accepted
        assert [part for part, found in ready.json()["parts"].items() if not found["ok"]] == ["queue"]
        assert ready.status_code == 503
        problem(refused, 503)
        assert 'allocator_queue_up{queue="default"} 0.0' in scraped.text
        assert status["status"] == "done"
        assert server.client.get("/ready").json()["ready"]


def test_the_document_is_whole(narrow: ApiServer) -> None:
    """Every operation is described, its errors are problems, and every reference leads somewhere."""
    document = narrow.client.get("/openapi.json").json()
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]

    assert {path for path, _, _ in operations} >= {
        "/api/v1/ingest",
        "/api/v1/ingest/{job_id}/status",
        "/api/v1/ingest/{job_id}/events",
        "/api/v1/objects",
        "/api/v1/objects/{object_id}",
        "/api/v1/objects/{object_id}/content",
        "/api/v1/dead-letters",
        "/api/v1/queue",
        "/live",
        "/ready",
        "/metrics",
    }
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        for status, response in operation["responses"].items():
            if status >= "400" and path != "/ready":
                assert list(response["content"]) == ["application/problem+json"], f"{where} {status}"
    form = document["paths"]["/api/v1/ingest"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert "files[]" in form["schema"]["properties"]
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    text = json.dumps(document)
    assert {part.split('"')[0] for part in text.split('"$ref": "')[1:]} <= names
    assert "HTTPValidationError" not in text
