"""The API page at /docs. All of its files come from this server, so that it works without internet.

They are those of swagger-ui-dist on npm, compressed; `make swagger-ui` replaces them by another version.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html

from .static_files import add_files

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

    add_files(app, "/docs", _DIRECTORY)
