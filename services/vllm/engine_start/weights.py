"""A model's files in S3: what is there, whether it is complete, and a copy of it on the disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .location import Location
from .settings import LaunchError
from .storage import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MANIFEST = "tandem-manifest.json"
"""Lists the files of a mirrored model. It is written last, so a mirror without it is not complete."""

INDEX = "model.safetensors.index.json"
_SETTING = "MODEL_SOURCE"
_COPIES = 8
_CHUNK = 1 << 20
_ATTEMPTS = 5
_REPORT_SECONDS = 5.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a model in S3; `sha256` is None if nobody has recorded it."""

    path: str
    size: int
    etag: str
    sha256: str | None = None


def stored_files(client: S3Client, location: Location) -> list[StoredFile]:
    """Returns the files of a model, and checks that none is missing.

    Raises:
        LaunchError: The model is not complete, or S3 cannot be read.
    """
    with explained(_SETTING, location):
        found = {file.path: file for file in _list(client, location)}
        if MANIFEST in found:
            return _as_in_manifest(client, location, found)
        if "config.json" not in found:
            raise LaunchError(
                f"{_SETTING}='{location}': there is no config.json; name the model's own prefix"
            )
        _check_index(client, location, found)
        return list(found.values())


def has_safetensors(files: Sequence[StoredFile]) -> bool:
    """Whether the weights can be streamed."""
    return any(file.path.endswith(".safetensors") for file in files)


def _list(client: S3Client, location: Location) -> Iterator[StoredFile]:
    start = location.key("")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=start):
        for entry in page.get("Contents", []):
            path = entry["Key"].removeprefix(start)
            if path and not path.endswith("/"):
                yield StoredFile(path, entry["Size"], entry["ETag"])


def _as_in_manifest(client: S3Client, location: Location, found: dict[str, StoredFile]) -> list[StoredFile]:
    listed = [StoredFile(**one) for one in _read_json(client, location, MANIFEST)["files"]]
    for file in listed:
        there = found.get(file.path)
        if there is None:
            problem = "is missing"
        elif (there.size, there.etag) != (file.size, file.etag):
            problem = f"has {there.size} bytes (ETag {there.etag}), not {file.size} (ETag {file.etag})"
        else:
            continue
        raise LaunchError(
            f"{_SETTING}='{location}': {file.path} {problem}, contrary to {MANIFEST}. Delete {MANIFEST} from "
            "the bucket and run make deploy, which fills it again"
        )
    return listed


def _check_index(client: S3Client, location: Location, found: dict[str, StoredFile]) -> None:
    if INDEX not in found:
        return
    wanted = set(_read_json(client, location, INDEX)["weight_map"].values())
    if missing := sorted(wanted - set(found)):
        raise LaunchError(
            f"{_SETTING}='{location}': {', '.join(missing)} is missing, which {INDEX} lists; "
            "upload the model's files again"
        )


def _read_json(client: S3Client, location: Location, path: str) -> Any:
    body = client.get_object(Bucket=location.bucket, Key=location.key(path))["Body"].read()
    try:
        return json.loads(body)
    except ValueError as error:
        raise LaunchError(f"{_SETTING}='{location}': {path} is not JSON: {error}") from None


def directory_of(location: Location, cache: Path) -> Path:
    """Where the copy of a model is; it outlives the container where `cache` does."""
    return cache / "weights" / hashlib.sha256(str(location).encode()).hexdigest()[:16]


