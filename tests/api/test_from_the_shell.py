"""Files from the shell: sent, found and given back through a running server."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from allocator.cli import app, sending
from allocator.cli.remote import http_options
from allocator.cli.sending import Outcome, Sender
from allocator.cli.tree import survey
from tests.api.servers import INGEST, OBJECTS, ROOT, ApiServer, run_apart
from tests.ingest.samples import SAMPLE_DATA, a_picture


@pytest.fixture
def url(server: ApiServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def run(*arguments: object) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="allocator")


def sent(url: str, *arguments: object) -> dict[str, Any]:
    """What a run of `ingest` that must succeed says of itself."""
    done = run("ingest", "--json", "--server", url, *arguments)
    assert done.exit_code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_second_run_sends_nothing_twice(url: str, server: ApiServer, tmp_path: Path) -> None:
    """Real files in folders; a changed one is sent anew, and so is one whose object was deleted."""
    tree = shutil.copytree(SAMPLE_DATA, tmp_path / "sample")
    count = sum(path.is_file() for path in tree.rglob("*"))

    first = sent(url, tree, "--owner", "shell", "--wait")
    second = sent(url, tree, "--owner", "shell")
    (tree / "new.txt").write_text("new")
    (tree / "Stocks.csv").write_text("a,b\n1,2\n")
    gone = next(one for one in first["files"] if one["name"] == "sample/logo2.png")
    assert server.client.delete(f"{OBJECTS}/{gone['object_id']}").status_code == 204
    third = sent(url, tree, "--owner", "shell")

    assert (first["sent"], first["already_there"], first["failed"]) == (count, 0, 0)
    assert first["sent_bytes"] == sum(path.stat().st_size for path in SAMPLE_DATA.rglob("*") if path.is_file())
    assert {one["processed"] for one in first["files"]} == {"done"}
    assert {one["kind"] for one in first["files"]} == {"media", "other"}
    for one in first["files"]:
        content = (SAMPLE_DATA / one["name"].partition("/")[2]).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
    assert (second["sent"], second["already_there"], second["sent_bytes"]) == (0, count, 0)
    assert {one["name"] for one in third["files"] if one["state"] == "sent"} == {
        "sample/new.txt",
        "sample/Stocks.csv",
        "sample/logo2.png",
    }


def test_what_is_not_sent_is_told(narrow: ApiServer, tmp_path: Path) -> None:
    """What is skipped is no failure; what the server refuses is one, and the rest is sent all the same."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / ("x" * 41)).mkdir()
    (tmp_path / ("x" * 41) / "long.txt").write_text("the name of its folder is too long")

    done = run("ingest", tmp_path, "--server", f"http://127.0.0.1:{narrow.port}")

    assert done.exit_code == 1
    assert "a symbolic link, which is not followed" in done.stderr
    assert "longer than 40" in done.stderr
    assert "failed: " in done.stderr


