"""Adapters that engines load while they run: what is below a model's prefix in S3, and how to change it.

An engine never takes a part of an adapter for a whole one. The configuration is written last, and deleted
first where an adapter is replaced; engines leave one without a configuration as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from infra.deployment.checks.models import names
from infra.deployment.plan import Plan
from infra.deployment.values import ADAPTER_NAME

from .account import Account, Failed
from .adapter_files import CONFIG, WEIGHTS, Place, Source, explained, rank_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_Files = dict[str, tuple[int, datetime]]


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter below the prefix.

    Attributes:
        state: `complete`, `incomplete` or `rejected`: what engines make of it.
        rank: Its rank, if it is complete.
        size: The bytes of its files.
        changed: When the younger of its files was written.
        reason: Why it is not complete.
    """

    name: str
    state: str
    rank: int | None
    size: int
    changed: datetime
    reason: str = ""


class AdapterStore:
    """The adapters of a model.

    Args:
        account: The account of the deployment.
        entry: The model's entry in `models`; None if only one has `adapters_from`.

    Raises:
        Failed: No model has `adapters_from`, or it is not clear which is meant.
    """

    def __init__(self, account: Account, entry: str | None = None) -> None:
        self._deployment = account.plan.deployment
        plan = _plan_of(account.plan, entry)
        self._model = plan.deployment.model
        self.model = plan.deployment.served_model
        self.place = Place.parse(str(self._model.adapters_from))
        self._s3: S3Client = account.client("s3")

    def add(self, name: str, given: str, *, replace: bool = False) -> int:
        """Copies an adapter below the prefix, and returns its rank.

        Args:
            name: The name by which clients will request it.
            given: A directory, or s3://bucket/prefix.
            replace: Whether it may take the place of one that has the name.

        Raises:
            Failed: The adapter does not fit, a file is missing, or the name is in use.
        """
        self._check_name(name)
        source = Source(self._s3, given)
        config = source.config()
        rank = rank_of(config, self._model)
        source.check_weights()
        if CONFIG in self._files(name):
            if not replace:
                raise Failed(f"{name} is there already; choose another name, or replace it with --replace")
            self._delete(name, CONFIG)
        source.copy_weights(self.place, f"{name}/{WEIGHTS}")
        with explained(self.place):
            key = self.place.key(f"{name}/{CONFIG}")
            self._s3.put_object(Bucket=self.place.bucket, Key=key, Body=config)
        return rank

    def remove(self, name: str) -> None:
        """Deletes the files of an adapter.

        Raises:
            Failed: There is none of the name.
        """
        known = self._found()
        if name not in known:
            there = f"there are: {', '.join(sorted(known))}" if known else "there are none"
            raise Failed(f"there is no adapter {name!r} below {self.place}; {there}")
        self._delete(name, WEIGHTS)
        self._delete(name, CONFIG)

    def list(self) -> list[StoredAdapter]:
        """Returns the adapters below the prefix, in the order of their names."""
        return [self._stored(name, files) for name, files in sorted(self._found().items())]

    def _stored(self, name: str, files: _Files) -> StoredAdapter:
        size, changed = sum(size for size, _ in files.values()), max(when for _, when in files.values())
        missing = next((file for file in (WEIGHTS, CONFIG) if file not in files), None)
        if missing:
            return StoredAdapter(name, "incomplete", None, size, changed, f"there is no {missing}")
        try:
            self._check_name(name)
            rank = rank_of(Source(self._s3, f"{self.place}/{name}").config(), self._model)
        except Failed as error:
            return StoredAdapter(name, "rejected", None, size, changed, str(error))
        return StoredAdapter(name, "complete", rank, size, changed)

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(ADAPTER_NAME, name):
            raise Failed(
                f"{name!r} is not a name of an adapter: use up to 96 letters, digits, dots, dashes and "
                "underscores, such as support-tone"
            )
        for place, taken in names(self._deployment):
            if taken == name:
                raise Failed(
                    f"{name!r} is also the name of {place} in the deployment file; choose another one"
                )

    def _files(self, name: str) -> _Files:
        return self._found(f"{name}/").get(name, {})

    def _found(self, below: str = "") -> dict[str, _Files]:
        """The files of adapters, by the names of their folders."""
        start, found = self.place.key(""), dict[str, _Files]()
        pages = self._s3.get_paginator("list_objects_v2")
        with explained(self.place):
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=start + below):
                for entry in page.get("Contents", []):
                    folder, _, file = entry["Key"].removeprefix(start).partition("/")
                    if file in (CONFIG, WEIGHTS):
                        found.setdefault(folder, {})[file] = (entry["Size"], entry["LastModified"])
        return found

    def _delete(self, name: str, file: str) -> None:
        with explained(self.place):
            self._s3.delete_object(Bucket=self.place.bucket, Key=self.place.key(f"{name}/{file}"))


def _plan_of(plan: Plan, entry: str | None) -> Plan:
    """The plan of the model that is meant."""
    entries = {one.deployment.entry: one for one in plan.entries}
    if entry is not None and entry not in entries:
        known = ", ".join(filter(None, entries)) or "none, so leave --model out"
        raise Failed(f"--model {entry}: unknown entry of models; the entries are {known}")
    able = [one for one in plan.entries if one.deployment.model.adapters_from]
    if entry is not None:
        able = [one for one in able if one.deployment.entry == entry]
    if not able:
        raise Failed(
            "the model has no adapters_from; set it to s3://bucket/prefix in the deployment file, and run "
            "make deploy once"
        )
    if len(able) > 1:
        raise Failed(
            "several models have adapters_from; name one with --model: "
            + ", ".join(one.deployment.entry for one in able)
        )
    return able[0]
