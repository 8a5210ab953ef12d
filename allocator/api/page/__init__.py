"""
The page at `/`: hand-written files, served as they are.

It needs no build step and asks nobody but this server. Names that others have chosen reach it as text alone: the policy
below lets no script run that is not one of these files, and gives no string to a parser of HTML.
"""

import hashlib
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Header, Response

from allocator.api.problems import not_found

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

POLICY = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

FILES = {
    file.name: file.read_bytes()
    for file in resources.files(__name__).iterdir()
    if file.name.rpartition(".")[2] in TYPES
}
"""By name; nothing else is ever looked for on the disk."""

router = APIRouter(include_in_schema=False)


@router.get("/")
@router.head("/")
async def index(if_none_match: Annotated[str, Header()] = "") -> Response:
    """The page."""
    return _file("index.html", if_none_match)


@router.get("/page/{name}")
@router.head("/page/{name}")
async def part(name: str, if_none_match: Annotated[str, Header()] = "") -> Response:
    """What the page is made of."""
    return _file(name, if_none_match)


def _file(name: str, known: str) -> Response:
    content = FILES.get(name)
    if content is None:
        raise not_found("such part of the page")
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {
        # Asked for each time, so that after an upgrade no old part meets a new one.
        "Cache-Control": "no-cache",
        "ETag": tag,
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if known == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=TYPES[name.rpartition(".")[2]])
