"""Files in, allocated, found again: through the server, the queue, a worker process and the database."""

import hashlib
import json

import pytest

from tests.api.servers import FORM_TYPE, INGEST, OBJECTS, ApiServer, form, problem
from tests.faults.running import until
from tests.ingest.samples import SAMPLE_DATA, a_picture, a_sound

PICTURE = SAMPLE_DATA / "grace_hopper.jpg"


def test_a_file_is_stored_placed_and_given_back(server: ApiServer) -> None:
    """A picture under a misleading name: accepted, identified, linked into the library, and back byte by byte."""
    sent = PICTURE.read_bytes()

    response = server.post(("report.txt", sent), data={"owner": "grace", "comments": "a portrait"})
    accepted = response.json()
    status = server.finished(accepted["job_id"])
    (object_id,) = accepted["system_ids"]
    # Placed it is before the queue knows that it is done.
    until(lambda: server.object(object_id)["steps"][-1]["step"] == "done", "its job has ended")
    found = server.object(object_id)
    content = server.client.get(f"{OBJECTS}/{object_id}/content")

    assert response.status_code == 202
    assert response.headers["location"] == f"{INGEST}/{accepted['job_id']}/status"
    assert int(response.headers["retry-after"]) >= 1
    assert accepted["status"] == "accepted"
    assert status["status"] == "done"
    assert status["progress"] == {"queued": 0, "processing": 0, "done": 1, "failed": 0, "total": 1}
    assert status["created_at"] == accepted["created_at"]
    assert (found["owner"], found["comments"], found["name"]) == ("grace", "a portrait", "report.txt")
    assert (found["kind"], found["type"], found["state"], found["attempts"]) == ("media", "image/jpeg", "done", 1)
    assert found["facts"]["width"] > 0
    assert [step["step"] for step in found["steps"]] == ["received", "leased", "started", "placed", "done"]
    assert found["sha256"] == hashlib.sha256(sent).hexdigest()
    assert (server.data / "library" / found["path"]).read_bytes() == sent
    assert content.content == sent
    assert content.headers["content-type"] == "image/jpeg"


def test_many_files_are_one_upload(server: ApiServer) -> None:
    """Each file has its own object, kind and place; the counts are of all."""
    files = [("a.png", a_picture()), ("b.wav", a_sound()), ("c.csv", b"x,y\n1,2\n"), ("empty", b"")]

    accepted = server.send(*files)
    status = server.finished(accepted["job_id"])

    objects = status["objects"]
    assert [one["id"] for one in objects] == accepted["system_ids"]
    assert [one["name"] for one in objects] == [name for name, _ in files]
    assert [one["kind"] for one in objects] == ["media", "media", "other", "other"]
    assert [one["type"] for one in objects][:3] == ["image/png", "audio/wav", "text/csv"]
    assert status["progress"]["done"] == status["progress"]["total"] == 4
    for one, (_, sent) in zip(objects, files, strict=True):
        assert (server.data / "library" / one["path"]).read_bytes() == sent


def test_a_payload_is_kept_as_it_was_sent(server: ApiServer) -> None:
    """The bytes of an object, white space included; NaN and numbers alone are no documents."""
    payload = '{ "n" : 1.50,\n "ä": [true] }'

    accepted = server.send(data={"payload": payload})
    status = server.finished(accepted["job_id"])
    content = server.client.get(f"{OBJECTS}/{accepted['system_ids'][0]}/content")

    assert (status["status"], status["objects"][0]["kind"]) == ("done", "json")
    assert content.content.decode() == payload
    for wrong in ("NaN", "1", "[1]", "[]", '{"a": NaN}', "{"):
        assert "payload" in problem(server.post(data={"payload": wrong}), 422)["detail"]


def test_an_array_is_a_document_for_each_item(server: ApiServer) -> None:
    """Beside a file; the first document tells what all of them have in common."""
    rows = [{"id": n, "city": "Ulm"} for n in range(3)]

    accepted = server.send(("a.txt", b"words"), data={"payload": json.dumps(rows)})
    status = server.finished(accepted["job_id"])

    assert [one["kind"] for one in status["objects"]] == ["other", "json", "json", "json"]
    facts = server.object(accepted["system_ids"][1])["facts"]
    assert facts["documents"] == 1
    assert (facts["upload"]["documents"], facts["upload"]["suits"]) == (3, "table")
    assert "upload" not in server.object(accepted["system_ids"][2])["facts"]


@pytest.mark.parametrize("content", [b'{"a":' * 190 + b"1" + b"}" * 190, b'[{"a":' * 99 + b"1" + b"}]" * 99])
def test_a_document_of_many_levels_is_shown(server: ApiServer, content: bytes) -> None:
    """Its schema has two for each of its own, more than an answer may have: what lies deeper is left out of that."""
    accepted = server.send(("deep.json", content))
    (placed,) = server.finished(accepted["job_id"])["objects"]

    found = server.object(placed["id"])

    assert (found["state"], found["facts"]["documents"]) == ("done", 1)
    assert "…" in json.dumps(found["facts"], ensure_ascii=False)
    assert server.client.get(f"{OBJECTS}/{placed['id']}/content").content == content


