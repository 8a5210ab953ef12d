"""As much of the PostgreSQL protocol as it takes to see who answers: start-up, passwords, version."""

import base64
import getpass
import hashlib
import hmac
import os
import socket
import ssl
import struct
from io import BufferedRWPair
from urllib.parse import parse_qs, unquote, urlsplit

from allocator.services.resp import first_host

_PROTOCOL_3_0 = 196608
_SSL_REQUEST = 80877103


class RefusedByPostgres(OSError):
    """The server answered with an error, such as a wrong password, or that it is still starting up."""


def server_version(url: str, *, timeout_s: float = 5.0) -> str:
    """
    The version of the PostgreSQL server at a URL, such as `15.18`, after a full log-in.

    Returns:
        `unknown` if the server wants a log-in of a kind not known here (GSS, SSPI).
    Raises:
        OSError: Nothing answers there, not as a PostgreSQL server would, or it refuses the log-in.
    """
    parts = urlsplit(url)
    options = {key: values[0] for key, values in parse_qs(parts.query).items()}
    user = unquote(parts.username or "") or options.get("user") or getpass.getuser()
    password = unquote(parts.password or "") or options.get("password") or os.environ.get("PGPASSWORD", "")
    database = unquote(parts.path.lstrip("/")) or options.get("dbname") or user
    with _connect(parts.netloc, options, timeout_s) as connection, connection.makefile("rwb") as stream:
        words = ("user", user, "database", database, "application_name", "allocator.services", "")
        body = struct.pack("!i", _PROTOCOL_3_0) + b"".join(word.encode() + b"\0" for word in words)
        stream.write(struct.pack("!i", len(body) + 4) + body)
        stream.flush()
        if not _log_in(stream, user, password):
            return "unknown"
        version = "unknown"
        while True:
            kind, body = _read(stream)
            if kind == b"S":
                key, value = body.split(b"\0")[:2]
                if key == b"server_version":
                    version = value.decode().split()[0]
            elif kind == b"Z":
                _send(stream, b"X", b"")
                return version


def _connect(netloc: str, options: dict[str, str], timeout_s: float) -> socket.socket:
    host, port = first_host(netloc, int(options.get("port", 5432)))
    if not netloc.rpartition("@")[2]:
        host = options.get("host", host)
    if host.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        connection.connect(f"{host}/.s.PGSQL.{port}")
        return connection
    connection = socket.create_connection((host, port), timeout=timeout_s)
    mode = options.get("sslmode", "prefer")
    if mode in ("disable", "allow"):
        return connection
    try:
        connection.sendall(struct.pack("!ii", 8, _SSL_REQUEST))
        if connection.recv(1) != b"S":
            if mode != "prefer":
                raise OSError("the server speaks no TLS")
            return connection
        context = ssl.create_default_context(cafile=options.get("sslrootcert"))
        context.check_hostname = mode == "verify-full"
        if not mode.startswith("verify"):
            # As in libpq: these modes encrypt without asking whose certificate it is.
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _log_in(stream: BufferedRWPair, user: str, password: str) -> bool:
    """Answer whatever the server asks for; False if that is unknown here."""
    scram: _Scram | None = None
    while True:
        kind, body = _read(stream)
        if kind != b"R":
            raise OSError(f"this is not how a PostgreSQL server answers: {kind!r}")
        (request,) = struct.unpack("!i", body[:4])
        if request == 0:
            return True
        if request == 3:
            _send(stream, b"p", password.encode() + b"\0")
        elif request == 5:
            inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
            outer = hashlib.md5(inner.encode() + body[4:8], usedforsecurity=False).hexdigest()
            _send(stream, b"p", b"md5" + outer.encode() + b"\0")
        elif request == 10 and b"SCRAM-SHA-256\0" in body:
            scram = _Scram(password)
            first = scram.first()
            _send(stream, b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        elif request == 11 and scram is not None:
            _send(stream, b"p", scram.final(body[4:]))
        elif request != 12:
            return False


class _Scram:
    """SCRAM-SHA-256 without channel binding, RFC 5802 and RFC 7677."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._bare = b"n=,r=" + base64.b64encode(os.urandom(18))

    def first(self) -> bytes:
        return b"n,," + self._bare

    def final(self, server_first: bytes) -> bytes:
        fields = dict(field.split(b"=", 1) for field in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        without_proof = b"c=biws,r=" + fields[b"r"]
        message = b",".join((self._bare, server_first, without_proof))
        signature = hmac.digest(stored_key, message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)


def _send(stream: BufferedRWPair, kind: bytes, body: bytes) -> None:
    stream.write(kind + struct.pack("!i", len(body) + 4) + body)
    stream.flush()


def _read(stream: BufferedRWPair) -> tuple[bytes, bytes]:
    """The next message that is not a notice."""
    while True:
        head = stream.read(5)
        if len(head) < 5:
            raise OSError("the server closed the connection")
        kind, length = head[:1], struct.unpack("!i", head[1:])[0]
        # A foreign protocol's first bytes, read as a length, may ask for gigabytes.
        if not 4 <= length < 1_000_000:
            raise OSError(f"this is not how a PostgreSQL server answers: {head!r}")
        body = stream.read(length - 4)
        if kind == b"E":
            fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0")}
            raise RefusedByPostgres(f"{fields.get(b'M', 'unknown error')} (SQLSTATE {fields.get(b'C', '?')})")
        if kind != b"N":
            return kind, body