def test_a_file_that_cannot_be_placed_fails_the_run(url: str, tmp_path: Path) -> None:
    """With --wait, with the reason and the kind; without it, having sent it is all that was asked."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(a_picture()[:40])

    waited, sent_only = run("ingest", broken, "--server", url, "--wait"), run("ingest", broken, "--server", url)

    assert (waited.exit_code, sent_only.exit_code) == (1, 0)
    assert "media: failed" in waited.stdout
    assert "broken.png: This" in waited.stderr


def test_a_dry_run_asks_no_server(tmp_path: Path) -> None:
    """It says what would be sent."""
    (tmp_path / "a.txt").write_text("abc")

    done = run("ingest", tmp_path, "--dry-run", "--json", "--server", "http://127.0.0.1:1")

    assert done.exit_code == 0
    (file,) = json.loads(done.stdout)["files"]
    assert (file["size_bytes"], file["state"]) == (3, "would be sent")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ingest", "/no/such/path"], "there is nothing at"),
        (["ingest", ".", "--exclude", "!"], "--exclude"),
        (["ingest", ".", "--owner", ""], "--owner"),
        (["ingest", ".", "--comments", "c" * 4001], "--comments: has 4,001 characters, and may have 4,000"),
        (["ingest", __file__, "--server", "http://127.0.0.1:1"], "no server answers at http://127.0.0.1:1"),
        (["find", "x", "--server", "http://127.0.0.1:1"], "no server answers"),
        (["find", "x", "--server", "ftp://x"], "no address of a server"),
        (["find", "x", "--key", "k\u00f6y"], "--key"),
        (["find", "x", "--key", "key "], "--key"),
        (["find", "x" * 1001], "TEXT: has 1,001 characters, and may have 1,000"),
        (["find", "\udcff", "--server", "http://127.0.0.1:1"], "no server answers"),
        (["ingest", ""], "is empty; write . for the present folder"),
        (["find", "x", "--since", "yesterday"], "is no age"),
        (["find", "x", "--since", "999999w"], "longer ago than there are dates"),
        (["get", "x", "-o", "."], "is a folder"),
        (["get", "x", "-o", __file__], "is there already"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(arguments: list[str], text: str) -> None:
    """With exit status 2, and no traceback."""
    done = run(*arguments)

    assert done.exit_code == 2
    assert text in done.stderr


class Lossy(httpx.AsyncHTTPTransport):
    """Speaks to the server, and then loses, or replaces, what it has answered to the first uploads."""

    def __init__(self, *fates: httpx.Response | None) -> None:
        super().__init__()
        self._fates = list(fates)
        self.uploads = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.method == "POST":
            self.uploads += 1
            if self._fates:
                await response.aread()
                fate = self._fates.pop(0)
                if fate is None:
                    raise httpx.ReadError("the connection is gone", request=request)
                return fate
        return response


def send_through(transport: httpx.AsyncBaseTransport, url: str, *paths: Path) -> tuple[list[Outcome], int]:
    """What became of files that were sent over a connection of this kind, and the progress that was told."""

    async def work() -> tuple[list[Outcome], int]:
        progress: list[int] = []
        async with httpx.AsyncClient(**http_options(url, None), transport=transport) as client:
            sender = Sender(client, "lossy", None, 2, on_bytes=progress.append)
            await sender.send(survey(paths).files)
        return sender.outcomes, sum(progress)

    return run_apart(work)


def test_a_lost_reply_makes_no_second_object(url: str, server: ApiServer, tmp_path: Path) -> None:
    """The upload was taken, and its answer lost: the same key brings the same upload. Progress counts it once."""
    (tmp_path / "once.txt").write_text("once and no more")
    transport = Lossy(None)

    (outcome,), told_bytes = send_through(transport, url, tmp_path)

    assert transport.uploads == 2
    assert (outcome.state, outcome.error) == ("sent", None)
    assert told_bytes == len("once and no more")
    found = server.client.get(OBJECTS, params={"text": "once.txt", "owner": "lossy"}).json()["objects"]
    assert [one["upload_id"] for one in found] == [outcome.job_id]


def test_small_files_go_together_and_json_alone(url: str, server: ApiServer, tmp_path: Path) -> None:
    """Each is an object of its own, with its own bytes; a document is looked at without others beside it."""
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"together {number}")
    for number in range(2):
        (tmp_path / f"{number}.json").write_text(f'{{"alone": {number}}}')
    transport = Lossy()

    outcomes, told_bytes = send_through(transport, url, tmp_path)

    assert transport.uploads == 2 + 2
    assert {outcome.state for outcome in outcomes} == {"sent"}
    assert told_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert len({outcome.job_id for outcome in outcomes}) == 4
    for outcome in outcomes:
        content = server.client.get(f"{OBJECTS}/{outcome.object_id}/content").content
        assert content == Path(outcome.found.path).read_bytes()


def test_a_lost_reply_to_many_makes_no_second_objects(url: str, server: ApiServer, tmp_path: Path) -> None:
    """Nor is anything missing when the server has taken them, and is then away for longer than the sender waits."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"once of many {number}")

    outcomes, _ = send_through(Lossy(None), url, tmp_path)
    again, _ = send_through(Lossy(), url, tmp_path)

    assert {outcome.state for outcome in outcomes} == {"sent"}
    assert {outcome.state for outcome in again} == {"already there"}
    assert [outcome.object_id for outcome in again] == [outcome.object_id for outcome in outcomes]


