"""Requests against the limits of their keys, by a clock that the tests set."""

from __future__ import annotations

import pytest

from orchestrator.errors import LimitsUnavailable, NotPermitted, RateLimited
from orchestrator.limits.accounts import MAX_RESERVED_TOKENS, Account, Accounts, Ticket
from orchestrator.limits.rules import Limits

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 86_400 + 43_200


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def alone(limits: Limits) -> tuple[Accounts, Account, Clock]:
    clock = Clock()
    accounts = Accounts(Limits(), now=clock)
    return accounts, accounts.replace({"alice": limits})["alice"], clock


def served(accounts: Accounts, account: Account, *, tokens: int = 0, size: int = 0) -> Ticket:
    ticket = accounts.enter(account)
    assert accounts.reserve(ticket, size)
    accounts.leave(ticket, tokens)
    return ticket


def test_requests_per_minute() -> None:
    accounts, alice, clock = alone(Limits(requests_per_minute=2))
    clock.now += 15
    served(accounts, alice)
    served(accounts, alice)
    with pytest.raises(RateLimited) as caught:
        accounts.enter(alice)
    assert alice.in_flight == 0
    assert caught.value.body()["error"] == {
        "message": "The key 'alice' has reached its limit of 2 requests per minute. Try again in 45s, when "
        "the next minute begins.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert caught.value.headers == {"retry-after": "45"}
    clock.now += 45
    served(accounts, alice)


def test_tokens_per_day_count_what_was_used_and_not_what_was_reserved() -> None:
    accounts, alice, clock = alone(Limits(tokens_per_day=1000))
    first = accounts.enter(alice)
    assert accounts.reserve(first, 400)
    accounts.expect(first, {"max_tokens": 500})
    assert first.reserved == 600
    assert alice.tokens is not None
    assert alice.tokens.remaining() == 400
    accounts.leave(first, 70)
    assert (alice.tokens.remaining(), alice.tokens.reserved) == (930, 0)
    served(accounts, alice, tokens=930)
    with pytest.raises(RateLimited) as caught:
        accounts.enter(alice)
    assert caught.value.body()["error"]["type"] == "tokens"
    assert caught.value.headers == {"retry-after": str(12 * 3600), "x-should-retry": "false"}
    clock.now += 12 * 3600
    served(accounts, alice)


def test_limit_that_is_only_reserved_is_worth_trying_again_soon() -> None:
    accounts, alice, _ = alone(Limits(tokens_per_day=100))
    accounts.reserve(accounts.enter(alice), 4000)
    with pytest.raises(RateLimited, match="requests in flight have reserved") as caught:
        accounts.enter(alice)
    assert caught.value.headers == {"retry-after": "5"}


@pytest.mark.parametrize(
    ("payload", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 5, "max_tokens": 7, "n": 3}, 15),
        ({"max_output_tokens": 10**9}, MAX_RESERVED_TOKENS),
        ({"max_tokens": "7"}, 0),
        ({"max_tokens": -1}, 0),
    ],
)
def test_answer_reserves_its_maximum(payload: dict[str, object], tokens: int) -> None:
    accounts, alice, _ = alone(Limits(tokens_per_day=10**6))
    ticket = accounts.enter(alice)
    accounts.expect(ticket, payload)
    assert ticket.reserved == tokens


def test_requests_in_flight() -> None:
    accounts, alice, _ = alone(Limits(max_in_flight=2))
    first, _second = accounts.enter(alice), accounts.enter(alice)
    with pytest.raises(RateLimited, match="limit of 2 requests in flight"):
        accounts.enter(alice)
    accounts.leave(first, 0)
    accounts.enter(alice)


def test_each_of_several_processes_takes_its_part_of_the_requests_in_flight() -> None:
    accounts, alice, _ = alone(Limits(max_in_flight=4))
    accounts.tasks = 3
    accounts.enter(alice)
    accounts.enter(alice)
    with pytest.raises(RateLimited, match="this one of 3 servers takes 2"):
        accounts.enter(alice)


def test_changed_limits_keep_what_was_counted() -> None:
    accounts, alice, _ = alone(Limits(requests_per_minute=5, tokens_per_day=100))
    served(accounts, alice, tokens=60)
    again = accounts.replace({"alice": Limits(tokens_per_day=50)})["alice"]
    assert again is alice
    with pytest.raises(RateLimited):
        accounts.enter(alice)
    assert alice.requests is None


def test_request_outlives_its_limits_and_its_key() -> None:
    accounts, alice, _ = alone(Limits(tokens_per_day=100))
    ticket = accounts.enter(alice)
    accounts.reserve(ticket, 40)
    accounts.replace({})
    accounts.leave(ticket, 10)
    assert alice.in_flight == 0


