"""Keys: where others than this machine can connect, nobody does anything without one."""

from collections.abc import Iterator
from functools import partial

import pytest

from allocator.api.settings import ApiSettings
from allocator.persistence import ApiKey, Keys, open_store
from tests.api.servers import FORM_TYPE, INGEST, OBJECTS, ApiServer, form, problem
from tests.faults.running import Running, until

AS_OTHERS_SEE_IT = {"Host": "files.example"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """It listens on every address, and so asks for keys. Without workers."""
    with ApiServer(tmp_path_factory.mktemp("guarded"), processes=0, host="0.0.0.0") as running:
        yield running


def a_key(server: ApiServer) -> tuple[ApiKey, str]:
    """A new key of a server."""
    with open_store(server.store_url) as store:
        return Keys(store).create("test")


def bearer(secret: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {secret}"}


def test_without_a_key_nothing_is_answered(guarded: ApiServer) -> None:
    """401 with a challenge: for paths that there are and that there are not, before a body is looked at."""
    said = []
    for method, path in (
        ("GET", OBJECTS),
        ("POST", INGEST),
        ("DELETE", f"{OBJECTS}/nobody"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("OPTIONS", INGEST),
        ("GET", "/live/"),
        ("GET", "/page"),
    ):
        response = guarded.client.request(method, path)
        problem(response, 401)
        said.append(response.headers["www-authenticate"])
    sent = guarded.client.post(INGEST, content=form(b"a", b"a"), headers=FORM_TYPE)

    assert set(said) == {'Bearer realm="allocator"'}
    problem(sent, 401)
    assert guarded.incoming() == []


def test_a_key_opens_the_api(guarded: ApiServer) -> None:
    """In either header, and under whatever name the server is reached; that it was used is noted."""
    _, secret = a_key(guarded)

    accepted = guarded.send(("a.txt", b"a"), headers=bearer(secret) | AS_OTHERS_SEE_IT)
    object_id = accepted["system_ids"][0]
    found = guarded.client.get(f"{OBJECTS}/{object_id}", headers={"X-API-Key": secret})
    lower = guarded.client.get(OBJECTS, headers={"Authorization": f"bearer {secret}"})

    assert found.json()["name"] == "a.txt"
    assert lower.status_code == 200
    with open_store(guarded.store_url) as store:
        assert Keys(store).all()[-1].last_used_at is not None


def test_a_wrong_key_is_refused(guarded: ApiServer) -> None:
    """And said to be wrong, which is not the same as missing."""
    made, secret = a_key(guarded)
    wrong = f"alc_{made.id}_{'A' * 43}"

    for headers in (bearer(wrong), {"X-API-Key": wrong}, bearer("x"), bearer(wrong) | {"X-API-Key": secret}):
        response = guarded.client.get(OBJECTS, headers=headers)
        problem(response, 401)
        assert response.headers["www-authenticate"].endswith('error="invalid_token"')
    problem(guarded.client.get(OBJECTS, headers={"Authorization": f"Basic {secret}"}), 401)
    problem(guarded.client.get(OBJECTS, params={"key": secret, "access_token": secret}), 401)


def test_a_revoked_key_is_refused_at_once(guarded: ApiServer) -> None:
    """With the next request, although another process revoked it."""
    made, secret = a_key(guarded)
    before = guarded.client.get(OBJECTS, headers=bearer(secret))

    with open_store(guarded.store_url) as store:
        Keys(store).revoke(made.id)

    assert before.status_code == 200
    problem(guarded.client.get(OBJECTS, headers=bearer(secret)), 401)


def test_a_revoked_key_ends_the_streams_that_it_opened(guarded: ApiServer) -> None:
    """At the next event: the connection is closed, and its client would need another key to open the next one."""
    made, secret = a_key(guarded)
    files = [(f"{number}.txt", b"%d" % number) for number in range(20)]
    job_id = guarded.send(*files, headers=bearer(secret))["job_id"]
    status = guarded.client.get(f"{INGEST}/{job_id}/status", headers=bearer(secret)).json()
    seen: list[str] = []

    def follow() -> None:
        with guarded.client.stream("GET", f"{INGEST}/{job_id}/events", headers=bearer(secret)) as response:
            for line in response.iter_lines():
                seen.append(line)

    def has_gone_on(known: int) -> bool:
        return len(seen) > known or following.done

    following = Running(follow)
    until(lambda: "event: progress" in seen, "the stream has begun")
    with open_store(guarded.store_url) as store:
        Keys(store).revoke(made.id)
        for one in status["objects"]:
            known = len(seen)
            # An event to tell of.
            store.cancel(one["job_id"])
            until(partial(has_gone_on, known), "it was told, or the stream has ended")
    following.result()

    assert "event: end" not in seen


def test_health_needs_no_key(guarded: ApiServer) -> None:
    """What is wrong with which part, though, only those are told who show one."""
    _, secret = a_key(guarded)
    live, ready = guarded.client.get("/live", headers=AS_OTHERS_SEE_IT), guarded.client.get("/ready")
    objects = guarded.data / "incoming"
    objects.rename(guarded.data / "away")
    try:
        untold = guarded.client.get("/ready")
        told = guarded.client.get("/ready", headers=bearer(secret))
    finally:
        (guarded.data / "away").rename(objects)

    assert (live.status_code, ready.status_code) == (200, 200)
    assert (untold.status_code, told.status_code) == (503, 503)
    assert str(guarded.data) not in untold.text
    assert str(guarded.data) in told.text
    problem(guarded.client.get("/ready", headers=bearer("x")), 401)


def test_the_document_names_keys_and_refusals(guarded: ApiServer, narrow: ApiServer) -> None:
    """Required here, and optional on loopback; every operation but `/live` may answer 401."""
    _, secret = a_key(guarded)
    here = guarded.client.get("/openapi.json", headers=bearer(secret)).json()
    on_loopback = narrow.client.get("/openapi.json").json()

    assert here["components"]["securitySchemes"].keys() == {"bearer", "header"}
    assert here["security"] == [{"bearer": []}, {"header": []}]
    assert on_loopback["security"] == [*here["security"], {}]
    for path, methods in here["paths"].items():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == (path != "/live"), path
            assert operation.get("security") == ([] if path in ("/live", "/ready") else None), path


def test_no_key_is_logged(guarded: ApiServer) -> None:
    """Good or wrong; that there was none at the start is."""
    _, secret = a_key(guarded)
    guarded.client.get(OBJECTS, headers=bearer(secret))
    guarded.client.get(OBJECTS, headers=bearer(secret[:-1] + "-"))

    logged = guarded.log.read_text()

    assert "alc_" not in logged
    assert "allocator keys create NAME" in logged


def test_on_loopback_keys_are_asked_for_if_that_is_set() -> None:
    """Everywhere else they always are."""

    def asks(*hosts: str) -> list[bool]:
        return [ApiSettings(host=host).asks_for_key for host in hosts]

    assert asks("127.0.0.1", "::1", "localhost") == [False] * 3
    assert asks("0.0.0.0", "::", "192.0.2.1", "example.com", "") == [True] * 5
    assert ApiSettings(require_key=True).asks_for_key
