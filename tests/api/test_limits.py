"""What a client may not do, what it is told then, and that nothing of it stays."""

import http.client
import json
import re
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from allocator.api.guard import LoopbackGuard
from allocator.api.problems import problem_of
from allocator.api.settings import ApiSettings
from allocator.api.uploads import _patience
from allocator.ingest import OutOfSpace
from allocator.persistence import StoreUnavailable
from tests.api.servers import FORM_TYPE, INGEST, ApiServer, form, problem, run_apart
from tests.faults.running import until


@contextmanager
def held_upload(server: ApiServer) -> Iterator[socket.socket]:
    """An upload that has begun, with a file in the middle of being sent; hung up at the end."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n"
        head += f"Content-Type: {FORM_TYPE['Content-Type']}\r\n\r\n"
        connection.sendall(head.encode() + form(b"half.bin", b"x" * 300_000, end=False))
        yield connection


@pytest.mark.parametrize("told", [True, False], ids=["length told", "chunked"])
def test_a_long_body_is_refused(narrow: ApiServer, told: bool) -> None:
    """Whether the client says how long it is or not."""
    body = b"\r\n".join(form(b"a", b"x" * 350_000, end=False) for _ in range(3))
    content = body if told else iter([body[start : start + 50_000] for start in range(0, len(body), 50_000)])

    response = narrow.client.post(INGEST, content=content, headers=FORM_TYPE)

    assert problem(response, 413)["limit"] == 1_000_000
    assert narrow.incoming() == []


def test_a_large_file_is_refused(narrow: ApiServer) -> None:
    """At the limit it is taken; a byte more is refused, and of that file nothing stays."""
    narrow.send(("full.bin", b"x" * 400_000))

    refused = narrow.post(("over.bin", b"x" * 400_001))

    assert problem(refused, 413)["limit"] == 400_000
    assert narrow.incoming() == []


def test_too_many_files_are_refused(narrow: ApiServer) -> None:
    """Documents count as files do."""
    files = [(f"{number}", b"%d" % number) for number in range(4)]

    assert problem(narrow.post(*files), 413)["limit"] == 3
    assert problem(narrow.post(*files[:2], data={"payload": '[{"n":1},{"n":2}]'}), 413)["limit"] == 3
    assert len(narrow.send(*files[:2], data={"payload": '[{"n":1}]'})["system_ids"]) == 3


def test_long_names_and_fields_are_refused(narrow: ApiServer) -> None:
    """Names count by characters, fields by bytes."""
    assert problem(narrow.post(("n" * 41, b"x")), 413)["limit"] == 40
    assert problem(narrow.post(data={"payload": '{"text": "%s"}' % ("x" * 1000)}), 413)["limit"] == 1_000
    narrow.send(("ä" * 40, b"x"))
    narrow.send(("/".join(["n" * 40] * 99), b"x"))
    assert problem(narrow.post(("/".join(["n" * 40] * 101), b"x")), 413)["limit"] == 4_096


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(form(b"nul\0.txt", b"x"), 422, id="NUL in the name"),
        pytest.param(form(b"a", b"x", field=b"attachment"), 422, id="unknown field"),
        pytest.param(form(b"a", b"x", end=False), 400, id="no end"),
        pytest.param(b"no form at all", 400, id="no form"),
        pytest.param(b"", 400, id="nothing"),
        pytest.param(f"--{'part-of-the-form'}--\r\n".encode(), 422, id="empty form"),
    ],
)
def test_a_broken_form_is_refused(narrow: ApiServer, body: bytes, status: int) -> None:
    """With a problem that says what is wrong, and nothing begun is left."""
    response = narrow.client.post(INGEST, content=body, headers=FORM_TYPE)

    problem(response, status)
    assert narrow.incoming() == []


def test_other_bodies_are_refused(narrow: ApiServer) -> None:
    """What is no form of parts is not read."""
    problem(narrow.client.post(INGEST, json={"n": 1}), 415)
    problem(narrow.client.post(INGEST), 415)
    problem(narrow.client.post(INGEST, content=b"x", headers={"Content-Type": "multipart/form-data"}), 400)


def test_fields_that_no_database_takes_are_refused(narrow: ApiServer) -> None:
    """Too long, a NUL, no UTF-8."""
    problem(narrow.post(("a", b"a"), data={"owner": "o" * 201}), 422)
    problem(narrow.post(("a", b"a"), data={"comments": "nul \0"}), 422)
    problem(narrow.post(("a", b"a"), headers=[("Idempotency-Key", "x"), ("Idempotency-Key", "y")]), 422)
    problem(narrow.post(("a", b"a"), headers={"Idempotency-Key": "k" * 201}), 422)
    problem(narrow.post(("a", b"a"), data={"owner": b"\xff\xfe"}), 422)  # type: ignore[dict-item]


def test_uploads_at_a_time_are_limited_and_one_that_hangs_up_leaves_nothing(narrow: ApiServer) -> None:
    """429 while another one is being read; when its client has gone, so has its file, and there is room again."""
    with held_upload(narrow):
        until(narrow.incoming, "the file has begun")
        busy = narrow.post(("b", b"b"))

    assert int(busy.headers["retry-after"]) >= 1
    problem(busy, 429)
    until(lambda: narrow.incoming() == [], "what was begun has gone")
    # A moment after the file.
    until(lambda: narrow.post(("b", b"b")).status_code == 202, "there is room again")


def test_a_client_that_stalls_is_let_go(narrow: ApiServer) -> None:
    """It is told so after the time that it has, and its file goes."""
    with held_upload(narrow) as connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        told = response.status

    assert told == 408
    until(lambda: narrow.incoming() == [], "what was begun has gone")


def test_an_upload_that_outlasts_the_end_of_the_server_is_told_so(tmp_path: Path) -> None:
    """With a problem, once the grace is over; nothing of it stays."""
    with ApiServer(tmp_path, processes=0, grace_s=1) as server, held_upload(server) as connection:
        until(server.incoming, "the file has begun")
        server.stop()
        response = http.client.HTTPResponse(connection)
        response.begin()
        told = json.loads(response.read())

    assert (response.status, told["status"]) == (503, 503)
    assert int(response.headers["Retry-After"]) >= 1
    assert "send it again" in told["detail"]
    assert server.incoming() == []


def test_a_client_that_trickles_is_let_go(narrow: ApiServer) -> None:
    """One that never falls silent and yet sends next to nothing is told so; its file goes, and there is room again."""
    with held_upload(narrow) as connection:
        until(narrow.incoming, "the file has begun")
        sent = 0
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"x")
            sent += 1
        response = http.client.HTTPResponse(connection)
        response.begin()
        detail = json.loads(response.read())["detail"]

    assert response.status == 408
    assert "less than 1,000,000 a second" in detail
    assert sent > 1
    until(lambda: narrow.incoming() == [], "what was begun has gone")
    narrow.send(("b", b"b"))


def answer_to(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of what the server says."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def answer_to_a_trickle(server: ApiServer, requests_before: int) -> tuple[int, bytes]:
    """What is said to headers that come byte by byte, after which the connection goes. Others are served meanwhile."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer_to(connection)[0] == 200
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"x")
            assert server.client.get("/live").status_code == 200
        answer = answer_to(connection)
        assert connection.recv(1) == b""
        return answer


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_client_whose_headers_trickle_is_let_go(narrow: ApiServer, requests_before: int) -> None:
    """On a new connection, and on one that has had an answer; it is told so."""
    answer = None
    for _ in range(5):
        # A byte that crosses the answer has the client's kernel throw the answer away.
        with suppress(ConnectionError):
            answer = answer_to_a_trickle(narrow, requests_before)
            break

    assert answer == (400, b"no headers within 0.5 s")


