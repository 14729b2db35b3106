"""What happened before this process: the boot of the instance and the pull of the image, on ECS."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

_METADATA = "ECS_CONTAINER_METADATA_URI_V4"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UPTIME = Path("/proc/uptime")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def task_metadata(environ: Mapping[str, str]) -> dict[str, Any]:
    """Returns what ECS says about the task; {} outside of ECS, or if it does not answer."""
    address = environ.get(_METADATA)
    if not address:
        return {}
    try:
        with _OPENER.open(f"{address}/task", timeout=2) as answer:
            found = json.load(answer)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def image_digest(metadata: Mapping[str, Any]) -> str | None:
    """Returns the digest of the engine's image."""
    return next((str(one["ImageID"]) for one in metadata.get("Containers", []) if one.get("ImageID")), None)


def earlier_steps(
    metadata: Mapping[str, Any], remembered: Path, *, uptime: Path = _UPTIME, boot_id: Path = _BOOT_ID
) -> dict[str, float]:
    """Returns the seconds of `image`, and of `instance` if this is the first start since the boot.

    Args:
        metadata: What ECS says about the task.
        remembered: A file that outlives the container, with the boot of the last start.
        uptime: Where the kernel says how long it has been running.
        boot_id: Where the kernel identifies its boot.
    """
    pulled_from, pulled_until = _time(metadata, "PullStartedAt"), _time(metadata, "PullStoppedAt")
    if pulled_from is None or pulled_until is None:
        return {}
    steps = {"image": max(pulled_until - pulled_from, 0.0)}
    try:
        booted = time.time() - float(uptime.read_text().split()[0])
        boot = boot_id.read_text()
        first = not remembered.is_file() or remembered.read_text() != boot
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(boot)
    except (OSError, ValueError):
        return steps
    return ({"instance": max(pulled_from - booted, 0.0)} if first else {}) | steps


def _time(metadata: Mapping[str, Any], name: str) -> float | None:
    try:
        return datetime.fromisoformat(metadata[name]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
