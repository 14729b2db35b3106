"""Copies LoRA adapters to the disk, and checks that they fit the model before vLLM starts.

An adapter is two files: `adapter_config.json` and `adapter_model.safetensors`. They are copied at every
start, so that a start serves what is in the bucket then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .hub import HUB, Hub, HubError
from .location import Location
from .settings import LORA_RANKS, LaunchError, Settings
from .storage import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_AT_ONCE = 4
"""Adapters of one batch by default. Each takes memory, whether requests use it or not."""

_SETTING = "ADAPTERS"


@dataclass(frozen=True, slots=True)
class LocalAdapter:
    """An adapter on the disk, which fits the model.

    Attributes:
        name: The name that clients use.
        path: The directory with its files.
        rank: The largest rank of its matrices.
    """

    name: str
    path: Path
    rank: int


def local_adapters(
    settings: Settings, directory: Path, client: Callable[[], S3Client], environ: Mapping[str, str]
) -> list[LocalAdapter]:
    """Copies the adapters of the settings to a directory, and checks them.

    Args:
        settings: The engine's settings.
        directory: Where the copies go.
        client: Returns a client of S3.
        environ: The environment, for the Hub's token.

    Raises:
        LaunchError: An adapter cannot be read, or does not fit the model.
    """
    local = []
    for adapter in settings.adapters:
        place = directory / adapter.name
        place.mkdir(parents=True)
        if isinstance(adapter.source, Location):
            _from_s3(client(), adapter.source, place)
        else:
            _from_hub(Hub(environ.get("HF_TOKEN"), environ.get("HUB_ADDRESS") or HUB), adapter.source, place)
        local.append(_checked(settings, adapter, place))
    return local


def lora_flags(settings: Settings, adapters: Sequence[LocalAdapter]) -> list[str]:
    """Returns the arguments of `vllm serve` for these adapters; none without adapters."""
    if not adapters:
        return []
    rank = settings.max_lora_rank or next(one for one in LORA_RANKS if one >= max(a.rank for a in adapters))
    at_once = settings.max_loras or min(len(adapters), MOST_AT_ONCE)
    base = settings.served_model_name or settings.model
    modules = [
        json.dumps({"name": one.name, "path": str(one.path), "base_model_name": base}) for one in adapters
    ]
    sizes = ["--max-lora-rank", str(rank), "--max-loras", str(at_once)]
    return ["--enable-lora", *sizes, "--lora-modules", *modules]


def _from_s3(client: S3Client, source: Location, place: Path) -> None:
    from botocore.exceptions import ClientError

    for name in (CONFIG, WEIGHTS):
        with explained(_SETTING, source):
            try:
                client.download_file(source.bucket, source.key(name), str(place / name))
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                    raise LaunchError(
                        f"{_SETTING}='{source}': there is no {name}; name the prefix that contains it, as "
                        "PEFT's save_pretrained writes it"
                    ) from None
                raise


def _from_hub(hub: Hub, source: str, place: Path) -> None:
    try:
        commit, listed = hub.files(source, "main")
        found = {file.path: file for file in listed}
        for name in (CONFIG, WEIGHTS):
            if name not in found:
                raise LaunchError(f"{_SETTING}='{source}': the repository has no {name}")
            with (place / name).open("wb") as target:
                target.writelines(hub.pieces(source, commit, found[name]))
    except (HubError, OSError) as error:
        raise LaunchError(f"{_SETTING}='{source}': {error}") from None


def _checked(settings: Settings, adapter: Adapter, place: Path) -> LocalAdapter:
    where = f"{_SETTING}: {adapter.name} ({adapter.source}): {CONFIG}"
    try:
        config: Any = json.loads((place / CONFIG).read_bytes())
    except ValueError as error:
        raise LaunchError(f"{where} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise LaunchError(f"{where} has peft_type {kind!r}; vLLM serves LORA only")
    base = config.get("base_model_name_or_path")
    if base != settings.model:
        raise LaunchError(
            f"{where} has base_model_name_or_path {base!r}, and this engine serves {settings.model!r}. Serve "
            "the adapter with its own base model, or correct the field if it names the same model"
        )
    return LocalAdapter(adapter.name, place, _rank(settings, config, where))


def _rank(settings: Settings, config: Mapping[str, Any], where: str) -> int:
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 for rank in ranks):
        raise LaunchError(f"{where} has the rank {config.get('r')!r}; it must be a whole number above 0")
    rank: int = max(ranks)
    most = settings.max_lora_rank or LORA_RANKS[-1]
    if rank > most:
        remedy = (
            f"set MAX_LORA_RANK to at least {rank}"
            if rank <= LORA_RANKS[-1]
            else "train it with a lower rank"
        )
        raise LaunchError(f"{where} has rank {rank}, and the engine allows {most}; {remedy}")
    return rank
