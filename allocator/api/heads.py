"""Bounds on what uvicorn would wait for without end: the head of a request, and the rest of one that was refused."""

from asyncio import Transport
from asyncio.events import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024


class BoundedHeads(HttpToolsProtocol):
    """
    A connection that is closed when a request line and its headers take too long, or are too long.

    A client that has sent something of them is told so with a 400. One whose request was answered before all of it had
    come has as long for the rest, so that it can read the answer.

    Args:
        head_s: How long they may take, from the first byte on; of the first request, from the connection on.
        options: As uvicorn gives them.
    """

    def __init__(self, head_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._head_s = head_s
        self._timer: TimerHandle | None = None
        self._head_bytes = 0
        self._messages = 0
        self._in_body = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        super().data_received(data)
        if self._in_body or self.transport.is_closing():
            return
        # Who sends the next request before the answer to this one has the time from after the answer on.
        if self._timer is None and self._is_idle():
            self._start_timer()
        # Of what came with the end of a message, nobody knows how much belongs to the next.
        self._head_bytes = self._head_bytes + len(data) if messages == self._messages else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._hang_up(f"the headers of a request are longer than {MAX_HEAD_BYTES:,} bytes")

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._head_bytes = 0
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # Of the rest of what was refused, if there is one.
        self._stop_timer()
        self._in_body = False
        self._messages += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A request that was sent behind the one that is answered now has yet to have its own answer.
        if self._in_body and self._is_idle() and self._timer is None and not self.transport.is_closing():
            self._start_timer()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self._head_s, self._hang_up, f"no headers within {self._head_s:g} s")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hang_up(self, said: str) -> None:
        if self._head_bytes and self._is_idle() and not self.transport.is_closing():
            self.send_400_response(said)
        self.transport.close()
