"""The API with PostgreSQL as queue and as store: the same answers, and what it says while the database is gone."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from allocator import open_queue
from allocator.bench.proxy import Proxy
from allocator.persistence import Keys, open_store
from tests.api.servers import LETTERS, OBJECTS, ApiServer, problem
from tests.api.test_operations import broken_picture, letters
from tests.faults.running import until
from tests.ingest.samples import a_picture

pytestmark = [pytest.mark.postgres, pytest.mark.service]


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> Iterator[str]:
    """Of a database that nobody else uses."""
    name = f"allocator_api_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        try:
            connection.execute(f"CREATE DATABASE {name}")
        except psycopg.errors.InsufficientPrivilege as error:
            pytest.skip(f"the user of DATABASE_URL may not make a database: {error}")
        yield postgres_url.partition("?")[0].rpartition("/")[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def proxy(database_url: str) -> Iterator[Proxy]:
    """Between the server and the database."""
    with Proxy(database_url) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> Iterator[ApiServer]:
    """With one worker process. It asks for a key, which its client shows."""
    where = {"queue_url": proxy.url, "store_url": proxy.url}
    with ApiServer(tmp_path_factory.mktemp("postgres"), processes=1, require_key=True, **where) as running:
        with open_store(proxy.url) as store:
            _, secret = Keys(store).create("test")
        running.client.headers["Authorization"] = f"Bearer {secret}"
        yield running


def test_files_are_placed_and_given_back(server: ApiServer) -> None:
    """A picture and a document: identified, linked into the library, found by owner, and back byte by byte."""
    sent = a_picture()
    key = {"Idempotency-Key": "once"}

    accepted = server.send(("a.png", sent), data={"payload": '{"n": 1}', "owner": "ada"}, headers=key)
    again = server.send(("a.png", sent), data={"payload": '{"n": 1}', "owner": "ada"}, headers=key)
    status = server.finished(accepted["job_id"])
    found = server.client.get(OBJECTS, params={"owner": "ada", "kind": "media"}).json()["objects"]
    content = server.client.get(f"{OBJECTS}/{accepted['system_ids'][0]}/content")

    assert again == accepted
    assert status["progress"] == {"queued": 0, "processing": 0, "done": 2, "failed": 0, "total": 2}
    assert [one["kind"] for one in status["objects"]] == ["media", "json"]
    assert [one["id"] for one in found] == accepted["system_ids"][:1]
    assert content.content == (server.data / "library" / found[0]["path"]).read_bytes() == sent
    assert server.client.get("/ready").json()["ready"]


def test_a_dead_letter_that_is_put_back_waits_again(server: ApiServer, database_url: str) -> None:
    """As the status says at once, before a worker takes it; then it dies again."""
    accepted = server.send(("broken.png", broken_picture()), ("broken too.png", broken_picture()))
    first, second = accepted["system_ids"]
    server.finished(accepted["job_id"])
    until(lambda: letters(server).keys() >= {first, second}, "both are dead letters")
    with open_queue(database_url) as queue:
        queue.pause()
        one = server.client.post(f"{LETTERS}/{letters(server)[first]['job_id']}/requeue")
        after_one = server.status(accepted["job_id"])
        both = server.client.post(f"{LETTERS}/requeue", params={"all": "true"})
        after_both = server.status(accepted["job_id"])
        queue.resume()
    died_again = server.finished(accepted["job_id"])

    assert (one.json(), both.json()) == ({"count": 1}, {"count": 1})
    assert [one["state"] for one in after_one["objects"]] == ["queued", "failed"]
    assert (after_both["status"], after_both["progress"]["queued"]) == ("queued", 2)
    assert died_again["progress"]["failed"] == 2


def test_while_the_database_is_gone_nobody_is_let_in(server: ApiServer, proxy: Proxy) -> None:
    """503, since no key can be looked up, and 401 without one; the server lives, and works again afterwards."""
    with proxy.down():
        refused = server.client.get(OBJECTS)
        without = server.client.get(OBJECTS, headers={"Authorization": ""})
        live = server.client.get("/live")
        ready = server.client.get("/ready", headers={"Authorization": ""})
    again = server.finished(server.send(("later.txt", b"later"))["job_id"])

    assert int(refused.headers["retry-after"]) >= 1
    problem(refused, 503)
    problem(without, 401)
    assert live.status_code == 200
    assert ready.status_code == 503
    assert {part for part, found in ready.json()["parts"].items() if not found["ok"]} >= {"store", "queue"}
    assert again["status"] == "done"
