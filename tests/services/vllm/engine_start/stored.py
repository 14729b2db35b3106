"""Adapters in S3 for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine_start.adapters import CONFIG, WEIGHTS
from engine_start.location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BASE = "Qwen/Qwen2.5-7B-Instruct"
PREFIX = Location("weights", "tuned")


def put(
    s3: S3Client, name: str, *, weights: bytes | None = b"weights", prefix: Location = PREFIX, **changes: Any
) -> None:
    """Stores an adapter below the prefix, with these changes of its configuration."""
    config = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8, **changes}
    if weights is not None:
        s3.put_object(Bucket=prefix.bucket, Key=prefix.key(f"{name}/{WEIGHTS}"), Body=weights)
    s3.put_object(Bucket=prefix.bucket, Key=prefix.key(f"{name}/{CONFIG}"), Body=json.dumps(config).encode())


def remove(s3: S3Client, name: str, *files: str, prefix: Location = PREFIX) -> None:
    """Deletes an adapter, or only these files of it."""
    for file in files or (WEIGHTS, CONFIG):
        s3.delete_object(Bucket=prefix.bucket, Key=prefix.key(f"{name}/{file}"))
