"""The application: what is opened when it starts, its routes, its errors, its documentation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import to_thread
from fastapi import FastAPI

import allocator
from allocator.api import events, keys, objects, operations, page, problems, uploads
from allocator.api.guard import LoopbackGuard
from allocator.api.services import Services
from allocator.api.settings import ApiSettings

DESCRIPTION = """
Send files; they are stored by their content, identified, and placed in a library by rules that are data.

Every error is a problem in the sense of RFC 9457. Instants are UTC. Pages are followed by giving `next` as `after`.
"""


def create_app(settings: ApiSettings | None = None, opened: Services | None = None) -> FastAPI:
    """
    The application, for any ASGI server; one process of it works on an in-process queue at a time.

    Nothing is opened before the server starts it. Unless the settings say that it asks for keys, it answers on loopback
    alone, and whoever can connect there may do everything.

    Args:
        settings: By default from the environment.
        opened: What it works with, where that is open already; closed when the application ends.
    Raises:
        ValueError: A setting is out of range.
    """
    given = ApiSettings() if settings is None else settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await to_thread.run_sync(Services, given) if opened is None else opened
        app.state.services = services
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(services.close)

    app = FastAPI(
        title="allocator",
        version=allocator.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere, which could then do everything here.
        docs_url=None,
        redoc_url=None,
        # A redirect of a form would lose it on the way.
        redirect_slashes=False,
    )
    routes = list(app.routes)
    for router in (page.router, uploads.router, events.router, objects.router, operations.letters, operations.router):
        app.include_router(router)
        routes += router.routes
    problems.install(app, routes)
    app.add_middleware(keys.KeyGuard if given.asks_for_key else LoopbackGuard)
    _document(app, given)
    return app


def _document(app: FastAPI, settings: ApiSettings) -> None:
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = keys.describe(problems.describe(make()), settings.asks_for_key)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
