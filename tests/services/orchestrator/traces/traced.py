"""A server whose traces a collector gets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tests.support.live import Live, live, until
from tests.support.otlp import Collector, Seen, collector, roots
from tests.support.scripted_engine import ScriptedEngine


class Traced:
    """A server whose traces are all there once the block has ended."""

    def __init__(self, server: Live, collector: Collector) -> None:
        self.server = server
        self.collector = collector

    @property
    def root(self) -> Seen:
        [root] = roots(self.collector.spans)
        return root


@contextlib.asynccontextmanager
async def traced(engine: ScriptedEngine, **environment: str) -> AsyncIterator[Traced]:
    async with collector() as sink:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **environment}
        async with live(engine.url, **settings) as server:
            yield Traced(server, sink)


def found(root: Seen, name: str) -> Seen:
    """The first span of a name, by depth."""
    for child in root.children:
        if child.name.startswith(name):
            return child
        with contextlib.suppress(LookupError):
            return found(child, name)
    raise LookupError(name)


async def closed(one: Traced) -> None:
    """Ends the server, which sends all that is left."""
    one.server.server.stop(drain=False)
    await until(lambda: one.collector.spans != [])
