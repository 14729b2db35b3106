"""The size of a model that models.yaml lacks: stated in the file, or read from its config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.deployment.catalog import load_catalog
from infra.deployment.checks import check
from infra.deployment.model_settings import ModelSize
from infra.deployment.model_size import sized_model
from infra.deployment.plan import Plan
from infra.deployment.sizing import GIB
from tests.infra.deployment.checks.broken_deployments import deployment

CATALOG = load_catalog()
QWEN = CATALOG.models["Qwen/Qwen2.5-7B-Instruct"]
CONFIG = {
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_size": 3584,
    "max_position_embeddings": 32768,
}


def read(tmp_path: Path, config: dict[str, Any], total_size: int | None = 15_231_233_024) -> Any:
    (tmp_path / "config.json").write_text(json.dumps(config))
    if total_size:
        index = {"metadata": {"total_size": total_size}, "weight_map": {}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return sized_model("acme/Model-1", ModelSize(config=str(tmp_path / "config.json")), None)


def test_config_gives_what_the_catalogue_has_for_the_same_model(tmp_path: Path) -> None:
    model = read(tmp_path, CONFIG)
    assert model.weights_gib == pytest.approx(15_231_233_024 / GIB)
    for fact in ("kv_bytes_per_token", "kv_heads", "attention_heads", "max_positions", "weights_format"):
        assert getattr(model, fact) == getattr(QWEN, fact), fact


def test_config_says_whether_an_unknown_model_takes_images(tmp_path: Path) -> None:
    assert not read(tmp_path, CONFIG).images
    assert read(tmp_path, {"text_config": CONFIG, "vision_config": {"hidden_size": 1152}}).images


def test_stated_size_gives_the_same() -> None:
    stated = {"weights_gib": 14.19, "layers": 28, "kv_heads": 4, "head_dim": 128, "attention_heads": 28}
    model = sized_model("acme/Model-1", ModelSize.model_validate(stated), None)
    assert (model.kv_bytes_per_token, model.weights_gib) == (QWEN.kv_bytes_per_token, 14.19)


@pytest.mark.parametrize(
    ("changes", "fact", "value"),
    [
        ({"head_dim": 64}, "kv_bytes_per_token", 2 * 28 * 4 * 64 * 2),
        ({"num_key_value_heads": None}, "kv_heads", 28),
        ({"quantization_config": {"quant_method": "awq"}}, "weights_format", "awq"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "attention", "hybrid_swa"),
        ({"layer_types": ["full_attention"] * 28}, "attention", "full"),
        ({"kv_lora_rank": 512}, "attention", "hybrid_swa"),
        ({"text_config": {"num_hidden_layers": 14}}, "kv_bytes_per_token", 2 * 14 * 4 * 128 * 2),
    ],
)
def test_forms_of_config(tmp_path: Path, changes: dict[str, Any], fact: str, value: object) -> None:
    assert getattr(read(tmp_path, CONFIG | changes), fact) == value


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.size\.weights_gib is needed"):
        read(tmp_path, CONFIG, total_size=None)
    with pytest.raises(ValueError, match=r"model\.size\.layers is needed"):
        read(tmp_path, {**CONFIG, "num_hidden_layers": None})
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ValueError, match="is not JSON"):
        sized_model("acme/Model-1", ModelSize(config=str(tmp_path / "config.json")), None)


def test_unknown_model_of_stated_size_is_checked_like_a_known_one() -> None:
    size = {"weights_gib": 27.5, "layers": 48, "kv_heads": 8, "head_dim": 128, "attention_heads": 40}
    given = {"model__id": "acme/Model-1", "model__tool_call_parser": "hermes", "model__size": size}
    finding = next(one for one in check(deployment(**given)) if one.rule == "model-fits")
    assert "27.5 GiB of weights of acme/Model-1" in finding.message
    larger = deployment(**given, gpu__instance_types=["g6e.2xlarge"])
    assert check(larger) == []
    assert Plan(larger, CATALOG).weights_gb == pytest.approx(27.5 * GIB / 1e9)
