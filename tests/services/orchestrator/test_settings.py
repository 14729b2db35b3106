from __future__ import annotations

import hashlib

import pytest

from orchestrator.errors import SettingsError
from orchestrator.settings import Settings

DIGEST = hashlib.sha256(b"key").hexdigest()


def test_every_setting_has_a_default() -> None:
    settings = Settings.from_environment({"UNRELATED": "x", "PORT": ""})
    assert settings.vllm_url == ("http://127.0.0.1:8000",)
    assert settings.port == 8001
    assert settings.max_tool_rounds == 8


def test_values_are_parsed() -> None:
    settings = Settings.from_environment(
        {
            "VLLM_URL": "http://a:1/v1, https://b/",
            "API_KEYS": f"alice:{DIGEST}, bob:{DIGEST}",
            "TOOL_MODULES": "orders,shipping",
            "LOG_CONTENT": "true",
        }
    )
    assert settings.vllm_url == ("http://a:1", "https://b")
    assert settings.api_keys == {"alice": DIGEST, "bob": DIGEST}
    assert settings.tool_modules == ("orders", "shipping")
    assert settings.log_content


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VLLM_URL", "ftp://vllm", "base URL such as http://vllm:8000"),
        ("VLLM_URL", "vllm:8000", "base URL"),
        ("VLLM_URL", ",", "at least one"),
        ("VLLM_URL", "http://u:p@vllm", "must not contain a user"),
        ("VLLM_URL", "http://vllm/other", "must not have a path"),
        ("VLLM_URL", "http://vllm:99999", "[Pp]ort"),
        ("PORT", "x", "integer"),
        ("PORT", "70000", "65535"),
        ("MAX_IN_FLIGHT", "0", "greater than or equal to 1"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("REQUEST_TIMEOUT_SECONDS", "inf", "."),
        ("HEARTBEAT_SECONDS", "nan", "."),
        ("WEATHER_SOURCE", "moon", "'open-meteo' or 'sample'"),
        ("LOG_LEVEL", "loud", "'debug'"),
        ("CORS_ORIGINS", "app.example.com", "https://app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/", "without a path"),
        ("CORS_ORIGINS", "https://a.example,https://*.b.example", "origins such as"),
        ("CORS_ORIGINS", "null", "origins such as"),
        ("STOP_SECONDS", "5", "at least DRAIN_SECONDS"),
        ("RESPONSES_STORE", "redis://x", "sqlite:///FILE"),
        ("RESPONSES_STORE", "dynamodb://", "dynamodb://TABLE"),
        ("RESPONSES_SECONDS", "1", "greater than or equal to 60"),
    ],
)
def test_invalid_value_is_reported_with_its_variable_and_what_is_allowed(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.from_environment({name: value})
    text = str(caught.value)
    assert text.startswith(f"{name}=")
    assert "cannot be used" in text
    assert value.rstrip("0") in text or "." in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEYS", "alice:topsecretplaintext"),
        ("API_KEYS", f"alice:{DIGEST},alice:{DIGEST}"),
        ("BOOTSTRAP_API_KEY", "tooshort"),
        ("DATABASE_URL", "postgresql://u:topsecret@db/x"),
    ],
)
def test_error_does_not_show_a_secret(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert "topsecret" not in str(caught.value)
    assert "tooshort" not in str(caught.value)
    assert DIGEST not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ({}, "sqlite::memory:"),
        ({"LIMITS_TABLE": "shared"}, "dynamodb://shared"),
        ({"LIMITS_TABLE": "shared", "RESPONSES_STORE": "none"}, "none"),
        ({"RESPONSES_STORE": "sqlite:///data/responses.db"}, "sqlite:///data/responses.db"),
    ],
)
def test_responses_are_stored_where_the_tasks_share(given: dict[str, str], store: str) -> None:
    assert Settings.from_environment(given).store_of_responses == store


def test_repr_does_not_show_secrets() -> None:
    settings = Settings.from_environment(
        {"VLLM_API_KEY": "very-secret", "BOOTSTRAP_API_KEY": "very-secret-too!"}
    )
    assert "very-secret" not in repr(settings)
