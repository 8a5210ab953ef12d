"""Calls to a server that may go away: one call at a time for each session, repeated under the same number."""

import random
import re
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar
from urllib.parse import urlsplit, urlunsplit

CONNECT_S = 3.0
"""Longest wait for a connection to come up, so that a wrong address is told within five seconds."""

REPLY_S = 5.0
"""Longest wait for a reply before the connection counts as lost."""

RECONNECT_S = 30.0
"""How long a client that has been connected before keeps trying to get back."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.5


class ConnectionLost(Exception):
    """The connection broke, or the server cannot serve at the moment; whether the call took effect is unknown."""


class Closing(Exception):
    """The queue was closed while a call that only a dequeue makes was trying to get through."""


def masked(url: str) -> str:
    """The URL without its password, fit for an error message."""
    parts = urlsplit(url)
    if parts.password is not None:
        userinfo, _, hosts = parts.netloc.rpartition("@")
        parts = parts._replace(netloc=f"{userinfo.partition(':')[0]}:***@{hosts}")
    return re.sub(r"(password=)[^&\s]+", r"\1***", urlunsplit(parts))


class Session(ABC):
    """
    A connection, and the name and number under which its calls are known to the server.

    The server keeps the last call of each session with its reply. A session makes one call at a time, so a call that
    is repeated after a lost reply is always the last one.
    """

    def __init__(self) -> None:
        self.client_id = secrets.token_hex(8)
        self.call_number = 0

    @abstractmethod
    def connect(self) -> None:
        """Connect unless connected. Raises ConnectionLost, or an error of the domain that a retry will not cure."""

    @abstractmethod
    def disconnect(self) -> None:
        """Let the connection go, whatever state it is in. Never raises. By the thread that uses it."""

    @abstractmethod
    def cut(self) -> None:
        """
        End what another thread waits for on this connection; that thread then lets it go. Never raises.

        The file descriptor must stay open until then: its number would be given to the next connection, and the
        thread would go on to wait on that.
        """


S = TypeVar("S", bound=Session)
R = TypeVar("R")


class Sessions(Generic[S]):
    """
    The sessions of one queue object.

    Args:
        make: A new session, not yet connected.
        unavailable: The error to raise when a ConnectionLost can no longer be waited out.
        reconnect_s: The bound.
    """

    def __init__(
        self, make: Callable[[], S], unavailable: Callable[[ConnectionLost], Exception], reconnect_s: float
    ) -> None:
        self._make = make
        self._unavailable = unavailable
        self._reconnect_s = reconnect_s
        self._idle: deque[S] = deque()
        self._waiting: set[S] = set()
        self._closing = threading.Event()
        self._was_connected = False

    def call(self, operation: Callable[[S], R], *, for_dequeue: bool = False) -> R:
        """
        Run `operation(session)` under a new call number, and again under the same one while connections are lost.

        Raises:
            Closing: The queue was closed meanwhile, and the call was for a dequeue.
        """
        session = self._checkout()
        session.call_number += 1
        try:
            return self._repeat(session, operation, for_dequeue)
        except BaseException as error:
            if not isinstance(error, Exception):
                # After an interrupt nobody knows what is still on its way through the connection.
                session.disconnect()
            raise
        finally:
            self._checkin(session)

    def _repeat(self, session: S, operation: Callable[[S], R], for_dequeue: bool) -> R:
        pause_s, deadline = FIRST_PAUSE_S, 0.0
        while True:
            try:
                session.connect()
                self._was_connected = True
                return operation(session)
            except ConnectionLost as error:
                session.disconnect()
                now = time.monotonic()
                if not deadline:
                    # Who was never connected has most likely the wrong address: say so at once.
                    deadline = now + (self._reconnect_s if self._was_connected else 0.0)
                if now >= deadline:
                    raise self._unavailable(error) from error
                if for_dequeue and self._closing.is_set():
                    raise Closing from None
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                self._pause(pause_s * random.uniform(0.5, 1.0), for_dequeue)

    def wait(self, operation: Callable[[S], None]) -> None:
        """Run a blocking wait, which `close` ends by cutting its connection. Lost connections end it too."""
        session = self._checkout()
        try:
            self._waiting.add(session)
            if self._closing.is_set():
                return
            session.connect()
            # `close` may have looked for something to cut before there was a connection.
            if not self._closing.is_set():
                operation(session)
        except ConnectionLost:
            # The dequeue that follows finds out whether the server is gone, and waits for it.
            session.disconnect()
        except BaseException as error:
            session.disconnect()
            # Cut in the middle of things, a client library may fail in any way.
            if not (isinstance(error, Exception) and self._closing.is_set()):
                raise
        finally:
            self._waiting.discard(session)
            self._checkin(session)

    def close(self) -> None:
        """End every wait and let idle connections go. Later calls connect for themselves."""
        self._closing.set()
        for session in list(self._waiting):
            session.cut()
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            # Another thread may drop them too.
            with suppress(IndexError):
                self._idle.pop().disconnect()

    def _pause(self, seconds: float, for_dequeue: bool) -> None:
        if for_dequeue:
            self._closing.wait(seconds)
        else:
            time.sleep(seconds)

    def _checkout(self) -> S:
        try:
            # The last one first: its connection is the least likely to have been dropped on the way.
            return self._idle.pop()
        except IndexError:
            return self._make()

    def _checkin(self, session: S) -> None:
        # First put back, then look: whichever way `close` comes in between, somebody drops it.
        self._idle.append(session)
        if self._closing.is_set():
            self._drop_idle()
