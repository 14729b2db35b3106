"""The API page at /docs. All of its files come from this server, so that it works without internet.

They are those of swagger-ui-dist on npm, compressed; `make swagger-ui` replaces them by another version.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from ..errors import NotFound

FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
"""The page's files and their content types."""

_DIRECTORY = Path(__file__).parent / "swagger_ui"
_SAME_ORIGIN_ONLY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
    )
)


def add_docs_page(app: FastAPI) -> None:
    """Adds /docs and its files to the app."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{app.title} API",
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="docs/favicon-32x32.png",
            swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
        )
        page.headers["content-security-policy"] = _SAME_ORIGIN_ONLY
        return page

    @app.get("/docs/{name:path}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in FILES:
            raise NotFound(f"The API page has no file {name!r}; open /docs", code="unknown_route")
        headers = {"cache-control": "public, max-age=3600"}
        if not name.endswith((".js", ".css")):
            return Response((_DIRECTORY / name).read_bytes(), media_type=FILES[name], headers=headers)
        headers["vary"] = "accept-encoding"
        body = (_DIRECTORY / f"{name}.gz").read_bytes()
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
        else:
            body = gzip.decompress(body)
        return Response(body, media_type=FILES[name], headers=headers)
