"""Keeps the adapters of a running engine as they are below a prefix in S3.

An adapter that changes gets another directory, because vLLM keeps cached prefixes by name and path. It is
unloaded first: vLLM's own replacement (`load_inplace`) would read the files again at every step.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from .adapter import NAME
from .adapter_store import StoredAdapter, copy_adapter, stored_adapters
from .adapters import LocalAdapter, UnfitAdapter, checked
from .engine_adapters import EngineAdapters, Rejected
from .location import Location
from .settings import LaunchError
from .steps import Report, print_line

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_ADAPTERS = 200
SPARE_BYTES = 1 << 30
"""What stays free on the disk."""

_SETTING = "ADAPTERS_FROM"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an adapter must fit.

    Attributes:
        base: The model.
        rank: The largest rank.
        taken: Names that mean something else: the model's, and those of configured adapters.
    """

    base: str
    rank: int
    taken: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Copy:
    """An adapter on the disk, and what it is a copy of."""

    stored: StoredAdapter
    local: LocalAdapter


class AdapterSync:
    """Copies adapters from S3, and loads and unloads them.

    Args:
        location: The prefix.
        client: Returns a client of S3.
        engine: The engine.
        directory: Where copies go.
        limits: What adapters must fit.
        keep_seconds: For how long requests may need the files of an adapter that is unloaded.
        report: Called with an entry for the log.
        clock: The time.
    """

    def __init__(
        self,
        location: Location,
        client: Callable[[], S3Client],
        engine: EngineAdapters,
        directory: Path,
        limits: Limits,
        *,
        keep_seconds: float,
        report: Report = print_line,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._location = location
        self._client = client
        self._engine = engine
        self._directory = directory
        self._limits = limits
        self._keep_seconds = keep_seconds
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._s3: S3Client | None = None
        self._number = 0
        self._copies: dict[str, _Copy] = {}
        self._loaded: dict[str, LocalAdapter | None] = {}  # None: nobody knows
        self._unfit: dict[str, StoredAdapter] = {}
        self._reported: dict[str | None, str] = {}  # None: about the prefix
        self._unused: list[tuple[float, Path]] = []

    def run(self, seconds: float, *, stopped: threading.Event | None = None) -> None:
        """Loads what is there, and then looks again and again."""
        stopped = stopped or threading.Event()
        while True:
            self._guarded(self.synchronise)
            if stopped.wait(seconds):
                return

    def synchronise(self) -> None:
        """Brings the engine to the state of the prefix, as far as both can be reached."""
        with self._lock:
            self._fetch()
            self._unload()
            for name, copy in sorted(self._copies.items()):
                if self._loaded.get(name) != copy.local:
                    self._load(name, copy)
            self._delete_unused()

    def fetch(self) -> None:
        """Copies adapters to the disk, as may happen while the engine starts."""
        with self._lock:
            self._guarded(self._fetch)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Takes a step. Whatever goes wrong, the engine goes on, and so does the next look."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - nobody else would report it
            self._say_once(None, "failed", f"{type(error).__name__}: {error}")

    def _fetch(self) -> None:
        try:
            self._s3 = self._s3 or self._client()
            found = stored_adapters(self._s3, self._location)
        except LaunchError as error:
            self._say_once(None, "unknown", str(error))
            return
        self._reported.pop(None, None)
        names = {one.name for one in found}
        self._unfit = {name: one for name, one in self._unfit.items() if name in names}
        self._reported = {name: reason for name, reason in self._reported.items() if name in names}
        for name in self._copies.keys() - names:
            self._drop(self._copies.pop(name))
        for one in found:
            self._consider(one)

    def _consider(self, stored: StoredAdapter) -> None:
        """Copies an adapter, unless it is there or cannot be used."""
        name = stored.name
        copy = self._copies.get(name)
        if (copy and copy.stored == stored) or self._unfit.get(name) == stored:
            return
        if reason := self._refusal(stored):
            self._say_once(name, "rejected", reason)
            return
        if stored.missing:  # it is being written: what was copied before stays
            self._say_once(name, "incomplete", f"there is no {stored.missing}")
            return
        try:
            local = self._copied(stored)
        except UnfitAdapter as error:
            self._reject(stored, str(error))
        except (LaunchError, OSError, HTTPException) as error:
            self._say_once(name, "waiting", f"it cannot be copied: {error}")
        else:
            self._copies[name] = _Copy(stored, local)
            if copy:
                self._drop(copy)

    def _refusal(self, stored: StoredAdapter) -> str | None:
        name = stored.name
        if not NAME.fullmatch(name):
            return (
                f"{name[:96]!r} is not a name of an adapter: rename the folder, with up to 96 letters, "
                "digits, dots, dashes and underscores"
            )
        if name in self._limits.taken:
            return "the name is also that of the model or of an adapter in ADAPTERS; rename the folder"
        if name not in self._copies and len(self._copies) >= MOST_ADAPTERS:
            return f"the engine has {MOST_ADAPTERS} adapters, which is the most; remove one"
        return None

    def _copied(self, stored: StoredAdapter) -> LocalAdapter:
        free = shutil.disk_usage(self._directory).free
        if free - stored.size < SPARE_BYTES:
            raise OSError(f"it has {stored.size / 1e9:.1f} GB, and the disk has {free / 1e9:.0f} GB left")
        self._number += 1
        place = self._directory / f"{self._number}-{stored.name}"
        place.mkdir()
        where = f"{_SETTING}: {stored.name} ({self._location}/{stored.name})"
        limits = self._limits
        try:
            assert self._s3
            copy_adapter(self._s3, self._location, stored, place)
            return checked(stored.name, place, base=limits.base, most=limits.rank, where=where)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _unload(self) -> None:
        for name in sorted(self._loaded.keys() - self._copies.keys()):
            try:
                self._engine.unload(name)
            except (OSError, HTTPException) as error:
                self._say_once(name, "waiting", f"it cannot be unloaded: {error}")
                continue
            if local := self._loaded.pop(name):
                self._set_aside(local)
            self._report({"event": "adapter", "adapter": name, "state": "removed"})

    def _load(self, name: str, copy: _Copy) -> None:
        """Loads an adapter in place of the one that had its name, which returns if this one fails."""
        before = self._loaded.get(name)
        try:
            if name in self._loaded:
                self._engine.unload(name)
                self._loaded[name] = None
            begun = self._clock()
            self._engine.load(name, copy.local.path)
        except Rejected as error:
            self._copies.pop(name)
            self._set_aside(copy.local)
            self._loaded.pop(name, None)
            self._reject(copy.stored, f"vLLM does not load it: {error}")
            if before:
                self._return(name, before, copy.stored)
        except (OSError, HTTPException) as error:
            self._loaded[name] = None  # it may have been loaded all the same
            self._say_once(name, "waiting", f"the engine did not answer: {error}")
        else:
            self._loaded[name] = copy.local
            if before:
                self._set_aside(before)
            self._reported.pop(name, None)
            seconds = round(self._clock() - begun, 2)
            state = {"state": "loaded", "rank": copy.local.rank, "seconds": seconds}
            self._report({"event": "adapter", "adapter": name, **state})

    def _return(self, name: str, before: LocalAdapter, stored: StoredAdapter) -> None:
        """Loads the version before one that vLLM has rejected."""
        self._copies[name] = _Copy(stored, before)
        self._loaded[name] = None
        try:
            self._engine.load(name, before.path)
        except Rejected as error:
            self._drop(self._copies.pop(name))
            self._say_once(name, "rejected", f"vLLM does not load the version before either: {error}")
        except (OSError, HTTPException) as error:
            self._say_once(name, "waiting", f"the engine did not answer: {error}")
        else:
            self._loaded[name] = before

    def _reject(self, stored: StoredAdapter, reason: str) -> None:
        self._unfit[stored.name] = stored
        self._say_once(stored.name, "rejected", reason)

    def _say_once(self, name: str | None, state: str, reason: str) -> None:
        """Reports what is wrong, unless that was the last thing that was reported of it."""
        if self._reported.get(name) != reason:
            self._reported[name] = reason
            subject = {"adapters_from": str(self._location)} if name is None else {"adapter": name}
            self._report({"event": "adapter", **subject, "state": state, "reason": reason})

    def _drop(self, copy: _Copy) -> None:
        """Lets the files of a copy be deleted, unless the engine still has it."""
        if self._loaded.get(copy.local.name) != copy.local:
            self._set_aside(copy.local)

    def _set_aside(self, local: LocalAdapter) -> None:
        self._unused.append((self._clock() + self._keep_seconds, local.path))

    def _delete_unused(self) -> None:
        now, kept = self._clock(), list[tuple[float, Path]]()
        for until, path in self._unused:
            if until > now:
                kept.append((until, path))
            else:
                shutil.rmtree(path, ignore_errors=True)
        self._unused = kept
