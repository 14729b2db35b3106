"""Paces the answer to an accepted request, and applies transport faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from .chat import DONE, EventStream
from .errors import error_body, status_error
from .faults import NO_FAULT, Fault
from .requests import JsonObject, Sampling
from .scheduler import Run, Scheduler
from .server import Connection, Cut
from .turn import Generated

_BROKEN = "Internal server error"


@dataclass(frozen=True, slots=True)
class Work:
    """An accepted request: what it generates and how that is serialized."""

    sampling: Sampling
    calls: bool
    """Whether the turn calls tools."""
    prompt: int
    """The tokens of the prompt."""
    generated: list[Generated]
    """One per sequence."""
    whole: Callable[[], JsonObject]
    stream: Callable[[], EventStream]

    @property
    def fault(self) -> Fault:
        fault = self.sampling.fault
        return fault if fault.applies(calls=self.calls) else NO_FAULT


async def deliver(work: Work, scheduler: Scheduler, connection: Connection, headers: dict[str, str]) -> None:
    """Sends the answer once the scheduler has room. As in vLLM, a stream's headers are sent before that.

    Raises:
        ApiError: A fault asks for an error, and nothing has been sent yet.
        Cut: A fault asks to close the connection.
    """
    fault = work.fault
    if fault.status is not None:
        raise status_error(fault.status, f"The stand-in was asked to answer with status {fault.status}.")
    if work.sampling.stream and fault.cut_after != 0:
        connection.begin_stream(headers)
    async with scheduler.run(len(work.generated), work.prompt) as run:
        await asyncio.sleep(fault.delay_first)
        if fault.cut_after == 0:
            raise Cut
        if work.sampling.stream:
            await _send_stream(work, run, connection)
        else:
            await _send_whole(work, run, connection, headers)
        if run.finished is None:
            run.finished = "length" if any(g.finish_reason == "length" for g in work.generated) else "stop"


async def _send_whole(work: Work, run: Run, connection: Connection, headers: dict[str, str]) -> None:
    fault = work.fault
    run.token()
    await asyncio.sleep(fault.delay_token * (max(g.count for g in work.generated) - 1))
    run.generated = sum(g.count for g in work.generated)
    if fault.error_event_after is not None:
        run.finished = "error"
        raise status_error(500, _BROKEN)
    if fault.cut_after is not None:
        connection.respond_cut(200, work.whole(), headers)
    connection.respond(200, work.whole(), headers=headers)


async def _send_stream(work: Work, run: Run, connection: Connection) -> None:
    fault, events = work.fault, work.stream()
    sent = 0
    for step, due in enumerate(events.steps):
        if step:
            await asyncio.sleep(fault.delay_token)
        run.token(len(work.generated))
        sent = await _send(due, sent, fault, run, connection)
        if run.finished:
            break
    else:
        run.generated = sum(g.count for g in work.generated)
        await _send(events.tail, sent, fault, run, connection)
    connection.end_stream()


async def _send(due: list[bytes], sent: int, fault: Fault, run: Run, connection: Connection) -> int:
    """Sends events that are due together, up to where a fault strikes; returns the total number sent."""
    strike = fault.cut_after if fault.error_event_after is None else fault.error_event_after
    if strike is None or sent + len(due) <= strike - (fault.error_event_after is None):
        await connection.send_events(*due)
        return sent + len(due)
    await connection.send_events(*due[: strike - sent])
    if fault.error_event_after is None:
        raise Cut
    run.finished = "error"
    error = json.dumps(error_body(_BROKEN, "InternalServerError", None, 500))
    await connection.send_events(f"data: {error}\n\n".encode(), DONE)
    return strike
