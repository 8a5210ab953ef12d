"""
Connections to a PostgreSQL server, spoken to through libpq itself.

psycopg's cursors cost about as much as a whole operation of the server, and their wait for a reply has no end. Here
every call is one prepared statement with binary values, and every wait for the server has a bound.
"""

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from allocator.domain.errors import AllocatorError, NewerVersion, QueueDamaged, QueueFull, QueueUnavailable
from allocator.queue.sessions import CONNECT_S, REPLY_S, ConnectionLost, Session, masked

SCHEMA, FORMAT = 3, 1
"""Newest versions of the tables, and of a record, that this client knows."""

HOW_TO_START = "start one with `python -m allocator.services`, or correct the URL"
UPGRADE = "Upgrade: pip install -U allocator"

SLOWEST_BYTES_PER_S = 1_000_000
"""A long list may take the server longer than REPLY_S; this is how fast it must be at least."""

_DEFAULTS: dict[str, Any] = {
    "application_name": "allocator",
    "connect_timeout": int(CONNECT_S),
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# The statements of this package all go by keys. Plans for these must not depend on what autovacuum happened to see in
# tables that are empty at one moment and full at the next. lock_timeout is below REPLY_S, so that the server gives up
# before the client does and no forgotten statement stands in a queue of locks.
_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "lock_timeout": "4s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",
    "client_min_messages": "warning",
}
_PREPARE_SESSION = "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SETTINGS.items())

# Codes of errors that pass, so that the call is made again under the same number.
_PASSING = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "25006",  # read-only: a standby, or a primary that was demoted
    "55P03",  # lock timeout
    "57014",  # cancelled, or statement timeout
    "25P03",  # idle in transaction
    "53300",  # too many connections
    "0A000",  # the schema was upgraded under a prepared statement
}
_PASSING_CLASSES = ("08", "57P")

_AT_CONNECT_HELP = (
    ("password authentication failed", "check user and password in the URL"),
    ("no password supplied", "the URL needs a password"),
    ("authentication failed", "check the user in the URL, and the server's pg_hba.conf"),
    ("pg_hba.conf", "the server's pg_hba.conf does not let this user in from here"),
    ("role ", "check the user in the URL, or create it: createuser NAME"),
    ("database ", "check the database in the URL, or create it: createdb NAME"),
    ("SSL", "check sslmode in the URL"),
)
_AT_CONNECT_PASSING = (
    "starting up",
    "shutting down",
    "recovery mode",
    "not yet accepting",
    "too many",
    "remaining connection slots",
)


