"""The lab: panels in a notebook by which a person operates a queue under load, and watches what it does."""

import atexit
import threading
from typing import ClassVar

import ipywidgets as widgets  # type: ignore[import-untyped]
from IPython.display import display

from allocator.lab.panels.acting import Acting
from allocator.lab.panels.live import LivePanel
from allocator.lab.panels.looks import STYLE
from allocator.lab.panels.workload import WorkloadPanel
from allocator.lab.reading import INTERVAL_S
from allocator.lab.session import Session
from allocator.lab.settings import Settings


class Lab:
    """
    A queue under load, with panels to work it: `Lab().show()` in a notebook.

    Nothing runs before *Start* is pressed, and everything that runs ends with *Stop*, with another lab that is shown,
    and with the kernel.

    Args:
        backend: The one that is chosen at first: redis or postgres.
    """

    _shown: ClassVar["Lab | None"] = None

    def __init__(self, *, backend: str = "redis") -> None:
        self.session: Session | None = None
        self._ending = threading.Event()
        self._acting = Acting(self._refresh)
        self._live = LivePanel()
        self._workload = WorkloadPanel(self._acting, backend, self.start, self.stop, lambda: self.session)
        self.box = widgets.VBox([
            widgets.HTML(STYLE), self._acting.told, self._acting.problem, self._workload.box, self._live.box
        ])  # fmt: skip
        self.box.add_class("allocator-lab")
        self._ticker = threading.Thread(target=self._tick, name="lab-ticker", daemon=True)

    def show(self) -> None:
        """Show the panels below the cell; a lab that was shown before is closed."""
        if Lab._shown is not None:
            Lab._shown.close()
        Lab._shown = self
        atexit.register(self.close)
        display(self.box)  # type: ignore[no-untyped-call]
        self._ticker.start()

    def start(self, backend: str, settings: Settings, workers: int) -> str:
        """Start a session; gives what to tell. Raises what `Session` raises."""
        self.session = Session(backend, settings, workers)
        return f"running on {self.session.server.describe()}"

    def stop(self) -> str:
        """End the session, if there is one; gives what to tell."""
        session, self.session = self.session, None
        if session is not None:
            session.close()
        return "stopped"

    def close(self) -> None:
        """End everything. Idempotent."""
        atexit.unregister(self.close)
        self._ending.set()
        self._acting.stop()
        self.stop()

    def _refresh(self) -> None:
        self._workload.refresh()

    def _tick(self) -> None:
        while not self._ending.wait(INTERVAL_S):
            session = self.session
            if session is None:
                continue
            try:
                self._live.tick(session.reader)
                self._refresh()
            except Exception as error:
                self._acting.fail(error)
