"""A real browser: Chromium from Debian, or the one of the machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 60


@cache
def program() -> str:
    """Returns the browser's path. As root on Debian, installs it if it is missing.

    Raises:
        RuntimeError: there is no browser, and it cannot be installed.
    """
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(
                ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments], capture_output=True, check=False
            )
    found = _found()
    if not found:
        raise RuntimeError("no browser is installed: apt-get install chromium")
    return found


async def rendered(url: str, profile: Path, *options: str, milliseconds: int = 20_000) -> str:
    """Returns the HTML of a page after its scripts have run for this time of the browser's own clock.

    Args:
        profile: an empty directory for the browser's data.
        options: further command-line options.
    """
    process = await asyncio.create_subprocess_exec(
        program(), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        "--disable-background-networking", f"--virtual-time-budget={milliseconds}", *options,
        "--dump-dom", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(_SECONDS):
        return (await process.communicate())[0].decode()


def _found() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)
