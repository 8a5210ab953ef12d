"""As much of the Redis protocol as it takes to see who answers."""

import socket
import ssl
from io import BufferedRWPair
from urllib.parse import parse_qs, unquote, urlsplit


class RefusedByRedis(OSError):
    """The server answered with an error, such as a wrong password, or that it is still loading its data."""


def server_info(url: str, *, timeout_s: float = 5.0) -> dict[str, str]:
    """
    The section `server` of INFO, from a server that takes commands.

    Args:
        url: `redis://`, `rediss://` or `unix://`, also with a `+sentinel` or `+cluster`; of several hosts the
            first is asked.

    Raises:
        OSError: Nothing answers there, or not as a Redis server would.
    """
    parts = urlsplit(url)
    with _connect(url, timeout_s) as connection, connection.makefile("rwb") as stream:
        password = unquote(parts.password or "") or parse_qs(parts.query).get("password", [""])[0]
        if password:
            _log_in(stream, unquote(parts.username or ""), password)
        _ask(stream, "PING")
        try:
            lines = _ask(stream, "INFO", "server").splitlines()
        except RefusedByRedis:
            # It serves this user, but does not let everyone see what it is.
            lines = []
    return dict(line.split(":", 1) for line in lines if ":" in line)


def identity(info: dict[str, str]) -> tuple[str, str]:
    """Product and version. Valkey says `redis_version:7.2.4` for old clients, and its own a line later."""
    if "valkey_version" in info:
        return "Valkey", info["valkey_version"]
    return "Redis", info.get("redis_version", "unknown")


def _connect(url: str, timeout_s: float) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme.startswith("unix"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(parts.path)
        return connection
    host, port = first_host(parts.netloc, 6379)
    connection = socket.create_connection((host, port), timeout=timeout_s)
    if not parts.scheme.startswith("rediss"):
        return connection
    try:
        options = parse_qs(parts.query)
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs", [None])[0])
        if options.get("ssl_cert_reqs", [""])[0] == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def first_host(netloc: str, default_port: int) -> tuple[str, int]:
    """Host and port of the first of the hosts in a URL's authority."""
    first = urlsplit("//" + netloc.rpartition("@")[2].split(",")[0])
    return first.hostname or "127.0.0.1", first.port or default_port


def _log_in(stream: BufferedRWPair, user: str, password: str) -> None:
    try:
        _ask(stream, "AUTH", *([user] if user else []), password)
    except RefusedByRedis as refusal:
        # A Sentinel may be open while the password in the URL is for the servers that it watches.
        if "without any password configured" not in str(refusal):
            raise


def _ask(stream: BufferedRWPair, *words: str) -> str:
    stream.write(b"*%d\r\n" % len(words))
    for word in words:
        stream.write(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()))
    stream.flush()
    reply = stream.readline()
    kind, text = reply[:1], reply[1:].decode(errors="replace").strip()
    if kind == b"$":
        return stream.read(int(text) + 2).decode(errors="replace")
    if kind == b"-":
        raise RefusedByRedis(text)
    if kind != b"+":
        raise OSError(f"this is not how a Redis server answers: {reply[:60]!r}")
    return text
