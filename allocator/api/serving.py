"""Runs the API with uvicorn."""

import gc
import socket
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from allocator.api.app import create_app
from allocator.api.heads import BoundedHeads
from allocator.api.services import Services
from allocator.api.settings import ApiSettings
from allocator.domain.errors import AllocatorError


class NotOpened(AllocatorError):
    """A folder, a file or an address that was given cannot be used; nothing was started."""


class _Server(uvicorn.Server):
    """
    Tells the application that it is to end before it waits for connections: streams of events end by that. Looks for
    garbage only among what requests leave.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        # All that was loaded stays; while it is looked through for garbage, for a tenth of a second, no request moves.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        services = getattr(self._app.state, "services", None)
        if services is not None:
            services.stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: ApiSettings | None = None) -> int:
    """
    Serve until SIGTERM or SIGINT, which end uploads and running jobs within the grace; a second one ends at once.

    Logging is the caller's to configure.

    Returns:
        An exit status: 1 if it could not start.
    Raises:
        ValueError: A setting is out of range.
        AllocatorError: Something that it works with cannot be opened.
    """
    given = ApiSettings() if settings is None else settings
    # Before the server starts: of what goes wrong there, it has nothing to tell but a traceback.
    try:
        services = Services(given)
    except AllocatorError:
        raise
    except (OSError, ValueError) as error:
        raise NotOpened(str(error)) from error
    try:
        return _serve(given, create_app(given, services))
    finally:
        services.close()


def _serve(given: ApiSettings, app: FastAPI) -> int:
    config = uvicorn.Config(
        app,
        host=given.host,
        port=given.port,
        # Called as a class is.
        http=partial(BoundedHeads, given.head_s),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=max(1, round(given.grace_s)),
    )
    server = _Server(config, app)
    server.run()
    return 0 if server.started else 1
