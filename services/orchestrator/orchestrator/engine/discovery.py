"""Discovers the engines and whether they answer: resolves names and probes addresses in the background."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import orjson

from ..collectors import EngineLoad, EngineState
from ..connection import OUR_FAILURES, ConnectionBroken
from ..control_tokens import ControlTokens
from ..errors import ApiError
from ..memory import Budget
from ..protocol import JsonObject
from .adapters import EngineAdapters
from .address import Address
from .load import Loads
from .starts import Starts
from .status import read_status

log = logging.getLogger("orchestrator.engine")

PROBE_EVERY_SECONDS = 1.0
_PROBE_WHILE_DOWN_SECONDS = 0.25
_RESOLVE_WHILE_DOWN_SECONDS = 1.0
_PROBE_AT_MOST_EVERY_SECONDS = 0.02

_Key = tuple[str, str, int]
State = Literal["ready", "starting", "sleeping", "down"]
"""`down`: an engine that is always on does not answer. The others concern engines that start on demand."""


class Discovery:
    """The addresses behind the configured base URLs.

    Each address is probed by its own task, so that an engine that hangs does not delay the others.

    Args:
        variable: the setting that has the URLs, for messages.

    Attributes:
        models: the latest list of models from any engine, None before the first.
        starts: who waits for an engine to start, and how long that takes.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        api_key: str | None,
        connect_seconds: float,
        refresh_seconds: float,
        probe_seconds: float = 1.5,
        silent_seconds: float = 30,
        startup_seconds: float = 0,
        status_port: int = 0,
        control_tokens: ControlTokens | None = None,
        adapters: EngineAdapters | None = None,
        budget: Budget | None = None,
        max_answer_bytes: int = 67_108_864,
        variable: str = "VLLM_URL",
    ) -> None:
        self._variable = variable
        self.models: list[JsonObject] | None = None
        self.starts = Starts(startup_seconds)
        self._loads = Loads(self.starts, timeout_seconds=probe_seconds)
        self._control_tokens = control_tokens
        self._adapters = adapters
        self._budget = budget or Budget(max_answer_bytes)
        self._max_answer_bytes = max_answer_bytes
        self._urls = [urlsplit(url) for url in urls]
        self._connect_seconds = connect_seconds
        self._refresh_seconds = refresh_seconds
        self._refresh_while_down_seconds = min(refresh_seconds, _RESOLVE_WHILE_DOWN_SECONDS)
        self._probe_seconds = probe_seconds
        self._silent_seconds = silent_seconds
        self._status_port = status_port
        self._headers = tuple(_headers(key) for key in api_key.split(",")) if api_key else (_headers(None),)
        encrypted = any(url.scheme == "https" for url in self._urls)
        self._tls = ssl.create_default_context() if encrypted else None
        self._addresses: dict[_Key, Address] = {}
        self._up: list[Address] = []
        self._probes: dict[_Key, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._came_up = asyncio.Event()
        self._unresolved: dict[str, str] = {}
        self._resolver: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Resolves the names once and keeps watching from then on."""
        await self._resolve()
        if self._adapters:
            self._adapters.wait_for_none(self._addresses.values())
        self._resolver = asyncio.create_task(self._keep_resolving())

    async def close(self) -> None:
        tasks = [*self._probes.values(), *self._leaving, *([self._resolver] if self._resolver else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for address in self._addresses.values():
            address.drop_idle()

    def up(self) -> list[Address]:
        """Returns the addresses that are not known to be down. Every change creates a new list."""
        return self._up

    def states(self) -> list[EngineState]:
        return [EngineState(a.label, a.up and a.known, a.in_flight) for a in self._addresses.values()]

    def load(self) -> EngineLoad:
        """Returns the load of all engines together."""
        return self._loads.load(self._addresses.values())

    def state(self) -> State:
        """Returns the state of the engine tier as a whole."""
        if any(address.known for address in self._up):
            return "ready"
        if self.starts.under_way:
            return "starting"
        return "sleeping" if self.starts.on_demand else "down"

    def why_not_ready(self) -> str | None:
        """Returns None if an engine answers, else the reason why none does."""
        ready = [address for address in self.up() if address.known]
        if ready and all(address.refuses_key for address in ready):
            return "The engine rejected the orchestrator's key. Set VLLM_API_KEY to the engine's key"
        if ready:
            return None
        names = ", ".join(url.netloc for url in self._urls)
        if self.starts.on_demand:
            return (
                f"No engine answers at {names}: the model is asleep, and the next request starts it"
                if self.state() == "sleeping"
                else f"No engine answers at {names} yet: one is being started"
            )
        if not self._addresses:
            return (
                f"No address is known for {names}: the name does not resolve. "
                f"Set {self._variable} to the engine's address, such as http://vllm:8000"
            )
        reason = f"No engine answers at {names}: it is still starting or hangs, or VLLM_URL is wrong"
        return reason.replace("VLLM_URL", self._variable)

    async def wait_until_up(self, seconds: float) -> None:
        """Returns as soon as an engine answers.

        Raises:
            TimeoutError: no engine answered in time.
        """
        self._came_up.clear()
        for address in self._addresses.values():
            address.probe_now.set()
        async with asyncio.timeout(seconds):
            await self._came_up.wait()

    def mark_down(self, address: Address, reason: str) -> None:
        if address.up:
            log.warning("engine down", extra={"fields": {"engine": address.label, "reason": reason}})
        address.up = False
        if self._adapters:
            self._adapters.went_down(address)
        self._renew_up()
        address.known = True
        address.drop_idle()
        address.probe_now.set()

    def _mark_up(self, address: Address) -> None:
        if not address.up:
            log.info("engine up", extra={"fields": {"engine": address.label}})
            address.up = True
            self._loads.restarted(address)
            self._renew_up()
        self.starts.report(address.label, None)
        address.known = True
        if self._adapters:
            self._adapters.came_up(address, self._up)
        address.missed_probes = 0
        self.starts.came_up()
        self._came_up.set()

    def _renew_up(self) -> None:
        self._up = [address for address in self._addresses.values() if address.up]
        if self._adapters:
            self._adapters.renew(self._up)

    async def _keep_probing(self, address: Address) -> None:
        """Probes an engine until its address is gone and its last request has ended."""
        while not address.gone or address.in_flight:
            address.probe_now.clear()
            begun = time.monotonic()
            await self._probe(address)
            if address.up:
                await self._loads.read(address)
            else:
                self._give_up_waiting(address)
                if time.monotonic() - begun < self._probe_seconds / 2:  # its host is there
                    await self._ask_for_status(address)
            await asyncio.sleep(_PROBE_AT_MOST_EVERY_SECONDS)
            if address.up and address.missed_probes:
                continue  # decide soon
            pause = PROBE_EVERY_SECONDS if address.up else _PROBE_WHILE_DOWN_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause, self._refresh_seconds)):
                    await address.probe_now.wait()

    def _give_up_waiting(self, address: Address) -> None:
        now = asyncio.get_running_loop().time()
        another = any(other.known for other in self._up if other is not address)
        address.give_up_waiting(now - self._silent_seconds, another_is_up=another)

    async def _probe(self, address: Address) -> None:
        """Requests /health and, less often, the models.

        After two timeouts in a row the engine counts as down, unless it has sent something to other requests.
        """
        address.drop_old()
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._probe_seconds):
                with await address.get("/health") as health:
                    if health.status != 200:
                        self.mark_down(address, f"/health returned status {health.status}")
                        return
                if not address.up or time.monotonic() - address.models_at >= self._refresh_seconds:
                    await self._ask_for_models(address)
                await self._learn_tokens(address)
            if self._lacks_adapters(address):
                address.up, address.known = False, True
                self._renew_up()
                return
            self._mark_up(address)
        except TimeoutError:
            if address.up and address.heard_since(begun):
                return
            address.missed_probes += 1
            if address.missed_probes > 1:
                self.mark_down(address, f"/health did not answer within {self._probe_seconds:g} s")
        except (OSError, ConnectionBroken) as error:
            if isinstance(error, OSError) and error.errno in OUR_FAILURES:
                return
            self.mark_down(address, str(error))

    def _lacks_adapters(self, address: Address) -> bool:
        """Whether an engine comes up that is still loading adapters."""
        running = address.up and address.known
        return self._adapters is not None and not running and self._adapters.is_loading(address)

    async def _ask_for_status(self, address: Address) -> None:
        """Asks an engine that is down, at most every second, which step of its start it is at."""
        now = time.monotonic()
        if not self._status_port or now - address.status_at < PROBE_EVERY_SECONDS:
            return
        address.status_at = now
        status = None
        with contextlib.suppress(OSError, ConnectionBroken, TimeoutError, ApiError):
            async with asyncio.timeout(self._probe_seconds):
                with await address.get("/", port=self._status_port) as response:
                    status = read_status(await response.read()) if response.status == 200 else None
        self.starts.report(address.label, None if address.gone else status)

    async def _ask_for_models(self, address: Address) -> None:
        """Requests the models, with the other key if the engine rejects the one in use."""
        for _ in range(len(self._headers)):
            key = address.key
            with await address.get("/v1/models") as models:
                self._take_models(address, models.status, await models.read())
            address.models_at = time.monotonic()
            if not address.refuses_key or not address.use_other_key(key):
                return

    async def _learn_tokens(self, address: Address) -> None:
        """Asks once after each start of the engine; most engines have no such route."""
        if self._control_tokens is None or (address.up and address.asked_for_tokens):
            return
        with await address.get("/tokenizer_info") as response:
            address.asked_for_tokens = True
            if response.status == 200:
                with contextlib.suppress(orjson.JSONDecodeError):
                    self._control_tokens.learn(orjson.loads(await response.read()))

    def _take_models(self, address: Address, status: int, body: bytes) -> None:
        refuses = status in (401, 403)
        if refuses and not address.refuses_key:
            log.error("the engine rejected VLLM_API_KEY", extra={"fields": {"engine": address.label}})
        address.refuses_key = refuses
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            if status == 200:
                self.models = list(orjson.loads(body)["data"])
                if self._adapters:
                    self._adapters.read(address, self.models)

    async def _keep_resolving(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds if self._up else self._refresh_while_down_seconds)
            await self._resolve()

    async def _resolve(self) -> None:
        """Updates the addresses. A name that does not resolve keeps its previous ones."""
        found = {key: address for url in self._urls for key, address in (await self._lookup(url)).items()}
        for key, address in self._addresses.items():
            if key not in found:
                address.gone = True
                self.starts.report(address.label, None)
                address.drop_idle()
                address.probe_now.set()
                leaving = self._probes.pop(key)
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
        for key, address in found.items():
            if key not in self._probes:
                self._probes[key] = asyncio.create_task(self._keep_probing(address))
        self._addresses = found
        self._renew_up()

    async def _lookup(self, url: SplitResult) -> dict[_Key, Address]:
        name = url.hostname or ""
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            hosts = await lookup(name, port)
        except OSError as error:
            reason = str(error)
            if self._unresolved.get(name) != reason:  # once: while all engines sleep, none resolves
                log.warning("name not resolved", extra={"fields": {"name": name, "reason": reason}})
                self._unresolved[name] = reason
            return {key: address for key, address in self._addresses.items() if key[0] == url.netloc}
        self._unresolved.pop(name, None)
        keys = [(url.netloc, host, port) for host in hosts]
        return {key: self._addresses.get(key) or self._address(key, name, url) for key in keys}

    def _address(self, key: _Key, name: str, url: SplitResult) -> Address:
        return Address(
            key[1],
            key[2],
            authority=url.netloc,
            name=name,
            tls=self._tls if url.scheme == "https" else None,
            connect_seconds=self._connect_seconds,
            headers=self._headers,
            budget=self._budget,
            max_answer_bytes=self._max_answer_bytes,
        )


def _headers(key: str | None) -> bytes:
    return f"Authorization: Bearer {key}\r\n".encode() if key else b""


async def lookup(name: str, port: int) -> list[str]:
    """Returns the IP addresses of a name.

    Raises:
        OSError: the name does not resolve.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(name))]
    loop = asyncio.get_running_loop()
    rows = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    # A and AAAA records of a name point to the same engines, so only one family is used.
    four = [str(row[4][0]) for row in rows if row[0] == socket.AF_INET]
    return list(dict.fromkeys(four or [str(row[4][0]) for row in rows]))
