"""Recent errors of both tiers in one view, grouped by request id."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .account import Account, Failed, translated
from .engines import engine_services

# The orchestrator logs JSON; vLLM logs plain lines.
_FILTERS = {
    "orchestrator": '{ $.level = "error" || $.level = "critical" || $.level = "warning" || $.status >= 500 }',
    "engine": "?ERROR ?CRITICAL ?Traceback ?WARNING",
}
_MOST = 200
_LATE_SECONDS = 60.0
_REQUEST_ID = re.compile(r"(?:chatcmpl-|cmpl-|x-request-id[:= ]+)?([0-9a-f]{32})")
_SINCE = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a tier's log. `time` is in seconds since 1970."""

    time: float
    tier: str
    text: str
    request_id: str | None


def seconds(since: str) -> int:
    """Converts a period such as `90s`, `15m`, `1h` or `2d` to seconds.

    Raises:
        Failed: The format is invalid.
    """
    match = _SINCE.fullmatch(since)
    if match is None:
        raise Failed(f"--since {since!r} is not a period; examples: 90s, 15m, 1h, 2d")
    return int(match[1]) * _SECONDS[match[2]]


def errors(account: Account, *, since: int, request_id: str | None = None) -> list[Entry]:
    """Returns the errors of the last `since` seconds, oldest first, grouped by request.

    With `request_id`, returns everything that both tiers logged about that request.
    """
    found = _events(account, groups(account), start=time.time() - since, request_id=request_id)
    return joined([entry(tier, event) for tier, event in found])


def follow(
    account: Account, *, since: int, request_id: str | None = None, pause: Callable[[], None]
) -> Iterator[Entry]:
    """Yields the same entries in the order of their times, and then new ones, without end.

    `pause` waits before it looks again. It looks back a little, since tiers deliver their lines late.
    """
    tiers = groups(account)
    start = time.time() - since
    seen: set[str] = set()
    while True:
        found = _events(account, tiers, start=start, request_id=request_id)
        new = [(tier, event) for tier, event in found if event["eventId"] not in seen]
        seen |= {event["eventId"] for _, event in new}
        for tier, event in sorted(new, key=lambda one: float(one[1]["timestamp"])):
            yield entry(tier, event)
        start = max(start, time.time() - _LATE_SECONDS)
        pause()


def _events(
    account: Account, tiers: dict[str, str], *, start: float, request_id: str | None
) -> list[tuple[str, Any]]:
    logs = account.client("logs")
    found = []
    for tier, group in tiers.items():
        pattern = f'"{request_id}"' if request_id else _FILTERS[tier]
        with translated():
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group,
                startTime=int(start * 1000),
                filterPattern=pattern,
                PaginationConfig={"MaxItems": _MOST},
            )
            found += [(tier, event) for page in pages for event in page["events"]]
    return found


def groups(account: Account) -> dict[str, str]:
    """Returns the log groups by tier, from the deployed task definitions."""
    outputs = account.outputs()
    tiers = {one.name: (one.cluster, one.service) for one in engine_services(account)}
    tiers["orchestrator"] = (outputs["ClusterName"], outputs["OrchestratorService"])
    return {tier: group_of(account, cluster, service) for tier, (cluster, service) in tiers.items()}


def group_of(account: Account, cluster: str, service: str) -> str:
    """Returns the log group of a service, from its deployed task definition."""
    ecs = account.client("ecs")
    with translated():
        (described,) = ecs.describe_services(cluster=cluster, services=[service])["services"]
        task = ecs.describe_task_definition(taskDefinition=described["taskDefinition"])["taskDefinition"]
    # Beside the service, there may be a collector of traces, which is not essential.
    (container,) = [one for one in task["containerDefinitions"] if one.get("essential", True)]
    return str(container["logConfiguration"]["options"]["awslogs-group"])


def entry(tier: str, event: Any) -> Entry:
    """Converts a CloudWatch event to an entry."""
    message = str(event["message"]).rstrip()
    try:
        fields = json.loads(message)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        match = _REQUEST_ID.search(message)
        return Entry(event["timestamp"] / 1000, tier, message, match[1] if match else None)

    details = ", ".join(f"{key}={value}" for key, value in fields.items() if key in _SHOWN)
    text = f"{fields.get('level', '')} {fields.get('message', '')} {details}".strip()
    return Entry(event["timestamp"] / 1000, tier, text, fields.get("request_id"))


_SHOWN = ("status", "route", "error", "reason", "engine", "seconds", "exception", "key_name")


def clock(seconds: float) -> str:
    """Formats a time in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(entry: Entry) -> str:
    """Formats an entry as a line."""
    return f"{clock(entry.time)} {entry.tier:<12} {entry.request_id or '-':<32} {entry.text}\n"


def joined(entries: list[Entry]) -> list[Entry]:
    """Sorts entries by time, with all entries of a request at the position of its first."""
    ordered = sorted(entries, key=lambda one: one.time)
    first: dict[str, float] = {}
    for one in ordered:
        if one.request_id:
            first.setdefault(one.request_id, one.time)
    return sorted(
        ordered, key=lambda one: (first.get(one.request_id or "", one.time), one.request_id or "", one.time)
    )
