"""As much of the protocols of Redis and PostgreSQL as tells where a request and a reply end."""

import struct


def is_operation(request: bytes) -> bool:
    """Whether this is an operation of a queue, and not part of coming to a connection."""
    if request[:1] == b"*":
        return b"EVAL" in request[:24]
    # A start-up message begins with its length, so with a zero byte. E executes what was prepared.
    return request[:1] != b"\0" and b"E" in _postgres_messages(request)


def is_whole_resp(data: bytes) -> bool:
    """Whether this is a request or a reply of Redis, to its end."""
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


def is_whole_postgres_request(data: bytes) -> bool:
    """Whether this is what PostgreSQL answers together: it ends in a Sync, a query, a password or a farewell."""
    # A start-up message is passed on as it comes.
    return data[:1] == b"\0" or _postgres_messages(data)[-1:] in (b"S", b"Q", b"X", b"p")


def is_whole_postgres_reply(data: bytes) -> bool:
    """Whether PostgreSQL has said all, and is ready for more."""
    return _postgres_messages(data)[-1:] == b"Z"
