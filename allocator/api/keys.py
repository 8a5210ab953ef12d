"""
Asks every request for an API key, where others than this machine may connect.

A key is all that opens anything here: no cookie does, and no address. A foreign page, to which no browser gives one,
can therefore do nothing, whatever name it was led here by; see `guard` for servers that ask for no key.
"""

from contextlib import suppress
from typing import Any

import anyio
from anyio import to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allocator.api.problems import Problem, problem_of, responses
from allocator.api.services import Services
from allocator.domain.errors import AllocatorError
from allocator.persistence import ApiKey

LIVE = "/live"
"""It answers as long as the server does, and so must not ask the database for a key."""

READY = "/ready"
"""Whoever watches over the server needs no key for it. It says more to those who have one."""

PAGE = ("/", "/page/")
"""The page itself, and what it is made of: nothing of anybody's. It asks people for their key."""

LOOK_AGAIN_S = 1.0
"""How often the key of a stream of events is looked up again, at most."""

SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key that `allocator keys create NAME` made. On loopback none is needed, unless it is set so.",
    },
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, by itself."},
}


class KeyGuard:
    """Middleware: 401 for a request without a good key, 503 while nobody can tell; the key is `state.api_key`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]):
            await self._app(scope, receive, send)
        elif problem := await _problem(scope):
            await problem.response()(scope, receive, send)
        else:
            await self._app(scope, receive, _until_revoked(scope, send))


async def _problem(scope: Scope) -> Problem | None:
    secret = _shown(Headers(scope=scope))
    if not secret:
        if scope["path"] == READY:
            return None
        return _refused(
            "this needs an API key, sent as Authorization: Bearer KEY; on the server, `allocator keys create NAME` "
            "makes one"
        )
    try:
        # Every time, so that one that was revoked is refused at once.
        key: ApiKey | None = await to_thread.run_sync(_services(scope).keys.check, secret)
    except AllocatorError as error:
        return problem_of(error)
    if key is None:
        return _refused("the API key that was sent is none of this server's, or was revoked", ', error="invalid_token"')
    scope.setdefault("state", {})["api_key"] = key
    return None


def _until_revoked(scope: Scope, send: Send) -> Send:
    """Sends, and ends a stream of events at the next one after its key was revoked: others end by themselves."""
    secret = _shown(Headers(scope=scope))
    is_stream = has_ended = False
    looked_at = anyio.current_time()

    async def tell(message: Message) -> None:
        nonlocal is_stream, has_ended, looked_at
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            is_stream = bool(secret) and kind.startswith("text/event-stream")
        elif is_stream and not has_ended and anyio.current_time() - looked_at >= LOOK_AGAIN_S:
            looked_at = anyio.current_time()
            # Where nobody can tell now, the stream has something to say on that itself.
            with suppress(AllocatorError):
                has_ended = await to_thread.run_sync(_services(scope).keys.check, secret) is None
            if has_ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        if not has_ended:
            await send(message)

    return tell


def _services(scope: Scope) -> Services:
    services: Services = scope["app"].state.services
    return services


def _is_open(path: str) -> bool:
    index, parts = PAGE
    return path in (LIVE, index) or path.startswith(parts)


def _shown(headers: Headers) -> str:
    """The key that a request shows; empty if it shows none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return (given if scheme.lower() == "bearer" else headers.get("x-api-key", "")).strip()


def _refused(detail: str, more: str = "") -> Problem:
    # As RFC 6750 has it.
    return Problem(401, detail, {"WWW-Authenticate": f'Bearer realm="allocator"{more}'})


def describe(document: dict[str, Any], is_asked_for: bool) -> dict[str, Any]:
    """Put keys into an OpenAPI document: how they are sent, where they are needed, and what becomes of who has none."""
    document["components"]["securitySchemes"] = SCHEMES
    document["security"] = [{name: []} for name in SCHEMES] + ([] if is_asked_for else [{}])
    challenge = {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            if path in (LIVE, READY):
                operation["security"] = []
            if path != LIVE:
                operation["responses"] |= {"401": {**responses(401)[401], "headers": challenge}}
    return document
