"""A queue that is in use elsewhere, looked at from the lab."""

from allocator.lab.reading import Reader
from allocator.queue.base import Queue
from allocator.queue.opening import open_queue


class Attached:
    """
    Args:
        url, name: Of the queue; see `open_queue`.
    Raises:
        QueueUnavailable: The server could not be reached.
        ValueError: The URL names no backend.
    """

    def __init__(self, url: str, name: str) -> None:
        self.queue: Queue = open_queue(url, name=name)
        self.reader = Reader(self.queue)

    def close(self) -> None:
        """Look no more. The queue is left as it is."""
        self.reader.stop()
        self.queue.close()
