"""A server that answers: found by URL, or started here and then ours to stop, kill, pause and start again."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from allocator.services.errors import NotOurServer, PortTaken, ServiceUnavailable
from allocator.services.folder import DataFolder
from allocator.services.guard import Guarded
from allocator.services.ports import port_error

START_LIMIT_S = 60.0
_LOG_TAIL_BYTES = 2000


@dataclass(frozen=True)
class Launch:
    """
    How to run a server.

    Attributes:
        port: The loopback port that the command listens on.
        answers: Given the server's process id, its product and version once it takes commands. Before that
            None or OSError. It must make sure that the answer comes from that very process and not from
            another on the port.
        passing: Pieces of log text that mean that an early end was due to a cause that goes away by itself.
    """

    command: Sequence[str]
    port: int
    answers: Callable[[int], tuple[str, str] | None]
    stop_signal: int = signal.SIGTERM
    stop_limit_s: float = 15.0
    account: tuple[int, int] | None = None
    env: Mapping[str, str] | None = None
    passing: tuple[str, ...] = ()


class _Run:
    """What must go when a `Server` is forgotten; kept apart from it, so that a finalizer can hold it."""

    def __init__(self, launch: Launch, folder: DataFolder) -> None:
        self.launch = launch
        self.folder = folder
        self.guard: Guarded | None = None
        self.is_closed = False
        self._owner = os.getpid()

    def close(self) -> None:
        if self._owner != os.getpid():
            return
        self.is_closed = True
        if self.guard is not None:
            self.guard.close()
        self.folder.remove_if_temporary()


class Server:
    """
    A Redis, a PostgreSQL or another server. As a context manager it is closed at the end.

    A server of ours is ended when its owner stops or closes it, forgets it, exits, or is killed by whatever
    signal. `stop`, `kill` and `start` keep the data; a temporary folder is removed on `close` or when the
    owner is gone.

    Attributes:
        source: `REDIS_URL` or `DATABASE_URL`; else where the binary was found: `PATH …`, `wheel …`, `given
            …`.
        owned: Whether it was started here. One given by URL is never started, stopped or harmed.
    """

    def __init__(
        self,
        *,
        name: str,
        url: str,
        source: str,
        product: str = "",
        version: str = "",
        binary: Path | None = None,
        launch: Launch | None = None,
        folder: DataFolder | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self.product = product
        self.version = version
        self.source = source
        self.binary = binary
        self._busy = threading.RLock()
        self._run: _Run | None = None
        if launch is not None and folder is not None:
            self._run = _Run(launch, folder)
            self._finalizer = weakref.finalize(self, self._run.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server {self.describe()}>"

    @property
    def owned(self) -> bool:
        return self._run is not None

    @property
    def pid(self) -> int | None:
        """The server's own process id; None when it is not running, or not ours."""
        with self._busy:
            guard = self._run.guard if self._run is not None else None
            return None if guard is None or guard.poll() else guard.pid

    @property
    def data_dir(self) -> Path | None:
        """The folder of a server of ours: its data and its log, `server.log`."""
        return self._run.folder.path if self._run is not None else None

    def describe(self) -> str:
        """Product, version, where it comes from and its URL on one line, a password masked."""
        origin = (
            self.source if self.binary is None or str(self.binary) in self.source else f"{self.source} {self.binary}"
        )
        return f"{self.product} {self.version} ({origin}) at {masked(self.url)}"

    def start(self) -> None:
        """
        Start a server of ours again, on its port and in its folder; returns when it answers.

        Raises:
            ServiceUnavailable: It ended or did not answer within 60 s; says how its log ends.
        """
        run = self._ours("start")
        with self._busy:
            if run.is_closed:
                raise ServiceUnavailable(f"the {self.name} server on port {run.launch.port} was closed; open a new one")
            if self.pid is not None:
                return
            # Processes that a crashed server left behind may hold the lock a moment longer, hence the
            # patience.
            lock_fd = run.folder.lock(patient=run.guard is not None)
            try:
                self._start_locked(run, lock_fd)
            finally:
                os.close(lock_fd)

    def stop(self) -> None:
        """End a server of ours cleanly, so that nothing is lost; does nothing to others, or twice."""
        with self._busy:
            if self._run is not None and self._run.guard is not None:
                self._run.guard.stop()

    def close(self) -> None:
        """Stop for good, and remove the folder if it is a temporary one."""
        with self._busy:
            if self._run is not None:
                self._finalizer()

    def kill(self) -> None:
        """
        SIGKILL the server and all its children at one instant; returns when all are gone.

        Raises:
            NotOurServer: It was given by URL.
        """
        run = self._ours("kill")
        with self._busy:
            if run.guard is not None:
                run.guard.kill()

    def pause(self) -> None:
        """
        SIGSTOP the server and its children: connections stay open and nothing answers. `stop` and `kill`
        still work.

        Raises:
            NotOurServer: It was given by URL.
        """
        run = self._ours("pause")
        with self._busy:
            if run.guard is not None:
                run.guard.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        run = self._ours("resume")
        with self._busy:
            if run.guard is not None:
                run.guard.resume()

    def _ours(self, deed: str) -> _Run:
        if self._run is None:
            raise NotOurServer(
                f"refusing to {deed} the {self.name} server at {masked(self.url)}: it was given by "
                f"{self.source} and not "
                f"started here. Unset {self.source}, and a server that may be harmed is started instead"
            )
        return self._run

    def _start_locked(self, run: _Run, lock_fd: int) -> None:
        launch = run.launch
        log = run.folder.path / "server.log"
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            if run.guard is not None:
                run.guard.dismiss()
            log_start = log.stat().st_size if log.exists() else 0
            run.guard = Guarded(
                launch.command,
                log=log,
                stop_signal=launch.stop_signal,
                stop_limit_s=launch.stop_limit_s,
                account=launch.account,
                lock_fd=lock_fd,
                remove=run.folder.to_remove,
                env=launch.env,
            )
            if self._answers(run.guard, launch, deadline):
                return
            has_ended = run.guard.poll()
            run.guard.stop()
            tail = _tail(log, log_start)
            in_time = time.monotonic() < deadline
            if has_ended and in_time and any(text in tail for text in launch.passing):
                time.sleep(0.1)
                continue
            if "already in use" in tail.lower():
                raise PortTaken(taken_port(self.name, launch.port))
            what = (
                "did not answer within 60 s"
                if not has_ended
                else (run.guard.failure or f"ended with status {run.guard.exit_code} before it answered")
            )
            raise ServiceUnavailable(
                f"{launch.command[0]} did not start: {what}. Its log " + (f"ends:\n{tail}" if tail else "is empty.")
            )

    def _answers(self, guard: Guarded, launch: Launch, deadline: float) -> bool:
        while not guard.poll(wait_s=0.005) and guard.pid is not None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if identity := launch.answers(guard.pid):
                    self.product, self.version = identity
                    return True
        return False