def addresses(url: str) -> list[str]:
    """
    One connection string for each host that the URL names, with this package's defaults filled in.

    Raises:
        ValueError: The URL is none that libpq understands.
    """
    problem: object = "a connection string of keywords is not taken"
    try:
        given = conninfo_to_dict(url) if urlsplit(url).scheme in ("postgresql", "postgres") else {}
    except psycopg.ProgrammingError as error:
        given, problem = {}, error
    if not given and url not in ("postgresql://", "postgres://"):
        raise ValueError(f"url: {masked(url)} is not postgresql://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE: {problem}")
    options = {**_DEFAULTS, **given, "client_encoding": "UTF8"}
    hosts = str(given.get("host") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    if len(hosts) == 1:
        return [make_conninfo("", **options)]
    return [
        make_conninfo("", **{**options, "host": host, "port": ports[index if len(ports) > 1 else 0] or None})
        for index, host in enumerate(hosts)
    ]


# Values to libpq's binary format, and back

_INT2, _INT4, _INT8, _FLOAT8 = Struct(">h"), Struct(">i"), Struct(">q"), Struct(">d")
_ARRAY = Struct(">iiiii")

Encode = Callable[[Any], bytes]


def _boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def _array(oid: int, encode: Encode) -> Encode:
    pack_size = _INT4.pack

    def encode_array(values: Sequence[Any]) -> bytes:
        if not values:
            return _ARRAY.pack(0, 0, oid, 0, 1)[:12]
        head = _ARRAY.pack(1, 1, oid, len(values), 1)
        if values[0] is not None and values.count(values[0]) == len(values):
            # The same all along, as priorities often are.
            raw = encode(values[0])
            return head + (pack_size(len(raw)) + raw) * len(values)
        parts = [head]
        for value in values:
            if value is None:
                parts.append(b"\xff\xff\xff\xff")
            else:
                raw = encode(value)
                parts += (pack_size(len(raw)), raw)
        return b"".join(parts)

    return encode_array


ENCODERS: dict[str, Encode] = {
    "boolean": _boolean,
    "smallint": _INT2.pack,
    "integer": _INT4.pack,
    "bigint": _INT8.pack,
    "double precision": _FLOAT8.pack,
    "text": str.encode,
    "bytea": bytes,
    "smallint[]": _array(21, _INT2.pack),
    "integer[]": _array(23, _INT4.pack),
    "double precision[]": _array(701, _FLOAT8.pack),
    "text[]": _array(25, str.encode),
    "bytea[]": _array(17, bytes),
}


def integer(raw: bytes) -> int:
    """Of smallint, integer or bigint."""
    return int.from_bytes(raw, signed=True)


def instant(raw: bytes) -> float:
    """Of double precision."""
    value: float = _FLOAT8.unpack(raw)[0]
    return value


class Statement(NamedTuple):
    """A call of one function, and how its arguments are sent."""

    name: bytes
    text: bytes
    encoders: tuple[Encode, ...]
    formats: list[int]
    is_bulk: bool


def statements(source: str) -> dict[str, Statement]:
    """The functions that an SQL file defines, by name; its signatures are the only description of their arguments."""
    found = {}
    for name, arguments in re.findall(r"FUNCTION allocator\.(\w+)\(([^)]+)\)", source):
        named = [argument.split(None, 1) for argument in arguments.split(",")]
        types = [words[1].strip() for words in named if words[0] != "OUT"]
        marks = ", ".join(f"${number}" for number in range(1, len(types) + 1))
        if all(type in ENCODERS for type in types):
            encoders = tuple(ENCODERS[type] for type in types)
            text = f"SELECT * FROM allocator.{name}({marks})"
            is_bulk = "bytea[]" in types
            found[name] = Statement(name.encode(), text.encode(), encoders, [1] * len(types), is_bulk)
    return found


class PostgresSession(Session):
    """
    One connection, and the calls made on it.

    Args:
        url: As the user gave it; for error messages.
        addresses: To be tried in turn.
        prepare: Whether statements may be prepared; a pooler in transaction mode does not allow it.
        on_connect: Called with the session after each connect.
    """

    def __init__(
        self, url: str, addresses: list[str], prepare: bool, on_connect: Callable[["PostgresSession"], None]
    ) -> None:
        super().__init__()
        self._url = url
        self._addresses = addresses
        self._prepare = prepare
        self._on_connect = on_connect
        self._pgconn: pq.abc.PGconn | None = None
        self._poll = select.poll()
        self._prepared: set[bytes] = set()
        self._channel = ""
        self._notified = False
        # Between letting go of the connection and cutting it: what is freed must not be cut.
        self._lock = threading.Lock()

    def connect(self) -> None:
        """See `Session`."""
        if self._pgconn is not None:
            return
        problems: list[Exception] = []
        for address in self._addresses:
            try:
                pgconn = self._dial(address)
                break
            except (ConnectionLost, QueueUnavailable) as error:
                problems.append(error)
        else:
            raise next((error for error in problems if isinstance(error, ConnectionLost)), problems[0])
        pgconn.nonblocking = 1
        self._poll = select.poll()
        self._poll.register(pgconn.socket, select.POLLIN)
        self._prepared.clear()
        self._channel, self._notified = "", False
        self._pgconn = pgconn
        try:
            self.query(_PREPARE_SESSION)
            self._on_connect(self)
        except BaseException:
            self.disconnect()
            raise

    def _dial(self, address: str) -> pq.abc.PGconn:
        pgconn = pq.PGconn.connect_start(address.encode())
        deadline = time.monotonic() + CONNECT_S
        while pgconn.status != pq.ConnStatus.BAD:
            match pgconn.connect_poll():
                case pq.PollingStatus.OK:
                    return pgconn
                case pq.PollingStatus.READING:
                    event = select.POLLIN
                case pq.PollingStatus.WRITING:
                    event = select.POLLOUT
                case _:
                    break
            # The socket changes from one address of a host to the next, hence a new poll each time.
            poll = select.poll()
            poll.register(pgconn.socket, event)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ConnectionLost(f"it did not answer within {CONNECT_S:g} s")
        text = " ".join(pgconn.get_error_message().split())
        if text.startswith("invalid "):
            raise ValueError(f"url: {masked(self._url)}: {text}")
        for sign, help in _AT_CONNECT_HELP:
            # Errors that the server sends, not those about the way to it.
            if "FATAL" in text and sign in text and not any(passing in text for passing in _AT_CONNECT_PASSING):
                raise QueueUnavailable(f"PostgreSQL at {masked(self._url)} refused the connection ({text}): {help}")
        raise ConnectionLost(text)

    def disconnect(self) -> None:
        """See `Session`."""
        with self._lock:
            pgconn, self._pgconn = self._pgconn, None
        if pgconn is not None:
            pgconn.finish()

    def cut(self) -> None:
        """See `Session`."""
        with self._lock:
            # If it has broken by itself, the waiting thread sees that as well.
            if self._pgconn is not None:
                with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._pgconn.socket)) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def run(self, statement: Statement, arguments: Sequence[Any]) -> pq.abc.PGresult:
        """Call a function; gives its rows in binary."""
        pgconn = self._connected()
        values: list[Any] = [
            None if value is None else encode(value)
            for encode, value in zip(statement.encoders, arguments, strict=True)
        ]
        try:
            if self._prepare:
                name = statement.name
                if name not in self._prepared:
                    pgconn.send_prepare(name, statement.text)
                    self._reply(pgconn, REPLY_S)
                    self._prepared.add(name)
                pgconn.send_query_prepared(name, values, statement.formats, 1)
            else:
                pgconn.send_query_params(statement.text, values, None, statement.formats, 1)
            reply_s = REPLY_S
            if statement.is_bulk:
                reply_s += sum(map(len, filter(None, values))) / SLOWEST_BYTES_PER_S
            return self._reply(pgconn, reply_s)
        except psycopg.Error as error:
            raise ConnectionLost(str(error).strip()) from error

    def query(self, text: str) -> pq.abc.PGresult:
        """Run statements without arguments, in one transaction; gives the last one's rows as text."""
        pgconn = self._connected()
        try:
            pgconn.send_query(text.encode())
            return self._reply(pgconn, 2 * REPLY_S)
        except psycopg.Error as error:
            raise ConnectionLost(str(error).strip()) from error

    def wait(self, channel: str, seconds: float) -> bool:
        """
        Block until the channel is notified, or the time is up; tells whether it was notified.

        The first wait on a connection only begins to listen, and says yes: of what was notified just before, it was not
        told.
        """
        pgconn = self._connected()
        try:
            if self._channel != channel:
                self.query(f"LISTEN {channel}")
                self._channel = channel
                return True
            deadline = time.monotonic() + seconds
            while True:
                self._note_notifies(pgconn)
                if self._notified:
                    self._notified = False
                    return True
                left_s = deadline - time.monotonic()
                # A thousandth more, lest the last one is spent in a loop.
                if left_s <= 0 or not self._poll.poll(left_s * 1000 + 1):
                    return False
                pgconn.consume_input()
        except psycopg.Error as error:
            raise ConnectionLost(str(error).strip()) from error

    def _connected(self) -> pq.abc.PGconn:
        pgconn = self._pgconn
        if pgconn is None:
            raise ConnectionLost("the connection was closed")
        return pgconn

    def _reply(self, pgconn: pq.abc.PGconn, seconds: float) -> pq.abc.PGresult:
        limit_ms = seconds * 1000
        if pgconn.flush():
            self._send_rest(pgconn, limit_ms)
        result = None
        while True:
            while pgconn.is_busy():
                if not self._poll.poll(limit_ms):
                    raise ConnectionLost(f"no reply within {seconds:.0f} s")
                pgconn.consume_input()
            following = pgconn.get_result()
            if following is None:
                break
            if following.status == pq.ExecStatus.FATAL_ERROR:
                raise self._explain(pgconn, following)
            result = following
        if result is None:
            raise ConnectionLost("the server sent no result")
        if self._channel:
            self._note_notifies(pgconn)
        return result

    def _send_rest(self, pgconn: pq.abc.PGconn, limit_ms: float) -> None:
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
        while pgconn.flush():
            events = poll.poll(limit_ms)
            if not events:
                raise ConnectionLost(f"the server did not read for {limit_ms / 1000:.0f} s")
            if events[0][1] & select.POLLIN:
                pgconn.consume_input()

    def _note_notifies(self, pgconn: pq.abc.PGconn) -> None:
        while pgconn.notifies() is not None:
            self._notified = True

    def _explain(self, pgconn: pq.abc.PGconn, result: pq.abc.PGresult) -> Exception:
        """An error that the server sent, in this package's terms."""
        code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
        # Read to the end, so that the connection can be used again.
        while pgconn.status != pq.ConnStatus.BAD and pgconn.get_result() is not None:
            pass
        if not code or pgconn.status == pq.ConnStatus.BAD:
            return ConnectionLost(text or " ".join(pgconn.get_error_message().split()))
        return explained(code, text, masked(self._url))

    def unavailable(self, lost: ConnectionLost) -> QueueUnavailable:
        """What to raise once a lost connection can no longer be waited out."""
        return QueueUnavailable(f"no PostgreSQL at {masked(self._url)} ({lost}): is it running? {HOW_TO_START}")


