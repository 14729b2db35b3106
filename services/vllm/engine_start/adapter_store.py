"""The adapters below a prefix in S3: a folder is an adapter, and its name is that of the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .adapters import CONFIG, WEIGHTS
from .location import Location
from .settings import LaunchError
from .storage import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_OBJECTS = 10_000
"""A listing of them takes ten requests. More are most likely not adapters."""

_SETTING = "ADAPTERS_FROM"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """A folder with files of an adapter.

    Attributes:
        name: The folder's name.
        etags: The ETags of its files, by name. They change when a file does.
        size: The bytes of its files.
    """

    name: str
    etags: tuple[tuple[str, str], ...]
    size: int

    @property
    def missing(self) -> str | None:
        """A file that is not there, because the adapter is being written, or was never whole."""
        present = dict(self.etags)
        return next((name for name in (WEIGHTS, CONFIG) if name not in present), None)


def stored_adapters(client: S3Client, location: Location) -> list[StoredAdapter]:
    """Returns the adapters below a prefix, in the order of their names.

    Raises:
        LaunchError: S3 cannot be read, or there are too many objects.
    """
    start, count = location.key(""), 0
    files: dict[str, dict[str, tuple[str, int]]] = {}
    with explained(_SETTING, location):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=start):
            entries = page.get("Contents", [])
            count += len(entries)
            if count > MOST_OBJECTS:
                raise LaunchError(
                    f"{_SETTING}='{location}': there are more than {MOST_OBJECTS:,} objects; name a prefix "
                    "that contains only folders of adapters"
                )
            for entry in entries:
                folder, _, file = entry["Key"].removeprefix(start).partition("/")
                if file in (CONFIG, WEIGHTS):
                    files.setdefault(folder, {})[file] = (entry["ETag"], entry["Size"])
    return [
        StoredAdapter(
            folder,
            tuple(sorted((name, etag) for name, (etag, _) in found.items())),
            sum(size for _, size in found.values()),
        )
        for folder, found in sorted(files.items())
    ]


def copy_adapter(client: S3Client, location: Location, adapter: StoredAdapter, place: Path) -> None:
    """Copies the files of an adapter as they were listed.

    Raises:
        LaunchError: S3 cannot be read, or a file has changed since.
        OSError: The disk cannot take it.
    """
    for name, etag in adapter.etags:
        key = location.key(f"{adapter.name}/{name}")
        with explained(_SETTING, Location(location.bucket, key)), (place / name).open("wb") as target:
            body = client.get_object(Bucket=location.bucket, Key=key, IfMatch=etag)["Body"]
            for piece in body.iter_chunks(_CHUNK):
                target.write(piece)
