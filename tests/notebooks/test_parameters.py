"""What notebooks do before they do anything: check their parameters, find servers, find themselves."""

from pathlib import Path
from typing import Any

import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from allocator.report import notebook
from allocator.report.artefacts import Artefacts, read_measures
from allocator.report.notebook import (
    BadParameters,
    Servers,
    check_parameters,
    injected_names,
)
from allocator.report.places import notebooks_folder
from allocator.services import ServiceUnavailable
from tests.notebooks.executing import FOLDER

CELL = """
backends: list[str] = ["memory"]  # where
rate_per_s: float = 200.0  # how fast
jobs: int = 5  # how many
write: bool = False  # whether
"""


def namespace(**injected: Any) -> dict[str, Any]:
    """Of a kernel in which the parameters cell ran, and what papermill put behind it."""
    names: dict[str, Any] = {}
    given = "\n".join(f"{name} = {value!r}" for name, value in injected.items())
    exec(CELL, names)
    exec(given, names)
    names["In"] = ["", CELL, f"# Parameters\n{given}\n"] if injected else ["", CELL]
    return names


def test_defaults_and_values_of_the_right_type_pass() -> None:
    """A whole number may stand where a fraction may."""
    check_parameters(namespace())
    check_parameters(namespace(rate_per_s=7, jobs=1, backends=["redis", "postgres"], write=True))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rate": 5.0}, "rate: there is no such parameter"),
        ({"rate_per_s": "7"}, "rate_per_s: .* not '7'"),
        ({"jobs": 2.5}, "jobs: .* not 2.5"),
        ({"jobs": True}, "jobs: .* not True"),
        ({"write": "yes"}, "write: .* not 'yes'"),
        ({"backends": "redis"}, "backends: .* not 'redis'"),
        ({"backends": ["oracle"]}, r"backends: there are memory, redis, postgres, not \['oracle'\].*REDIS_URL"),
        ({"backends": ["redis://:secret@host"]}, "REDIS_URL or DATABASE_URL in the environment"),
        ({"jobs": -1}, "jobs: must be at least 0, not -1"),
        ({"rate_per_s": float("nan")}, "rate_per_s: .* not nan"),
    ],
)
def test_what_is_wrong_is_told_with_what_there_is(given: dict[str, Any], told: str) -> None:
    """Names the parameter and the value, and lists the parameters with their types."""
    names = namespace(**{name: 0.0 if value != value else value for name, value in given.items()}) | given

    with pytest.raises(
        BadParameters, match=rf"nothing was run.*{told}.*There are: backends: list\[str\], rate_per_s: float, jobs: int"
    ):
        check_parameters(names)


def test_the_names_that_papermill_was_given_are_found() -> None:
    """In the cell that it adds, whatever is in the notebook itself."""
    given = parameterize_notebook(load_notebook_node(str(FOLDER / "10-latency.ipynb")), {"rate": 5, "calls": 1})

    assert injected_names({"In": ["", *(cell.source for cell in given.cells)]}) == ["rate", "calls"]


def test_names_that_the_reader_made_are_no_parameters() -> None:
    """In JupyterLab the cell is run again after others have left names behind."""
    check_parameters(namespace() | {"artefacts": object(), "runs": {}})


def test_a_server_that_cannot_be_had_is_told_for_each_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook goes on with the others."""

    def fails() -> None:
        raise ServiceUnavailable("no redis-server on this machine")

    monkeypatch.setattr(notebook, "open_redis", fails)
    monkeypatch.setattr(notebook, "_started", {})
    servers = Servers(["redis", "memory"])

    servers.tell_missing(Artefacts(tmp_path, "10-latency"), ["wait_p99_s"])

    assert (list(servers.urls), servers.first, servers.places) == (["memory"], "memory", {"memory": "memory"})
    measure = read_measures(tmp_path)["redis/wait_p99_s"]
    assert (measure.value, measure.reason) == (None, "no redis-server on this machine")
    with pytest.raises(ServiceUnavailable, match="no redis-server"):
        servers.url("redis")


@pytest.mark.redis
def test_a_server_that_is_named_by_url_is_used(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And runs are told its URL; without one they start a server of their own."""
    monkeypatch.setattr(notebook, "_started", {})
    monkeypatch.setenv("REDIS_URL", redis_url)

    named = Servers(["redis"])

    assert (named.urls, named.places) == ({"redis": redis_url}, {"redis": redis_url})
    monkeypatch.delenv("REDIS_URL")
    assert named.places == {"redis": "redis"}


def test_the_notebooks_are_found() -> None:
    """In the checkout, where no package holds them."""
    assert (notebooks_folder() / "10-latency.ipynb").is_file()
