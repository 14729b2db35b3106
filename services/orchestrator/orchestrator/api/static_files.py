"""Files of the pages that this server serves itself, so that they work without internet."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from fastapi import FastAPI, Request, Response

from ..errors import NotFound

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""The content types of the files that are served, by suffix. Others, such as licences, are not."""


def add_files(app: FastAPI, path: str, directory: Path) -> None:
    """Serves the directory's files below the path. A file `NAME.gz` in it is served as NAME.

    Browsers ask each time whether a file has changed, so that the files of two releases are never mixed.
    """
    files = {name: file for file in directory.rglob("*") if (name := _name(file, directory))}

    @app.get(f"{path}/{{name:path}}", include_in_schema=False)
    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise NotFound(f"There is no file {name!r} below {path}/", code="unknown_route")
        stored = files[name].read_bytes()
        headers = {
            "cache-control": "no-cache",
            "etag": f'"{hashlib.sha256(stored).hexdigest()[:32]}"',
            "x-content-type-options": "nosniff",
        }
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        if files[name].suffix == ".gz":
            headers["vary"] = "accept-encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["content-encoding"] = "gzip"
            else:
                stored = gzip.decompress(stored)
        return Response(stored, media_type=TYPES[Path(name).suffix], headers=headers)


def _name(file: Path, directory: Path) -> str | None:
    name = str(file.relative_to(directory)).removesuffix(".gz")
    return name if Path(name).suffix in TYPES else None
