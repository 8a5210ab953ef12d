"""An ASGI application that starts and stops a supervisor with itself, as a web framework would."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from allocator import open_queue
from allocator.supervisor import Supervisor
from tests.supervisor.stopped_programs import write


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer the two events of a lifespan, and nothing else."""
    assert scope["type"] == "lifespan"
    await receive()
    with open_queue(os.environ["QUEUE_URL"], name=os.environ["QUEUE_NAME"]) as queue:
        with Supervisor(queue, {"json": write}):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
