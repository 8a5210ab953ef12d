"""
Keeps other machines, and other people's web pages, away from an API that asks for no key.

Whoever started the server may have let it listen on every address; a connection tells which one it came in by. A
browser on this machine may be told by any page to send a form to 127.0.0.1, or be led there by a name whose address
changes. The one shows in Origin, the other in Host.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from allocator.api.problems import Problem
from allocator.api.settings import is_loopback

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


class LoopbackGuard:
    """
    Middleware: 403 for a connection from elsewhere and for a change that a foreign page asks for, 421 for a Host that
    is not this machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := _problem(scope)):
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _problem(scope: Scope) -> Problem | None:
    method, headers = scope["method"], Headers(scope=scope)
    address, port = scope.get("server") or ("", None)
    # A Unix socket has no port, and no other machine at its end.
    if port is not None and not is_loopback(address):
        return Problem(403, f"this server asks for no keys, and so answers on loopback alone, not on {address}")
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        return Problem(421, f"this server answers on loopback alone, not for {host[:100]!a}")
    origin = headers.get("origin")
    if origin is not None and method not in SAFE_METHODS and origin not in (f"http://{host}", f"https://{host}"):
        return Problem(403, f"a page of {origin[:100]!a} may not change anything here")
    return None
