"""Request bodies: bounded, JSON (or YAML for apply patches, or one of the few protobuf messages of kubectl)."""

from typing import Any

import msgspec
from aiohttp import web

from veil.api import protobuf
from veil.errors import InvalidInput

API_BODY_MAX_BYTES = 1024 * 1024
"""The largest request body: a workload's body twice (kubectl keeps a copy in an annotation) and room to spare."""


def media_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", "application/json").split(";", 1)[0].strip().lower()


async def read(request: web.Request) -> Any:
    """The value that the body encodes; None when there is no body. Raises InvalidInput."""
    form = media_type(request)
    raw = await request.read()
    if form == protobuf.MEDIA_TYPE:
        return protobuf.decode(raw) if raw else None
    if not raw.strip():
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        if form.endswith("yaml"):
            return _yaml(raw)
        raise InvalidInput(f"the body is not JSON: {error}") from error


def _yaml(raw: bytes) -> Any:
    from veil.manifest.parse import load

    try:
        documents = load(raw.decode(), "")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8: {error}") from error
    if len(documents) != 1:
        raise InvalidInput(f"the body has {len(documents)} documents, one is expected")
    return documents[0].value