def explained(code: str, text: str, where: str) -> AllocatorError | ConnectionLost:
    """An SQLSTATE and its message in this package's terms."""
    if code == "AL001":
        return NewerVersion(
            f"the tables of the queues at {where} have version {text.removeprefix('schema ')}, written by a newer "
            f"release; this client knows version {SCHEMA}. Nothing was taken or changed. {UPGRADE}"
        )
    if code == "AL002":
        version, _, job_id = text.partition(" ")
        return NewerVersion(
            f"job {job_id} at {where} has a record of format {version}, written by a newer release; this client knows "
            f"format {FORMAT}. Nothing was taken. {UPGRADE}"
        )
    if code in _PASSING or code.startswith(_PASSING_CLASSES):
        return ConnectionLost(text)
    if code.startswith("53"):
        return QueueFull(
            f"PostgreSQL at {where} has no room for the change ({text}); nothing was changed. Free disk or memory "
            "there, purge dead letters, or let workers drain the queue"
        )
    if code == "42501":
        return QueueUnavailable(
            f"PostgreSQL at {where} forbids this to the user in the URL ({text}). Making the tables needs GRANT CREATE "
            "ON DATABASE ... TO the user; using them needs GRANT USAGE ON SCHEMA allocator, GRANT SELECT, INSERT, "
            "UPDATE, DELETE ON ALL TABLES IN SCHEMA allocator and GRANT USAGE ON ALL SEQUENCES IN SCHEMA allocator"
        )
    if code in ("26000", "42P05"):
        return QueueUnavailable(
            f"PostgreSQL at {where} lost a prepared statement ({text}): behind a pooler in transaction mode, open the "
            "queue with prepare=False"
        )
    return QueueDamaged(
        f"the schema allocator at {where} holds something that this package did not write ({code}: {text}); if it was "
        "dropped or changed, move it away and open the queue again"
    )