def copy(
    client: S3Client,
    location: Location,
    files: Sequence[StoredFile],
    directory: Path,
    *,
    progress: Progress,
) -> None:
    """Copies the files that are not in the directory yet, and resumes those that are there in part.

    Raises:
        LaunchError: A file cannot be copied, its hash is wrong, or the disk is full.
    """
    copied = _Copied(directory)
    missing = [file for file in files if not copied.has(file)]
    if not missing:
        return
    _check_space(missing, directory)
    copier = _Copier(client, location, directory, _Meter(sum(file.size for file in missing), progress))
    with ThreadPoolExecutor(_COPIES) as pool:
        try:
            for file in pool.map(copier.copy, missing):
                copied.add(file)
        except BaseException:  # also a signal: the threads stop at their next piece
            copier.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Copied:
    """The files that a directory holds completely, with the object that each came from."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._record = directory / ".tandem-copied.json"
        try:
            self._files = {one["path"]: StoredFile(**one) for one in json.loads(self._record.read_text())}
        except (OSError, ValueError, TypeError, KeyError):
            self._files = {}

    def has(self, file: StoredFile) -> bool:
        path = self._directory / file.path
        return self._files.get(file.path) == file and path.is_file() and path.stat().st_size == file.size

    def add(self, file: StoredFile) -> None:
        self._files[file.path] = file
        written = self._record.with_suffix(".new")
        written.write_text(json.dumps([asdict(one) for one in self._files.values()]))
        written.replace(self._record)


def _check_space(missing: Sequence[StoredFile], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    wanted = sum(file.size - _size(_part(directory, file)) for file in missing)
    free = shutil.disk_usage(directory).free
    if wanted > free:
        raise LaunchError(_full(directory, wanted, free))


def _full(directory: Path, wanted: int, free: int) -> str:
    return (
        f"{directory}: the disk is full: the weights need {wanted / 1e9:.1f} GB more, and "
        f"{free / 1e9:.1f} GB are free; use a larger disk, or delete the weights of other models from it"
    )


def _part(directory: Path, file: StoredFile) -> Path:
    """Where a file is until it is complete; another version of the object has another name."""
    version = hashlib.sha256(file.etag.encode()).hexdigest()[:8]
    return directory / f"{file.path}.{version}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Meter:
    """Counts the bytes of several threads, and reports them every few seconds."""

    def __init__(self, total: int, report: Progress) -> None:
        self._total, self._report = total, report
        self._done = 0
        self._lock = threading.Lock()
        self._reported = time.monotonic()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if (now := time.monotonic()) - self._reported < _REPORT_SECONDS:
                return
            self._reported = now
        self._report(self._done, self._total)


class _Copier:
    """Copies single files."""

    def __init__(self, client: S3Client, location: Location, directory: Path, meter: _Meter) -> None:
        self.stopped = threading.Event()
        self._client = client
        self._location = location
        self._directory = directory
        self._meter = meter

    def copy(self, file: StoredFile) -> StoredFile:
        part = _part(self._directory, file)
        part.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        for piece in _pieces(part):
            digest.update(piece)
        self._meter.add(_size(part))
        with explained(_SETTING, self._location):
            self._fetch(file, part, digest.update)
        if self.stopped.is_set():
            raise InterruptedError(f"{file.path} is not copied completely")
        if file.sha256 and digest.hexdigest() != file.sha256:
            part.unlink()
            raise LaunchError(
                f"{_SETTING}='{self._location}': {file.path} has the SHA-256 {digest.hexdigest()}, and "
                f"{MANIFEST} says {file.sha256}. Delete {MANIFEST} from the bucket and run make deploy, "
                "which fills it again"
            )
        part.replace(self._directory / file.path)
        return file

    def _fetch(self, file: StoredFile, part: Path, update: Callable[[bytes], None]) -> None:
        """Appends the rest of a file to its part; a connection that breaks is resumed."""
        from botocore.exceptions import BotoCoreError

        for attempt in range(1, _ATTEMPTS + 1):
            if (there := _size(part)) == file.size:
                part.touch()  # an empty file has no bytes to append
                return
            try:
                self._append(file, part, there, update)
            except BotoCoreError:
                if attempt == _ATTEMPTS and not _size(part):
                    raise
            if self.stopped.is_set():
                return
        if _size(part) == file.size:
            return
        raise LaunchError(
            f"{_SETTING}='{self._location}': the connection broke {_ATTEMPTS} times while {file.path} was "
            f"copied, at {_size(part)} of {file.size} bytes; the next start resumes there"
        )

    def _append(self, file: StoredFile, part: Path, there: int, update: Callable[[bytes], None]) -> None:
        body = self._client.get_object(
            Bucket=self._location.bucket,
            Key=self._location.key(file.path),
            IfMatch=file.etag,
            Range=f"bytes={there}-",
        )["Body"]
        try:
            with part.open("ab", buffering=0) as target:
                for piece in body.iter_chunks(_CHUNK):
                    if self.stopped.is_set():
                        return
                    _write_all(target.fileno(), piece)
                    update(piece)
                    self._meter.add(len(piece))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = shutil.disk_usage(self._directory).free
            raise LaunchError(_full(self._directory, file.size - _size(part), free)) from None
        finally:
            body.close()


def _write_all(descriptor: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def _pieces(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
