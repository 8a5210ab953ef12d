"""The benchmark of the supervisor: each part gives its rows, and what breaks is told and gives no figure."""

import json
from pathlib import Path
from typing import Any

import pytest

from allocator.bench.supervisor import plan
from allocator.bench.supervisor.__main__ import main
from allocator.bench.supervisor.plan import PARTS, Profile
from allocator.bench.supervisor.programs import BrokenProgram, Figures

TINY = Profile(
    jobs=200,
    pickups=5,
    steady_s=0.2,
    idle_s=0.2,
    memory_jobs=400,
    wave=200,
    busy_jobs=4,
    busy_s=0.01,
    records=5_000,
    reads=3,
    rounds=1,
    latency_rounds=1,
)


def measured(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and what was written; in process, where nothing else is said, which needs no server."""
    status = main(["--only", "memory", "--out", str(folder), *arguments], TINY)
    return status, json.loads((folder / "results.json").read_bytes())


def test_figures_come_with_their_limits(tmp_path: Path) -> None:
    """Rows and a page; too few jobs for a claim, which is the profile's affair."""
    status, found = measured(tmp_path, "--part", "drain")

    assert status == 0
    assert [row["operation"] for row in found["rows"]] == ["drain, no store", "drain, store on SQLite"]
    assert all(row["value"] and row["beside"] and row["ratio"] for row in found["rows"])
    assert "drain, store on SQLite" in (tmp_path / "report.html").read_text()


@pytest.mark.full
def test_every_part_is_measured(tmp_path: Path) -> None:
    """But what needs a server, which is named."""
    status, found = measured(tmp_path)

    assert status == 0
    assert {group["part"] for group in found["groups"]} == set(PARTS) - {"steady"}
    assert found["not_measured"] == ["the same at 500 jobs a second: there is no Redis in this run"]


def test_a_target_that_falls_short_fails_where_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten jobs a second are too few."""
    monkeypatch.setattr(plan, "call", lambda program, arguments: {"rate": [10.0]})

    assert measured(tmp_path, "--part", "drain")[0] == 0
    assert measured(tmp_path, "--part", "drain", "--strict")[0] == 1


def test_a_program_that_breaks_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status says that the harness broke, and the result what broke in it."""

    def broken(program: str, arguments: dict[str, Any]) -> Figures:
        raise BrokenProgram(f"{program}: exit status 1: no such thing")

    monkeypatch.setattr(plan, "call", broken)
    status, found = measured(tmp_path, "--part", "drain")

    assert status == 2
    assert found["rows"] == []
    assert any("exit status 1: no such thing" in line for line in found["not_measured"])