def test_a_client_that_trickles_after_it_was_refused_is_let_go(narrow: ApiServer) -> None:
    """It has its answer, and a while to read it; then the connection goes, however much of the body is to come."""
    with socket.create_connection(("127.0.0.1", narrow.port)) as connection:
        head = f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM_TYPE['Content-Type']}\r\n"
        connection.sendall(f"{head}Content-Length: 1000001\r\n\r\n".encode())
        assert answer_to(connection)[0] == 413

        with suppress(ConnectionError):
            for _ in range(500):
                if select.select([connection], [], [], 0.05)[0]:
                    break
                connection.sendall(b"x")
            else:
                pytest.fail("500 bytes were taken, one by one")
            assert connection.recv(1) == b""


def test_the_rest_of_what_was_refused_may_come_before_the_next_request(narrow: ApiServer) -> None:
    """The connection stays."""
    with socket.create_connection(("127.0.0.1", narrow.port)) as connection:
        head = f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
        connection.sendall(f"{head}Content-Length: 5\r\n\r\n12".encode())
        assert answer_to(connection)[0] == 415
        connection.sendall(b"345GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert answer_to(connection)[0] == 200


def test_an_upload_sent_behind_another_request_has_its_own_time(narrow: ApiServer) -> None:
    """It is waited for as any upload, and told so when that is over; the answer before it ends nothing."""
    with socket.create_connection(("127.0.0.1", narrow.port)) as connection:
        first = "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        head = f"POST {INGEST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM_TYPE['Content-Type']}\r\n"
        connection.sendall(f"{first}{head}Content-Length: 1000\r\n\r\n".encode())
        with connection.makefile("rb") as answers:
            statuses = re.findall(rb"HTTP/1\.1 (\d+)", answers.read())

    assert statuses == [b"200", b"408"]


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "blank lines"])
def test_a_client_that_asks_for_nothing_is_let_go(narrow: ApiServer, sent: bytes) -> None:
    """Whoever connects has something to ask."""
    with socket.create_connection(("127.0.0.1", narrow.port)) as connection:
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(sent)

        connection.setblocking(True)
        assert not sent or answer_to(connection)[0] == 400
        assert connection.recv(1) == b""


