"""Connections to one Redis server, to the master that a Sentinel names, or to the owner of a slot in a Cluster."""

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import Connection
from redis.retry import Retry
from redis.sentinel import Sentinel

from allocator.domain.errors import AllocatorError, QueueDamaged, QueueFull, QueueUnavailable
from allocator.queue.sessions import CONNECT_S, REPLY_S, ConnectionLost, Session, masked

OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": CONNECT_S,
    "socket_timeout": REPLY_S,
    "socket_keepalive": True,
    # Repeats are ours to make: they must carry the call number of the first try.
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}

HOW_TO_START = "start one with `python -m allocator.services --redis-port 6379`, or correct the URL"

_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.MovedError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.BusyLoadingError,
    OSError,
)
_PASSING_TEXTS = ("UNBLOCKED", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY ")


def hosts_of(url: str, default_port: int) -> list[tuple[str, int]]:
    """The hosts of a URL that lists several: `scheme://user:password@HOST:PORT,HOST:PORT/…`."""
    hosts = []
    for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
        name, _, port = host.rpartition(":")
        if name and not port.isdigit():
            raise ValueError(f"url: {host!r} in {masked(url)} is not HOST:PORT")
        hosts.append((name or host, int(port) if name else default_port))
    return hosts


class Server(ABC):
    """Where the connections of one queue go to."""

    @abstractmethod
    def connect(self, key: str) -> Connection:
        """A connected connection to the server that holds `key`. Raises redis-py's errors."""

    def forget(self) -> None:  # noqa: B027 most servers stay where they are
        """What was known about the place of things may be wrong: look again at the next connect."""


class Single(Server):
    """One server, by redis://, rediss:// or unix://."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        # redis-py takes whatever is no number for database 0.
        if parts.scheme != "unix" and not parts.path.strip("/").isdigit() and parts.path.strip("/"):
            raise ValueError(f"the database {parts.path.strip('/')!r} is not a number")
        self._pool = redis.ConnectionPool.from_url(url, **OPTIONS)
        if self._pool.connection_kwargs.get("decode_responses"):
            raise ValueError("it must not ask for decode_responses")
        try:
            # Not connected: so it looks at the options of the URL.
            self._pool.connection_class(**self._pool.connection_kwargs)
        except TypeError as error:
            raise ValueError(f"it has an option that is not known: {error}") from None

    def connect(self, key: str) -> Connection:
        """See `Server`."""
        return _connected(self._pool)


class Watched(Server):
    """The master of a service, as the Sentinels of redis+sentinel://HOST:PORT,…/SERVICE[/DB] know it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError(
                f"url: {masked(url)} names no service; write redis+sentinel://HOST:26379/SERVICE, e.g. …/mymaster/0"
            )
        if database and not database.isdigit():
            raise ValueError(f"url: the database {database!r} in {masked(url)} is not a number")
        account = {"username": parts.username, "password": parts.password, "db": int(database or 0)}
        sentinel = Sentinel(hosts_of(url, 26379), sentinel_kwargs=dict(OPTIONS), **OPTIONS, **account)
        self._pool = sentinel.master_for(service).connection_pool

    def connect(self, key: str) -> Connection:
        """See `Server`."""
        return _connected(self._pool)


class Cluster(Server):
    """The node that owns the slot of a queue. All keys of a queue are in one slot, so one node serves it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._nodes = [redis.cluster.ClusterNode(host, port) for host, port in hosts_of(url, 6379)]
        self._client: RedisCluster | None = None

    def connect(self, key: str) -> Connection:
        """See `Server`."""
        parts = urlsplit(self._url)
        # Another thread may forget it meanwhile: keep to the one at hand.
        client = self._client
        if client is None:
            account: dict[str, Any] = {"username": parts.username, "password": parts.password}
            self._client = client = RedisCluster(startup_nodes=self._nodes, **OPTIONS, **account)
        node = client.get_node_from_key(key)
        if node is None:
            raise exceptions.ClusterDownError(f"no node owns the slot of {key}")
        return _connected(client.get_redis_connection(node).connection_pool)

    def forget(self) -> None:
        """See `Server`."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class _Packer:
    """
    Commands as bytes, in the place of redis-py's own way to make them.

    Numbers become text in Python: hiredis 3.5 asks for their text in C, where a signal handler may raise, and does not
    look whether it did. A Ctrl-C at that moment would end the whole process by a segmentation fault.
    """

    def pack(self, *arguments: Any) -> list[bytes]:
        """The command, ready to be sent. Raises `TypeError` for what is no str, bytes, int or float."""
        kinds = (int, float)
        # Of any length; hiredis declares a tuple of one.
        words: Any = tuple([repr(word) if type(word) in kinds else word for word in arguments])
        return [hiredis.pack_command(words)]


def _connected(pool: Any) -> Connection:
    # Not the pool's make_connection: it counts what it makes against a limit, and ours never come back to it.
    # A server that takes the connection and then is silent must be told as soon as one that does not take it.
    options = {**pool.connection_kwargs, "socket_timeout": CONNECT_S, "command_packer": _Packer()}
    connection: Connection = pool.connection_class(**options)
    connection.connect()
    connection.socket_timeout = pool.connection_kwargs["socket_timeout"]
    if connection._sock is not None:
        connection._sock.settimeout(connection.socket_timeout)
    return connection


