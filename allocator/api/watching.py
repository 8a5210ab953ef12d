"""How uploads stand, looked at once for all who follow them."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

import anyio
from anyio import CapacityLimiter, to_thread

from allocator.api.views import ObjectView, ProgressView
from allocator.domain.errors import AllocatorError
from allocator.persistence import Assets, AssetState

POLL_S = (0.1, 1.0)
"""Between two looks at an upload that someone follows: the first ones, and the longest of a small upload."""

REST_RATIO = 10
"""A look that took long is followed by a pause this much longer: uploads of thousands of files cost no more."""

LOOKS_AT_A_TIME = 2
"""At all uploads together, so that requests find a thread and a connection beside them."""

PAGE = 1000
"""Most objects read at a time."""


class Standing(NamedTuple):
    """
    How an upload stood at one look.

    Args:
        id: The same for the same standing, also after a restart of the server.
        progress: Counts of its objects.
        objects: By id, each as it is told.
    """

    id: str
    progress: ProgressView
    objects: dict[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.progress.status in ("done", "failed")


class Watch:
    """
    Looks at one upload for all who follow it: however many they are, the database is asked once.

    Attributes:
        next_at: When it is looked at again, on the clock of `anyio.current_time`.
    """

    def __init__(self, look: Callable[[], Standing], limiter: CapacityLimiter) -> None:
        self._look = look
        self._limiter = limiter
        self._lock = anyio.Lock()
        self._pause_s = POLL_S[0]
        self._found: Standing | AllocatorError | None = None
        self.next_at = float("-inf")

    async def standing(self) -> Standing:
        """As it was found at the last look, or now if that is over. Raises AllocatorError as the look did."""
        async with self._lock:
            if self._found is None or anyio.current_time() >= self.next_at:
                await self._look_again()
        if isinstance(self._found, AllocatorError):
            raise self._found
        assert self._found is not None
        return self._found

    async def _look_again(self) -> None:
        last, began_at = self._found, anyio.current_time()
        try:
            self._found = await to_thread.run_sync(self._look, limiter=self._limiter)
        except AllocatorError as error:
            self._found = error
        took_s = anyio.current_time() - began_at
        changes = not (isinstance(last, Standing) and isinstance(self._found, Standing) and last.id == self._found.id)
        self._pause_s = POLL_S[0] if changes else min(self._pause_s * 1.5, POLL_S[1])
        self.next_at = anyio.current_time() + max(self._pause_s, took_s * REST_RATIO)


class Watches:
    """The watches of all uploads that someone follows; for the event loop alone."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        self._limiter = CapacityLimiter(LOOKS_AT_A_TIME)
        self._watches: WeakValueDictionary[str, Watch] = WeakValueDictionary()

    def of(self, upload_id: str) -> Watch:
        """The one of this upload, which goes with the last who holds it."""
        watch = self._watches.get(upload_id)
        if watch is None:
            watch = self._watches[upload_id] = Watch(partial(_look, self._assets, upload_id), self._limiter)
        return watch


def _look(assets: Assets, upload_id: str) -> Standing:
    counts = dict.fromkeys((*AssetState, "total"), 0)
    objects: dict[str, str] = {}
    after = ""
    while True:
        page = assets.assets_of(upload_id, PAGE, after)
        for asset in page:
            counts[asset.state] += 1
            counts["total"] += 1
            objects[asset.id] = ObjectView.of(asset).model_dump_json()
        if len(page) < PAGE:
            digest = hashlib.blake2s("\n".join(objects.values()).encode(), digest_size=8)
            return Standing(digest.hexdigest(), ProgressView(**counts), objects)
        after = page[-1].id
