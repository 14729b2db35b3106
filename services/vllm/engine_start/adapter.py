"""LoRA adapters by name: where each comes from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from .location import Location

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FORMAT = 'must be a JSON list such as [{"name": "support", "source": "s3://bucket/prefix"}]'


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that clients request by its name.

    Attributes:
        name: The name.
        source: A place in S3, or a repository on the Hugging Face Hub.
    """

    name: str
    source: Location | str


def parse_adapters(value: str) -> tuple[Adapter, ...]:
    """Reads a JSON list of objects with `name` and `source`.

    Raises:
        ValueError: It is something else, or a name is used twice.
    """
    try:
        entries = json.loads(value)
    except ValueError:
        raise ValueError(_FORMAT) from None
    if not isinstance(entries, list):
        raise ValueError(_FORMAT)
    adapters = tuple(_adapter(entry) for entry in entries)
    names = [adapter.name for adapter in adapters]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"the name {twice!r} is used twice; each adapter needs its own")
    return adapters


def _adapter(entry: object) -> Adapter:
    if not isinstance(entry, dict) or set(entry) != {"name", "source"}:
        raise ValueError(_FORMAT)
    name, source = entry["name"], entry["source"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name of an adapter: use up to 96 letters, digits, dots, dashes and "
            "underscores, such as support-tone"
        )
    if isinstance(source, str) and source.startswith("s3://"):
        return Adapter(name, Location.parse(source))
    if isinstance(source, str) and _REPOSITORY.fullmatch(source):
        return Adapter(name, source)
    raise ValueError(
        f"{source!r} is not the source of an adapter: use s3://bucket/prefix, or owner/name on the "
        "Hugging Face Hub"
    )
