"""The lab's notebook in JupyterLab, worked as a person does."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.conftest import PATIENCE_MS, Pages
from tests.lab.command import LabCommand

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WIDE = {"width": 1400, "height": 1000}
TALL = {"width": 1400, "height": 2400}
"""For pictures: JupyterLab draws only what is in sight."""

START_MS = 60_000
"""For a kernel or a server that starts, with others at the same time."""


class LabPage:
    """
    The panels of one notebook.

    Args:
        page: That shows JupyterLab with the notebook.
    """

    def __init__(self, page: "Page") -> None:
        self.page = page

    def run_all(self) -> None:
        """Run its cells, once its kernel is there, and wait for the panels."""
        self.page.locator(".jp-KernelName", has_text="Python 3").first.wait_for(timeout=START_MS)
        self.until_idle()
        self.menu("Run", "Run All Cells")
        self.part("start").wait_for(timeout=START_MS)

    def until_idle(self) -> None:
        """Wait until the kernel waits for something to do."""
        self.page.locator(".jp-NotebookPanel-toolbar [data-status='idle']:visible").wait_for(timeout=START_MS)

    def menu(self, name: str, *items: str) -> None:
        """Choose from the menu bar, and from the menus that open there."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        for item in items:
            # By its label, as what is a menu again or can be ticked has other roles, or none.
            self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def tab(self, name: str) -> None:
        """Bring a notebook to the front that is open already."""
        self.page.locator("#jp-main-dock-panel .lm-TabBar-tabLabel").get_by_text(name, exact=True).click()

    def part(self, name: str) -> "Locator":
        """A control, a panel, a number or the figure, as the panels name it."""
        return self.page.locator(f".allocator-lab-{name}").first

    def until(self, name: str, holds: str, patience_ms: int = PATIENCE_MS) -> None:
        """Wait until this holds of a number, as an expression over `n`."""
        self.page.wait_for_function(
            "([part, holds]) => { const n = parseFloat(document.querySelector(part)?.textContent.replace(/,/g, ''));"
            " return Function('n', `return ${holds}`)(n) }",
            arg=[f".allocator-lab-{name}", holds],
            timeout=patience_ms,
        )

    def slide(self, name: str, value: int) -> None:
        """Type a slider's value into its field."""
        self._type(self.part(f"{name}-slider"), value)

    def slide_in(self, panel: str, value: int) -> None:
        """The same for the only slider of a panel."""
        self._type(self.part(panel), value)

    def _type(self, around: "Locator", value: int) -> None:
        field = around.locator(".widget-readout")
        field.fill(str(value))
        field.press("Enter")

    def choose(self, panel: str, option: str) -> None:
        """Choose from the first list of a panel."""
        self.part(panel).locator("select").first.select_option(option)

    def click(self, name: str) -> None:
        """Press a button of the panels, once it can be used."""
        self.part(name).click()

    def says(self, name: str, pattern: str, patience_ms: int = PATIENCE_MS) -> None:
        """Wait until a part says this, as a regular expression over its text."""
        from playwright.sync_api import expect

        expect(self.part(name)).to_contain_text(re.compile(pattern, re.DOTALL), timeout=patience_ms)

    def figure(self) -> str:
        """The figure as it is now."""
        return str(self.part("figure").evaluate("image => image.src"))

    def until_drawn_anew(self, before: str) -> None:
        """Wait for another figure than this."""
        self.page.wait_for_function(
            "before => document.querySelector('.allocator-lab-figure').src != before", arg=before, timeout=PATIENCE_MS
        )

    def picture(self, path: Path) -> None:
        """All panels at 1400 pixels, in the theme that is on."""
        self.page.set_viewport_size(TALL)
        self.page.locator(".allocator-lab").first.scroll_into_view_if_needed()
        self.page.screenshot(path=path)
        self.page.set_viewport_size(WIDE)

    def theme(self, name: str) -> None:
        """`Light` or `Dark`."""
        self.menu("Settings", "Theme", f"JupyterLab {name}")
        self.page.locator(f"body[data-jp-theme-name='JupyterLab {name}']").wait_for(
            state="attached", timeout=PATIENCE_MS
        )


@contextmanager
def opened(lab: LabCommand, pages: Pages) -> Iterator[LabPage]:
    """The notebook that `allocator lab` opens, alone, with its cells run."""
    with pages.open(f"{lab.url}&reset", viewport=WIDE) as page:
        shown = LabPage(page)
        shown.run_all()
        yield shown