def test_lines() -> None:
    accounts, alice, clock = alone(Limits(requests_per_minute=60, tokens_per_day=1000))
    clock.now += 18
    served(accounts, alice, tokens=40)
    assert accounts.lines(alice).decode().splitlines() == [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 59",
        "x-ratelimit-reset-requests: 42s",
        "x-ratelimit-limit-tokens: 1000",
        "x-ratelimit-remaining-tokens: 960",
        "x-ratelimit-reset-tokens: 11h59m42s",
    ]
    assert accounts.lines(accounts.replace({"bob": Limits()})["bob"]) == b""


def test_lines_are_new_with_each_second_and_each_change_of_a_limit() -> None:
    accounts, alice, clock = alone(Limits(requests_per_minute=60))
    assert b"remaining-requests: 60\r\nx-ratelimit-reset-requests: 1m0s" in accounts.lines(alice)
    served(accounts, alice)
    clock.now += 0.5
    assert b"remaining-requests: 59\r\nx-ratelimit-reset-requests: 1m0s" in accounts.lines(alice)
    clock.now += 0.5
    assert b"remaining-requests: 59\r\nx-ratelimit-reset-requests: 59s" in accounts.lines(alice)
    accounts.replace({"alice": Limits(tokens_per_day=7)})
    assert accounts.lines(alice).startswith(b"x-ratelimit-limit-tokens: 7\r\nx-ratelimit-remaining-tokens: 7")
    accounts.replace({"alice": Limits(requests_per_minute=3)})
    clock.now += 59
    assert b"remaining-requests: 3\r\nx-ratelimit-reset-requests: 1m0s" in accounts.lines(alice)


def test_models() -> None:
    accounts, alice, _ = alone(Limits(models=frozenset({"a", "b"})))
    accounts.check_model(alice, "a")
    with pytest.raises(NotPermitted, match=r"does not permit the model 'c'. Permitted: a, b") as caught:
        accounts.check_model(alice, "c")
    assert (caught.value.status, caught.value.param) == (403, "model")
    with pytest.raises(NotPermitted, match="names no model"):
        accounts.check_model(alice, None)
    assert not accounts.permits(alice, ["a"])


@pytest.mark.parametrize("permitted", ["large", "gpt-4o", "gpt-4"])
def test_an_alias_and_its_model_are_permitted_together(permitted: str) -> None:
    accounts, alice, _ = alone(Limits(models=frozenset({permitted})))
    accounts.aliases = {"gpt-4o": "large", "gpt-4": "large", "gpt-4o-mini": "small"}
    names = ("large", "gpt-4o", "gpt-4", "small", "gpt-4o-mini", "other", None)
    assert [name for name in names if accounts.permits(alice, name)] == ["large", "gpt-4o", "gpt-4"]


def sharing(limits: Limits, *, fail_open: bool = True) -> tuple[Accounts, Account]:
    accounts = Accounts(Limits(), shared=True, fail_open=fail_open, now=Clock())
    return accounts, accounts.replace({"alice": limits})["alice"]


async def test_request_beyond_the_slice_waits_for_a_lease() -> None:
    accounts, alice = sharing(Limits(requests_per_minute=10))
    rounds = []

    async def lease() -> None:
        rounds.append(1)
        if len(rounds) == 2:
            assert alice.requests is not None
            alice.requests.granted += alice.requests.lacks

    accounts.leased = lease
    served(accounts, alice)
    ticket = accounts.enter(alice)
    assert ticket.waits
    assert not accounts.reserve(ticket, 0)
    await accounts.wait(ticket, 0)
    assert not ticket.waits
    assert alice.requests is not None
    assert (alice.requests.spent, alice.requests.awaited, len(rounds)) == (2, 0, 2)


async def test_request_that_gets_no_lease_is_rejected_and_leaves_nothing_behind() -> None:
    accounts, alice = sharing(Limits(requests_per_minute=10, tokens_per_day=100))
    served(accounts, alice)
    ticket = accounts.enter(alice)
    with pytest.raises(LimitsUnavailable):
        await accounts.wait(ticket, 0)
    accounts.leave(ticket, 0)
    assert alice.requests is not None
    assert (alice.requests.awaited, alice.requests.spent, alice.in_flight) == (0, 1, 0)


def test_process_without_the_table_continues_with_what_it_has() -> None:
    accounts, alice = sharing(Limits(requests_per_minute=40), fail_open=False)
    assert alice.requests is not None
    accounts.down = True
    with pytest.raises(LimitsUnavailable):
        accounts.enter(alice)
    alice.requests.granted = 2
    served(accounts, alice)
    served(accounts, alice)
    with pytest.raises(LimitsUnavailable) as caught:
        accounts.enter(alice)
    assert caught.value.headers == {"retry-after": "5"}


def test_process_without_the_table_may_grant_the_whole_limit_itself() -> None:
    accounts, alice = sharing(Limits(requests_per_minute=3))
    accounts.down = True
    for _ in range(3):
        served(accounts, alice)
    with pytest.raises(RateLimited):
        accounts.enter(alice)
