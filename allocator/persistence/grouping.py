"""Work that several threads bring at about the same time, done together."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Work = TypeVar("Work")
Done = TypeVar("Done")


class Grouping(Generic[Work, Done]):
    """
    Has the thread whose turn it is do the work of all that wait: the disk, say, is waited for once. Thread-safe.

    Args:
        do: Does all of what it is given or, where it raises, nothing of it; gives what became of each, in that order.
    """

    def __init__(self, do: Callable[[Sequence[Work]], Sequence[Done]]) -> None:
        self._do = do
        self._turn = threading.Lock()
        self._waiting: deque[tuple[Work, Future[Done]]] = deque()

    def __call__(self, work: Work) -> Done:
        """What became of it. Raises what it raises when it is done alone: the others' work is never the cause."""
        mine: Future[Done] = Future()
        self._waiting.append((work, mine))
        with self._turn:
            if not mine.done():
                self._do_all([self._waiting.popleft() for _ in range(len(self._waiting))])
        return mine.result()

    def _do_all(self, group: Sequence[tuple[Work, Future[Done]]]) -> None:
        try:
            found = self._do([work for work, _ in group])
        except BaseException as error:
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for one in group:
                self._do_all([one])
        else:
            for (_, future), done in zip(group, found, strict=True):
                future.set_result(done)