def server_of(url: str) -> Server:
    """The kind of server that the scheme of a URL asks for."""
    match urlsplit(url).scheme:
        case "redis+sentinel":
            return Watched(url)
        case "redis+cluster":
            return Cluster(url)
        case "redis" | "rediss" | "unix":
            try:
                return Single(url)
            except ValueError as error:
                raise ValueError(
                    f"url: {masked(url)} is not redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]: {error}"
                ) from None
        case scheme:
            raise ValueError(f"url: {scheme!r} is not redis, rediss, unix, redis+sentinel or redis+cluster")


class RedisSession(Session):
    """One connection, and the scripts run on it."""

    def __init__(self, server: Server, prefix: str, url: str, on_connect: Callable[["RedisSession"], None]) -> None:
        super().__init__()
        self._server = server
        self._prefix = prefix
        self._url = url
        self._on_connect = on_connect
        self._connection: Connection | None = None
        # Between the two: either the command is not sent any more, or its connection is cut after it was sent.
        self._cutting = threading.Lock()
        self._is_cut = False

    def connect(self) -> None:
        """See `Session`."""
        if self._connection is not None:
            return
        try:
            self._connection = self._server.connect(self._prefix)
            self._is_cut = False
            self._on_connect(self)
        except Exception as error:
            self._server.forget()
            raise self._translate(error) from error

    def disconnect(self) -> None:
        """See `Session`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A connection that cannot even be closed is gone.
            with suppress(Exception):
                connection.disconnect()

    def cut(self) -> None:
        """See `Session`."""
        with self._cutting:
            self._is_cut = True
            # Redis-py has no word for it: its disconnect closes the descriptor too.
            line = getattr(self._connection, "_sock", None)
        if line is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def run(self, script: "Script", *arguments: Any) -> Any:
        """Run a script under this session's name and number; gives its reply."""
        try:
            connection = self._connected()
            head = (1, self._prefix, self.client_id, self.call_number)
            connection.send_command("EVALSHA", script.sha, *head, *arguments, check_health=False)
            try:
                return connection.read_response()
            except exceptions.NoScriptError:
                # After SCRIPT FLUSH, a restart or a fail-over. EVAL puts it back, on this very node.
                connection.send_command("EVAL", script.source, *head, *arguments, check_health=False)
                return connection.read_response()
        except Exception as error:
            raise self._translate(error) from error

    def command(self, *arguments: Any) -> Any:
        """Run a plain command. `cut` from another thread ends it, also while it blocks."""
        try:
            with self._cutting:
                connection = self._connected()
                if self._is_cut:
                    raise exceptions.ConnectionError("the queue was closed")
                connection.send_command(*arguments, check_health=False)
            return connection.read_response()
        except Exception as error:
            raise self._translate(error) from error

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is None:
            raise exceptions.ConnectionError("the connection was closed")
        return connection

    def _translate(self, error: Exception) -> Exception:
        """An error of redis-py in this package's terms."""
        if isinstance(error, AllocatorError | ConnectionLost):
            return error
        text, where = str(error), masked(self._url)
        if isinstance(error, exceptions.AuthenticationError | exceptions.AuthenticationWrongNumberOfArgsError) or (
            text.startswith(("NOAUTH", "WRONGPASS"))
        ):
            return QueueUnavailable(
                f"Redis at {where} refused the credentials ({text}): check user and password in the URL"
            )
        if isinstance(error, exceptions.InvalidResponse) or "Protocol error" in text:
            return QueueUnavailable(f"what answers at {where} is no Redis ({text}): check host and port in the URL")
        if isinstance(error, exceptions.NoPermissionError):
            return QueueUnavailable(
                f"Redis at {where} forbids a command to this user ({text}): allow it EVALSHA, EVAL, BZPOPMIN and the "
                f"keys {self._prefix}*"
            )
        if isinstance(error, exceptions.OutOfMemoryError):
            return QueueFull(
                f"Redis at {where} is at its memory limit and refused the change ({text}); nothing was changed. Raise "
                "maxmemory, purge dead letters, or let workers drain the queue: dequeue and settle still work"
            )
        if "MISCONF" in text:
            return QueueFull(
                f"Redis at {where} cannot write to its disk, and refuses every change until it can; nothing was "
                f"changed. Free space there, and see its log ({text})"
            )
        if isinstance(error, _PASSING) or text.startswith(_PASSING_TEXTS):
            if not isinstance(error, exceptions.TimeoutError | exceptions.BusyLoadingError):
                self._server.forget()
            return ConnectionLost(text)
        if isinstance(error, exceptions.ResponseError):
            if text.startswith(("DB index", "invalid DB index", "ERR DB index")):
                return QueueUnavailable(f"Redis at {where} has no such database ({text}): check the number in the URL")
            if "WRONGTYPE" in text:
                return QueueDamaged(
                    f"a key under {self._prefix} on Redis at {where} is not of the type that this package writes "
                    f"({text}); move it away, then try again"
                )
        return error

    def unavailable(self, lost: ConnectionLost) -> QueueUnavailable:
        """What to raise once a lost connection can no longer be waited out."""
        return QueueUnavailable(f"no Redis at {masked(self._url)} ({lost}): is it running? {HOW_TO_START}")


class Script:
    """A Lua script and the digest that the server knows it by."""

    def __init__(self, source: str, sha: str) -> None:
        self.source = source
        self.sha = sha
