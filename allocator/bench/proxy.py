"""
A TCP proxy on loopback between clients and their server, which loses what it is told to lose.

It knows just enough of both protocols to tell where a request and a reply end, so that a cut falls where it is meant
to: before the server has seen anything of a request, or after it has answered and before the client knows.
"""

import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from allocator.bench.wire import is_operation, is_whole_postgres_reply, is_whole_postgres_request, is_whole_resp

WAIT_S = 20.0
"""Bound of every wait in here."""


class Fault(Enum):
    """What befalls one request."""

    REQUEST_LOST = "request lost"
    """The server never sees it; the connection breaks."""
    REPLY_LOST = "reply lost"
    """The server has answered; the connection breaks before the client sees a byte."""
    REPLY_TORN = "reply torn"
    """As above, after a part of the reply."""
    REPLY_LATE = "reply late"
    """The server has answered; the client gets it only once it has given up waiting and hung up."""
    DUPLICATE = "late duplicate"
    """The connection breaks; the request reaches the server only when `Proxy.deliver` is called."""


class Proxy:
    """
    Forwards to the server of a URL. A context manager.

    Args:
        url: Of the real server.
        seed: Decides where replies are torn and whether a connection is closed or reset.
    Attributes:
        url: For the clients.
        struck: Set when what `arm` was told of has happened.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        is_redis = parts.scheme.startswith("redis")
        self._is_request = is_whole_resp if is_redis else is_whole_postgres_request
        self._is_reply = is_whole_resp if is_redis else is_whole_postgres_reply
        self._random = random.Random(seed)
        self._busy = threading.Lock()
        self._fault: Fault | None = None
        self._to_pass = 0
        self._then: Callable[[], None] | None = None
        self._open: set[socket.socket] = set()
        self._doomed: dict[socket.socket, Fault] = {}
        self._silent: set[socket.socket] = set()
        self._of_all: Fault | None = None
        self._silences_all = False
        self._late_s = 0.0
        self._held: list[tuple[socket.socket, bytes]] = []
        self._errors: list[BaseException] = []
        self._is_down = False
        self.struck = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        userinfo, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{userinfo}{at}127.0.0.1:{self._listener.getsockname()[1]}"))
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Woken by this, `accept` gives up; closing alone does not wake it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for upstream, _request in self._held:
            upstream.close()
        assert not self._errors, self._errors

    # One request

    def arm(self, fault: Fault, *, skip: int = 0, then: Callable[[], None] | None = None) -> None:
        """
        Let a fault befall the next request, or the one after `skip` more.

        Args:
            then: Called after the server has acted (or will not), before the client notices anything.
        """
        self.struck.clear()
        with self._busy:
            self._fault, self._to_pass, self._then = fault, skip, then

    def deliver(self) -> bytes:
        """Send the requests held back by DUPLICATE to the server, and return its replies to them."""
        replies = b""
        held, self._held = self._held, []
        assert held, "nothing was held back"
        for upstream, request in held:
            upstream.sendall(request)
            replies += self._read_reply(upstream)
            upstream.close()
        return replies

    # All connections

    def cut(self) -> None:
        """Reset every connection."""
        for client in list(self._open):
            _reset(client)

    @contextmanager
    def down(self) -> Iterator[None]:
        """As if the server were gone: every connection is reset, and so is every new one, until this is left."""
        self.refuse()
        try:
            yield
        finally:
            self._is_down = False

    def refuse(self) -> None:
        """Reset every connection, and until `relent` every new one."""
        self._is_down = True
        self.cut()

    def befall(self, fault: Fault) -> None:
        """Let a fault befall the next request of every connection: those that are open, and until `relent` new ones."""
        with self._busy:
            self._of_all = fault
            self._doomed = dict.fromkeys(self._open, fault)

    def silence(self) -> None:
        """Pass nothing more, either way, on any open connection, nor until `relent` on new ones: all are half open."""
        with self._busy:
            self._silences_all = True
            self._silent = set(self._open)

    def delay(self, seconds: float) -> None:
        """Let every reply come later by so much, until `relent`."""
        self._late_s = seconds

    def relent(self) -> None:
        """What is done to all connections ends. Those that were open at its beginning, and are yet, may still break."""
        with self._busy:
            self._of_all = None
            self._is_down = False
            self._silences_all = False
            self._late_s = 0.0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._is_down:
            _reset(client)
            client.close()
            return
        try:
            upstream = socket.create_connection(self._target, timeout=WAIT_S)
        except OSError:
            client.close()
            return
        with self._busy:
            self._open.add(client)
            if self._silences_all:
                self._silent.add(client)
        for side in (client, upstream):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._forward(client, upstream):
                upstream.close()
        except OSError:
            upstream.close()
        except BaseException as error:
            self._errors.append(error)
            upstream.close()
        finally:
            with self._busy:
                self._open.discard(client)
                self._silent.discard(client)
                self._doomed.pop(client, None)
            client.close()

    def _forward(self, client: socket.socket, upstream: socket.socket) -> bool:
        """Until a side hangs up or a fault has struck. Returns whether the server's side may be closed."""
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(upstream, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not data:
                        return True
                    if client in self._silent:
                        continue
                    if key.fileobj is upstream:
                        if self._late_s:
                            time.sleep(self._late_s)
                        client.sendall(data)
                        continue
                    pending += data
                    # What is no whole request yet may become the chosen one.
                    if self._may_strike(client) and not self._is_request(pending):
                        continue
                    request, pending = pending, b""
                    fault, then = self._draw(client, request)
                    if fault is None:
                        upstream.sendall(request)
                        continue
                    return self._strike(fault, then, client, upstream, request)

    def _may_strike(self, client: socket.socket) -> bool:
        return self._fault is not None or self._of_all is not None or client in self._doomed

    def _draw(self, client: socket.socket, request: bytes) -> tuple[Fault | None, Callable[[], None] | None]:
        with self._busy:
            if not self._may_strike(client) or not is_operation(request):
                return None, None
            if (fault := self._doomed.pop(client, self._of_all)) is not None:
                return fault, None
            if self._to_pass:
                self._to_pass -= 1
                return None, None
            fault, self._fault = self._fault, None
            return fault, self._then

    def _strike(
        self,
        fault: Fault,
        then: Callable[[], None] | None,
        client: socket.socket,
        upstream: socket.socket,
        request: bytes,
    ) -> bool:
        reply = b""
        if fault is Fault.DUPLICATE:
            self._held.append((upstream, request))
        elif fault is not Fault.REQUEST_LOST:
            upstream.sendall(request)
            reply = self._read_reply(upstream)
        try:
            if then is not None:
                then()
        finally:
            self.struck.set()
            if fault is Fault.REPLY_TORN and len(reply) > 1:
                client.sendall(reply[: self._random.randrange(1, len(reply))])
            if fault is Fault.REPLY_LATE:
                client.settimeout(WAIT_S)
                client.recv(1)
                client.sendall(reply)
            elif self._random.random() < 0.5:
                _reset(client)
        return fault is not Fault.DUPLICATE

    def _read_reply(self, upstream: socket.socket) -> bytes:
        upstream.settimeout(WAIT_S)
        reply = b""
        while not self._is_reply(reply):
            data = upstream.recv(1 << 16)
            if not data:
                break
            reply += data
        return reply


def _reset(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Ends a recv in another thread, which closes the socket; with the option above that sends a reset.
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass
