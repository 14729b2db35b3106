"""MODELS, and the single model of the other variables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.errors import SettingsError
from orchestrator.model_settings import MAX_MODELS, base_url, read_models
from orchestrator.settings import Settings

A = {"model": "org/a", "url": "http://a:8000"}
B = {"model": "b", "url": "http://b:8000"}


def read(*models: Any) -> Settings:
    return Settings.from_environment({"MODELS": json.dumps(models)})


def test_only_model_and_url_are_required() -> None:
    [one] = read({**A, "url": "http://a:8000/v1, http://b:8000"}).entries
    assert one.url == ("http://a:8000", "http://b:8000")
    assert (one.kind, one.aliases, one.adapters, one.fallback) == ("chat", (), (), None)
    assert (one.startup_seconds, one.status_port, one.rescue, one.tool_call_parser) == (0, 0, None, None)
    assert not one.sees_images


def test_all_fields_are_read() -> None:
    first, second = read(
        {
            **A,
            "kind": "vision",
            "aliases": ["gpt-4o"],
            "adapters": ["support-tone"],
            "fallback": "b",
            "startup_seconds": 900,
            "status_port": 8002,
            "rescue": "never",
            "tool_call_parser": "hermes",
        },
        B,
    ).entries
    assert first.names == ("org/a", "gpt-4o", "support-tone")
    assert first.sees_images
    assert second.names == ("b",)


def test_other_variables_are_a_single_model() -> None:
    settings = Settings.from_environment(
        {
            "VLLM_URL": "http://a:8000,http://b:8000",
            "DEFAULT_MODEL": "a name that MODELS would not accept",
            "ENGINE_STARTUP_SECONDS": "60",
            "ENGINE_STATUS_PORT": "8002",
            "TOOL_CALL_PARSER": "hermes",
            "RESCUE": "end_of_turn",
            "MODEL_TAKES_IMAGES": "true",
        }
    )
    [one] = settings.entries
    assert (one.model, one.url) == ("a name that MODELS would not accept", settings.vllm_url)
    assert (one.startup_seconds, one.status_port) == (60, 8002)
    assert (one.tool_call_parser, one.rescue, one.sees_images) == ("hermes", "end_of_turn", True)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "list of 1 to 100 objects"),
        ([B] * (MAX_MODELS + 1), "list of 1 to 100 objects"),
        ([7], "entry 1 must be an object with model and url, not 7"),
        ([A, {"url": "http://x"}], "entry 2: model is missing"),
        ([{"model": "b"}], r"entry 1 \(b\): url is missing"),
        ([{**A, "model": "a b"}], r'entry 1 \(a b\): model must have .*; it is "a b"'),
        ([{**A, "model": ""}], "model must have 1 to 256"),
        ([{**A, "url": "a:8000"}], "url must be a base URL"),
        ([{**A, "url": ""}], "at least one base URL"),
        ([{**A, "kind": "image"}], "kind should be 'chat', 'vision'.*; it is \"image\""),
        ([{**A, "aliases": "gpt-4o"}], "aliases should be a valid tuple"),
        ([{**A, "aliases": ["x y"]}], "aliases.0 must have"),
        ([{**A, "startup_seconds": -1}], "startup_seconds should be greater than or equal to 0; it is -1"),
        ([{**A, "adaptors": []}], "adaptors is not a field; the fields are model, url"),
        ([A, A], "the name org/a occurs 2 times, in org/a"),
        ([{**A, "aliases": ["b"]}, B], "the name b occurs 2 times, in org/a, b"),
        ([{**A, "adapters": ["x"]}, {**B, "aliases": ["x"]}], "the name x occurs 2 times"),
        ([{**A, "fallback": "org/a"}, B], "fallback org/a of org/a must be the model of another entry: b"),
        ([{**A, "fallback": "c"}, B], "must be the model of another entry: b"),
        ([{**A, "fallback": "b"}, {**B, "kind": "embedding"}], "must be of the same kind, chat"),
        (
            [{**A, "kind": "embedding", "fallback": "b"}, {**B, "kind": "embedding"}],
            "vectors of two embedding models cannot be compared",
        ),
    ],
)
def test_error_names_the_entry_the_field_and_what_is_allowed(models: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read(*models)
    assert caught.value.name == "MODELS"


@pytest.mark.parametrize("value", ["[", "{}", "nothing", '"text"'])
def test_value_that_is_not_a_list_is_rejected(value: str) -> None:
    with pytest.raises(SettingsError, match="must be "):
        Settings.from_environment({"MODELS": value})


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(SettingsError) as caught:
        read({**A, "aliases": [f"alias {number}" for number in range(1000)]})
    assert len(str(caught.value)) < 1000


def test_a_chat_model_may_stand_in_for_one_that_sees_images() -> None:
    assert read({**A, "kind": "vision", "fallback": "b"}, B).entries[0].fallback == "b"


def test_models_that_were_read_stay_as_they_are() -> None:
    models = read(A).models
    assert read_models(models) is models


def test_base_url_drops_v1() -> None:
    assert base_url("http://a:8000/v1/") == "http://a:8000"
