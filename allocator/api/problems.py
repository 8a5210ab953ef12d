"""Errors as clients see them: RFC 9457 problem details, for every error there is."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from allocator.domain.errors import AllocatorError, InvalidJob, QueueClosed, QueueFull, QueueUnavailable
from allocator.ingest import (
    LibraryUnavailable,
    ObjectMissing,
    ObjectStoreUnavailable,
    OutOfSpace,
    SweptAway,
    TooLarge,
)
from allocator.ingest.intake import NoDocument
from allocator.persistence import AssetBusy, KeyReused, StoreClosed, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


class ProblemDetails(BaseModel):
    """What went wrong, and what to do about it (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no object of this id"}
            ]
        },
    )

    type: str = Field("about:blank", description="about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The name of the status.")
    status: int = Field(description="As in the status line.")
    detail: str = Field(description="What happened here, in words.")


class Problem(Exception):
    """
    Ends a request with a problem.

    Args:
        status: Of the response.
        detail: A sentence for people.
        headers: Of the response, beside Content-Type.
        extra: Further members, for programs.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    def response(self) -> Response:
        """As it is sent."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        return Response(msgspec.json.encode(body), self.status, self.headers, MEDIA_TYPE)


def not_found(what: str) -> Problem:
    """404; `what` as in "there is no …"."""
    return Problem(404, f"there is no {what}")


def later(status: int, detail: str) -> Problem:
    """A problem that passes by itself."""
    return Problem(status, detail, {"Retry-After": str(RETRY_AFTER_S)})


def problem_of(error: AllocatorError) -> Problem:
    """How an error of this package is told to a client."""
    text = str(error)
    match error:
        case TooLarge():
            return Problem(413, text, limit=error.max_bytes)
        case OutOfSpace() | QueueFull():
            return later(507, text)
        case StoreUnavailable():
            return later(507 if error.reason == "full" else 503, text)
        case ObjectStoreUnavailable() | LibraryUnavailable() | QueueUnavailable() | QueueClosed() | StoreClosed():
            return later(503, text)
        case SweptAway():
            return later(503, text)
        case KeyReused():
            return Problem(409, text, job_id=error.upload_id)
        case AssetBusy():
            return Problem(409, text, job_id=error.job_id, state=error.state)
        case NoDocument() | InvalidJob():
            return Problem(422, text)
        case ObjectMissing():
            return Problem(410, text, sha256=error.sha256)
        case _:
            return Problem(500, text)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of these problems, for a route."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Have every error of the application told as a problem; `routes` are all that it has."""

    def tell_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    def tell_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, AllocatorError)
        return problem_of(error).response()

    def tell_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Each route knows of its own methods alone.
            headers["Allow"] = ", ".join(sorted(_methods(routes, request)))
            return Problem(405, f"{request.method} is not for this path; it has {headers['Allow']}", headers).response()
        return Problem(error.status_code, str(error.detail), headers).response()

    def tell_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"place": ".".join(map(str, problem["loc"])), "problem": problem["msg"]} for problem in error.errors()
        ]
        said = "; ".join(f"{one['place']}: {one['problem']}" for one in errors)
        return Problem(422, said, errors=errors).response()

    def tell_unforeseen(request: Request, error: Exception) -> Response:
        # Its text may hold what is nobody's business; the server's log has it.
        return Problem(500, "the server met with an error of its own; its log says more").response()

    app.add_exception_handler(Problem, tell_problem)
    app.add_exception_handler(AllocatorError, tell_ours)
    app.add_exception_handler(HTTPException, tell_http)
    app.add_exception_handler(RequestValidationError, tell_invalid)
    app.add_exception_handler(Exception, tell_unforeseen)


def _methods(routes: Sequence[BaseRoute], request: Request) -> set[str]:
    """Of all routes of the path, by the first that fits: /requeue is no id, though it might be one."""
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    paths = [getattr(route, "path", None) for route in fitting]
    return {
        method
        for route, path in zip(fitting, paths, strict=True)
        if path == paths[0]
        for method in getattr(route, "methods", None) or ()
    }


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Put problems into an OpenAPI document: their schema, and in the place of FastAPI's own errors."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for methods in document.get("paths", {}).values():
        for operation in methods.values():
            if "422" in operation["responses"]:
                operation["responses"] |= {"422": responses(422)[422]}
    return document
