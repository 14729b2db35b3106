"""Copies a model from the Hugging Face Hub to S3, checked by the Hub's hashes. CodeBuild runs it.

    python -m engine_start.mirror

MODEL, REVISION and TARGET (s3://bucket/prefix) say what is copied where, HF_TOKEN who asks. A file becomes
visible only when it is complete and its hash is right; one that is there is not copied again. The manifest
is written last, so engines never start with half a model.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .hub import HUB, Hub, HubError, HubFile
from .location import Location
from .settings import LaunchError
from .storage import explained, s3_client
from .weights import MANIFEST, StoredFile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_FILES_AT_ONCE = 4
_PART = 64 << 20
_SETTING = "TARGET"


def mirror(hub: Hub, client: S3Client, model: str, revision: str, target: Location) -> list[StoredFile]:
    """Copies what is not there yet, and returns the files of the mirror.

    Raises:
        HubError: The Hub does not give a file, or not the one that it says.
        LaunchError: S3 cannot be written.
    """
    commit, files = hub.files(model, revision)
    total = sum(file.size for file in files) / 1e9
    _say(f"{model} at {commit}: {len(files)} files, {total:.2f} GB to {target}")
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool, explained(_SETTING, target):
        stored = list(
            pool.map(lambda file: _copy(client, target, file, hub.pieces(model, commit, file)), files)
        )
        manifest = {"model": model, "revision": commit, "files": [asdict(one) for one in stored]}
        body = json.dumps(manifest, indent=1).encode()
        client.put_object(Bucket=target.bucket, Key=target.key(MANIFEST), Body=body)
    return stored


def _copy(client: S3Client, target: Location, file: HubFile, pieces: Iterator[bytes]) -> StoredFile:
    stated = file.sha256 or file.blob
    where: dict[str, Any] = {"Bucket": target.bucket, "Key": target.key(file.path)}
    there = _existing(client, where)
    if there and there["ContentLength"] == file.size and there["Metadata"].get("hub-hash") == stated:
        _say(f"  {file.path}: there already")
        return StoredFile(file.path, file.size, there["ETag"], file.sha256)
    etag = _upload(client, where, stated, pieces)
    _say(f"  {file.path}: {file.size / 1e6:.1f} MB")
    return StoredFile(file.path, file.size, etag, file.sha256)


def _existing(client: S3Client, where: dict[str, Any]) -> Any:
    from botocore.exceptions import ClientError

    try:
        return client.head_object(**where)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
            return None
        raise


def _upload(client: S3Client, where: dict[str, Any], stated: str, pieces: Iterator[bytes]) -> str:
    """Uploads in parts; the object appears when the last piece has come, whose hash has then been checked."""
    upload = client.create_multipart_upload(**where, Metadata={"hub-hash": stated})["UploadId"]
    parts: list[Any] = []
    try:
        for number, part in enumerate(_parts(pieces), 1):
            sent = client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        done = client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    except BaseException:
        client.abort_multipart_upload(**where, UploadId=upload)
        raise
    return done["ETag"]


def _parts(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Joins pieces to parts of a size that S3 accepts; at least one, even if it is empty."""
    part = bytearray()
    for piece in pieces:
        part += piece
        if len(part) >= _PART:
            yield bytes(part)
            part = bytearray()
    yield bytes(part)


def main(environ: Mapping[str, str]) -> None:
    """Copies the model that the environment names; exits with a message if that fails."""
    hub = Hub(environ.get("HF_TOKEN"), environ.get("HUB_ADDRESS") or HUB)
    target = Location.parse(environ["TARGET"])
    try:
        mirror(hub, s3_client(), environ["MODEL"], environ.get("REVISION") or "main", target)
    except (HubError, LaunchError) as error:
        sys.exit(f"mirror.py: {error}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the log of the build


if __name__ == "__main__":
    main(os.environ)
