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

from .hub import HUB, Hub, HubError
from .location import Location
from .settings import LORA_RANKS, LaunchError, Settings
from .storage import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_AT_ONCE = 4
"""Adapters of one batch by default. Each takes memory, whether requests use it or not."""

LATER_RANK = 16
"""The rank that adapters of ADAPTERS_FROM may have by default. vLLM fixes it when it starts."""

_GUARD = "engine_start.adapter_routes.AdapterRoutes"
_SEVERAL_SERVERS = ("--api-server-count", "-asc", "--data-parallel-size", "-dp")
_SETTING = "ADAPTERS"


class UnfitAdapter(LaunchError):
    """An adapter that this engine cannot serve, however often it tries."""


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
        where = f"{_SETTING}: {adapter.name} ({adapter.source})"
        local.append(
            checked(adapter.name, place, base=settings.model, most=settings.max_lora_rank, where=where)
        )
    return local


def lora_rank(settings: Settings, adapters: Sequence[LocalAdapter]) -> int:
    """Returns the largest rank that the engine serves: of these adapters, and of those that come later."""
    needed = [one.rank for one in adapters] + ([LATER_RANK] if settings.adapters_from else [])
    return settings.max_lora_rank or next(one for one in LORA_RANKS if one >= max(needed))


def lora_flags(settings: Settings, adapters: Sequence[LocalAdapter]) -> list[str]:
    """Returns the arguments of `vllm serve` for these adapters and those that come later; none without any.

    Raises:
        LaunchError: Several processes would answer, of which only one gets adapters that come later.
    """
    if not adapters and not settings.adapters_from:
        return []
    at_once = settings.max_loras or (MOST_AT_ONCE if settings.adapters_from else _at_once(adapters))
    flags = ["--enable-lora", "--max-lora-rank", str(lora_rank(settings, adapters))]
    flags += ["--max-loras", str(at_once)]
    if settings.adapters_from:
        for argument in settings.extra_args:
            if argument.partition("=")[0].replace("_", "-") in _SEVERAL_SERVERS:
                raise LaunchError(
                    f"EXTRA_ARGS={argument!r}: with ADAPTERS_FROM, one process must answer all requests, "
                    "because vLLM loads an adapter in one only; delete the argument, or list the adapters in "
                    "ADAPTERS"
                )
        flags += ["--middleware", _GUARD]
    base = settings.served_model_name or settings.model
    modules = [
        json.dumps({"name": one.name, "path": str(one.path), "base_model_name": base}) for one in adapters
    ]
    return [*flags, *(["--lora-modules", *modules] if modules else [])]


def _at_once(adapters: Sequence[LocalAdapter]) -> int:
    return min(len(adapters), MOST_AT_ONCE)


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


def checked(name: str, place: Path, *, base: str, most: int | None, where: str) -> LocalAdapter:
    """Returns an adapter on the disk, if it fits the model.

    Args:
        name: The name that clients use.
        place: The directory with its files.
        base: The model.
        most: The largest rank that the engine serves; None if it is not decided yet.
        where: What to call the adapter in messages.

    Raises:
        UnfitAdapter: It does not fit.
    """
    where = f"{where}: {CONFIG}"
    try:
        config: Any = json.loads((place / CONFIG).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UnfitAdapter(f"{where} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise UnfitAdapter(f"{where} has peft_type {kind!r}; vLLM serves LORA only")
    given = config.get("base_model_name_or_path")
    if given != base:
        raise UnfitAdapter(
            f"{where} has base_model_name_or_path {given!r}, and this engine serves {base!r}. Serve "
            "the adapter with its own base model, or correct the field if it names the same model"
        )
    return LocalAdapter(name, place, _rank(config, most or LORA_RANKS[-1], where))


def _rank(config: Mapping[str, Any], most: int, where: str) -> int:
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    if not all(isinstance(rank, int) and not isinstance(rank, bool) and rank > 0 for rank in ranks):
        raise UnfitAdapter(f"{where} has the rank {config.get('r')!r}; it must be a whole number above 0")
    rank: int = max(ranks)
    if rank > most:
        remedy = (
            f"set MAX_LORA_RANK to at least {rank}"
            if rank <= LORA_RANKS[-1]
            else "train it with a lower rank"
        )
        raise UnfitAdapter(f"{where} has rank {rank}, and the engine allows {most}; {remedy}")
    return rank
