"""The page at `/`, in which a person talks to the model and sees its tools at work.

Its files have no build step. Those in `vendor/` are of the npm packages marked and dompurify, compressed;
`make page-vendor` replaces them by other versions.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response

from .static_files import add_files

DIRECTORY = Path(__file__).parent / "chat_page"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
"""Nothing from elsewhere, nothing inline, and HTML only from the sanitizer."""


def add_chat_page(app: FastAPI) -> None:
    """Adds / and the page's files to the app."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(
            (DIRECTORY / "index.html").read_bytes(),
            media_type="text/html; charset=utf-8",
            headers={
                "cache-control": "no-cache",
                "content-security-policy": CONTENT_SECURITY_POLICY,
                "cross-origin-opener-policy": "same-origin",
                "referrer-policy": "no-referrer",
                "x-content-type-options": "nosniff",
            },
        )

    add_files(app, "/page", DIRECTORY)
