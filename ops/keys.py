"""Named API keys: created here, shown once, and stored as hashes in the secret that orchestrators poll."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from . import key_limits
from .account import Account, Failed, code_of, translated

Document = dict[str, Any]
Options = Mapping[str, str | bool | None]
"""The limits that were given on the command line, by field; None where none was given."""

BOOTSTRAP = "bootstrap"
"""Name of the generated key, which has its own secret; null in the document revokes it."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Key:
    """A key as listed. `created` has the time of each value; there are two during a rotation."""

    name: str
    created: tuple[str, ...]
    revoked: bool
    limits: Document = field(default_factory=dict)


def new_key() -> str:
    """Generates a key of 256 random bits."""
    return f"sk-{secrets.token_urlsafe(32)}"


def listed(document: Document) -> list[Key]:
    """Returns all keys by name, including the bootstrap key."""
    keys = [
        Key(name, tuple(_created(entry) for entry in _values(value)), not _entries(value), _limits(value))
        for name, value in document.items()
        if name != BOOTSTRAP
    ]
    bootstrap = document.get(BOOTSTRAP, {})
    revoked = bootstrap is None or bootstrap == []
    keys.append(Key(BOOTSTRAP, () if revoked else ("with the deployment",), revoked, _limits(bootstrap)))
    return sorted(keys, key=lambda key: key.name)


def created(
    document: Document, name: str, key: str, now: datetime, options: Options | None = None
) -> Document:
    """Adds a key with these limits to the document.

    Raises:
        Failed: The name is invalid or taken, or a limit is invalid.
    """
    if not _NAME.fullmatch(name):
        raise Failed(f"invalid key name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-'")
    if name == BOOTSTRAP:
        raise Failed(f"the name {BOOTSTRAP!r} belongs to the generated key; choose another")
    if name in document:
        raise Failed(f"the key {name!r} already exists; rotate it, or revoke it first")
    return {**document, name: key_limits.changed(_entry(key, now), options or {}, now)}


def limited(document: Document, name: str, options: Options, now: datetime) -> Document:
    """Changes the limits of a key.

    Raises:
        Failed: The key does not exist, or a limit is invalid.
    """
    if name == BOOTSTRAP and document.get(BOOTSTRAP, {}) is not None:
        return {**document, name: key_limits.changed(document.get(name, {}), options, now)}
    _known(document, name)
    *older, newest = _entries(document[name])
    newest = newest if isinstance(newest, dict) else {"sha256": newest}
    changed = key_limits.changed(newest, options, now)
    return {**document, name: [*older, changed] if older else changed}


def revoked(document: Document, name: str) -> Document:
    """Removes a key from the document; the bootstrap key is marked instead.

    Raises:
        Failed: The key does not exist.
    """
    if name == BOOTSTRAP:
        return {**document, BOOTSTRAP: None}
    _known(document, name)
    return {other: value for other, value in document.items() if other != name}


def rotated(document: Document, name: str, key: str, now: datetime) -> Document:
    """Adds a second value to a key. Both are valid until `finished`.

    Raises:
        Failed: The key does not exist.
    """
    _known(document, name)
    newest = _entries(document[name])[-1]
    return {**document, name: [newest, {**_entry(key, now), **key_limits.kept(newest)}]}


def finished(document: Document, name: str) -> Document:
    """Removes all values of a key but the newest.

    Raises:
        Failed: The key does not exist, or has only one value.
    """
    _known(document, name)
    entries = _entries(document[name])
    if len(entries) < 2:
        raise Failed(f"the key {name!r} has only one value, so there is no rotation to finish")
    return {**document, name: entries[-1]}


def _known(document: Document, name: str) -> None:
    if not _values(document.get(name)):
        names = ", ".join(sorted(document)) or "only the bootstrap key"
        raise Failed(f"unknown key {name!r}; existing keys: {names}")


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _values(value: Any) -> list[Any]:
    """Returns the entries that have a key, and not only limits."""
    return [entry for entry in _entries(value) if not isinstance(entry, dict) or "sha256" in entry]


def _limits(value: Any) -> Document:
    entries = _entries(value)
    return key_limits.kept(entries[-1]) if entries else {}


def _entry(key: str, now: datetime) -> Document:
    return {"sha256": hashlib.sha256(key.encode()).hexdigest(), "created": now.isoformat(timespec="seconds")}


def _created(entry: Any) -> str:
    return str(entry.get("created", "unknown")) if isinstance(entry, dict) else "unknown"


class KeyStore:
    """The secret that contains the document."""

    def __init__(self, account: Account) -> None:
        self._client = account.client("secretsmanager")
        self._arn = account.outputs()["ApiKeysSecretArn"]

    def read(self) -> Document:
        """Reads the current document.

        Raises:
            Failed: The secret does not contain a document.
        """
        return self._read()[0]

    def change(self, edit: Callable[[Document], Document]) -> Document:
        """Applies an edit to the newest document and returns the result; retries after a concurrent change.

        A new version is stored first and then made current by compare-and-swap, which AWS rejects if another
        version has become current. An interruption leaves either the old or the new version.

        Raises:
            Failed: The edit is impossible, or concurrent changes prevented every attempt.
        """
        for _ in range(_TRIES):
            document, version = self._read()
            changed = edit(document)
            with translated():
                pending = self._client.put_secret_value(
                    SecretId=self._arn,
                    SecretString=json.dumps(changed),
                    # Without a label, AWS would make the version current immediately.
                    VersionStages=[f"pending-{uuid.uuid4().hex}"],
                )
            if self._make_current(pending["VersionId"], instead_of=version):
                return changed
        raise Failed(f"concurrent changes prevented {_TRIES} attempts; nothing was changed, try again")

    def _make_current(self, version: str, *, instead_of: str) -> bool:
        try:
            with translated():
                self._client.update_secret_version_stage(
                    SecretId=self._arn,
                    VersionStage="AWSCURRENT",
                    MoveToVersionId=version,
                    RemoveFromVersionId=instead_of,
                )
        except ClientError as error:
            if code_of(error) in ("InvalidParameterException", "InvalidRequestException"):
                return False
            raise
        return True

    def _read(self) -> tuple[Document, str]:
        with translated():
            answer = self._client.get_secret_value(SecretId=self._arn, VersionStage="AWSCURRENT")
        try:
            document = json.loads(answer["SecretString"])
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Failed(
                f"the secret {self._arn} does not contain a JSON object; set it to {{}} to start over"
            )
        return document, answer["VersionId"]


def now() -> datetime:
    return datetime.now(UTC)
