"""The ready jobs of the in-process queue, in queue order."""

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Generic, Protocol, TypeVar


class Placed(Protocol):
    """What has a place in the order."""

    rank: int
    sequence: int


E = TypeVar("E", bound=Placed)


class _Lane(Generic[E]):
    """The jobs of one rank: those as they came, and those that came back to a place further in front."""

    __slots__ = ("listed", "returned", "tail")

    def __init__(self) -> None:
        self.tail: deque[E] = deque()
        self.returned: list[tuple[int, E]] = []
        self.listed = False


class Ready(Generic[E]):
    """
    Lowest rank first, then lowest sequence.

    New jobs have the highest sequence so far, so a deque for each rank keeps them in order at a cost that does not grow
    with the backlog; one heap over a million jobs took twice the time of a small one. Only what comes back to an older
    place (released, expired, due again) goes through a heap.
    """

    def __init__(self, entries: Iterable[E] = ()) -> None:
        # A lane is kept when it empties: there are at most 2,001 ranks, and the next job of one is likely on its way.
        self._lanes: dict[int, _Lane[E]] = {}
        # Heap of ranks: every lane that is not empty is in it, and some that are, until they come to the top.
        self._ranks: list[int] = []
        for entry in entries:
            self.put_back(entry)

    def append(self, entry: E) -> None:
        """Add a job with a sequence higher than any before."""
        lane = self._lanes.get(entry.rank)
        if lane is None or not lane.listed:
            lane = self._list(entry.rank)
        lane.tail.append(entry)

    def put_back(self, entry: E) -> None:
        """Add a job at the place that its sequence says."""
        lane = self._lanes.get(entry.rank)
        if lane is None or not lane.listed:
            lane = self._list(entry.rank)
        heappush(lane.returned, (entry.sequence, entry))

    def _list(self, rank: int) -> _Lane[E]:
        lane = self._lanes.setdefault(rank, _Lane())
        lane.listed = True
        heappush(self._ranks, rank)
        return lane

    def _first(self) -> _Lane[E]:
        while True:
            lane = self._lanes[self._ranks[0]]
            if lane.tail or lane.returned:
                return lane
            heappop(self._ranks)
            lane.listed = False

    def peek(self) -> E:
        """The first job; there must be one."""
        lane = self._first()
        returned, tail = lane.returned, lane.tail
        if returned and (not tail or returned[0][0] < tail[0].sequence):
            return returned[0][1]
        return tail[0]

    def pop(self) -> E:
        """Take out the first job; there must be one."""
        lane = self._lanes[self._ranks[0]]
        if not lane.returned:
            if lane.tail:
                return lane.tail.popleft()
            lane = self._first()
        returned, tail = lane.returned, lane.tail
        if returned and (not tail or returned[0][0] < tail[0].sequence):
            return heappop(returned)[1]
        return tail.popleft()

    def __iter__(self) -> Iterator[E]:
        """All of them, in no particular order."""
        for lane in self._lanes.values():
            yield from lane.tail
            yield from (entry for _, entry in lane.returned)
