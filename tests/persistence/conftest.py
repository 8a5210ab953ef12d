"""Stores of their own for tests: a new SQLite file, and a new schema in a PostgreSQL that all share."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from allocator.persistence import Store, open_store
from tests.persistence.builders import FakeQueue, Opener

KINDS = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgres", id="postgres", marks=[pytest.mark.postgres, pytest.mark.service]),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which database."""
    return str(request.param)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The arguments of `open_store` for a database that nobody else uses."""
    if kind == "sqlite":
        return {"url": f"sqlite:///{tmp_path / 'store.db'}"}
    return {"url": request.getfixturevalue("postgres_url"), "schema": f"test_{uuid.uuid4().hex[:16]}"}


@pytest.fixture
def opener(place: dict[str, Any]) -> Iterator[Opener]:
    """Opens one more store on this test's database; all are closed, and the database erased, at the end."""
    opened: list[Store] = []

    def open_one(**changes: Any) -> Store:
        store = open_store(**{**place, **changes})
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()
    if "schema" in place and opened:
        with opened[0].engine.begin() as connection:
            connection.execute(text(f'DROP SCHEMA IF EXISTS "{place["schema"]}" CASCADE'))
        opened[0].engine.dispose()


@pytest.fixture
def store(opener: Opener) -> Store:
    """A store on an empty database."""
    return opener()


@pytest.fixture
def queue() -> FakeQueue:
    """A queue that takes everything."""
    return FakeQueue()
