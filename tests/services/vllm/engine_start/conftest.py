"""S3 as moto serves it, over HTTP, for boto3 as the engine uses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer

from engine_start.location import Location
from engine_start.storage import s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "weights"


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sets the environment as it is in a task, and returns the address of S3."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return s3_address


@pytest.fixture
def s3(aws: str) -> Iterator[S3Client]:
    """A client, with an empty bucket."""
    client = s3_client()
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture
def location() -> Location:
    return Location(BUCKET, "models/acme/one")
