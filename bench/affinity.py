"""`make bench-affinity`: the share of prompts that several real engines find in their prefix caches.

Conversations of several turns go to one vLLM and then, in the same run, to several of them: through the
orchestrator, round robin, and by other keys than the orchestrator's. Each way starts with cold caches, since
its prompts begin with a text of its own. A share is that of `cached_tokens` in the usage of all answers.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench.__main__ import RESULTS
from examples.tiers import start_orchestrator
from orchestrator.engine.affinity import hash_of, most_in_flight, prefix_of, ranked
from tests.e2e.engine.serve import MODEL_NAME, RealEngine

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("--enable-prompt-tokens-details", "--block-size", "32")
"""The default block of the CPU build has 128 tokens, as many as a whole turn here."""

SYSTEMS = 4
WANTED = 0.9
Json = dict[str, Any]
Ask = Callable[[Json], Awaitable[Json]]


@dataclass
class Way:
    """A way to divide requests among engines, and what its answers have reported."""

    name: str
    engines: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    requests: list[int] = field(default_factory=list)
    """Of each engine, if this program chooses."""

    @property
    def share(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def count(self, usage: Json) -> None:
        self.prompt_tokens += usage["prompt_tokens"]
        self.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


class Chosen:
    """An engine that this program sends requests to, as the orchestrator's choice sees it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seed = hash_of(f"10.0.0.{number}:8000")
        self.in_flight = 0


def system_and_tools(request: Json) -> int:
    """A shorter key than the orchestrator's: without the first message of the user."""
    return prefix_of({**request, "messages": request["messages"][:1]})


def whole_history(request: Json) -> int:
    """A longer key: all messages but the last."""
    texts = [str(message["content"]) for message in request["messages"][:-1]]
    return hash_of("\0".join(texts))


def chooser(key: Callable[[Json], int] | None, engines: list[Chosen]) -> Callable[[Json], Chosen]:
    """Returns a choice by a key, with the orchestrator's bound on load, or round robin without a key."""
    turn = itertools.count()

    def choose(request: Json) -> Chosen:
        if key is None:
            return engines[next(turn) % len(engines)]
        bound = most_in_flight(sum(engine.in_flight for engine in engines), len(engines))
        return next(engine for engine in ranked(engines, key(request)) if engine.in_flight < bound)

    return choose


async def converse(ask: Ask, way: Way, number: int, turns: int) -> None:
    """Holds one conversation: each turn repeats the ones before it."""
    system = f"{way.name}. Assistant {number % SYSTEMS} of a shop. " + "Answer briefly and politely. " * 30
    messages = [{"role": "system", "content": system}]
    for turn in range(turns):
        question = f"Customer {number} asks question {turn}: " + "where is my order? " * 8
        messages.append({"role": "user", "content": question})
        answer = await ask({"model": MODEL_NAME, "messages": messages, "max_tokens": 12, "temperature": 0})
        way.count(answer["usage"])
        messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"] or ""})


async def drive(ask: Ask, way: Way, conversations: int, turns: int, at_once: int) -> Way:
    """Holds all conversations, some of them at the same time."""
    free = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with free:
            await converse(ask, way, number, turns)

    await asyncio.gather(*(one(number) for number in range(conversations)))
    return way


def through(http: httpx.AsyncClient) -> Ask:
    """Asks one server."""

    async def ask(request: Json) -> Json:
        answer = await http.post("/v1/chat/completions", json=request)
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    return ask


def among(clients: list[httpx.AsyncClient], key: Callable[[Json], int] | None, way: Way) -> Ask:
    """Asks the engine that the key chooses."""
    engines = [Chosen(number) for number in range(len(clients))]
    choose = chooser(key, engines)
    asks = [through(client) for client in clients]
    way.requests = [0] * len(clients)

    async def ask(request: Json) -> Json:
        engine = choose(request)
        engine.in_flight += 1
        way.requests[engine.number] += 1
        try:
            return await asks[engine.number](request)
        finally:
            engine.in_flight -= 1

    return ask


async def measure(urls: list[str], orchestrator: str, load: tuple[int, int, int]) -> list[Way]:
    """Measures each way in turn."""
    clients = [httpx.AsyncClient(base_url=url, timeout=300) for url in urls]
    count = len(urls)
    ways = [await drive(through(clients[0]), Way("one engine", 1), *load)]
    async with httpx.AsyncClient(base_url=orchestrator, timeout=300) as http:
        ways.append(await drive(through(http), Way("orchestrator", count), *load))
    keys = {
        "round robin": None,
        "system, tools, first user message": prefix_of,
        "system and tools": system_and_tools,
        "all but the last message": whole_history,
    }
    for name, key in keys.items():
        way = Way(name, count)
        ways.append(await drive(among(clients, key, way), way, *load))
    for client in clients:
        await client.aclose()
    return ways


def table(ways: list[Way]) -> str:
    """Formats the shares as Markdown."""
    alone = ways[0].share
    lines = ["| requests divided by | engines | cached share | of one engine's |", "|---|---|---|---|"]
    lines += [f"| {way.name} | {way.engines} | {way.share:.3f} | {way.share / alone:.3f} |" for way in ways]
    return "\n".join(lines)


@contextmanager
def engines(count: int, folder: Path) -> Iterator[list[str]]:
    """Starts engines one after the other, since each start uses all cores."""
    with ExitStack() as stack:
        urls = []
        for number in range(count):
            engine = RealEngine(ROOT / ".venv-vllm/bin/python", folder / f"engine-{number}.log", flags=FLAGS)
            engine.start()
            stack.callback(engine.stop)
            urls.append(engine.url)
            print(f"engine {number + 1} of {count} is ready", file=sys.stderr, flush=True)
        yield urls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=4)
    parser.add_argument("--conversations", type=int, default=24)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--at-once", type=int, default=8)
    given = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="tandem-affinity-") as name,
        engines(given.engines, Path(name)) as urls,
    ):
        orchestrator = start_orchestrator(urls)
        try:
            load = (given.conversations, given.turns, given.at_once)
            ways = asyncio.run(measure(urls, orchestrator.url, load))
        finally:
            orchestrator.stop()
    if not ways[0].share:
        sys.exit("vLLM reported no cached tokens, or found none in its cache")
    print(table(ways))
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": vars(given),
        "ways": [{**asdict(way), "share": round(way.share, 4)} for way in ways],
    }
    file = RESULTS / f"affinity-{datetime.now(UTC):%Y-%m-%dT%H%M}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"stored in {file.relative_to(ROOT)}, {time.monotonic() - began:.0f} s")
    kept = ways[1].share / ways[0].share
    if kept < WANTED:
        print(json.dumps({"kept": round(kept, 3), "wanted": WANTED}), file=sys.stderr)
    return 0 if kept >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
