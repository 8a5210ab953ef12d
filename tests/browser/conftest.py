"""
A real Chromium for tests that look at pages.

One is started for a session. What cannot be had is a skip that says how to get it, or a failure where
ALLOCATOR_REQUIRE_BROWSER is 1. A page fails its test on errors in its console and on requests that leave 127.0.0.1.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

NAMES = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = [
    "--headless=new",
    # It calls its maker otherwise.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # No other machine is found, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Containers have little memory to share between processes.
    "--disable-dev-shm-usage",
]

PATIENCE_MS = 30_000
"""For what a page is to show: machines that run tests may be busy."""

OWN_SCHEMES = ("data", "blob", "about")


def _missing(what: str) -> None:
    if os.environ.get("ALLOCATOR_REQUIRE_BROWSER") == "1":
        pytest.fail(f"ALLOCATOR_REQUIRE_BROWSER asks for a browser, but there is no {what}", pytrace=False)
    pytest.skip(f"no {what}")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A Chromium of this machine, without a window."""
    if importlib.util.find_spec("playwright") is None:
        _missing("playwright: pip install playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        _missing("Chromium: apt-get install chromium, or brew install chromium")
    from playwright.sync_api import sync_playwright

    # Its sandbox refuses to work for root.
    arguments = ARGUMENTS + (["--no-sandbox"] if os.geteuid() == 0 else [])
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


class Pages:
    """
    Opens pages, each in a profile of its own, and says what was wrong with them.

    Attributes:
        expected: Errors with one of these texts are part of the test: a browser reports every refusal as one.
    """

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self._troubles: list[str] = []
        self.expected: list[str] = []

    @contextmanager
    def open(self, url: str, **options: Any) -> Iterator["Page"]:
        """A page at this address; options are those of Playwright's `new_context`."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._troubles.append(f"error: {error}"))
        page.on("request", self._check)
        try:
            page.goto(url)
            yield page
        finally:
            context.close()

    def troubles(self) -> list[str]:
        """What was wrong, and not expected."""
        return [one for one in self._troubles if not any(text in one for text in self.expected)]

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self._troubles.append(f"console: {message.text}")

    def _check(self, request: "Request") -> None:
        address = urlsplit(request.url)
        if address.hostname != "127.0.0.1" and address.scheme not in OWN_SCHEMES:
            self._troubles.append(f"request to {request.url}")


@pytest.fixture
def pages(browser: "Browser") -> Iterator[Pages]:
    """Opens pages; at the end none of them may have had an error or asked anyone else."""
    opened = Pages(browser)
    yield opened
    assert opened.troubles() == []
