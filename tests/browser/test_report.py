"""The page of a report in a real browser: one file, readable by everybody, that asks nobody for anything."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from allocator.report.build import render
from allocator.report.index import PAGE
from allocator.report.made import Made
from allocator.report.places import notebooks_folder
from tests.browser.conftest import Pages
from tests.report.builders import a_case, a_report, a_run, late, lossy

pytestmark = pytest.mark.browser

WIDE, NARROW = {"width": 1400, "height": 1000}, {"width": 400, "height": 800}
MOST_BYTES = 3_000_000


class Served(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; keeps what was asked for."""

    asked: ClassVar[list[str]] = []

    def log_message(self, format: str, *arguments: Any) -> None:
        self.asked.append(self.path)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a claim of each status: one run failed a gate, one lost a job; one backend was not there."""
    folder = tmp_path_factory.mktemp("reports") / "20260101T000000-smoke-abcd"
    runs = folder / "runs"
    behind, bad = a_run(runs, "r1", rows=late()), a_run(runs, "r2", "redis", rows=lossy(), faults=1)
    a_report(folder, behind, bad, tests=a_case("tests/contract/test_order.py::test_a[inprocess]"))
    (folder / "notebooks").mkdir()
    render(Made.read(folder), notebooks_folder(), folder, 60.0)
    return folder


@pytest.fixture
def url(report: Path) -> Iterator[str]:
    """Where the page is."""
    Served.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(report)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{PAGE}"
    server.shutdown()
    server.server_close()


def test_it_is_one_file_without_a_script(report: Path, pages: Pages, url: str) -> None:
    """All of it is there where scripts are forbidden, and nothing else is asked for."""
    with pages.open(url, java_script_enabled=False) as page:
        heading = page.get_by_role("heading", level=1).inner_text()
        sections = page.locator("h2").all_inner_texts()

    text = (report / PAGE).read_text("utf-8")
    assert heading.startswith("Accepted jobs were lost, or never came to an end, on Redis")
    assert {"Components and claims", "Latency", "Faults and workers", "Method and provenance"} <= set(sections)
    assert Served.asked == [f"/{PAGE}"]
    assert "<script" not in text
    assert len(text) < MOST_BYTES


def test_every_section_could_be_made(report: Path, pages: Pages, url: str) -> None:
    """From runs, tests and measures alone; a run that lost a job is struck through."""
    with pages.open(url, viewport=WIDE) as page:
        assert page.get_by_text("This section could not be made").count() == 0
        assert page.locator("del").count() > 0
        assert page.locator("figure svg[role=img]").count() > 5
        for status in ("PASS", "FAIL", "INCONCLUSIVE", "NOT MEASURED"):
            assert page.locator(".status", has_text=status).count() > 0
    assert Made.read(report).problems == []


@pytest.mark.parametrize(
    ("scheme", "size", "unfolded"),
    [("dark", NARROW, False), pytest.param("light", WIDE, True, marks=pytest.mark.full)],
    ids=["dark", "light"],
)
def test_everybody_can_read_it(pages: Pages, url: str, scheme: str, size: dict[str, int], unfolded: bool) -> None:
    """Nothing that axe finds, and no wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    with pages.open(url, viewport=size, color_scheme=scheme) as page:
        page.evaluate(f"document.querySelectorAll('details').forEach(each => each.open = {str(unfolded).lower()})")

        found = Axe().run(page)

        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_print_shows_what_is_folded_away(pages: Pages, url: str) -> None:
    """On paper nobody can unfold it."""
    with pages.open(url, viewport=WIDE) as page:
        folded = page.get_by_text("No job that was accepted was lost.").last
        before = folded.is_visible()
        page.emulate_media(media="print")

        assert (before, folded.is_visible()) == (False, True)
