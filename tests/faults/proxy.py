"""
A TCP proxy on loopback between a client and its server, which loses what it is told to lose.

It knows just enough of both protocols to tell where a request and a reply end, so that a cut falls where it is meant
to: before the server has seen anything of a request, or after it has answered and before the client knows.
"""

import random
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

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
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        is_redis = parts.scheme.startswith("redis")
        self._is_request = _is_whole_resp_request if is_redis else _is_whole_postgres_request
        self._is_reply = _is_whole_resp_reply if is_redis else _is_whole_postgres_reply
        self._random = random.Random(seed)
        self._busy = threading.Lock()
        self._fault: Fault | None = None
        self._to_pass = 0
        self._then: Callable[[], None] | None = None
        self._open: set[socket.socket] = set()
        self._held: list[tuple[socket.socket, bytes]] = []
        self._errors: list[BaseException] = []
        self._is_down = False
        self.struck = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        userinfo, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{userinfo}{at}127.0.0.1:{self._listener.getsockname()[1]}"))
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        # Woken by this, `accept` gives up; closing alone does not wake it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for upstream, _request in self._held:
            upstream.close()
        assert not self._errors, self._errors

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

    def cut(self) -> None:
        """Reset every connection."""
        for client in list(self._open):
            _reset(client)

    @contextmanager
    def down(self) -> Iterator[None]:
        """As if the server were gone: every connection is reset, and so is every new one, until this is left."""
        self._is_down = True
        self.cut()
        try:
            yield
        finally:
            self._is_down = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

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
        self._open.add(client)
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
            self._open.discard(client)
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
                    if key.fileobj is upstream:
                        client.sendall(data)
                        continue
                    pending += data
                    # What is no whole request yet may become the chosen one.
                    if self._fault is not None and not self._is_request(pending):
                        continue
                    request, pending = pending, b""
                    fault, then = self._draw(request)
                    if fault is None:
                        upstream.sendall(request)
                        continue
                    return self._strike(fault, then, client, upstream, request)

    def _draw(self, request: bytes) -> tuple[Fault | None, Callable[[], None] | None]:
        with self._busy:
            if self._fault is None or not _is_operation(request):
                return None, None
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


def _is_operation(request: bytes) -> bool:
    """Whether this is an operation of a queue, and not part of coming to a connection."""
    if request[:1] == b"*":
        return b"EVAL" in request[:24]
    # A start-up message begins with its length, so with a zero byte. E executes what was prepared.
    return request[:1] != b"\0" and b"E" in _postgres_messages(request)


def _is_whole_resp_request(data: bytes) -> bool:
    return _is_whole_resp_reply(data)


def _is_whole_resp_reply(data: bytes) -> bool:
    end = _end_of_resp(data, 0)
    return end is not None and end == len(data)


def _end_of_resp(data: bytes, at: int) -> int | None:
    """Where the value that begins at `at` ends; None when that has not come yet."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, rest, end = data[at : at + 1], data[at + 1 : line_end], line_end + 2
    if kind == b"$" and int(rest) >= 0:
        end += int(rest) + 2
        return end if end <= len(data) else None
    if kind == b"*" and int(rest) >= 0:
        for _ in range(int(rest)):
            inner = _end_of_resp(data, end)
            if inner is None:
                return None
            end = inner
    return end


def _postgres_messages(data: bytes) -> bytes:
    """The types of several whole messages; empty when they are not whole."""
    at, kinds = 0, b""
    while at + 5 <= len(data):
        kinds += data[at : at + 1]
        at += 1 + struct.unpack("!I", data[at + 1 : at + 5])[0]
    return kinds if at == len(data) else b""


def _is_whole_postgres_request(data: bytes) -> bool:
    # A start-up message is passed on as it comes.
    return data[:1] == b"\0" or _postgres_messages(data)[-1:] in (b"S", b"Q", b"X", b"p")


def _is_whole_postgres_reply(data: bytes) -> bool:
    return _postgres_messages(data)[-1:] == b"Z"
