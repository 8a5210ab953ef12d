"""The benchmark of taking files in: each part gives its rows, and what breaks is told and gives no figure."""

import json
from pathlib import Path
from typing import Any

import pytest

from allocator.bench.ingest import __main__ as benchmark
from allocator.bench.ingest import measures
from allocator.bench.ingest.__main__ import main
from allocator.bench.ingest.measures import Figures, Profile, Told
from allocator.bench.ingest.server import BrokenServer
from allocator.cli import sending

TINY = Profile(
    files=16, large_bytes=4 * 1024**2, accept_s=0.5, assets=2_000, reads=5, rounds=1, large_rounds=1, accept_rounds=1
)


def measured(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and what was written."""
    status = main(["--out", str(folder), *arguments], TINY)
    return status, json.loads((folder / "results.json").read_bytes())


def test_figures_come_with_what_they_are_measured_beside(tmp_path: Path) -> None:
    """Rows and a page; every asset was listed, and too few reads decide nothing."""
    status, found = measured(tmp_path, "--part", "status,pages")

    assert status == 0
    assert [row["operation"] for row in found["rows"]] == [
        "status of an upload, 2,000 assets, n = 5",
        "2,000 assets listed in pages of 1,000",
    ]
    assert all(row["value"] and row["beside"] and row["ratio"] for row in found["rows"])
    assert found["rows"][0]["reached"] is None
    assert "assets listed" in (tmp_path / "report.html").read_text()


@pytest.mark.full
def test_every_part_is_measured(tmp_path: Path) -> None:
    """By a server with workers, and by the bare work."""
    status, found = measured(tmp_path)

    assert status == 0
    assert list(found["parts"]) == ["files", "large", "accept", "status", "pages"]
    assert len(found["rows"]) == 8
    rates = found["parts"]["files"]["rates"]
    assert 0 < rates["api, placed"][0] < rates["api"][0]
    assert "until placed" in found["rows"][0]["value"]


def test_a_target_that_is_missed_fails_where_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of what the bare loop does is too little."""
    slow = Figures(rates={"bare": [90.0], "api": [30.0], "api alone": [60.0], "api together": [80.0]})
    monkeypatch.setattr(benchmark, "measure_files", lambda profile, told: slow)

    assert measured(tmp_path, "--part", "files")[0] == 0
    assert measured(tmp_path, "--part", "files", "--strict")[0] == 1


def test_a_server_that_breaks_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status says that the harness broke, and the result what broke in it."""

    def broken(profile: Profile, told: Told) -> Figures:
        raise BrokenServer("POST: 500")

    monkeypatch.setattr(benchmark, "measure_files", broken)
    status, found = measured(tmp_path, "--part", "files")

    assert status == 2
    assert found["rows"] == []
    assert "files: POST: 500" in found["not_measured"]


def test_files_go_together_as_the_command_sends_them() -> None:
    """Else the figure would be of something that nobody does."""
    assert measures.TOGETHER == sending.TOGETHER
