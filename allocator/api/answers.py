"""Answers that are written where they are made."""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute

from allocator.api.views import View


class ViewRoute(APIRoute):
    """
    A route that writes the view of its function in the thread that has made it.

    FastAPI has another thread look it through first. Going there costs a sixth of reading a status, and finds nothing:
    a view is checked when it is made. What the function does to a `Response` that it asks for is not heard.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        written = endpoint if iscoroutinefunction(endpoint) else _written(endpoint, options.get("status_code") or 200)
        super().__init__(path, written, **options)


def _written(endpoint: Callable[..., Any], status_code: int) -> Callable[..., Any]:
    # Its parameters, and what it gives, are documented as they were.
    @wraps(endpoint)
    def write(**given: Any) -> Any:
        answer = endpoint(**given)
        if not isinstance(answer, View):
            return answer
        return Response(answer.model_dump_json(), status_code, media_type="application/json")

    return write
