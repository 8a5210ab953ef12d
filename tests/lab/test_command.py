"""`allocator lab` from the shell: what it starts, what it copies, and how it ends. Its panels are tested elsewhere."""

import importlib.util
import json
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner, Result

from allocator.cli import app
from allocator.lab import serving
from allocator.lab.serving import find_notebooks
from allocator.report.places import notebooks_folder
from tests.faults.running import until
from tests.lab.command import LabCommand

NAMES = sorted(path.name for path in notebooks_folder().glob("*.ipynb"))


def run(*arguments: str) -> Result:
    """The command in this process, for what it refuses."""
    return CliRunner().invoke(app, ["lab", *arguments], prog_name="allocator")


def test_a_checkout_s_notebooks_are_worked_on_where_they_are() -> None:
    """Nothing is copied unless a folder is named."""
    found = find_notebooks(None)

    assert found.folder == notebooks_folder() == found.root / "notebooks"
    assert (found.copied, found.kept) == ((), ())


def test_outside_a_checkout_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the package, into the current folder."""
    packed = tmp_path / "site" / "allocator" / "notebooks"
    packed.mkdir(parents=True)
    (packed / "lab.ipynb").write_text("{}")
    monkeypatch.setattr(serving, "notebooks_folder", lambda: packed)
    monkeypatch.chdir(tmp_path)

    found = find_notebooks(None)

    assert found.root == found.folder == tmp_path / "allocator-lab"
    assert [path.name for path in found.folder.iterdir()] == ["lab.ipynb"]


def test_what_a_user_changed_is_kept(tmp_path: Path) -> None:
    """A second start copies what is missing, leaves the rest alone, and says what is not as it comes."""
    first = find_notebooks(tmp_path / "mine")
    changed, deleted = tmp_path / "mine" / NAMES[0], tmp_path / "mine" / NAMES[1]
    changed.write_text("mine now")
    deleted.unlink()

    second = find_notebooks(tmp_path / "mine")

    assert (first.copied, first.kept) == (NAMES, [])
    assert (second.copied, second.kept) == ([deleted.name], [changed.name])
    assert changed.read_text() == "mine now"


def test_a_missing_package_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is copied or started."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jupyterlab" else find(name))

    result = run(str(tmp_path / "mine"))

    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "jupyterlab is not installed" in result.output
    assert "pip install 'allocator[notebooks]'" in " ".join(result.output.split())


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """With how to see who has it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        result = run(str(tmp_path), "--port", str(port))

    assert result.exit_code == 2
    assert f"port {port} is taken" in result.output
    assert "REDIS_URL=" not in result.output


def test_a_file_is_no_folder_for_copies(tmp_path: Path) -> None:
    """It is named, and left alone."""
    (tmp_path / "file").write_text("mine")

    result = run(str(tmp_path / "file"))

    assert result.exit_code == 2
    assert "file is a file; name a folder" in " ".join(result.output.split())


def test_it_serves_the_notebooks_to_who_has_the_token(tmp_path: Path) -> None:
    """On loopback alone; the browser is sent there; Ctrl-C ends kernels and all, without a question."""
    browser = tmp_path / "browser"
    browser.write_text(f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'asked')!r}, 'w').write(sys.argv[1])\n")
    browser.chmod(0o700)

    with LabCommand(tmp_path, "mine", BROWSER=str(browser), REDIS_URL="redis://127.0.0.1:1/0") as lab:
        kernel = lab.start_kernel()
        listening = {each.laddr.ip for process in lab.family() for each in process.net_connections() if not each.raddr}
        until((tmp_path / "asked").exists, "the browser is opened")

        assert lab.url.startswith(f"{lab.client.base_url}/lab/tree/lab.ipynb?token=")
        assert (tmp_path / "asked").read_text() == lab.url
        assert [each["name"] for each in listed(lab.client)] == NAMES
        assert httpx.get(lab.client.base_url, follow_redirects=True).url.path == "/login"
        assert listening == {"127.0.0.1"}
        assert f"copied: {', '.join(NAMES)}" in lab.said
        assert "redis: that of REDIS_URL" in lab.said
        assert not any("token" in " ".join(process.cmdline()) for process in lab.family())
        assert kernel.exe() == psutil.Process(lab.process.pid).exe()
        assert (lab.end(signal.SIGINT), lab.complaints) == (0, "")


def listed(client: httpx.Client) -> list[dict[str, Any]]:
    """The notebooks in its topmost folder."""
    found: list[dict[str, Any]] = client.get("/api/contents").raise_for_status().json()["content"]
    return sorted((each for each in found if each["type"] == "notebook"), key=lambda each: each["name"])


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
def test_however_it_ends_nothing_is_left(tmp_path: Path, number: signal.Signals) -> None:
    """Its kernels go with it, and its folder, which holds the token."""
    with LabCommand(tmp_path, "mine", "--no-browser", TMPDIR=str(tmp_path)) as lab:
        lab.start_kernel()
        (private,) = tmp_path.glob("allocator-lab-*")
        mode = stat.S_IMODE(private.stat().st_mode)

        status = lab.end(number)

    assert status == (0 if number == signal.SIGTERM else -number)
    assert (oct(mode), list(tmp_path.glob("allocator-lab-*"))) == ("0o700", [])


@pytest.mark.full
def test_a_long_temporary_folder_is_no_hindrance(tmp_path: Path) -> None:
    """Sockets in files have paths of a hundred bytes at most; kernels listen on ports then."""
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()

    with LabCommand(tmp_path, "mine", "--no-browser", TMPDIR=str(deep)) as lab:
        (private,) = deep.glob("allocator-lab-*")

        assert lab.start_kernel().is_running()
        assert "KernelManager" not in json.loads((private / "jupyter_server_config.json").read_text())
