"""A database of many placed assets, as uploads and workers leave it, written past the store's own statements."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from allocator.domain.ids import new_id
from allocator.persistence import open_store
from allocator.persistence.tables import assets, jobs, uploads

PER_UPLOAD = 10
CHUNK = 20_000
KINDS = (("media", "image/jpeg"), ("json", "application/json"), ("other", "text/plain"))


def fill(folder: Path, count: int, advance: Callable[[int], None]) -> list[str]:
    """
    Write so many assets, ten in an upload, into store.db in a folder; `advance` is told of them.

    Returns:
        The ids of the uploads.
    """
    draw = random.Random(7)
    began = time.time() - count / 100
    upload_ids: list[str] = []
    with open_store(f"sqlite:///{folder / 'store.db'}") as store:
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            rows = list(_rows(numbers, began, draw))
            upload_ids += [row["id"] for row, _, _ in rows if row is not None]
            with store.engine.begin() as connection:
                raw: Any = connection.connection.driver_connection
                for place, table in enumerate((uploads, jobs, assets)):
                    names = [column.name for column in table.c]
                    marks = ", ".join("?" * len(names))
                    raw.executemany(
                        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})",
                        (tuple(row[place].get(name) for name in names) for row in rows if row[place] is not None),
                    )
            advance(len(numbers))
        with store.engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
    return upload_ids


def _rows(numbers: range, began: float, draw: random.Random) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Upload (None but for its first asset), job and asset."""
    record = msgspec.json.encode({"type": "bench", "payload": {}})
    upload: dict[str, Any] = {}
    for number in numbers:
        at = began + number / 100
        is_first = number % PER_UPLOAD == 0
        if is_first:
            upload = {"id": new_id(), "owner": f"owner {number % 97}", "digest": "0" * 64, "created_at": at}
        kind, media_type = KINDS[number % len(KINDS)]
        job_id = new_id()
        name = f"file {number}.dat"
        job = {
            "id": job_id,
            "queue": "memory:bench",
            "type": kind,
            "priority": 0,
            "max_retries": 3,
            "state": "done",
            "ended_as": "done",
            "attempt": 1,
            "failed_count": 0,
            "worker": "worker-1",
            "cancel_asked": False,
            "submitted_at": at,
            "due_at": at,
            "leased_at": at,
            "started_at": at,
            "finished_at": at + 0.001,
            "record": record,
        }
        asset = {
            "id": new_id(),
            "upload_id": upload["id"],
            "job_id": job_id,
            "owner": upload["owner"],
            "name": name,
            "size_bytes": 20_000,
            "sha256": f"{draw.getrandbits(256):064x}",
            "kind": kind,
            "type": media_type,
            "received_at": at,
            "placed_at": at + 0.001,
            "path": f"{kind}/2026/{number}.dat",
            "rule": "rest",
            "search_text": name + "\n",
            "facts": b"{}",
        }
        yield upload if is_first else None, job, asset
