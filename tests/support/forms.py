"""Reads forms as vLLM does: by FastAPI's parser, python-multipart."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser


async def fields_of(body: bytes, content_type: bytes) -> list[tuple[str, Any]]:
    """Returns the fields of a form: each value is a text, or a file's name and content.

    Raises:
        MultiPartException: the parser rejects the form.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    form = await MultiPartParser(Headers({"content-type": content_type.decode()}), stream()).parse()
    try:
        return [
            (name, (value.filename, await value.read()) if isinstance(value, UploadFile) else value)
            for name, value in form.multi_items()
        ]
    finally:
        await form.close()
