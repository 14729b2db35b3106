"""The account of each key: what it may do, and how its requests are counted against that."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import LimitsUnavailable, NotPermitted, RateLimited
from .allowance import DAY, MINUTE, Allowance
from .rules import Limits

_BYTES_PER_TOKEN = 4
MAX_RESERVED_TOKENS = 16_384
"""What one request reserves at most, for its prompt and for its answer."""

_LINES = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %b\r\n"
_LEASE_ROUNDS = 3
_MOST_PEOPLE = 10_000
_SOON_SECONDS = 5


class Account:
    """A key's name, limits and counters.

    Attributes:
        in_flight: requests that this process is serving for the key.
        lines_format: the header lines on the limits, without what remains, for a second until `lines_until`.
    """

    __slots__ = ("in_flight", "limits", "lines_format", "lines_until", "name", "requests", "tokens")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self.limits = Limits()
        self.requests: Allowance | None = None
        self.tokens: Allowance | None = None
        self.lines_format, self.lines_until = b"", -math.inf

    def set(self, limits: Limits, *, shared: bool) -> None:
        """Sets the limits, and keeps what has been counted."""
        self.limits = limits
        self.requests = _changed(self.requests, limits.requests_per_minute, MINUTE, shared=shared)
        self.tokens = _changed(self.tokens, limits.tokens_per_day, DAY, shared=shared)
        self.lines_until = -math.inf

    def write_lines(self, second: int) -> None:
        """Writes the header lines for one second, since windows begin at whole seconds."""
        self.lines_format, self.lines_until = b"", second + 1.0
        for kind, allowance in ((b"requests", self.requests), (b"tokens", self.tokens)):
            if allowance is not None:
                allowance.roll(second)
                resets = _duration(allowance, second)
                self.lines_format += _LINES % (kind, allowance.limit, kind, kind, resets)

    @property
    def allowances(self) -> Iterable[Allowance]:
        return (one for one in (self.requests, self.tokens) if one is not None)


def _changed(
    allowance: Allowance | None, limit: int | None, seconds: int, *, shared: bool
) -> Allowance | None:
    if limit is None:
        return None
    if allowance is None:
        return Allowance(limit, seconds, shared=shared)
    allowance.change(limit)
    return allowance


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


class Ticket:
    """One request's place in its account, from `enter` until `leave`.

    Attributes:
        reserved: tokens that the request may use. They are replaced by the ones that it has used.
        waits: whether the request has not been counted yet, since that needs a lease.
    """

    __slots__ = ("account", "reserved", "waits")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.reserved = 0
        self.waits = False


class Accounts:
    """The accounts of all keys in this process.

    Attributes:
        tasks: number of processes that share the limits.
        down: whether the limits cannot be shared at the moment.
        lacking: accounts that need a lease.
        leased: waits until leases for `lacking` have been asked for once. None if the process is alone.
        wake: makes that happen soon.
        aliases: the model that each alias of a model stands for.
    """

    def __init__(
        self,
        default: Limits,
        *,
        fail_open: bool = True,
        shared: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.default = default
        self.tasks = 1
        self.down = False
        self.lacking: set[Account] = set()
        self.leased: Callable[[], Awaitable[None]] | None = None
        self.wake: Callable[[], None] | None = None
        self.aliases: Mapping[str, str] = {}
        self._shared = shared
        self._fail_open = fail_open
        self._now = now
        self._accounts: dict[str, Account] = {}
        self._people: dict[str, Account] = {}

    @property
    def several(self) -> bool:
        """Whether there is more than one key, so that they must share fairly."""
        return len(self._accounts) + len(self._people) > 1

    def __iter__(self) -> Iterator[Account]:
        return itertools.chain(self._accounts.values(), self._people.values())

    def person(self, name: str) -> Account:
        """Returns the account of somebody without a key, who has the default limits.

        Of more than 10,000 people, those who have been away for the longest are forgotten.
        """
        account = self._people.pop(name, None) or Account(name)
        if account.limits is not self.default:
            account.set(self.default, shared=self._shared)
        self._people[name] = account  # now the last
        if len(self._people) > _MOST_PEOPLE:
            idle = next((one for one in self._people.values() if not one.in_flight), account)
            del self._people[idle.name]
        return account

    def replace(self, limits: dict[str, Limits]) -> dict[str, Account]:
        """Sets the limits of all keys, by name, and returns their accounts."""
        accounts = {}
        for name, its in limits.items():
            account = accounts[name] = self._accounts.get(name) or Account(name)
            account.set(its, shared=self._shared)
        self._accounts = accounts
        return accounts

    def permits(self, account: Account, model: object) -> bool:
        """Whether a key may use a model. An alias and the model that it stands for are one."""
        allowed = account.limits.models
        if allowed is None:
            return True
        if not isinstance(model, str):
            return False
        meant = self.aliases.get(model, model)
        return model in allowed or any(self.aliases.get(one, one) == meant for one in allowed)

    def check_model(self, account: Account, model: object) -> None:
        """Raises:
        NotPermitted: the key may not use the model.
        """
        if not self.permits(account, model):
            named = f"the model {str(model)[:80]!r}" if model else "a request that names no model"
            raise NotPermitted(
                f"The key {account.name!r} does not permit {named}. Permitted: "
                f"{_listed(account.limits.models or ())}.",
                param="model",
                code="model_not_permitted",
            )

    def enter(self, account: Account) -> Ticket:
        """Counts a request whose body may not have arrived yet.

        Raises:
            RateLimited: a limit of the key is reached. LimitsUnavailable: it cannot be checked.
        """
        now = self._now()
        share = account.limits.max_in_flight
        if share is not None and account.in_flight * self.tasks >= share:
            raise _too_many_in_flight(account, share, self.tasks)
        ticket = Ticket(account)
        requests, tokens = account.requests, account.tokens
        if tokens is not None and self._room(tokens, now) <= 0:
            self._expect_lease(account, tokens, now)
        if requests is not None:
            if self._room(requests, now) > 0:
                self._spend_request(account, requests)
            else:
                self._expect_lease(account, requests, now)
                requests.awaited += 1
                ticket.waits = True
        account.in_flight += 1
        return ticket

    def reserve(self, ticket: Ticket, size: int) -> bool:
        """Reserves the tokens of a prompt, or returns False if the request must wait for a lease.

        Args:
            size: of the request's body, in bytes.
        """
        tokens = ticket.account.tokens
        if tokens is None or ticket.waits:
            return not ticket.waits
        if self._room(tokens, self._now()) <= 0:
            return False
        self._reserve(ticket, tokens, _prompt_tokens(size))
        return True

    async def wait(self, ticket: Ticket, size: int) -> None:
        """Waits for a lease, and then counts the request and reserves the tokens of its prompt.

        Raises:
            RateLimited: a limit of the key is reached. LimitsUnavailable: it cannot be checked.
        """
        account, tokens = ticket.account, ticket.account.tokens
        if tokens is None:
            await self._wait(ticket, account, size)
            return
        awaited = _prompt_tokens(size)
        tokens.awaited += awaited
        try:
            await self._wait(ticket, account, size)
        finally:
            tokens.awaited -= awaited

    async def _wait(self, ticket: Ticket, account: Account, size: int) -> None:
        for _ in range(_LEASE_ROUNDS):
            self.lacking.add(account)
            if self.leased is not None:
                await self.leased()
            now = self._now()
            if ticket.waits and (requests := account.requests) is not None:
                if self._room(requests, now) > 0:
                    self._stop_waiting(ticket)
                    self._spend_request(account, requests)
            elif ticket.waits:
                self._stop_waiting(ticket)  # the limit has been lifted
            if self.reserve(ticket, size):
                return
            for allowance in account.allowances:
                if self._room(allowance, now) <= 0:
                    self._expect_lease(account, allowance, now)
        raise LimitsUnavailable(
            "The limits of this key are being leased. Try again shortly.", headers={"retry-after": "1"}
        )

    def expect(self, ticket: Ticket, payload: dict[str, Any]) -> None:
        """Reserves the tokens of an answer, if the request limits them."""
        tokens = ticket.account.tokens
        if tokens is None:
            return
        for field in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            count = payload.get(field)
            if type(count) is int and count > 0:
                choices = payload.get("n")
                choices = choices if type(choices) is int and choices > 0 else 1
                self._reserve(ticket, tokens, min(count * choices, MAX_RESERVED_TOKENS))
                return

    def leave(self, ticket: Ticket, tokens_used: int) -> None:
        """Ends a request: what it has used replaces what it had reserved."""
        account = ticket.account
        account.in_flight -= 1
        if ticket.waits:
            self._stop_waiting(ticket)
        tokens = account.tokens
        if tokens is not None:
            tokens.roll(self._now())
            tokens.reserved = max(0, tokens.reserved - ticket.reserved)
            tokens.spent += tokens_used
            if tokens.shared:
                self._ask_early(account, tokens)

    def _stop_waiting(self, ticket: Ticket) -> None:
        ticket.waits = False
        requests = ticket.account.requests
        if requests is not None:
            requests.awaited = max(0, requests.awaited - 1)

    def _spend_request(self, account: Account, requests: Allowance) -> None:
        requests.spent += 1
        if requests.shared:
            self._ask_early(account, requests)

    def _room(self, allowance: Allowance, now: float) -> int:
        if not (self.down and allowance.shared):
            return allowance.room(now)
        allowance.roll(now)
        units = allowance.limit if self._fail_open else allowance.granted
        return units - allowance.spent - allowance.reserved

    def _reserve(self, ticket: Ticket, tokens: Allowance, count: int) -> None:
        ticket.reserved += count
        tokens.reserved += count
        if tokens.shared:
            self._ask_early(ticket.account, tokens)

    def _ask_early(self, account: Account, allowance: Allowance) -> None:
        if allowance.lacks > allowance.slice // 2 and not allowance.exhausted and not self.down:
            self.lacking.add(account)
            if self.wake is not None:
                self.wake()

    def _expect_lease(self, account: Account, allowance: Allowance, now: float) -> None:
        """Returns if a lease may bring room.

        Raises:
            RateLimited: it cannot. LimitsUnavailable: the table does not answer.
        """
        if allowance.shared and not allowance.exhausted:
            if not self.down:
                return
            if not self._fail_open:
                raise LimitsUnavailable(
                    "The limits of this key cannot be checked at the moment. Try again shortly.",
                    headers={"retry-after": str(_SOON_SECONDS)},
                )
        allowance.denied = True
        raise _exceeded(account, allowance, now)

    def lines(self, account: Account) -> bytes:
        """Returns OpenAI's header lines on a key's limits, which are empty if it has none."""
        requests, tokens = account.requests, account.tokens
        if requests is None and tokens is None:
            return b""
        now = self._now()
        if not account.lines_until - 1.0 <= now < account.lines_until:
            account.write_lines(int(now))
        if tokens is None:
            return account.lines_format % requests.remaining() if requests is not None else b""
        if requests is None:
            return account.lines_format % tokens.remaining()
        return account.lines_format % (requests.remaining(), tokens.remaining())


def _prompt_tokens(size: int) -> int:
    return min(size // _BYTES_PER_TOKEN, MAX_RESERVED_TOKENS)


def _duration(allowance: Allowance, now: float) -> bytes:
    """Returns the time until the next window as OpenAI writes it: 1h2m3s."""
    minutes, seconds = divmod(math.ceil(allowance.resets_in(now)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return b"%dh%dm%ds" % (hours, minutes, seconds)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds


def _exceeded(account: Account, allowance: Allowance, now: float) -> RateLimited:
    kind, window = ("tokens", "day") if allowance.seconds == DAY else ("requests", "minute")
    seconds = math.ceil(allowance.resets_in(now))
    text = f"{_duration(allowance, now).decode()}, when the next {window} begins"
    if allowance.reserved or not allowance.settled:
        # Requests in flight may use less than they have reserved.
        seconds = min(seconds, _SOON_SECONDS)
        text = f"{seconds}s; requests in flight have reserved what is left"
    headers = {"retry-after": str(seconds)}
    if seconds > MINUTE:
        headers["x-should-retry"] = "false"  # OpenAI's clients would retry within seconds
    return RateLimited(
        f"The key {account.name!r} has reached its limit of {allowance.limit:,} {kind} per {window}. "
        f"Try again in {text}.",
        kind=kind,
        headers=headers,
    )


def _too_many_in_flight(account: Account, limit: int, tasks: int) -> RateLimited:
    among = f", of which this one of {tasks} servers takes {-(-limit // tasks)}" if tasks > 1 else ""
    return RateLimited(
        f"The key {account.name!r} has reached its limit of {limit:,} requests in flight{among}. "
        "Wait for an answer first.",
        kind="requests",
        headers={"retry-after": "1"},
    )
