"""Servers that the tests of the API share."""

from collections.abc import Iterator

import pytest

from tests.api.servers import ApiServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With one worker process, an in-process queue, and a database and files of its own."""
    with ApiServer(tmp_path_factory.mktemp("api"), processes=1) as running:
        yield running


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """With low limits, and without workers: what it takes stays queued."""
    limits = {
        "max_body_bytes": 1_000_000,
        "max_file_bytes": 400_000,
        "max_field_bytes": 1_000,
        "max_files": 3,
        "max_name_chars": 40,
        "max_uploads": 1,
        "head_s": 0.5,
        "stall_s": 1,
        "min_bytes_per_s": 1_000_000,
    }
    with ApiServer(tmp_path_factory.mktemp("narrow"), processes=0, **limits) as running:
        yield running