def test_the_same_file_under_the_same_name_is_sent_once(url: str, tmp_path: Path) -> None:
    """Though both are new when they are read; the other is there by then."""
    for folder in ("one", "two", "three"):
        (tmp_path / folder / "x").mkdir(parents=True)
        (tmp_path / folder / "x" / "twin.txt").write_text("twin")

    outcomes, _ = send_through(Lossy(), url, *(tmp_path / folder / "x" for folder in ("one", "two", "three")))

    assert sorted(outcome.state for outcome in outcomes) == ["already there", "already there", "sent"]
    assert len({outcome.object_id for outcome in outcomes}) == 1


def test_one_that_is_refused_does_not_keep_the_others_back(narrow: ApiServer, tmp_path: Path) -> None:
    """What goes together is refused together; then each is sent alone."""
    (tmp_path / ("n" * 41)).write_text("its name is too long")
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text(f"beside it {number}")

    outcomes, _ = send_through(Lossy(), f"http://127.0.0.1:{narrow.port}", tmp_path)

    assert sorted(outcome.state for outcome in outcomes) == ["failed", "sent", "sent"]
    (failed,) = [outcome for outcome in outcomes if outcome.error is not None]
    assert "longer than 40" in str(failed.error)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_is_asked_again(url: str, tmp_path: Path, status: int) -> None:
    """After as long as it asks for."""
    (tmp_path / "later.txt").write_text(f"later {status}")
    transport = Lossy(
        httpx.Response(status, headers={"Retry-After": "0"}), httpx.Response(status, headers={"Retry-After": "0"})
    )

    (outcome,), _ = send_through(transport, url, tmp_path)

    assert transport.uploads == 3
    assert outcome.state == "sent"


