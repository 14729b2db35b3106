"""The adapters of engines that load them while they run (`loads_adapters`), as each engine lists them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from ..model_settings import is_name
from ..protocol import JsonObject
from .address import Address

LOADING_SECONDS = 30.0
"""For how long an engine that comes up may lack adapters that others have, and gets no requests."""

MOST_ADAPTERS = 500


class EngineAdapters:
    """The names of adapters that every engine has, so that a request reaches none without its adapter.

    Without any engine, the last names stay: a request for one waits for an engine as others do.

    Attributes:
        names: those of all engines that are up.
        on_change: called when they have changed.
    """

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.on_change: Callable[[], None] = lambda: None
        self._listed: dict[Address, frozenset[str]] = {}
        self._known: dict[Address, frozenset[str]] = {}
        self._loading_since: dict[Address, float] = {}
        self._stale = False

    def read(self, address: Address, models: Iterable[JsonObject]) -> None:
        """Takes the models that an engine lists.

        A name that is missing once still counts, because an adapter that is replaced is gone for a moment.
        """
        names = frozenset(_names(models))
        running = address.up and address.known
        known = names | self._listed.get(address, frozenset()) if running else names
        self._stale |= self._known.get(address) != known
        self._known[address], self._listed[address] = known, names

    def is_loading(self, address: Address) -> bool:
        """Whether an engine that comes up should get its adapters before it gets requests."""
        if self.names <= self._known.get(address, frozenset()):
            return False
        now = time.monotonic()
        return now - self._loading_since.setdefault(address, now) < LOADING_SECONDS

    def wait_for_none(self, addresses: Iterable[Address]) -> None:
        """Lets engines that may have been running for long get requests with the adapters that they have."""
        self._loading_since |= dict.fromkeys(addresses, -math.inf)

    def came_up(self, address: Address, up: Iterable[Address]) -> None:
        """Takes note that an engine answers, and of what it has listed."""
        self._loading_since.pop(address, None)
        if self._stale:
            self.renew(up)

    def went_down(self, address: Address) -> None:
        """Takes note that an engine does not answer: it loads its adapters again."""
        self._loading_since.pop(address, None)

    def renew(self, up: Iterable[Address]) -> None:
        """Finds out which adapters all engines have that are up."""
        self._stale = False
        self._listed = {address: names for address, names in self._listed.items() if not address.gone}
        self._known = {address: self._known[address] for address in self._listed}
        of_engines = [self._known[one] for one in up if one.known and one in self._known]
        if not of_engines:
            return
        names = frozenset.intersection(*of_engines)
        if names != self.names:
            self.names = names
            self.on_change()


def _names(models: Iterable[JsonObject]) -> list[str]:
    """The names of adapters among models: those that have a parent."""
    found = []
    for model in models:
        name = model.get("id") if isinstance(model, dict) else None
        if isinstance(name, str) and isinstance(model.get("parent"), str) and is_name(name):
            found.append(name)
    return found[:MOST_ADAPTERS]
