"""Sweeps the object store beside the server: at its start, and then as often as it is set."""

import logging
import threading

from allocator.ingest.processors import Archive
from allocator.ingest.sweeping import FolderShared, Stopped, sweep
from allocator.supervisor.trouble import unforeseen

log = logging.getLogger(__name__)


class Sweeper(threading.Thread):
    """
    Deletes what nothing refers to. Several servers may do so at a time.

    Args:
        archive: Open for as long as this runs.
        every_s: Between two sweeps.
        older_than_s: Spares what is younger.
    """

    def __init__(self, archive: Archive, every_s: float, older_than_s: float) -> None:
        super().__init__(name="allocator-sweeper", daemon=True)
        self._archive = archive
        self._every_s = every_s
        self._older_than_s = older_than_s
        self._stopping = threading.Event()

    def stop(self, timeout_s: float) -> None:
        """End; waits so long for it."""
        self._stopping.set()
        self.join(timeout_s)

    def run(self) -> None:
        """See `threading.Thread`."""
        while not self._stopping.is_set():
            self._sweep()
            self._stopping.wait(self._every_s)

    def _sweep(self) -> None:
        try:
            swept = sweep(self._archive.objects, self._archive.store, self._older_than_s, self._stopping.is_set)
        except Stopped:
            return
        except FolderShared as error:
            log.warning("%s", error)
        except Exception as error:
            text = "the object store could not be swept; trying again in %g s: %s"
            log.error(text, self._every_s, error, exc_info=unforeseen(error))
        else:
            if swept.objects or swept.incoming:
                log.info(
                    "swept: %d objects of %d bytes that nothing referred to, and %d abandoned incoming files",
                    swept.objects,
                    swept.bytes,
                    swept.incoming,
                )
