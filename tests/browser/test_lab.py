"""
The lab in a real JupyterLab, started as a person starts it, in a real browser, on real servers.

Pictures of it are kept in ALLOCATOR_PICTURES, or in pytest's folder of the test.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from allocator.lab.session import WORKERS
from tests.browser.conftest import PATIENCE_MS, Pages
from tests.browser.labpage import START_MS, LabPage, opened
from tests.lab.command import LabCommand

pytestmark = [pytest.mark.browser, pytest.mark.service]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabCommand]:
    """JupyterLab on copies of the notebooks; who asks somebody outside is refused."""
    nowhere = "http://127.0.0.1:9"
    outside = {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "ALL_PROXY": nowhere, "NO_PROXY": "127.0.0.1,localhost"}
    with LabCommand(tmp_path_factory.mktemp("lab"), "mine", "--no-browser", **outside) as running:
        yield running


@pytest.fixture
def panels(lab: LabCommand, pages: Pages) -> Iterator[LabPage]:
    """The notebook that it opens, with its cells run."""
    with opened(lab, pages) as shown:
        yield shown


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures go."""
    folder = Path(os.environ.get("ALLOCATOR_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("server", ["Redis", pytest.param("PostgreSQL", marks=pytest.mark.full)])
def test_a_person_works_the_queue(lab: LabCommand, pages: Pages, panels: LabPage, pictures: Path, server: str) -> None:
    """
    Moves the rate, and numbers and figure follow; kills a worker, and another one takes its place.

    Lets jobs fail, sees why, and puts them back; records a run, and opens its notebook; restarts the kernel, and
    server, workers and load have gone with it.
    """
    panels.choose("workload", server)
    panels.click("start")
    panels.until("throughput", "n > 0", START_MS)
    before = panels.figure()

    panels.slide("rate", 200)
    panels.until("rate", "n > 140")
    panels.until_drawn_anew(before)

    panels.click("worker-0 .allocator-lab-kill")
    panels.says("worker-0 .allocator-lab-line span:last-child", "^1$")

    panels.slide("failing", 100)
    panels.until("dead", "n > 0")
    panels.slide("failing", 0)
    panels.until("retries", "n == 0")
    panels.part("letters").locator("option").first.click()
    panels.says("letter", "attempt 1 .*Traceback")
    for theme in ("Dark", "Light"):
        panels.theme(theme)
        panels.picture(pictures / f"lab-{server}-{theme}.png".lower())
    panels.click("put-back-all")
    panels.until("dead", "n == 0")

    panels.slide_in("record", 3)
    panels.click("start-recording")
    panels.says("recorded", "Run .*: (holds|inconclusive)", START_MS)
    panels.picture(pictures / f"lab-{server}-recorded.png".lower())
    panels.click("run-link a")
    panels.page.get_by_role("heading", name="One run, looked at").wait_for(timeout=PATIENCE_MS)

    family = [each for kernel in lab.kernels() for each in kernel.children(recursive=True)]
    # JupyterLab's own, where it was about to ask the kernel that goes.
    pages.expected.append("Could not restore the debugger state")
    panels.tab("lab.ipynb")
    panels.menu("Kernel", "Restart Kernel…")
    panels.page.locator(".jp-Dialog .jp-mod-accept").click()
    _, alive = psutil.wait_procs(family, timeout=START_MS / 1000)
    panels.until_idle()
    assert (len(family) > WORKERS, alive) == (True, [])
