"""Calls that are repeated under their own number while connections are lost."""

import pytest

from allocator import QueueUnavailable
from allocator.queue.sessions import Closing, ConnectionLost, Session, Sessions
from tests.contract.builders import InThread


class FakeSession(Session):
    """Connects unless told otherwise, and counts."""

    def __init__(self, unreachable: int = 0) -> None:
        super().__init__()
        self.unreachable = unreachable
        self.connected = False
        self.connect_count = self.disconnect_count = self.cut_count = 0

    def connect(self) -> None:
        """Refused as often as asked for."""
        if self.unreachable:
            self.unreachable -= 1
            raise ConnectionLost("refused")
        if not self.connected:
            self.connected = True
            self.connect_count += 1

    def disconnect(self) -> None:
        """Never raises."""
        self.connected = False
        self.disconnect_count += 1

    def cut(self) -> None:
        """Nothing here blocks."""
        self.cut_count += 1


def unavailable(lost: ConnectionLost) -> QueueUnavailable:
    """What the caller sees in the end."""
    return QueueUnavailable(f"no server ({lost})")


def make_sessions(made: list[FakeSession], *, unreachable: int = 0, reconnect_s: float = 30.0) -> Sessions[FakeSession]:
    """Sessions whose members can be looked at."""

    def make() -> FakeSession:
        made.append(FakeSession(unreachable))
        return made[-1]

    return Sessions(make, unavailable, reconnect_s)


def test_a_call_is_repeated_under_its_own_number() -> None:
    """Each repetition on a new connection; the next call has the next number."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)
    sessions.call(lambda session: None)
    seen = []

    def twice_lost(session: FakeSession) -> str:
        seen.append((session.client_id, session.call_number))
        if len(seen) < 3:
            raise ConnectionLost("gone")
        return "reply"

    reply = sessions.call(twice_lost)
    number_after = sessions.call(lambda session: session.call_number)

    assert reply == "reply"
    assert [(made[0].client_id, 2)] * 3 == seen
    assert number_after == 3
    assert (len(made), made[0].connect_count) == (1, 3)


def test_who_was_never_connected_is_told_at_once() -> None:
    """The address is most likely wrong."""
    made: list[FakeSession] = []
    sessions = make_sessions(made, unreachable=1)

    with pytest.raises(QueueUnavailable, match=r"no server \(refused\)"):
        sessions.call(lambda session: None)

    assert made[0].connect_count == 0


def test_who_was_connected_before_is_told_when_the_bound_is_passed() -> None:
    """And not later."""
    sessions = make_sessions([], reconnect_s=0.05)
    sessions.call(lambda session: None)

    def lost(session: FakeSession) -> None:
        raise ConnectionLost("gone")

    with pytest.raises(QueueUnavailable, match="gone"):
        sessions.call(lost)


def test_other_errors_are_not_repeated() -> None:
    """A refusal is an answer; the session goes on."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)
    tries = []

    def refused(session: FakeSession) -> None:
        tries.append(1)
        raise KeyError("refused")

    with pytest.raises(KeyError):
        sessions.call(refused)
    sessions.call(lambda session: None)

    assert tries == [1]
    assert (len(made), made[0].disconnect_count) == (1, 0)


def test_an_interrupted_call_lets_its_connection_go() -> None:
    """Nobody knows what is still on its way through it."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)

    def interrupted(session: FakeSession) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sessions.call(interrupted)

    assert not made[0].connected


def test_calls_at_the_same_time_have_sessions_of_their_own() -> None:
    """And use them again afterwards."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)

    inner = sessions.call(lambda outer: sessions.call(lambda session: session is not outer))
    sessions.call(lambda session: None)

    assert inner
    assert len(made) == 2


def test_a_dequeue_does_not_wait_for_a_server_once_the_queue_is_closed() -> None:
    """Any other call does: what is held may still be settled."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)
    sessions.call(lambda session: None)
    sessions.close()
    lost = iter([True, False])

    def lost_once(session: FakeSession) -> str:
        if next(lost):
            raise ConnectionLost("gone")
        return "settled"

    with pytest.raises(Closing):
        sessions.call(_always_lost, for_dequeue=True)
    settled = sessions.call(lost_once)

    assert settled == "settled"


def test_close_ends_a_dequeue_that_waits_for_a_server() -> None:
    """In another thread, at once."""
    sessions = make_sessions([], reconnect_s=600.0)
    sessions.call(lambda session: None)
    waiting = InThread(lambda: _closing_of(sessions))

    sessions.close()

    assert waiting.result()


def test_close_lets_idle_connections_go() -> None:
    """And those of later calls as well, when they are done."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)
    sessions.call(lambda session: None)

    sessions.close()
    idle = made[0].connected
    sessions.call(lambda session: None)

    assert not idle
    assert not any(session.connected for session in made)


def test_a_wait_that_loses_its_connection_just_ends() -> None:
    """The dequeue that follows finds out what is the matter."""
    made: list[FakeSession] = []
    sessions = make_sessions(made)

    sessions.wait(_always_lost)

    assert not made[0].connected


def _always_lost(session: FakeSession) -> None:
    raise ConnectionLost("gone")


def _closing_of(sessions: Sessions[FakeSession]) -> bool:
    try:
        sessions.call(_always_lost, for_dequeue=True)
    except Closing:
        return True
    return False
