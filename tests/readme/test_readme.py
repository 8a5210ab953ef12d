"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest

from tests.contract.builders import Clients, counts

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_the_first_program_works_on_every_backend(open_client: Clients, capsys: pytest.CaptureFixture[str]) -> None:
    """With the URL and the name of a queue of its own."""
    queue = open_client(clock=None)
    program = PROGRAMS[0].replace("redis://localhost:6379/0", open_client.url).replace('"media"', f'"{queue.name}"')

    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})

    assert "{'path': 'a.png'} attempt 1" in capsys.readouterr().out
    assert queue.counts() == counts(done=1)


def test_the_program_with_workers_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the default store, in a home of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    exec(compile(PROGRAMS[1], "README.md", "exec"), {"__name__": "readme"})

    assert capsys.readouterr().out == "done {'width': 640}\n"


def test_the_program_that_makes_a_run_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps the run where it was called."""
    monkeypatch.chdir(tmp_path)

    exec(compile(PROGRAMS[2], "README.md", "exec"), {"__name__": "readme"})

    assert capsys.readouterr().out.split()[0] in ("holds", "inconclusive")
    assert len(list((tmp_path / "reports" / "runs").iterdir())) == 1
