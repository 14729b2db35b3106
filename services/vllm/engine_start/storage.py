"""A client of S3, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .location import Location
from .settings import LaunchError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECTIONS = 16


def s3_client() -> S3Client:
    """Returns a client of S3. The import takes half a second, so only those who need it wait for it.

    Raises:
        LaunchError: The image has no boto3.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise LaunchError("S3 is configured, but this image lacks the Python package boto3") from None
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "max_attempts": 5},
        max_pool_connections=_CONNECTIONS,
    )
    return boto3.client("s3", config=config)


@contextmanager
def explained(setting: str, location: Location) -> Iterator[None]:
    """Turns errors of S3 into a LaunchError that names the setting, its value and what to do."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    where = f"{setting}='{location}'"
    try:
        yield
    except NoCredentialsError:
        raise LaunchError(f"{where}: there are no AWS credentials; give the task a role") from None
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise LaunchError(f"{where}: {_REMEDIES.get(code, str(error))}") from None
    except BotoCoreError as error:
        raise LaunchError(f"{where}: S3 cannot be reached: {error}") from None


_REMEDIES = {
    "NoSuchBucket": "the bucket does not exist",
    "NoSuchKey": "an object disappeared while it was read; start again",
    "AccessDenied": "access is denied; allow s3:ListBucket on the bucket and s3:GetObject on the prefix",
    "403": "access is denied; allow s3:ListBucket on the bucket and s3:GetObject on the prefix",
    "PermanentRedirect": "the bucket is in another region than the engine",
    "PreconditionFailed": "an object changed while it was read; start again",
}
