"""LoRA adapters that come and go while the server runs. Each answers as the model, under its own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .arguments import Options
from .errors import ApiError, error_body, status_error

FILES = ("adapter_config.json", "adapter_model.safetensors")


def load(options: Options, body: Mapping[str, Any]) -> tuple[Options, str]:
    """Returns the options with another adapter, and what to answer.

    Raises:
        ApiError: The name is in use, or there is no adapter at the path.
    """
    name, path = str(body.get("lora_name") or ""), str(body.get("lora_path") or "")
    if not name or not path:
        raise _invalid("Both 'lora_name' and 'lora_path' must be provided.")
    if name in options.adapters:
        raise _invalid(
            f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
            "set 'load_inplace' to True."
        )
    if name in options.served_names:
        raise _invalid(f"The lora adapter '{name}' conflicts with a served base model.")
    if not all(Path(path, file).is_file() for file in FILES):
        raise status_error(404, f"Loading lora {name} failed: No adapter found for {path}")
    changed = replace(options, served_names=(*options.served_names, name), adapters=(*options.adapters, name))
    return changed, f"Success: LoRA adapter '{name}' added successfully."


def unload(options: Options, body: Mapping[str, Any]) -> tuple[Options, str]:
    """Returns the options without an adapter, and what to answer.

    Raises:
        ApiError: The adapter is not loaded.
    """
    name = str(body.get("lora_name") or "")
    if not name:
        raise _invalid("'lora_name' needs to be provided to unload a LoRA adapter.")
    if name not in options.adapters:
        raise status_error(404, f"The lora adapter '{name}' cannot be found.")
    changed = replace(
        options,
        served_names=tuple(one for one in options.served_names if one != name),
        adapters=tuple(one for one in options.adapters if one != name),
    )
    return changed, f"Success: LoRA adapter '{name}' removed successfully."


ROUTES: Mapping[str, Callable[[Options, Mapping[str, Any]], tuple[Options, str]]] = {
    "/v1/load_lora_adapter": load,
    "/v1/unload_lora_adapter": unload,
}


def _invalid(message: str) -> ApiError:
    return ApiError(400, error_body(message, "InvalidUserInput", None, 400))
