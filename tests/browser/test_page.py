"""The page at `/` in a real browser, on a real server with one worker process."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.servers import ApiServer
from tests.api.test_limits import held_upload
from tests.api.test_operations import broken_picture
from tests.browser.conftest import PATIENCE_MS, Pages
from tests.faults.running import until
from tests.ingest.samples import a_picture

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>.txt"
WIDE = {"width": 1400, "height": 1000}
NARROW = {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """That takes two uploads at a time, and no large files."""
    with ApiServer(tmp_path_factory.mktemp("page"), processes=1, max_file_bytes=400_000, max_uploads=2) as running:
        yield running


@pytest.fixture
def page(server: ApiServer, pages: Pages) -> Iterator["Page"]:
    """The page, on a wide screen."""
    with pages.open(f"http://127.0.0.1:{server.port}/", viewport=WIDE) as opened:
        yield opened


def a_file(name: str, content: bytes) -> dict[str, Any]:
    """A file as Playwright takes it."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def sent(page: "Page", name: str) -> Any:
    """The row of a file that was sent."""
    return page.locator("#uploads li", has_text=name)


def shown(locator: Any, text: str) -> None:
    """Wait until it says this."""
    from playwright.sync_api import expect

    expect(locator).to_contain_text(text, timeout=PATIENCE_MS)


def gone(locator: Any) -> None:
    """Wait until there is none."""
    from playwright.sync_api import expect

    expect(locator).to_have_count(0, timeout=PATIENCE_MS)


def hidden(locator: Any) -> None:
    """Wait until it is not to be seen."""
    from playwright.sync_api import expect

    expect(locator).to_be_hidden(timeout=PATIENCE_MS)


def test_files_are_followed_to_their_place(page: "Page") -> None:
    """Whatever their names: they are text, beside the place, and in the tree, from which they come back."""
    page.get_by_label("Owner").fill("ada")
    page.locator("#files").set_input_files([a_file(HOSTILE, b"hostile"), a_file("a.png", a_picture())])

    shown(sent(page, HOSTILE), "Placed in text/ada/")
    shown(sent(page, "a.png"), "Placed in pictures/")
    link = page.locator("#tree a", has_text=HOSTILE)
    with page.expect_download() as download:
        link.click()

    assert download.value.path().read_bytes() == b"hostile"
    gone(page.locator("img"))


def drop(page: "Page", *paths: Path) -> None:
    """As a hand drops files and folders on the page."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for step in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": step, "x": 700, "y": 900, "data": data})


def test_what_is_dropped_is_sent(page: "Page", tmp_path: Path) -> None:
    """Anywhere on the page, folders too; and found again by its comments, which the page kept with it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "below.txt").write_bytes(b"below")
    (tmp_path / "dropped.txt").write_bytes(b"dropped")
    page.get_by_label("Comments", exact=True).fill("dropped by hand")
    drop(page, tmp_path / "folder", tmp_path / "dropped.txt")
    shown(sent(page, "dropped.txt"), "Placed in text/anonymous/")
    shown(sent(page, "folder/below.txt"), "Placed in text/anonymous/")

    page.reload()
    page.get_by_label("Find in names and comments").fill("BY HAND")

    shown(page.locator("#library-note"), "2 files with that")
    shown(page.locator("#tree"), "dropped.txt")


def test_a_folder_is_sent_with_all_below(page: "Page", tmp_path: Path) -> None:
    """Shown by the path that its owner knows, placed under the name alone."""
    below = tmp_path / "holiday" / "day 1"
    below.mkdir(parents=True)
    for number in range(13):
        (below / f"{number}.txt").write_bytes(b"%d" % number)
    page.locator("#folder").set_input_files(tmp_path / "holiday")

    summary = page.locator(".drop summary")
    shown(summary, "13 placed")
    summary.press("Enter")

    shown(sent(page, "holiday/day 1/12.txt"), "/12.txt")


def test_dead_letters_are_put_back_and_deleted(page: "Page", server: ApiServer) -> None:
    """With the reason; put back, it is tried once more; deleted, it is gone at the second word, and its file is not."""
    page.locator("#files").set_input_files(a_file("broken.png", broken_picture()))
    letter = page.locator("#letters li")
    shown(sent(page, "broken.png"), "Given up: ")
    shown(letter, "image/png that can be read")
    shown(letter, "1 attempt,")

    letter.get_by_role("button", name="Put back broken.png").press("Enter")
    shown(letter, "2 attempts,")
    letter.get_by_role("button", name="Delete").click()
    shown(letter, "Really delete?")
    letter.get_by_role("button", name="Delete").click()

    gone(letter)
    assert server.client.get("/api/v1/objects", params={"text": "broken.png"}).json()["objects"]


def test_all_dead_letters_are_put_back_together(page: "Page", server: ApiServer) -> None:
    """Where there are several; each is tried once more."""
    page.locator("#files").set_input_files([a_file(f"broken-{number}.png", broken_picture()) for number in range(2)])
    for number in range(2):
        shown(page.locator("#letters li", has_text=f"broken-{number}.png"), "1 attempt,")

    page.get_by_role("button", name="Put all back").click()

    for number in range(2):
        shown(page.locator("#letters li", has_text=f"broken-{number}.png"), "2 attempts,")
    assert server.client.delete("/api/v1/dead-letters", params={"all": "true"}).json()["count"] == 2


