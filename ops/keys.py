"""Named API keys: made here, shown once, kept as hashes in the secret that the orchestrators poll."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from .account import Account, Failed, code_of, translated

Document = dict[str, Any]

BOOTSTRAP = "bootstrap"
"""The name of the generated key, which is in a secret of its own; null in the document revokes it."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is told: `hashes` holds when each of its values was made, two during a rotation."""

    name: str
    created: tuple[str, ...]
    revoked: bool


def new_key() -> str:
    """A key of 256 random bits."""
    return f"sk-{secrets.token_urlsafe(32)}"


def listed(document: Document) -> list[Key]:
    """All keys by name; the bootstrap key is there unless it is revoked."""
    keys = [
        Key(name, tuple(_created(entry) for entry in _entries(value)), revoked=not _entries(value))
        for name, value in document.items()
    ]
    if BOOTSTRAP not in document:
        keys.append(Key(BOOTSTRAP, ("with the deployment",), revoked=False))
    return sorted(keys, key=lambda key: key.name)


def created(document: Document, name: str, key: str, now: datetime) -> Document:
    """The document with a new name.

    Raises:
        Failed: the name cannot be used, or is taken.
    """
    if not _NAME.fullmatch(name):
        raise Failed(f"the name {name!r} must be 1 to 64 letters, digits, '.', '_' or '-'")
    if name == BOOTSTRAP:
        raise Failed(f"{BOOTSTRAP} is the name of the generated key: take another")
    if name in document:
        raise Failed(f"there is a key {name} already: rotate it, or revoke it first")
    return {**document, name: _entry(key, now)}


def revoked(document: Document, name: str) -> Document:
    """The document without a name; the bootstrap key is marked instead.

    Raises:
        Failed: there is no such key.
    """
    if name == BOOTSTRAP:
        return {**document, BOOTSTRAP: None}
    _known(document, name)
    return {other: value for other, value in document.items() if other != name}


def rotated(document: Document, name: str, key: str, now: datetime) -> Document:
    """The document with a second value beside the newest one: both hold until `finished`.

    Raises:
        Failed: there is no such key.
    """
    _known(document, name)
    return {**document, name: [*_entries(document[name])[-1:], _entry(key, now)]}


def finished(document: Document, name: str) -> Document:
    """The document with the newest value only.

    Raises:
        Failed: there is no such key, or no rotation to finish.
    """
    _known(document, name)
    entries = _entries(document[name])
    if len(entries) < 2:
        raise Failed(f"{name} has one value: there is no rotation to finish")
    return {**document, name: entries[-1]}


def _known(document: Document, name: str) -> None:
    if not _entries(document.get(name)):
        names = ", ".join(sorted(document)) or "none but the bootstrap key"
        raise Failed(f"there is no key {name}; there are: {names}")


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _entry(key: str, now: datetime) -> Document:
    return {"sha256": hashlib.sha256(key.encode()).hexdigest(), "created": now.isoformat(timespec="seconds")}


def _created(entry: Any) -> str:
    return str(entry.get("created", "not known")) if isinstance(entry, dict) else "not known"


class KeyStore:
    """The secret that holds the document."""

    def __init__(self, account: Account) -> None:
        self._client = account.client("secretsmanager")
        self._arn = account.outputs()["ApiKeysSecretArn"]

    def read(self) -> Document:
        """The document now.

        Raises:
            Failed: the secret holds something else.
        """
        return self._read()[0]

    def change(self, edit: Callable[[Document], Document]) -> Document:
        """Applies an edit to the newest document, again where someone else was faster; the new document.

        A version is put aside first and made current by compare and swap: where another version has become
        current meanwhile, AWS refuses. Whatever interrupts this leaves the old version or the new one.

        Raises:
            Failed: the edit cannot be made, or others were faster each time.
        """
        for _ in range(_TRIES):
            document, version = self._read()
            changed = edit(document)
            with translated():
                pending = self._client.put_secret_value(
                    SecretId=self._arn,
                    SecretString=json.dumps(changed),
                    # A label of its own: without one, AWS would make the version current at once.
                    VersionStages=[f"pending-{uuid.uuid4().hex}"],
                )
            if self._make_current(pending["VersionId"], instead_of=version):
                return changed
        raise Failed(f"others changed the keys {_TRIES} times meanwhile; nothing was changed: try again")

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
            raise Failed(f"the secret {self._arn} does not hold a JSON object of names: put {{}} there")
        return document, answer["VersionId"]


def now() -> datetime:
    return datetime.now(UTC)
