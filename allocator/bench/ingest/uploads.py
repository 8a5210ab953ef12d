"""Files sent to a server one by one, and what became of them, as frames."""

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

INGEST = "/api/v1/ingest"
OBJECTS = "/api/v1/objects"
ENDED = ("done", "failed")
LOOK_S = 0.05
PAGE = 1000


def client_for(port: int) -> httpx.Client:
    """A client of a server on this machine."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)


def send_files(client: httpx.Client, paths: Iterable[Path], at_a_time: int = 4) -> pd.DataFrame:
    """
    Send each file in a request of its own.

    Returns:
        A row a file: name, bytes, sha256; status (of HTTP), sent_at (seconds since the epoch), accept_s (until the
        answer was there), object (its id; missing where it was refused), problem.
    """

    def send(path: Path) -> dict[str, Any]:
        content, name = path.read_bytes(), path.name
        sent_at, began = time.time(), time.perf_counter()
        response = client.post(INGEST, data={"owner": "notebook"}, files={"files[]": (name, content)})
        took_s = time.perf_counter() - began
        accepted = response.status_code == httpx.codes.ACCEPTED
        return {
            "name": name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "status": response.status_code,
            "sent_at": sent_at,
            "accept_s": took_s,
            "object": response.json()["system_ids"][0] if accepted else None,
            "problem": None if accepted else response.text[:200],
        }

    with ThreadPoolExecutor(at_a_time) as pool:
        return pd.DataFrame(list(pool.map(send, paths)))


def ended_objects(client: httpx.Client, within_s: float) -> pd.DataFrame:
    """
    All objects of the server, once each has been placed or refused, or `within_s` seconds have passed.

    Returns:
        A row an object, as the API gives it, `received_at` and `placed_at` as instants.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = _objects(client)
        if found["state"].isin(ENDED).all() or time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    # Whole seconds are written without a fraction.
    return found.assign(**{
        column: pd.to_datetime(found[column], format="ISO8601", utc=True) for column in ("received_at", "placed_at")
    })  # fmt: skip


def sha256_of(client: httpx.Client, object_id: str) -> str:
    """Of what the server gives back for an object."""
    response = client.get(f"{OBJECTS}/{object_id}/content").raise_for_status()
    return hashlib.sha256(response.content).hexdigest()


def _objects(client: httpx.Client) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get(OBJECTS, params={"limit": PAGE, **({"after": after} if after else {})}).raise_for_status()
        rows += page.json()["objects"]
        after = page.json()["next"] or ""
        if not after:
            return pd.DataFrame(rows, columns=None if rows else ["state", "received_at", "placed_at"])
