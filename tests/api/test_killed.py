"""A server that is killed: whatever got its 202 ends as an object whose bytes are those that were sent."""

import hashlib
import random
import threading
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.api.servers import OBJECTS, ApiServer
from tests.faults.running import Running, until


def content_of(number: int) -> bytes:
    """Bytes of many sizes, no two the same."""
    return random.Random(number).randbytes(1 + number * 997 % 20_000)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("uploads", "kills"),
    [pytest.param(60, 1, id="once"), pytest.param(200, 6, id="again and again", marks=pytest.mark.full)],
)
def test_no_accepted_upload_is_lost_when_the_server_is_killed(tmp_path: Path, uploads: int, kills: int) -> None:
    """Killed while it takes and places files; clients send again under the same key, and nothing is there twice."""
    server = ApiServer(tmp_path, processes=1)
    is_up = threading.Event()
    accepted: dict[int, str] = {}

    def send(numbers: range) -> None:
        for number in numbers:
            while number not in accepted:
                assert is_up.wait(60)
                try:
                    response = server.post(
                        (f"{number}.bin", content_of(number)), headers={"Idempotency-Key": f"{number}"}
                    )
                except httpx.TransportError:
                    continue
                assert response.status_code == 202, response.text
                accepted[number] = response.json()["system_ids"][0]

    def has_accepted(count: int) -> bool:
        return len(accepted) >= count

    def is_placed(object_id: str) -> bool:
        return bool(server.object(object_id)["state"] == "done")

    def warm_up() -> None:
        """Until the worker is at work, so that the kill meets it there."""
        warm = server.send(("warm.bin", b"warm"))
        server.finished(warm["job_id"])
        assert server.client.delete(f"{OBJECTS}/{warm['system_ids'][0]}").status_code == 204
        is_up.set()

    with server:
        clients = [Running(send, range(start, uploads, 3)) for start in range(3)]
        for kill in range(1, kills + 1):
            warm_up()
            until(partial(has_accepted, kill * uploads // (kills + 1)), "some are accepted")
            is_up.clear()
            server.kill()
            server.start()
        warm_up()
        for client in clients:
            client.result()

        for number, object_id in accepted.items():
            until(partial(is_placed, object_id), f"object {number} is placed")
            found = server.object(object_id)
            sent = content_of(number)
            assert found["sha256"] == hashlib.sha256(sent).hexdigest()
            assert server.client.get(f"{OBJECTS}/{object_id}/content").content == sent
            assert (server.data / "library" / found["path"]).read_bytes() == sent
        listed = server.client.get(OBJECTS, params={"limit": 1000}).json()["objects"]

    assert sorted(one["id"] for one in listed) == sorted(accepted.values())
