"""What `tests.soak.limits` saw, and what must be true of it."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import boto3

from orchestrator.limits.allowance import DAY, MINUTE, Allowance
from orchestrator.limits.table import LIVE_SECONDS, Table, Terms
from orchestrator.limits.usage import Use, day_of
from tests.services.orchestrator.limits.shared_table import NAME

TASKS = 3
FLUSH_SECONDS = 1.0
CANCELS = "cancelling"
"""The key whose streams are cancelled, so that the usage of all others is not estimated."""

KEYS: dict[str, dict[str, Any]] = {
    "unlimited": {},
    CANCELS: {},
    "daily": {"tokens_per_day": 40_000},
    "small": {"tokens_per_day": 4_000},
    "minutely": {"requests_per_minute": 400},
    "parallel": {"max_in_flight": 6},
}

_STORE_SECONDS = 1.0
"""How long a store may take, which is the read timeout of the table's client."""

_ESTIMATE_ERROR = 0.2
"""Of the tokens of an average request: how wrong the estimate of one that was cut off may be on average."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer: whose, by which server, when it ended, and the tokens that the engine reported."""

    key: str
    server: str
    at: float
    prompt: int
    generated: int

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated


@dataclass
class Outcome:
    """What happened.

    Attributes:
        kills: when each server was killed.
        answers: number of answers by key and status; status 0 if the connection broke.
        by_minute: number of admitted requests by key and minute.
        stored: the usage in the table, by key.
        engine: tokens of prompts and generated tokens that the engine counted.
        overspent: tokens beyond the limit, and the bound on them, by key.
    """

    kills: dict[str, float] = field(default_factory=dict)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    complete: list[Answer] = field(default_factory=list)
    by_minute: Counter[tuple[str, int]] = field(default_factory=Counter)
    cancelled: int = 0
    seconds: float = 0.0
    stored: dict[str, Use] = field(default_factory=dict)
    engine: tuple[float, float] = (0.0, 0.0)
    overspent: dict[str, tuple[int, int]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.answers.total() + self.cancelled

    @property
    def total(self) -> Use:
        """The stored usage of all keys."""
        total = Use()
        for use in self.stored.values():
            total.add(use)
        return total

    @property
    def unstored(self) -> list[Answer]:
        """Answers that a killed server may not have stored: those of its last flush interval."""
        window = FLUSH_SECONDS + _STORE_SECONDS
        return [one for one in self.complete if one.at >= self.kills.get(one.server, math.inf) - window]

    def __str__(self) -> str:
        by_status: dict[int, int] = defaultdict(int)
        for (_, status), count in self.answers.items():
            by_status[status] += count
        prompt, generated = self.engine
        total = self.total
        exact = [key for key in KEYS if key != CANCELS]
        seen = sum(one.tokens for one in self.complete if one.key in exact)
        lost = seen - sum(
            self.stored[key].prompt_tokens + self.stored[key].completion_tokens
            for key in exact
            if key in self.stored
        )
        bound = sum(one.tokens for one in self.unstored if one.key in exact)
        return "\n".join(
            (
                f"{self.done} requests in {self.seconds:.0f} s: {by_status[200]} served, "
                f"{by_status[429]} beyond a limit, {by_status[503]} without a lease, "
                f"{self.cancelled} cancelled, {by_status[0]} broken; {len(self.kills)} orchestrators killed",
                f"prompt tokens: {prompt:.0f} by the engine, {total.prompt_tokens} stored",
                f"generated tokens: {generated:.0f} by the engine, {total.completion_tokens} stored",
                f"{total.estimated} of {total.requests} requests estimated",
                f"{lost} of {seen} tokens lost with killed orchestrators, bound {bound}",
                *(
                    f"{key}: {over} tokens beyond its limit of {KEYS[key]['tokens_per_day']}, bound {bound}"
                    for key, (over, bound) in self.overspent.items()
                ),
            )
        )


def check(outcome: Outcome) -> None:
    """Adds what is wrong to the outcome's violations."""
    days = {day_of(time.time()), day_of(time.time() - outcome.seconds - 60)}
    for (_, key, _), use in Table(NAME, "check").usage(days, None).items():
        outcome.stored.setdefault(key, Use()).add(use)
    _check_limits(outcome)
    _check_leases(outcome)
    _check_usage(outcome)
    _check_total(outcome)


def _check_limits(outcome: Outcome) -> None:
    """A key exceeds its limit by at most a slice per task that ever ran, and by what the docs list."""
    tasks = TASKS + len(outcome.kills)
    for key, limits in KEYS.items():
        answers = [one for one in outcome.complete if one.key == key]
        if most := limits.get("tokens_per_day"):
            slices = tasks * Allowance(most, DAY, shared=True).slice
            # What a killed task had spent since its last report returns to the limit.
            forgotten = sum(one.tokens for one in outcome.unstored if one.key == key)
            # A request with a tool call has two prompts, of which it reserved one.
            beyond_reservation = tasks * max((one.prompt for one in answers), default=0)
            bound = slices + forgotten + beyond_reservation
            over = max(0, sum(one.tokens for one in answers) - most)
            outcome.overspent[key] = (over, bound)
            if over > bound:
                outcome.violations.append(f"{key}: {over} tokens more than {most}, bound {bound}")
        if most := limits.get("requests_per_minute"):
            bound = tasks * Allowance(most, MINUTE, shared=True).slice
            minutes = sorted(minute for name, minute in outcome.by_minute if name == key)
            admitted = sum(outcome.by_minute[key, minute] for minute in minutes)
            if admitted > len(set(minutes)) * (most + bound):
                outcome.violations.append(f"{key}: {admitted} requests in {len(set(minutes))} minutes")


def _check_leases(outcome: Outcome) -> None:
    """Once the killed tasks count as dead, all that is taken was spent."""
    table = Table(NAME, "check")
    items = boto3.client("dynamodb").get_paginator("scan")
    found = [item for page in items.paginate(TableName=NAME) for item in page["Items"]]
    later = time.time() + LIVE_SECONDS + 1
    for item in found:
        if not item["sk"]["S"].startswith("tokens#"):
            continue
        kind, window = item["sk"]["S"].split("#")
        key = item["pk"]["S"].removeprefix("limit#")
        terms = Terms(key, kind, int(window), later, KEYS[key]["tokens_per_day"], 0, 0, 0)
        before = table.lease(terms)
        for task in before.unspent:
            if not table.reclaim(terms, task, later):
                outcome.violations.append(f"{key}: the lease of {task} was not returned")
        after = table.lease(terms)
        spent = sum(int(value["N"]) for name, value in item.items() if name.startswith("s#"))
        if after.unspent or after.others != spent:
            outcome.violations.append(f"{key}: {after.others} taken and {spent} spent: {after.unspent}")
        if len(before.unspent) > len(outcome.kills):
            outcome.violations.append(f"{key}: a task that stopped kept its lease: {before.unspent}")


def _check_usage(outcome: Outcome) -> None:
    """The usage of each key is what its answers reported, less what killed servers had not stored."""
    for key in KEYS.keys() - {CANCELS}:
        answers = [one for one in outcome.complete if one.key == key]
        lost = [one for one in outcome.unstored if one.key == key]
        stored = outcome.stored.get(key, Use())
        # A killed server may have counted a request whose last bytes did not reach the client.
        broken = outcome.answers[key, 0] * max((one.tokens for one in answers), default=0)
        # A request that waited for a lease in vain counts as one without tokens.
        rejected = sum(outcome.answers[key, status] for status in (0, 429, 503))
        for kind, seen, may_be_lost, found, more in (
            ("requests", len(answers), len(lost), stored.requests, rejected),
            ("prompt", _sum(answers, "prompt"), _sum(lost, "prompt"), stored.prompt_tokens, broken),
            (
                "generated",
                _sum(answers, "generated"),
                _sum(lost, "generated"),
                stored.completion_tokens,
                broken,
            ),
        ):
            if not seen - may_be_lost <= found <= seen + more:
                outcome.violations.append(
                    f"{key}: {found} {kind} stored, {seen} seen, of which {may_be_lost} may be lost"
                )


def _check_total(outcome: Outcome) -> None:
    """Stored usage is what the engine counted: exactly, or within what was killed or estimated."""
    total = outcome.total
    stored = (total.prompt_tokens, total.completion_tokens)
    for kind, engine, found in zip(("prompt", "generated"), outcome.engine, stored, strict=True):
        each = engine / max(1, total.requests)
        lost = _sum(outcome.unstored, kind)
        # The engine may have worked for those whose connection broke.
        broken = sum(count for (_, status), count in outcome.answers.items() if status == 0)
        bound = lost + _ESTIMATE_ERROR * each * total.estimated + broken * 2 * each
        if abs(engine - found) > bound:
            outcome.violations.append(
                f"{kind} tokens: {engine:.0f} counted, {found} stored, bound {bound:.0f}"
            )


def _sum(answers: list[Answer], kind: str) -> int:
    return sum(getattr(one, kind) for one in answers)
