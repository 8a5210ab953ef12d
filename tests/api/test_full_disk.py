"""
A disk that is full: uploads are refused, nothing half-written stays, and all goes on when there is room again.

The server runs on small file systems that it alone sees, in a mount namespace of its own. Whoever may make a user
namespace needs no root for that.
"""

import errno
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.api.servers import OBJECTS, ApiServer, problem
from tests.ingest.samples import files_below

ON_SMALL_DISKS = """
for disk in "$0/files" "$0/record"; do mount -t tmpfs -o size=4m,mode=0700 tmpfs "$disk" || exit 1; done
exec "$@"
"""


def unshared(root: Path) -> Sequence[str]:
    """The command before one that is to have small disks at root/files and root/record."""
    for disk in ("files", "record"):
        (root / disk).mkdir()
    said = ""
    for options in (["--map-root-user", "--mount"], ["--mount"]):
        launcher = ["unshare", *options, "sh", "-c", ON_SMALL_DISKS, str(root)]
        try:
            done = subprocess.run([*launcher, "true"], capture_output=True, text=True, check=False)
        except OSError as error:
            said = str(error)
            continue
        if done.returncode == 0:
            return launcher
        said = done.stderr.strip().replace(str(root), "…")
    pytest.skip(f"no small disk can be mounted, which takes Linux with user namespaces, or root: {said}")


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Files and database are on disks of 4 MiB each. Without workers."""
    root = tmp_path_factory.mktemp("cramped")
    where = {"data": root / "files" / "data", "store_url": f"sqlite:///{root}/record/store.db"}
    with ApiServer(root, unshared(root), processes=0, **where) as running:
        yield running


def seen(server: ApiServer, disk: str) -> Path:
    """A disk, as the server sees it."""
    assert server.process is not None
    return Path(f"/proc/{server.process.pid}/root{server.root}/{disk}")


def fill(disk: Path) -> Path:
    """Take all the room that is left; gives the file that has it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


@pytest.mark.parametrize("disk", ["files", "record"])
def test_an_upload_to_a_full_disk_is_refused_and_can_be_repeated(cramped: ApiServer, disk: str) -> None:
    """Be it the disk of the files or that of the database: 507, and what was there is still given back."""
    content = disk.encode() * 100_000
    key = {"Idempotency-Key": f"full {disk}"}
    before = cramped.send(("before.bin", b"before"))["system_ids"][0]
    data = seen(cramped, "files") / "data"
    objects = files_below(data / "objects")
    listed = cramped.client.get(OBJECTS).json()["objects"]

    filler = fill(seen(cramped, disk))
    refused = cramped.post(("late.bin", content), headers=key)
    incoming = files_below(data / "incoming")
    written = set(files_below(data / "objects")) - set(objects)
    listed_then = cramped.client.get(OBJECTS).json()["objects"]
    given_back = cramped.client.get(f"{OBJECTS}/{before}/content").content
    filler.unlink()
    accepted = cramped.send(("late.bin", content), headers=key)

    assert "room" in problem(refused, 507)["detail"] or "full" in problem(refused, 507)["detail"]
    assert int(refused.headers["retry-after"]) >= 1
    assert incoming == []
    # A whole file, to which nothing refers, where only the database was full; a sweep takes it.
    assert len(written) == (1 if disk == "record" else 0)
    assert listed_then == listed
    assert given_back == b"before"
    (object_id,) = accepted["system_ids"]
    assert cramped.client.get(f"{OBJECTS}/{object_id}/content").content == content
    assert len(cramped.client.get(OBJECTS).json()["objects"]) == len(listed) + 1
