"""The facts about a model that `models.yaml` lacks, from the deployment file or a `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import Model
from .model_settings import ModelSize
from .sizing import GIB

INDEX = "model.safetensors.index.json"
_FORMATS = {"gptq": "gptq", "awq": "awq", "fp8": "fp8", "mxfp4": "mxfp4"}


def sized_model(name: str, size: ModelSize, known: Model | None) -> Model:
    """Returns a model with the stated size; what is not stated comes from its `config.json`.

    Args:
        name: The model's name on the Hugging Face Hub.
        size: The section `model.size`.
        known: What `models.yaml` says of the model, if anything; its parser and licence still apply.

    Raises:
        ValueError: A file cannot be read, or a value is missing. The message names the setting.
    """
    config = _config(Path(size.config)) if size.config else {}
    weights = size.weights_gib or (_weights_gib(Path(size.config)) if size.config else None)
    layers = size.layers or config.get("num_hidden_layers")
    heads = size.attention_heads or config.get("num_attention_heads")
    kv_heads = size.kv_heads or config.get("num_key_value_heads") or heads
    hidden = config.get("hidden_size")
    head_dim = size.head_dim or config.get("head_dim") or (hidden // heads if hidden and heads else None)
    needed = {"weights_gib": weights, "layers": layers, "kv_heads": kv_heads, "head_dim": head_dim}
    missing = [setting for setting, value in needed.items() if not value]
    if missing or not (layers and kv_heads and head_dim):
        raise ValueError(f"model.size.{missing[0]} is needed, since {_origin(size)}")
    alike = {"full_attention"} >= set(config.get("layer_types") or ()) and not config.get("kv_lora_rank")
    return Model(
        name=name,
        tool_call_parser=known.tool_call_parser if known else None,
        gated=known.gated if known else False,
        attention="full" if alike else "hybrid_swa",
        max_positions=size.max_positions or config.get("max_position_embeddings"),
        weights_format=_format(config) or size.weights_format,
        weights_gib=weights,
        kv_bytes_per_token=2 * layers * kv_heads * head_dim * 2,
        params=None,
        kv_heads=kv_heads,
        min_vram_gb={},
        attention_heads=heads,
        unquantized_params=None,
        images=known.images if known else bool(config.get("vision_config")),
    )


def _origin(size: ModelSize) -> str:
    return f"{size.config} does not contain it" if size.config else "model.size.config names no config.json"


def _config(path: Path) -> Mapping[str, Any]:
    config = _read(path)
    # Models that also see or hear keep the facts about their language model in a part of their own.
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def _weights_gib(config: Path) -> float | None:
    index = config.with_name(INDEX)
    if not index.is_file():
        return None
    total = _read(index).get("metadata", {}).get("total_size")
    return total / GIB if total else None


def _format(config: Mapping[str, Any]) -> str | None:
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return _FORMATS.get(str(method), str(method)) if method else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not the config.json of a model: it must be a JSON object")
    return content
