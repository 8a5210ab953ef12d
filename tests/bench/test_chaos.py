"""The chaos run on real servers: nothing is lost under kills, and built-in bugs are caught."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from allocator.bench.chaos.__main__ import main
from allocator.bench.chaos.body import await_start, draw_jobs
from allocator.bench.chaos.sabotage import BUGS
from allocator.bench.checker import Promise
from tests.faults.running import Running

ROOT = Path(__file__).parents[2]

on_backends = pytest.mark.parametrize(
    "where",
    ["memory", pytest.param("redis", marks=pytest.mark.redis), pytest.param("postgres", marks=pytest.mark.postgres)],
)


def chaos(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "allocator.bench.chaos", "--json", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@on_backends
@pytest.mark.service
def test_nothing_is_lost_in_a_few_kills(where: str) -> None:
    """Workers killed and stopped, the server killed, and on Redis wiped: every promise holds."""
    status, outcome = chaos("--backend", where, "--jobs", "300", "--kills", "2", "--lease", "1", "--long-every", "60")

    assert [verdict for verdict in outcome["verdicts"] if verdict["count"]] == []
    # Workers that race for jobs leave nothing by which to judge who was first.
    assert [verdict["name"] for verdict in outcome["verdicts"] if verdict["status"] != "holds"] == [Promise.ORDER]
    assert outcome["crashed"] == 0
    assert status == 0
    assert outcome["jobs"] == 300
    assert outcome["faults"]["kill"] == 2
    assert outcome["stops"] == 1


@pytest.mark.full
@on_backends
@pytest.mark.service
def test_nothing_is_lost_in_a_hundred_kills(where: str) -> None:
    """As in the README."""
    status, outcome = chaos("--backend", where, "--jobs", "20000", "--kills", "100")

    assert [verdict for verdict in outcome["verdicts"] if verdict["count"]] == []
    assert status == 0
    # Kills of programs that have nothing to do would show little.
    assert outcome["kills_that_hit"] >= 30


@pytest.mark.full
@pytest.mark.redis
@pytest.mark.service
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_that_was_built_in_is_caught(bug: str) -> None:
    """A control: real workers with one bug each."""
    status, outcome = chaos(
        *("--backend", "redis", "--jobs", "400", "--kills", "12", "--lease", "1", "--drain", "20", "--sabotage", bug),
    )

    assert status == 0, f"not caught: {outcome}"


def test_a_fault_waits_until_a_job_begins_where_it_is_to_hit(tmp_path: Path) -> None:
    """In the process or a child of it; what began before may have ended."""
    trace = tmp_path / "trace"
    trace.write_text("started before 1 token 7 1 0.0\n")
    waiting = Running(await_start, trace, 7, 3600.0)

    with trace.open("a", buffering=1) as lines:
        lines.write("finished before 1 token 7 1 0.0\nstarted elsewhere 1 token 8 1 0.0\n")
        assert not waiting.done
        while not waiting.done:
            lines.write("started there 1 token 9 7 0.0\n")

    waiting.result()


def test_jobs_are_drawn_from_the_seed() -> None:
    """So that a run can be made again."""
    assert draw_jobs(100, 7, 1.0, 20) == draw_jobs(100, 7, 1.0, 20)
    assert draw_jobs(100, 7, 1.0, 20) != draw_jobs(100, 8, 1.0, 20)


@pytest.mark.parametrize("option", ["--jobs", "--long-every", "--lease", "--drain"])
def test_a_run_that_could_not_end_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the name of the option, before a server is started for it."""
    with pytest.raises(SystemExit) as refused:
        main([option, "0"])

    assert refused.value.code == 2
    assert f"{option} must be" in capsys.readouterr().err
