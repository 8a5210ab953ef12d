"""Objects: found, looked at, given back in ranges, deleted."""

import time
from datetime import UTC, datetime

import pytest

from tests.api.servers import OBJECTS, ApiServer, problem
from tests.ingest.samples import a_picture


def test_a_range_is_given(server: ApiServer) -> None:
    """Parts of the bytes, as long as they are still the same ones."""
    sent = bytes(range(256)) * 40
    accepted = server.send(("range.bin", sent))
    url = f"{OBJECTS}/{accepted['system_ids'][0]}/content"
    head = server.client.head(url)
    etag = head.headers["etag"]

    part = server.client.get(url, headers={"Range": "bytes=100-199"})
    tail = server.client.get(url, headers={"Range": "bytes=-10"})
    same = server.client.get(url, headers={"Range": "bytes=0-0", "If-Range": etag})
    changed = server.client.get(url, headers={"Range": "bytes=0-0", "If-Range": '"another"'})
    beyond = server.client.get(url, headers={"Range": "bytes=99999-"})

    assert (part.status_code, part.content) == (206, sent[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(sent)}"
    assert tail.content == sent[-10:]
    assert (same.status_code, same.content) == (206, sent[:1])
    assert (changed.status_code, changed.content) == (200, sent)
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(len(sent)), "bytes")
    problem(beyond, 416)
    assert beyond.headers["content-range"] == f"bytes */{len(sent)}"
    problem(server.client.get(url, headers={"Range": "bytes=x-y"}), 400)
    assert server.client.get(url, headers={"Range": "lines=1-2"}).content == sent


def test_what_a_client_has_is_not_sent_again(server: ApiServer) -> None:
    """304 where it names the bytes, alone, among others or as any; otherwise they are sent."""
    accepted = server.send(("again.bin", b"again and again"))
    url = f"{OBJECTS}/{accepted['system_ids'][0]}/content"
    etag = server.client.head(url).headers["etag"]

    found = {
        known: server.client.get(url, headers={"If-None-Match": known})
        for known in (etag, f'"another", W/{etag}', "*", '"another"')
    }

    assert [(each.status_code, len(each.content)) for each in found.values()] == [(304, 0)] * 3 + [(200, 15)]
    assert {each.headers["etag"] for each in found.values()} == {etag}


def test_a_page_that_was_sent_does_not_run(server: ApiServer) -> None:
    """HTML comes back with its type, to be saved, and sandboxed."""
    accepted = server.send(("page.html", b"<!doctype html><html><script>alert(1)</script></html>"))

    headers = server.client.get(f"{OBJECTS}/{accepted['system_ids'][0]}/content").headers

    assert headers["content-type"] == "text/html"
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")


def test_objects_are_found(server: ApiServer) -> None:
    """By owner, kind, type, time and text, alone and together."""
    owner = f"finder-{time.time_ns()}"
    server.send(("Été.png", a_picture()), ("notes.txt", b"notes"), data={"owner": owner, "comments": "Holiday"})
    server.send(("other.txt", b"other"), data={"owner": owner})
    now = datetime.now(UTC).isoformat()

    def names(**wanted: str) -> list[str]:
        response = server.client.get(OBJECTS, params={"owner": owner, **wanted})
        assert response.status_code == 200, response.text
        return sorted(one["name"] for one in response.json()["objects"])

    assert names() == ["notes.txt", "other.txt", "Été.png"]
    assert names(kind="media") == names(type="image/png") == names(text="ÉTÉ") == ["Été.png"]
    assert names(text="holiday", kind="other") == ["notes.txt"]
    assert names(received_after=now) == []
    assert len(names(received_before=now)) == 3


def test_pages_give_every_object_once(server: ApiServer) -> None:
    """The last received first, also while others are added."""
    owner = f"pages-{time.time_ns()}"
    ids = server.send(*[(f"{n}", b"%d" % n) for n in range(7)], data={"owner": owner})["system_ids"]
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = server.client.get(OBJECTS, params={"owner": owner, "limit": "3", **after}).json()
        found += [one["id"] for one in page["objects"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
        server.send(("late", b"late"), data={"owner": owner})

    assert found == sorted(ids, reverse=True)
    problem(server.client.get(OBJECTS, params={"after": "no cursor"}), 422)
    problem(server.client.get(OBJECTS, params={"text": "\0"}), 422)
    problem(server.client.get(OBJECTS, params={"kind": "unknown"}), 422)


def test_a_deleted_object_is_gone(server: ApiServer) -> None:
    """From listing and library; its upload goes with its last object, and its key can be used again."""
    key = {"Idempotency-Key": f"gone-{time.time_ns()}"}
    accepted = server.send(("gone.txt", b"soon gone"), headers=key)
    (placed,) = server.finished(accepted["job_id"])["objects"]
    url = f"{OBJECTS}/{placed['id']}"

    deleted = server.client.delete(url)

    assert deleted.status_code == 204
    assert not (server.data / "library" / placed["path"]).is_symlink()
    for path in (url, f"{url}/content"):
        problem(server.client.get(path), 404)
    problem(server.client.delete(url), 404)
    problem(server.client.get(f"/api/v1/ingest/{accepted['job_id']}/status"), 404)
    assert server.send(("gone.txt", b"soon gone"), headers=key)["job_id"] != accepted["job_id"]


def test_what_is_still_worked_on_is_not_deleted(narrow: ApiServer) -> None:
    """409, naming the job; the object stays."""
    object_id = narrow.send(("busy.txt", b"busy"))["system_ids"][0]

    refused = problem(narrow.client.delete(f"{OBJECTS}/{object_id}"), 409)

    assert refused["state"] == "queued"
    assert narrow.object(object_id)["state"] == "queued"


def test_bytes_that_someone_took_away_are_reported(narrow: ApiServer) -> None:
    """410, with their hash: the record is there, the file is not."""
    object_id = narrow.send(("lost.txt", b"bytes that will be lost"))["system_ids"][0]
    sha256 = narrow.object(object_id)["sha256"]
    (narrow.data / "objects" / sha256[:2] / sha256).unlink()

    response = narrow.client.get(f"{OBJECTS}/{object_id}/content")

    assert problem(response, 410)["sha256"] == sha256


@pytest.mark.parametrize("object_id", ["nobody", "%00", "a" * 3000, "..%2f..%2fetc%2fpasswd"])
def test_an_id_that_nobody_has_is_not_found(narrow: ApiServer, object_id: str) -> None:
    """Whatever it looks like."""
    for path in (f"{OBJECTS}/{object_id}", f"{OBJECTS}/{object_id}/content"):
        problem(narrow.client.get(path), 404)
