"""`allocator report`, as a person or a script uses it."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from allocator.cli import app
from tests.report.builders import a_report, a_run, lossy, written


def run(*arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, ["report", *arguments], prog_name="allocator")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two: in the second a job was lost."""
    folder = tmp_path_factory.mktemp("reports")
    for id, rows in (("20260101T000000-smoke-aaaa", None), ("20260102T000000-smoke-bbbb", lossy())):
        written(a_report(folder / id, a_run(folder / id / "runs", f"r-{id[-4:]}", rows=rows), id=id))
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--profile", "quick"), "must be one of smoke, ci, full"),
        (("--backends", "redis,kafka"), "must be some of memory, redis, postgres"),
        (("--backends", ""), "must be some of memory, redis, postgres"),
        (("--claims", "/nowhere/levels.toml"), "/nowhere/levels.toml: these claims cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """In a sentence, with exit status 2, and no report is begun."""
    result = run(*arguments, "--out", str(tmp_path))

    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert said in " ".join(result.output.split())


def test_a_baseline_that_cannot_be_measured_is_told_before_anything_runs(tmp_path: Path) -> None:
    """Whether this is a git checkout, which has no such commit, or none."""
    result = run("--baseline", "nowhere", "--out", str(tmp_path))

    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert re.search(r"'nowhere' names no commit in|is no git checkout", " ".join(result.output.split()))


def test_a_report_is_verified_by_the_beginning_of_its_id(reports: Path) -> None:
    """Exit status 0 where it is as it was, 1 where it is not; an id that may be two is refused."""
    sound = run("verify", "20260101", "--out", str(reports))
    unclear = run("verify", "2026", "--out", str(reports))
    missing = run("verify", "2027", "--out", str(reports))

    assert (sound.exit_code, "every figure and status follows" in sound.output) == (0, True)
    assert (unclear.exit_code, missing.exit_code) == (2, 2)


@pytest.mark.parametrize("given", ["/nowhere/at/all", "../20260101", "**"])
def test_a_report_that_is_not_there_is_told_whatever_was_given(reports: Path, given: str) -> None:
    """The path of a folder that was mistyped, too: in a sentence."""
    result = run("verify", given, "--out", str(reports))

    assert (result.exit_code, f"there is no report {given} in" in " ".join(result.output.split())) == (2, True)


def test_two_reports_are_compared(reports: Path) -> None:
    """What changed its status, worst first, and the figures side by side."""
    result = run("diff", "20260101", "20260102", "--out", str(reports), "--json")

    assert result.exit_code == 0
    assert "memory-lost-nothing: PASS before, FAIL now" in result.output
    assert '"comparable": true' in result.output
