"""The models behind this server: each has engines of its own, and names by which clients ask for it."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping

from ..collectors import EngineLoad, EngineState
from ..control_tokens import ControlTokens
from ..errors import NotFound
from ..memory import Budget
from ..model_settings import ModelSettings
from ..record import EngineTime, engine_time
from ..settings import Settings
from ..telemetry import Telemetry
from .adapters import EngineAdapters
from .client import Engines
from .discovery import Discovery

log = logging.getLogger("orchestrator.engine")

_NEAREST = 3
_COMPARED_NAMES = 20
_COMPARED_CHARACTERS = 256
_SHOWN_CHARACTERS = 100
_SHOWN_NAMES = 20


class Fleet:
    """One model and its engines.

    Attributes:
        entry: the model's name in metrics and logs, empty if there is only one.
        clock: the time of its engines; see `EngineTime`.
        adapters: the names of its adapters.
        loaded: those that its engines load while they run; None if they load none.
    """

    def __init__(
        self, model: ModelSettings, settings: Settings, telemetry: Telemetry, budget: Budget, *, entry: str
    ) -> None:
        self.settings = model
        self.entry = entry
        self.clock = EngineTime() if entry else engine_time
        self.adapters = frozenset(model.adapters)
        self.loaded = EngineAdapters() if model.loads_adapters else None
        self.control_tokens = ControlTokens(model.tool_call_parser)
        key = settings.vllm_api_key
        self.discovery = Discovery(
            model.url,
            api_key=key.get_secret_value() if key else None,
            connect_seconds=settings.engine_connect_seconds,
            refresh_seconds=settings.engine_refresh_seconds,
            probe_seconds=settings.engine_probe_seconds,
            silent_seconds=settings.engine_silent_seconds,
            startup_seconds=model.startup_seconds,
            status_port=model.status_port,
            control_tokens=self.control_tokens,
            adapters=self.loaded,
            budget=budget,
            max_answer_bytes=settings.max_answer_bytes,
            variable="the model's url in MODELS" if entry else "VLLM_URL",
        )
        self.engines = Engines(
            self.discovery,
            telemetry,
            wait_seconds=settings.engine_wait_seconds,
            affinity=settings.engine_affinity,
            entry=entry,
        )

    @property
    def ready(self) -> bool:
        """Whether an engine is known to answer."""
        return any(address.known for address in self.discovery.up())


class Fleets:
    """All models, by the names that clients use.

    Attributes:
        named: whether requests are divided among models by name. If not, the engine of the only model decides
            about names.
        names: the model of each name, and the name by which its engines know it.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, budget: Budget) -> None:
        self.named = bool(settings.models)
        self._fleets = [
            Fleet(one, settings, telemetry, budget, entry=one.model if self.named else "")
            for one in settings.entries
        ]
        self.names: dict[str, tuple[Fleet, str]] = {}
        for fleet in self._fleets:
            model = fleet.settings.model
            self.names |= dict.fromkeys((model, *fleet.settings.aliases), (fleet, model))
            self.names |= {name: (fleet, name) for name in fleet.settings.adapters}
            if fleet.loaded:
                fleet.loaded.on_change = self._take_loaded

    def __iter__(self) -> Iterator[Fleet]:
        return iter(self._fleets)

    @property
    def first(self) -> Fleet:
        return self._fleets[0]

    @property
    def aliases(self) -> Mapping[str, str]:
        """The model that each alias stands for."""
        return {alias: one.settings.model for one in self._fleets for alias in one.settings.aliases}

    def fallback_of(self, fleet: Fleet) -> Fleet | None:
        """Returns the model that answers while this one is not available, if there is one."""
        name = fleet.settings.fallback
        return self.names[name][0] if name else None

    def set_adapters(self, fleet: Fleet, adapters: Iterable[str]) -> None:
        """Changes the names of a model's adapters, without those that mean something else."""
        for name in fleet.adapters:
            del self.names[name]
        wanted = frozenset(name for name in adapters if name not in self.names)
        fleet.adapters = wanted
        self.names |= {name: (fleet, name) for name in sorted(wanted)}

    def _take_loaded(self) -> None:
        """Takes over what engines have loaded. Of two adapters with one name, the first model's counts."""
        loading = [(fleet, fleet.loaded.names) for fleet in self._fleets if fleet.loaded]
        before = {name for fleet, _ in loading for name in fleet.adapters}
        for fleet, _ in loading:
            self.set_adapters(fleet, fleet.settings.adapters)
        for fleet, names in loading:
            self.set_adapters(fleet, (*fleet.settings.adapters, *names))
        after = {name for fleet, _ in loading for name in fleet.adapters}
        if before != after:
            changes = {"added": sorted(after - before), "removed": sorted(before - after)}
            log.info("adapters changed", extra={"fields": changes})

    async def start(self) -> None:
        for fleet in self._fleets:
            fleet.control_tokens.report()
        await asyncio.gather(*(fleet.discovery.start() for fleet in self._fleets))

    async def close(self) -> None:
        await asyncio.gather(*(fleet.discovery.close() for fleet in self._fleets))

    def loads(self) -> dict[str, EngineLoad]:
        """Returns the load of each model's engines, by its name in metrics."""
        return {fleet.entry: fleet.discovery.load() for fleet in self._fleets}

    def states(self) -> dict[str, list[EngineState]]:
        """Returns the states of each model's engines, by its name in metrics."""
        return {fleet.entry: fleet.discovery.states() for fleet in self._fleets}

    def share_engines(self, processes: int) -> None:
        """Divides the engines' time among processes that send requests to them."""
        for fleet in self._fleets:
            fleet.clock.engines = max(1, len(fleet.discovery.up())) / processes


def unknown_model(name: str, known: Iterable[str]) -> NotFound:
    """Returns the error for a name that stands for no model, with the names that are most like it."""
    import difflib  # saves memory until a name is wrong

    names = list(known)
    start = name[:_COMPARED_CHARACTERS]
    near = difflib.get_close_matches(start, _likely(start, names), n=_NEAREST, cutoff=0.4)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    listed = ", ".join(names[:_SHOWN_NAMES]) + more
    return NotFound(
        f"The model {name[:_SHOWN_CHARACTERS]!r} does not exist{meant}; available models: {listed}",
        param="model",
        code="model_not_found",
    )


def _likely(name: str, names: list[str]) -> list[str]:
    """Returns the names that share the most pairs of letters with one. To compare hundreds takes 20 ms."""
    pairs = _pairs(name)

    def shared(other: str) -> float:
        others = _pairs(other)
        return len(pairs & others) / (len(pairs) + len(others) or 1)

    return heapq.nlargest(_COMPARED_NAMES, names, key=shared) if len(names) > _COMPARED_NAMES else names


def _pairs(name: str) -> set[str]:
    return {name[at : at + 2] for at in range(len(name) - 1)}
