from __future__ import annotations

import hashlib

import pytest

from orchestrator.errors import SettingsError
from orchestrator.settings import Settings

DIGEST = hashlib.sha256(b"key").hexdigest()


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_environment({"UNRELATED": "x", "PORT": ""})
    assert settings.vllm_url == ("http://127.0.0.1:8000",)
    assert settings.port == 8001
    assert settings.max_tool_rounds == 8


def test_values_are_read() -> None:
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
    ("name", "value", "said"),
    [
        ("VLLM_URL", "ftp://vllm", "base URL such as http://vllm:8000"),
        ("VLLM_URL", "vllm:8000", "base URL"),
        ("VLLM_URL", ",", "at least one"),
        ("VLLM_URL", "http://u:p@vllm", "must not hold a user"),
        ("VLLM_URL", "http://vllm/other", "no path"),
        ("VLLM_URL", "http://vllm:99999", "[Pp]ort"),
        ("PORT", "x", "integer"),
        ("PORT", "70000", "65535"),
        ("MAX_IN_FLIGHT", "0", "greater than or equal to 1"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("REQUEST_TIMEOUT_SECONDS", "inf", "."),
        ("HEARTBEAT_SECONDS", "nan", "."),
        ("WEATHER_SOURCE", "moon", "'open-meteo' or 'sample'"),
        ("LOG_LEVEL", "loud", "'debug'"),
        ("STOP_SECONDS", "5", "at least DRAIN_SECONDS"),
    ],
)
def test_wrong_value_names_variable_value_and_what_is_allowed(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Settings.from_environment({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert "cannot be used" in message
    assert value.rstrip("0") in message or "." in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEYS", "alice:topsecretplaintext"),
        ("API_KEYS", f"alice:{DIGEST},alice:{DIGEST}"),
        ("BOOTSTRAP_API_KEY", "tooshort"),
        ("DATABASE_URL", "postgresql://u:topsecret@db/x"),
    ],
)
def test_secret_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert "topsecret" not in str(caught.value)
    assert "tooshort" not in str(caught.value)
    assert DIGEST not in str(caught.value)


def test_secrets_do_not_show_in_repr() -> None:
    settings = Settings.from_environment(
        {"VLLM_API_KEY": "very-secret", "BOOTSTRAP_API_KEY": "very-secret-too!"}
    )
    assert "very-secret" not in repr(settings)