def test_endless_headers_are_refused(narrow: ApiServer) -> None:
    """Before they fill the memory."""
    with socket.create_connection(("127.0.0.1", narrow.port)) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        # The server hangs up on the rest.
        with suppress(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"x" * 4096)
            pytest.fail("40 MB of headers were taken")


@pytest.mark.parametrize(
    ("total", "waited_s", "taken_s", "patience_s", "said"),
    [
        pytest.param(0, 0, 0, 10, "nothing came for 10 s", id="at first"),
        pytest.param(0, 4, 4, 6, "less than 100 a second", id="nothing yet"),
        pytest.param(1_000, 20, 21, 0, "1,000 bytes came in 20 s", id="at the least pace"),
        pytest.param(2_000, 20, 21, 10, "nothing came for 10 s", id="twice that"),
        pytest.param(10**9, 5, 95, 5, "longer than 100 s", id="for long"),
        pytest.param(10**9, 5, 101, -1, "longer than 100 s", id="for too long"),
    ],
)
def test_how_long_a_client_is_waited_for(
    total: int, waited_s: float, taken_s: float, patience_s: float, said: str
) -> None:
    """By the last byte, by the pace so far, and by the whole: whatever ends first."""
    settings = ApiSettings(stall_s=10, min_bytes_per_s=100, max_upload_s=100)

    patience = _patience(settings, total, waited_s, taken_s)

    assert patience[0] == patience_s
    assert said in patience[1]


def test_unknown_paths_and_methods_are_problems(narrow: ApiServer) -> None:
    """As every error is, those of the framework included."""
    problem(narrow.client.get("/api/v1/nothing"), 404)
    refused = narrow.client.put(INGEST)
    problem(refused, 405)
    assert refused.headers["allow"] == "GET, POST"
    assert narrow.client.put("/api/v1/objects/nobody").headers["allow"] == "DELETE, GET"
    problem(narrow.client.get("/api/v1/objects", params={"limit": "many"}), 422)


def test_pages_of_others_change_nothing(narrow: ApiServer) -> None:
    """Neither under a name that leads here, nor by a form of theirs; a page of this server may."""
    own = f"http://127.0.0.1:{narrow.port}"

    problem(narrow.client.get("/api/v1/objects", headers={"Host": "evil.example"}), 421)
    problem(narrow.post(("a", b"a"), headers={"Origin": "https://evil.example"}), 403)
    problem(narrow.post(("a", b"a"), headers={"Origin": "null"}), 403)
    narrow.send(("a", b"a"), headers={"Origin": own})


def test_a_connection_from_elsewhere_is_refused() -> None:
    """However the server was started, and whatever the client says of the host."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=204)(scope, receive, send)

    async def status(address: str) -> int:
        transport = httpx.ASGITransport(LoopbackGuard(app))
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get(f"http://{address}/live", headers={"Host": "localhost"})).status_code

    assert run_apart(lambda: status("127.0.0.1:8000")) == 204
    assert run_apart(lambda: status("192.0.2.1:8000")) == 403


def test_a_full_disk_is_said_and_passes(tmp_path: Path) -> None:
    """507, whether the files or the database found no room; to be tried again."""
    for error in (
        OutOfSpace(tmp_path, "No space left"),
        StoreUnavailable("sqlite:///a", "full", "no room", "Make some"),
    ):
        response = problem_of(error).response()

        assert response.status_code == 507
        assert int(response.headers["retry-after"]) >= 1
    assert problem_of(StoreUnavailable("sqlite:///a", "down", "gone", "Start it")).status == 503
