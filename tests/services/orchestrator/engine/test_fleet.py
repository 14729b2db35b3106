"""The models behind a server, and the names by which clients ask for them."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest

from orchestrator.engine.fleet import Fleets, unknown_model
from orchestrator.memory import Budget
from orchestrator.record import engine_time
from orchestrator.settings import Settings
from orchestrator.telemetry import Telemetry
from tests.support.live import until
from tests.support.scripted_engine import scripted_engine


def fleets(*models: dict[str, Any], **environment: str) -> Fleets:
    if models:
        entries = [{"url": "http://127.0.0.1:9", **model} for model in models]
        environment["MODELS"] = json.dumps(entries)
    return Fleets(Settings.from_environment(environment), Telemetry(), Budget(2**30))


def test_single_model_has_no_name_in_metrics() -> None:
    known = fleets(DEFAULT_MODEL="org/name")
    assert not known.named
    assert (known.first.entry, known.first.settings.model) == ("", "org/name")
    assert known.first.clock is engine_time
    assert list(known.loads()) == [""]


def test_names_lead_to_the_model_and_its_engine_s_name() -> None:
    known = fleets({"model": "large", "aliases": ["gpt-4o"], "adapters": ["tone"]}, {"model": "small"})
    large, small = known
    assert known.names == {
        "large": (large, "large"), "gpt-4o": (large, "large"), "tone": (large, "tone"),
        "small": (small, "small"),
    }  # fmt: skip
    assert known.aliases == {"gpt-4o": "large"}
    assert large.clock is not small.clock
    assert list(known.states()) == ["large", "small"]


def test_adapters_may_change_but_never_hide_another_name() -> None:
    known = fleets({"model": "large", "aliases": ["gpt-4o"], "adapters": ["tone"]}, {"model": "small"})
    large, small = known
    known.set_adapters(large, ["legal", "small", "gpt-4o", "large"])
    assert large.adapters == {"legal"}
    assert set(known.names) == {"large", "gpt-4o", "small", "legal"}
    assert known.names["legal"] == (large, "legal")
    assert known.names["small"] == (small, "small")
    known.set_adapters(large, [])
    assert set(known.names) == {"large", "gpt-4o", "small"}


def test_fallback_is_another_model() -> None:
    known = fleets({"model": "large", "fallback": "small"}, {"model": "small"})
    large, small = known
    assert known.fallback_of(large) is small
    assert known.fallback_of(small) is None


async def test_each_model_has_its_own_state_and_load() -> None:
    async with scripted_engine() as engine:
        known = fleets({"model": "large"}, {"model": "small", "url": engine.url})
        large, small = known
        await known.start()
        try:
            await until(lambda: small.ready and not large.discovery.up())
            assert not large.ready
            assert {name: load.up for name, load in known.loads().items()} == {"large": 0, "small": 1}
            assert "url in MODELS" in str(large.discovery.why_not_ready())
            known.share_engines(4)
            assert small.clock.engines == 0.25
        finally:
            await known.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt-4", "did you mean gpt-4o?"),
        ("zzzz", "'zzzz' does not exist; available models: gpt-4o, org/large"),
        ("x" * 5000, f"'{'x' * 100}' does not exist"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest_ones(name: str, message: str) -> None:
    error = unknown_model(name, ["gpt-4o", "org/large"])
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert message in error.message


def test_many_names_are_not_all_listed() -> None:
    assert "and 80 more" in unknown_model("x", [f"model-{number}" for number in range(100)]).message


def test_names_of_any_length_and_number_are_compared_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    matches = difflib.get_close_matches

    def count(word: str, names: list[str], **options: Any) -> list[str]:
        compared.append((len(word), len(names)))
        return matches(word, names, **options)

    monkeypatch.setattr(difflib, "get_close_matches", count)
    names = [f"customer-{number}-tone" for number in range(700)]
    assert "did you mean customer-12-tone" in unknown_model("customer-12-tune", names).message
    unknown_model("x" * 8_000_000, names)
    assert compared == [(16, 20), (256, 20)]