def test_the_processor_has_the_last_word_on_what_a_file_is(server: ApiServer) -> None:
    """Large files go by their beginning to the processor of JSON, which finds out that one of them is none."""
    rows = b",\n".join(b'{"n": %d, "text": "%s"}' % (n, b"x" * 100) for n in range(10_000))

    accepted = server.send(("good", b"[" + rows + b"]"), ("cut off", b"[" + rows))
    objects = server.finished(accepted["job_id"])["objects"]

    assert [one["kind"] for one in objects] == ["json", "other"]
    assert server.object(objects[0]["id"])["facts"]["records"] == 10_000


def test_the_same_bytes_are_stored_once(server: ApiServer) -> None:
    """Two uploads of the same file are two objects with one file; the first one's deletion leaves the second whole."""
    first = server.send(("twice.bin", b"\x00the same bytes"))
    second = server.send(("twice.bin", b"\x00the same bytes"))
    one, other = (server.finished(upload["job_id"])["objects"][0] for upload in (first, second))

    deleted = server.client.delete(f"{OBJECTS}/{one['id']}")

    assert one["sha256"] == other["sha256"]
    assert one["id"] != other["id"]
    assert deleted.status_code == 204
    problem(server.client.get(f"{OBJECTS}/{one['id']}"), 404)
    assert server.client.get(f"{OBJECTS}/{other['id']}/content").content == b"\x00the same bytes"
    assert (server.data / "library" / other["path"]).read_bytes() == b"\x00the same bytes"


@pytest.mark.parametrize("way", ["header", "field"])
def test_an_upload_repeated_under_its_key_is_the_same_one(server: ApiServer, way: str) -> None:
    """Same key and content: the same answer, and nothing new. Other content: 409, naming the earlier upload."""
    key = f"key-{way}"
    given = {"headers": {"Idempotency-Key": key}} if way == "header" else {"data": {"idempotency_key": key}}

    first = server.send(("one.txt", b"one"), ("two.txt", b"two"), **given)
    again = server.send(("one.txt", b"one"), ("two.txt", b"two"), **given)
    other = problem(server.post(("one.txt", b"another"), **given), 409)
    owned = server.send(("one.txt", b"another"), headers={"Idempotency-Key": key}, data={"owner": "someone else"})

    assert again == first
    assert server.status(first["job_id"])["progress"]["total"] == 2
    assert other["job_id"] == first["job_id"]
    assert owned["job_id"] != first["job_id"]


def test_long_comments_are_refused(server: ApiServer) -> None:
    """They are kept with every object of an upload: a megabyte would become one for each of a thousand files."""
    refused = problem(server.post(("a", b"a"), data={"comments": "c" * 4001}), 422)

    assert "comments" in refused["detail"]
    assert "4,000" in refused["detail"]
    server.send(("a", b"a"), data={"comments": "\u00e4" * 4000})


def test_two_keys_that_differ_are_refused(server: ApiServer) -> None:
    """Which of header and field is meant, nobody can know."""
    response = server.post(("a", b"a"), headers={"Idempotency-Key": "x"}, data={"idempotency_key": "y"})

    problem(response, 422)


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "..",
        "/etc/shadow",
        "C:\\windows\\system32\\evil.exe",
        "line\r\nSet-Cookie: a=b",
        "\u202egpj.exe",
        "имя файла.txt",
        "名" * 250,
        'quote".txt',
        "\x01\x1b[31m",
        " ",
    ],
)
def test_no_name_leads_out_of_the_library(server: ApiServer, name: str) -> None:
    """Hostile and foreign names are kept as text, placed inside the library, and given back in one harmless header."""
    sent = b"harmless " + name.encode()

    accepted = server.client.post(INGEST, content=form(name.encode(), sent), headers=FORM_TYPE).json()
    status = server.finished(accepted["job_id"])
    (found,) = status["objects"]
    content = server.client.get(f"{OBJECTS}/{found['id']}/content")

    link = server.data / "library" / found["path"]
    assert status["status"] == "done"
    # Line breaks end a header, and the file's name with it.
    assert "\r" in name or found["name"] == name.rpartition("\\")[2]
    assert link.read_bytes() == sent
    assert link.parent.resolve().is_relative_to((server.data / "library").resolve())
    assert "/../" not in f"/{found['path']}/"
    assert content.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
    assert content.headers["content-disposition"].isascii()
    assert "set-cookie" not in content.headers
    assert content.content == sent


def test_the_status_comes_in_pages(server: ApiServer) -> None:
    """Counts are of the whole upload, objects of the page, in the order sent."""
    accepted = server.send(*[(f"{number}.txt", f"page {number}".encode()) for number in range(5)])
    url = f"{INGEST}/{accepted['job_id']}/status"

    first = server.client.get(url, params={"limit": 3}).json()
    second = server.client.get(url, params={"limit": 3, "after": first["next"]}).json()

    assert [one["id"] for one in first["objects"] + second["objects"]] == accepted["system_ids"]
    assert first["progress"]["total"] == second["progress"]["total"] == 5
    assert second["next"] is None
    problem(server.client.get(f"{INGEST}/nobody/status"), 404)
