"""A page in a real browser, which must not misbehave: no console error, no request to elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import ConsoleMessage, Page, Request, async_playwright

from . import browser

SECONDS = 20
_VIEWPORT = {"width": 1000, "height": 800}


@dataclass
class Watched:
    """What a page did besides what it shows.

    Attributes:
        problems: console errors, uncaught exceptions, violations of the content security policy, dialogs,
            and requests to other origins.
        expected: texts of problems that a test causes on purpose.
    """

    problems: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def unexpected(self) -> list[str]:
        return [one for one in self.problems if not any(text in one for text in self.expected)]


@contextlib.asynccontextmanager
async def opened(url: str, *, watched: Watched | None = None, **context: Any) -> AsyncIterator[Page]:
    """Opens the page, and asserts at the end that it did nothing unexpected.

    Args:
        context: Playwright's options of a browser context, such as `viewport` and `color_scheme`.
    """
    watched = watched or Watched()
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=browser.program(),
            args=[
                "--no-sandbox",
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        try:
            page = await (await running.new_context(**{"viewport": _VIEWPORT, **context})).new_page()
            page.set_default_timeout(1000 * SECONDS)
            _watch(page, url, watched)
            await page.goto(url)
            yield page
        finally:
            await running.close()
    assert watched.unexpected() == []


async def ask(page: Page, question: str) -> None:
    """Sends a message on the chat page."""
    await page.get_by_label("Message").fill(question)
    await page.get_by_role("button", name="Send").click()


def _watch(page: Page, url: str, watched: Watched) -> None:
    problems = watched.problems

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"console: {message.text}")

    def requested(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append(f"request to {request.url}")

    page.on("console", console)
    page.on("request", requested)
    page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
    page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    page.on("popup", lambda popup: problems.append(f"popup: {popup.url}"))