def test_a_large_file_that_changes_on_its_way_is_not_taken_under_a_wrong_key(
    url: str, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its hashing and its sending, once: then it is hashed again, and stored as it now is."""
    monkeypatch.setattr(sending, "TOGETHER_BYTES", 0)
    path = tmp_path / "changes.txt"
    path.write_text("short")

    class Changes(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if request.method == "GET" and path.read_text() == "short":
                path.write_text("other")
            return response

    (outcome,), _ = send_through(Changes(), url, path)

    assert outcome.state == "sent"
    assert outcome.sha256 == hashlib.sha256(b"other").hexdigest()
    found = server.client.get(OBJECTS, params={"text": "changes.txt"}).json()["objects"]
    assert [one["sha256"] for one in found] == [outcome.sha256]


def test_ctrl_c_ends_it_and_says_how_to_go_on(tmp_path: Path) -> None:
    """While a server lets it wait."""
    (tmp_path / "a.txt").write_text("a")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "allocator.cli",
            "ingest",
            str(tmp_path),
            "--server",
            f"http://127.0.0.1:{port}",
        ]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=60)
            connection.close()

    assert process.returncode == 1
    assert "Stopped with 1 files to go. The same command again goes on" in said
    assert "Traceback" not in said
    assert "sent" in out


def test_objects_are_found_and_given_back(url: str, server: ApiServer, tmp_path: Path) -> None:
    """By text and filters, page by page; into a file that is whole, or to standard output."""
    pictures = [tmp_path / f"find me {name}.png" for name in ("0", "1", "2\x1b[2J")]
    for number, path in enumerate(pictures):
        path.write_bytes(a_picture(size=(30, 31 + number)))
    sent(url, *pictures, "--owner", "finder", "--comments", "of the shell", "--wait", "--jobs", 1)
    where = ("--server", url, "--owner", "finder", "--json")

    page = json.loads(run("find", "find", "me", *where, "--limit", 2).stdout)
    rest = json.loads(run("find", "FIND ME", *where, "--limit", 2, "--after", page["next"]).stdout)
    commented = json.loads(run("find", "shell", *where, "-k", "media", "-t", "image/png", "--since", "1d").stdout)
    nothing = run("find", "me", "find", *where)
    table = run("find", "-l", "1", "--server", url, "-o", "finder")
    (last,) = rest["objects"]
    target = tmp_path / "back.png"
    got, again = (run("get", last["id"], "-o", target, "--server", url) for _ in range(2))
    replaced = run("get", last["id"], "-o", target, "--force", "--server", url)
    printed = run("get", last["id"], "-o", "-", "--server", url)

    assert [one["name"] for one in page["objects"] + rest["objects"]] == [path.name for path in reversed(pictures)]
    assert len(commented["objects"]) == 3
    assert nothing.exit_code == 1
    assert "there is more: the same with --after" in table.stdout
    assert "2\ufffd[2J.png" in table.stdout
    assert "\x1b" not in table.stdout
    assert (got.exit_code, again.exit_code, replaced.exit_code) == (0, 2, 0)
    assert target.read_bytes() == printed.stdout_bytes == pictures[0].read_bytes()
    assert run("get", "nobody", "-o", tmp_path / "none", "--server", url).exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.png", *(path.name for path in pictures)]


def test_bytes_that_are_not_what_was_sent_make_no_file(url: str, server: ApiServer, tmp_path: Path) -> None:
    """The disk has turned a bit: said, with exit status 1."""
    accepted = server.send(("bits.txt", b"as they were"))
    server.finished(accepted["job_id"])
    (object_id,) = accepted["system_ids"]
    digest = hashlib.sha256(b"as they were").hexdigest()
    stored = server.data / "objects" / digest[:2] / digest
    os.chmod(stored, 0o600)
    stored.write_bytes(b"as they went")

    done = run("get", object_id, "-o", tmp_path / "bits.txt", "--server", url)
    stored.write_bytes(b"as they were")

    assert done.exit_code == 1
    assert "is damaged" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_found_by_its_key(server: ApiServer) -> None:
    """Its status; 404 for another owner's, and for a key that nobody used."""
    accepted = server.send(("keyed.txt", b"keyed"), data={"owner": "keyer"}, headers={"Idempotency-Key": "found again"})

    found = server.client.get(INGEST, params={"key": "found again", "owner": "keyer"})
    others = [
        server.client.get(INGEST, params=given) for given in ({"key": "found again"}, {"key": "x", "owner": "keyer"})
    ]

    assert found.json()["job_id"] == accepted["job_id"]
    assert [response.status_code for response in others] == [404, 404]


def test_a_server_tells_which_files_it_has(server: ApiServer) -> None:
    """By owner, name, bytes and comments, in the order asked; a colon in the name is part of it."""
    answer = server.send(("a:b.txt", b"here"), data={"owner": "known", "comments": "first"})
    sha256, other = hashlib.sha256(b"here").hexdigest(), "0" * 64
    files = [f"{other}:a:b.txt", f"{sha256}:a:b.txt", f"{sha256}:b.txt"]

    def known(**options: str) -> list[Any]:
        response = server.client.get(f"{INGEST}/known", params={"file": files, **options})
        assert response.status_code == 200, response.text
        found: list[Any] = response.json()["objects"]
        return found

    here = {"id": answer["system_ids"][0], "upload_id": answer["job_id"]}
    assert known(owner="known", comments="first") == [None, here, None]
    assert known(owner="known") == known(owner="other", comments="first") == [None] * 3
    assert known(comments="c" * 4000) == [None] * 3
    assert server.client.get(f"{INGEST}/known", params={"file": "no digest:a.txt"}).status_code == 422


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (["--data", "/dev/null/files"], "/dev/null/files"),
        (["--store", "bogus://x"], "bogus"),
        (["--store", "sqlite:////dev/null/files.db"], "/dev/null/files.db"),
        (["--queue", "bogus://x"], "bogus"),
        (["--queue", "redis://127.0.0.1:1/0"], "127.0.0.1:1"),
        (["--name", ""], "name"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_a_sentence(tmp_path: Path, wrong: list[str], text: str) -> None:
    """With exit status 2, and no traceback; nothing is left running."""
    options = {
        "--data": str(tmp_path / "files"),
        "--store": f"sqlite:///{tmp_path / 'files.db'}",
        "--queue": "memory://",
    }
    options |= {wrong[0]: wrong[1]}
    command = [sys.executable, "-m", "allocator.cli", "serve", "--port", "0"]

    done = subprocess.run(
        [*command, *(part for option in options.items() for part in option)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    (said,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, said.startswith("allocator: "), text in said) == (2, True, True)
    assert "Traceback" not in done.stderr
