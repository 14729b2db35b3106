"""API keys: where their hashes come from, and which of them a request carries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from typing import Any

import orjson

from ..errors import InvalidKey, ServiceError, SettingsError
from ..settings import KEY_NAME, SHA256_HEX, Settings

log = logging.getLogger("orchestrator.auth")

_FILE_POLL_SECONDS = 1.0
_BOOTSTRAP = "bootstrap"

Hashes = list[tuple[str, str]]


def parse_hashes(document: bytes | str) -> dict[str, list[str]]:
    """Parses the named hashes in a key file or secret.

    `{"alice": "<sha256 hex>", "bob": {"sha256": "<hex>", ...}, "carol": [<either>, ...], "dave": null}`.
    null revokes a name, whichever source the key is from, for example the bootstrap key.

    Raises:
        ValueError: the document is invalid; the message does not show any value.
    """
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object of names and hashes")
    hashes: dict[str, list[str]] = {}
    for name, entry in value.items():
        if not KEY_NAME.fullmatch(name):
            raise ValueError("names must consist of 1 to 64 letters, digits, '.', '_' or '-'")
        entries = entry if isinstance(entry, list) else [] if entry is None else [entry]
        digests = [str(item.get("sha256") if isinstance(item, dict) else item) for item in entries]
        if not all(SHA256_HEX.fullmatch(digest) for digest in digests):
            raise ValueError(f"{name}: must be the key's SHA-256 as 64 lower-case hexadecimal digits")
        hashes[name] = digests
    return hashes


class Keys:
    """The keys from all configured sources. If none is configured, the server is open to everyone."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.api_keys_file
        self._secret_arn = settings.api_keys_secret_arn
        self._refresh_seconds = settings.keys_refresh_seconds
        self._fixed: Hashes = list(settings.api_keys.items())
        self._bootstrap = (
            _digest(settings.bootstrap_api_key.get_secret_value()) if (settings.bootstrap_api_key) else None
        )
        self._from_file: dict[str, list[str]] = {}
        self._from_secret: dict[str, list[str]] | None = None
        self._file_content: bytes | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.open = not (self._fixed or self._bootstrap or self._file or self._secret_arn)
        self._all: Hashes = []
        self._join()

    async def start(self) -> None:
        """Reads the file and the secret once and keeps watching them.

        Raises:
            SettingsError: the file cannot be read.
        """
        if self.open:
            log.warning("no API keys are configured: the server is open to everyone who can reach it")
        if self._file:
            try:
                self._read_file(self._file)
            except (OSError, ValueError) as error:
                raise SettingsError("API_KEYS_FILE", self._file, f"{error}") from None
            self._tasks.append(asyncio.create_task(self._watch_file(self._file)))
        if self._secret_arn:
            await self._read_secret()
            self._tasks.append(asyncio.create_task(self._watch_secret()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self, headers: dict[bytes, bytes]) -> str:
        """Returns the name of the request's key, or `-` if the server is open.

        Raises:
            InvalidKey: the key is missing or unknown. ServiceError: the secret has not been read yet.
        """
        if self.open:
            return "-"
        if self._secret_arn and self._from_secret is None:
            raise ServiceError(
                "The server cannot read its API keys yet. Try again in a few seconds.",
                status=503,
                code="keys_unavailable",
                headers={"retry-after": "5"},
            )
        digest = _digest_bytes(_presented(headers))
        found = None
        for name, known in self._all:
            if hmac.compare_digest(digest, known):
                found = name
        if found is None:
            raise InvalidKey("Unknown API key. Ask the operator of this server for a key.")
        return found

    def _join(self) -> None:
        secret = self._from_secret or {}
        hashes = list(self._fixed)
        if self._bootstrap:
            hashes.append((_BOOTSTRAP, self._bootstrap))
        for source in (self._from_file, secret):
            hashes += [(name, digest) for name, digests in source.items() for digest in digests]
        revoked = {name for source in (self._from_file, secret) for name in source if not source[name]}
        self._all = [(name, digest) for name, digest in hashes if name not in revoked]

    def _read_file(self, path: str) -> None:
        """Reads the file. Its size and time would not show every change, and it is small."""
        with open(path, "rb") as file:
            content = file.read()
        if content != self._file_content:
            self._from_file = parse_hashes(content)
            self._file_content = content
            self._join()

    async def _watch_file(self, path: str) -> None:
        while True:
            await asyncio.sleep(_FILE_POLL_SECONDS)
            try:
                self._read_file(path)
            except Exception as error:  # noqa: BLE001 (whatever fails, the next attempt may succeed)
                log.error(
                    "API_KEYS_FILE could not be read; the last valid copy stays in use", extra=_reason(error)
                )

    async def _watch_secret(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds if self._from_secret is not None else 1.0)
            await self._read_secret()

    async def _read_secret(self) -> None:
        assert self._secret_arn is not None
        try:
            document = await asyncio.to_thread(_fetch_secret, self._secret_arn)
            self._from_secret = parse_hashes(document)
        except Exception as error:  # noqa: BLE001 (boto3 raises many kinds; the last valid copy stays in use)
            log.error("the secret with API keys could not be read", extra=_reason(error))
            return
        self._join()


def _presented(headers: dict[bytes, bytes]) -> bytes:
    key = headers.get(b"x-api-key") or headers.get(b"api-key", b"")  # the latter is Azure's
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        key = token.strip()
    if not key:
        raise missing_key()
    return key


def missing_key() -> InvalidKey:
    return InvalidKey(
        "This server requires an API key: send Authorization: Bearer KEY or X-API-Key: KEY",
        code="missing_api_key",
        headers={"www-authenticate": "Bearer"},
    )


def _fetch_secret(arn: str) -> str:
    import boto3  # imported here because it takes 25 MB, which most installations do not need

    # The region is part of the ARN, so it need not be configured again.
    region = arn.split(":")[3] if arn.startswith("arn:") else None
    answer: Any = boto3.client("secretsmanager", region_name=region).get_secret_value(SecretId=arn)
    return str(answer["SecretString"])


def _digest(key: str) -> str:
    return _digest_bytes(key.encode())


def _digest_bytes(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def _reason(error: Exception) -> dict[str, Any]:
    return {"fields": {"reason": f"{type(error).__name__}: {error}"}}
