"""API keys: where their hashes come from, and which of them a request carries."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from ..errors import InvalidKey, ServiceError, SettingsError
from ..limits.accounts import Account, Accounts
from ..limits.rules import Limits
from ..settings import KEY_NAME, SHA256_HEX, Settings
from .verified_tokens import VerifiedTokens

log = logging.getLogger("orchestrator.auth")

_FILE_POLL_SECONDS = 1.0
_BOOTSTRAP = "bootstrap"
_OPEN = "-"
"""The name of the account of everyone, if the server is open."""

_FIELDS = frozenset({"sha256", "created", *(one.name for one in fields(Limits))})

OPEN_ROUTES = frozenset(
    {
        "/health", "/ready", "/metrics", "/v1/models", "/v1/models/{model}", "/docs", "/docs/{name}",
        "/openapi.json", "/", "/page/{name}",
    }
)  # fmt: skip
"""The routes that need no key. All others do, so that a new route is not open by mistake."""


@dataclass(slots=True)
class KeyEntry:
    """What a key document says about one name.

    Attributes:
        digests: SHA-256 of each value of the key. There are none if the document only limits a key that
            another source has.
        fields: the newest value's entry, which has the limits.
        revoked: whether no key has this name any longer, whichever source it is from.
    """

    digests: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    revoked: bool = False


Entries = dict[str, KeyEntry]


def parse_keys(document: bytes | str) -> Entries:
    """Parses a key file or secret.

    `{"alice": "<sha256 hex>", "bob": {"sha256": "<hex>", "tokens_per_day": 2000000, ...},
    "carol": [<either>, ...], "bootstrap": {"max_in_flight": 4}, "dave": null}`.
    null revokes a name, whichever source the key is from, for example the bootstrap key. The fields of
    `Limits` in the last value of a key are the limits of all its values.

    Raises:
        ValueError: the document is invalid; the message does not show any value.
    """
    try:
        value = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object of names and hashes")
    return {name: _parse_entry(name, entry) for name, entry in value.items()}


def _parse_entry(name: str, value: Any) -> KeyEntry:
    if not KEY_NAME.fullmatch(name):
        raise ValueError("names must consist of 1 to 64 letters, digits, '.', '_' or '-'")
    entry = KeyEntry(revoked=value is None or value == [])
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        entry.fields = item if isinstance(item, dict) else {}
        only_limits = entry.fields and "sha256" not in entry.fields and entry.fields.keys() & _FIELDS
        if not only_limits:
            digest = str(entry.fields.get("sha256") if isinstance(item, dict) else item)
            if not SHA256_HEX.fullmatch(digest):
                raise ValueError(f"{name}: must be the key's SHA-256 as 64 lower-case hexadecimal digits")
            entry.digests.append(digest)
    try:
        Limits().with_entry(entry.fields)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    unknown = entry.fields.keys() - _FIELDS
    if unknown:
        log.warning(
            "unknown fields of a key are ignored",
            extra={"fields": {"name": name, "unknown": sorted(unknown)}},
        )
    return entry


class Keys:
    """The keys from all configured sources. If none is configured, the server is open to everyone."""

    def __init__(self, settings: Settings, accounts: Accounts | None = None) -> None:
        self._accounts = accounts or Accounts(Limits())
        self._file = settings.api_keys_file
        self._secret_arn = settings.api_keys_secret_arn
        self._refresh_seconds = settings.keys_refresh_seconds
        self._fixed: Entries = {name: KeyEntry([digest]) for name, digest in settings.api_keys.items()}
        if settings.bootstrap_api_key:
            self._fixed[_BOOTSTRAP] = KeyEntry([_digest(settings.bootstrap_api_key.get_secret_value())])
        self._from_file: Entries = {}
        self._from_secret: Entries | None = None
        self._file_content: bytes | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tokens = _verified_tokens(settings)
        self.open = not (self._fixed or self._file or self._secret_arn or self._tokens)
        self._everyone = Account(_OPEN)
        self._by_digest: dict[str, Account] = {}
        self._join()

    async def start(self) -> None:
        """Reads the file and the secret once and keeps watching them.

        Raises:
            SettingsError: the file cannot be read.
        """
        if self._tokens is not None:
            log.warning(
                "tokens are accepted without their signature: only a load balancer that verifies it may "
                "reach this server"
            )
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

    def check(self, headers: dict[bytes, bytes]) -> Account:
        """Returns the account of the request's key, or that of everyone if the server is open.

        Raises:
            InvalidKey: the key is missing, unknown or expired.
            ServiceError: the secret has not been read yet.
        """
        if self.open:
            return self._everyone
        if self._secret_arn and self._from_secret is None:
            raise ServiceError(
                "The server cannot read its API keys yet. Try again in a few seconds.",
                status=503,
                code="keys_unavailable",
                headers={"retry-after": "5"},
            )
        # How long a look-up takes depends on the digest, from which nothing of a key can be concluded.
        presented = _presented(headers, key_first=self._tokens is not None)
        account = self._by_digest.get(_digest_bytes(presented))
        if account is None:
            if self._tokens is None or _key_header(headers):
                raise InvalidKey("Unknown API key. Ask the operator of this server for a key.")
            return self._accounts.person(self._tokens.name(presented))
        expires = account.limits.expires
        if expires != math.inf and time.time() >= expires:
            raise _expired(account)
        return account

    def _join(self) -> None:
        accounts = self._accounts
        if self.open:
            self._everyone = accounts.replace({_OPEN: replace(accounts.default, admin=True)})[_OPEN]
            return
        sources = (self._fixed, self._from_file, self._from_secret or {})
        # The generated key is the operator's.
        limits = {_BOOTSTRAP: replace(accounts.default, admin=True)}
        for name, entry in _all_of(sources):
            limits[name] = limits.get(name, accounts.default).with_entry(entry.fields)
        revoked = {name for name, entry in _all_of(sources) if entry.revoked}
        known = {name for name, entry in _all_of(sources) if entry.digests} - revoked
        by_name = accounts.replace({name: limits[name] for name in limits if name in known})
        self._by_digest = {
            digest: by_name[name]
            for name, entry in _all_of(sources)
            if name in known
            for digest in entry.digests
        }

    def _read_file(self, path: str) -> None:
        """Reads the file. Its size and time would not show every change, and it is small."""
        with open(path, "rb") as file:
            content = file.read()
        if content != self._file_content:
            self._from_file = parse_keys(content)
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
            self._from_secret = parse_keys(document)
        except Exception as error:  # noqa: BLE001 (boto3 raises many kinds; the last valid copy stays in use)
            log.error("the secret with API keys could not be read", extra=_reason(error))
            return
        self._join()


def _all_of(sources: Iterable[Entries]) -> Iterable[tuple[str, KeyEntry]]:
    return (item for source in sources for item in source.items())


def _expired(account: Account) -> InvalidKey:
    moment = datetime.fromtimestamp(account.limits.expires, UTC)
    return InvalidKey(
        f"The API key {account.name!r} expired at {moment:%Y-%m-%d %H:%M} UTC. "
        "Ask the operator of this server for a new one.",
        code="expired_api_key",
    )


def _verified_tokens(settings: Settings) -> VerifiedTokens | None:
    issuer, audience = settings.jwt_issuer, settings.jwt_audience
    if issuer is None:
        return None
    if audience is None:
        raise SettingsError("JWT_AUDIENCE", "", "is required with JWT_ISSUER: the aud of the tokens")
    return VerifiedTokens(issuer=issuer, audience=audience, claim=settings.jwt_claim)


def _key_header(headers: dict[bytes, bytes]) -> bytes:
    return headers.get(b"x-api-key") or headers.get(b"api-key", b"")  # the latter is Azure's


def _presented(headers: dict[bytes, bytes], *, key_first: bool) -> bytes:
    """Returns the key or token of a request.

    Args:
        key_first: whether X-API-Key counts more than Authorization, which may have a token.
    """
    key = _key_header(headers)
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip() and not (key and key_first):
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