def open_server(
    command: Sequence[str],
    *,
    port: int,
    name: str = "server",
    url: str | None = None,
    data_dir: Path | None = None,
    answers: Callable[[int], tuple[str, str] | None] | None = None,
    stop_signal: int = signal.SIGTERM,
) -> Server:
    """
    Run any server command under a watchdog, such as a Redis Sentinel; returns when it answers.

    Args:
        command: Runs in the foreground and listens on the loopback `port`.
        data_dir: Holds the lock and the log. None is a temporary folder.
        answers: As in `Launch`. Without it the port must accept a connection, and product and version are
            empty.

    Raises:
        ServiceUnavailable: It ended, or did not answer within 60 s.
    """

    def accepts(_pid: int) -> tuple[str, str]:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return "", ""

    if port_error(port) is not None:
        raise PortTaken(taken_port(name, port))
    launch = Launch(command=command, port=port, answers=answers or accepts, stop_signal=stop_signal)
    return started(
        Server(
            name=name,
            url=url or f"tcp://127.0.0.1:{port}",
            source="given",
            binary=Path(command[0]),
            launch=launch,
            folder=DataFolder(data_dir, name),
        )
    )


def started(server: Server) -> Server:
    """The server after its first start; if that fails, nothing of it is left."""
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def masked(url: str) -> str:
    """The URL with any password replaced by asterisks."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


def taken_port(name: str, port: int) -> str:
    """What to tell someone whose port is in use."""
    text = (
        f"port {port} is taken: something else listens on 127.0.0.1:{port}. See who with `lsof -i :{port}` or "
        f"`ss -ltnp 'sport = :{port}'` and stop it, or choose another port"
    )
    by_url = {"redis": "REDIS_URL=redis", "postgres": "DATABASE_URL=postgresql"}.get(name)
    if by_url is None:
        return text
    return f"{text}; or, if it is the server wanted, use it as it is with {by_url}://127.0.0.1:{port}"


def ensure_port(name: str, port: int | None) -> None:
    """
    Refuse a port asked for by the caller on which no server could listen.

    Raises:
        ServiceUnavailable: It is taken, or not allowed.
    """
    error = port_error(port) if port is not None else None
    if error is None or port is None:
        return
    if isinstance(error, PermissionError):
        raise ServiceUnavailable(f"port {port} may not be used by this account ({error}); choose one above 1023")
    raise PortTaken(taken_port(name, port))


def _tail(log: Path, start: int) -> str:
    with open(log, "rb") as file:
        file.seek(max(start, log.stat().st_size - _LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").strip()
