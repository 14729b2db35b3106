"""The files of a LoRA adapter: where they come from, and whether they fit a model.

The engine checks the same again before it loads them (services/vllm/engine_start/adapters.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from infra.deployment.model_settings import LORA_RANKS, Model

from .account import Failed, code_of, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

LATER_RANK = 16
"""The rank that engines serve at least, unless `max_lora_rank` is set."""

_LONGEST_CONFIG = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and a prefix in it."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Place:
        """Reads s3://bucket/prefix.

        Raises:
            Failed: It is something else.
        """
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise Failed(f"{url!r} must be a directory, or look like s3://bucket/prefix")
        return cls(bucket, prefix.strip("/"))

    def key(self, path: str) -> str:
        """The key of an object below the prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """Turns errors of S3 into those of the commands, with what to do."""
    try:
        with translated():
            yield
    except S3UploadFailedError as error:
        raise Failed(f"{place}: {error}") from None
    except ClientError as error:
        if code_of(error) == "NoSuchBucket":
            raise Failed(
                f"{place}: the bucket {place.bucket} does not exist; create it in the deployment's region"
            ) from None
        raise


class Source:
    """Where the files of an adapter are: a directory, or a place in S3."""

    def __init__(self, client: S3Client, given: str) -> None:
        self._s3 = client
        self._place = Place.parse(given) if "://" in given else None
        self._directory = Path(given)
        self._given = given

    def config(self) -> bytes:
        """Returns the content of `adapter_config.json`.

        Raises:
            Failed: It cannot be read.
        """
        content = self._config_in_s3(self._place) if self._place else self._config_on_disk()
        if len(content) > _LONGEST_CONFIG:
            raise Failed(f"{self._given}: {CONFIG} has more than {_LONGEST_CONFIG:,} bytes")
        return content

    def check_weights(self) -> None:
        """Checks that there are weights.

        Raises:
            Failed: There are none, or in another format.
        """
        if self._place:
            size = self._size_in_s3(self._place)
        else:
            path = self._directory / WEIGHTS
            size = path.stat().st_size if path.is_file() else None
        if not size:
            raise Failed(
                f"{self._given}: there is no {WEIGHTS}; save the adapter with PEFT's save_pretrained, which "
                "writes safetensors"
            )

    def copy_weights(self, target: Place, path: str) -> None:
        """Copies the weights to an object below another place."""
        with explained(target):
            if self._place:
                origin = {"Bucket": self._place.bucket, "Key": self._place.key(WEIGHTS)}
                self._s3.copy(origin, target.bucket, target.key(path))  # type: ignore[arg-type]
            else:
                self._s3.upload_file(str(self._directory / WEIGHTS), target.bucket, target.key(path))

    def _config_on_disk(self) -> bytes:
        try:
            with (self._directory / CONFIG).open("rb") as file:
                return file.read(_LONGEST_CONFIG + 1)
        except OSError as error:
            raise Failed(
                f"{self._given}: {CONFIG} cannot be read ({error.strerror}); name the directory that PEFT's "
                "save_pretrained has written, or s3://bucket/prefix"
            ) from None

    def _config_in_s3(self, place: Place) -> bytes:
        try:
            with explained(place):
                return self._s3.get_object(Bucket=place.bucket, Key=place.key(CONFIG))["Body"].read(
                    _LONGEST_CONFIG + 1
                )
        except ClientError as error:
            if code_of(error) != "NoSuchKey":
                raise
            raise Failed(f"{place}: there is no {CONFIG}; name the prefix that contains it") from None

    def _size_in_s3(self, place: Place) -> int | None:
        try:
            with explained(place):
                return self._s3.head_object(Bucket=place.bucket, Key=place.key(WEIGHTS))["ContentLength"]
        except ClientError as error:
            if code_of(error) not in ("404", "NoSuchKey"):
                raise
            return None


def rank_of(config: bytes, model: Model) -> int:
    """Returns the rank of an adapter that fits the model.

    Args:
        config: The content of `adapter_config.json`.
        model: The model that it is to be served with.

    Raises:
        Failed: The adapter does not fit. The message names the field, its value and the fix.
    """
    try:
        found: Any = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise Failed(f"{CONFIG} is not JSON: {error}") from None
    kind = found.get("peft_type") if isinstance(found, dict) else None
    if kind != "LORA":
        raise Failed(f"{CONFIG}: peft_type is {kind!r}; engines serve LORA only")
    base = found.get("base_model_name_or_path")
    if base != model.id:
        raise Failed(
            f"{CONFIG}: base_model_name_or_path is {base!r}, and the model is {model.id!r}; add the adapter "
            "to its own base model with --model, or correct the field if it names the same model"
        )
    rank, most = _rank(found), model.max_lora_rank or LATER_RANK
    if rank > most:
        fitting = next((one for one in LORA_RANKS if one >= rank), None)
        fix = (
            f"set max_lora_rank: {fitting} for the model and deploy"
            if fitting
            else "train it with a lower rank"
        )
        raise Failed(f"{CONFIG}: the rank is {rank}, and the engines serve at most {most}; {fix}")
    return rank


def _rank(config: Mapping[str, Any]) -> int:
    """The largest rank of the matrices."""
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise Failed(f"{CONFIG}: the rank is {rank!r}; it must be a whole number above 0")
    largest: int = max(ranks)
    return largest