def test_what_is_refused_is_said_file_by_file(page: "Page", pages: Pages) -> None:
    """A file that is too large stops none beside it."""
    pages.expected = ["413"]
    page.locator("#files").set_input_files([a_file("large.bin", b"x" * 400_001), a_file("small.bin", b"\x00small")])

    shown(sent(page, "large.bin"), "Not sent: the file is larger than the 400,000 bytes allowed")
    shown(sent(page, "small.bin"), "Placed in other/")
    shown(page.locator(".drop summary"), "1 placed · 1 failed")


def test_a_busy_server_is_waited_for(page: "Page", pages: Pages, server: ApiServer) -> None:
    """For as long as it says, and told meanwhile."""
    pages.expected = ["429"]
    page.clock.install()
    with held_upload(server), held_upload(server):
        until(lambda: len(server.incoming()) == 2, "others are being read")
        page.locator("#files").set_input_files(a_file("patient.txt", b"patient"))
        shown(sent(page, "patient.txt"), "again in 5 s")
    until(lambda: server.incoming() == [], "they have gone")

    page.clock.fast_forward(5000)

    shown(sent(page, "patient.txt"), "Placed in text/")


def test_everybody_can_read_and_reach_it(page: "Page", server: ApiServer) -> None:
    """Light and dark, wide and narrow, with a file, a failure, and an open tree: nothing that axe finds."""
    from axe_playwright_python.sync_playwright import Axe

    page.locator("#files").set_input_files([a_file("b.txt", b"b"), a_file("broken.png", broken_picture())])
    shown(page.locator("#letters li"), "broken.png")
    shown(page.locator("#tree"), "b.txt")
    axe = Axe()
    for scheme, size in (("light", WIDE), ("dark", NARROW)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size(size)  # type: ignore[arg-type]

        found = axe.run(page)

        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Control+Home")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
    assert {"Choose files", "Choose a folder", "owner", "comments", "Put back", "Delete", "search"} <= reached


def answered(page: "Page", path: str, status: int, times: int) -> None:
    """Have the first requests to a path answered so in the server's place, as a proxy does while it restarts."""
    left = [times]

    def answer(route: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            route.fulfill(status=status, body="<h1>Bad gateway</h1>")
        else:
            route.continue_()

    page.route(path, answer)


def test_what_a_proxy_says_of_a_restart_passes(page: "Page", pages: Pages) -> None:
    """A file is sent again, and followed to its place."""
    pages.expected = ["502", "504"]
    answered(page, "**/api/v1/ingest", 502, 1)
    answered(page, "**/events", 504, 1)

    page.locator("#files").set_input_files(a_file("behind.txt", b"behind a proxy"))

    shown(sent(page, "behind.txt"), "Placed in text/")


def test_what_could_not_be_shown_is_shown_later(page: "Page", pages: Pages, server: ApiServer) -> None:
    """A list that could not be looked at says so, where it is seen, and is there once the server answers."""
    pages.expected = ["503"]
    page.locator("#files").set_input_files(a_file("broken-later.png", broken_picture()))
    shown(page.locator("#letters"), "broken-later.png")
    for path in ("**/api/v1/dead-letters?*", "**/api/v1/objects?*", "**/api/v1/queue"):
        answered(page, path, 503, 1)

    page.reload()
    shown(page.locator("#letters-empty"), "The dead letters cannot be shown")
    shown(page.locator("#library-note"), "The library cannot be shown")

    shown(page.locator("#letters"), "broken-later.png")
    hidden(page.locator("#letters-empty"))
    page.get_by_label("Find in names and comments").fill("broken-later")
    shown(page.locator("#library-note"), "1 object found, none of which was placed.")
    server.client.delete("/api/v1/dead-letters", params={"all": "true"})


def test_a_dead_letter_keeps_the_focus_and_says_what_it_asks(page: "Page", server: ApiServer) -> None:
    """While others come, too; when the letter goes, the focus is at the heading of the list."""
    page.locator("#files").set_input_files(a_file("broken-first.png", broken_picture()))
    letter = page.locator("#letters li", has_text="broken-first.png")
    letter.get_by_role("button", name="Delete").focus()
    page.locator("#files").set_input_files(a_file("broken-second.png", broken_picture()))
    shown(page.locator("#letters"), "broken-second.png")
    focused = page.evaluate("document.activeElement.ariaLabel")

    page.keyboard.press("Enter")
    letter.get_by_role("button", name="Really delete the dead letter of broken-first.png").wait_for()
    page.keyboard.press("Enter")
    gone(letter)

    assert focused == "Delete the dead letter of broken-first.png"
    assert page.evaluate("document.activeElement.id") == "letters-title"
    server.client.delete("/api/v1/dead-letters", params={"all": "true"})


@pytest.mark.full
def test_it_goes_on_after_a_restart(tmp_path: Path, pages: Pages) -> None:
    """What was accepted is followed to its place, and what could not be sent meanwhile is sent."""
    pages.expected = ["net::ERR_"]
    with ApiServer(tmp_path, processes=0) as server, pages.open(f"http://127.0.0.1:{server.port}/") as page:
        page.locator("#files").set_input_files(a_file("early.txt", b"early"))
        shown(sent(page, "early.txt"), "waits for a worker")
        server.stop()
        page.locator("#files").set_input_files(a_file("late.txt", b"late"))
        shown(sent(page, "late.txt"), "cannot be reached")
        shown(page.locator("#trouble"), "does not answer")

        server.restart(processes=1)

        shown(sent(page, "early.txt"), "Placed in text/")
        shown(sent(page, "late.txt"), "Placed in text/")
        hidden(page.locator("#trouble"))
