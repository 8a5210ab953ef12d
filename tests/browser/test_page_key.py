"""The page on a server that asks for keys."""

from pathlib import Path

import pytest

from allocator.persistence import Keys, open_store
from tests.api.servers import ApiServer
from tests.browser.conftest import Pages
from tests.browser.test_page import a_file, sent, shown

pytestmark = pytest.mark.browser


def test_a_key_is_asked_for_and_sent(tmp_path: Path, pages: Pages) -> None:
    """A wrong one is refused, the right one opens everything, streams and downloads too, and can be forgotten."""
    pages.expected = ["401"]
    with ApiServer(tmp_path, processes=1, require_key=True) as server:
        store = open_store(server.store_url)
        _, secret = Keys(store).create("browser")
        store.close()
        with pages.open(f"http://127.0.0.1:{server.port}/") as page:
            page.get_by_label("API key").fill("wrong")
            page.keyboard.press("Enter")
            shown(page.locator("#key-refused"), "The key was refused: ")

            page.get_by_label("API key").fill(secret)
            page.keyboard.press("Enter")
            page.locator("#files").set_input_files(a_file("secret.txt", b"secret"))
            shown(sent(page, "secret.txt"), "Placed in text/")
            with page.expect_download() as download:
                page.locator("#tree a", has_text="secret.txt").click()

            assert download.value.path().read_bytes() == b"secret"
            page.get_by_role("button", name="Forget the key").click()
            page.get_by_label("API key").wait_for()
