"""The command line of vLLM for given settings and a model of models.yaml."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from .adapters import LocalAdapter, lora_flags
from .settings import LaunchError, Settings

CHAT_KINDS = ("chat", "vision")
POOLING_KINDS = ("embedding", "reranker")
TEXT_ONLY = "--language-model-only"
"""An argument of models whose images cost memory that a text model does not need."""

MODELS_FILE = Path(__file__).parents[1] / "models.yaml"
NO_PARSER = "none"
STREAMER = "runai_streamer"
STREAMS = 16
"""Connections to S3 that a streamer reads with."""


@dataclass(frozen=True, slots=True)
class Model:
    """The command-line arguments and limits that models.yaml gives for a model."""

    tool_call_parser: str | None
    reasoning_parser: str | None
    chat_template: str | None
    extra_args: tuple[str, ...]
    revision: str | None
    max_positions: int | None


def load_models(path: Path = MODELS_FILE) -> dict[str, Model]:
    """Reads the models in models.yaml, keyed by their name on the Hugging Face Hub."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Model(
            tool_call_parser=facts["tool_call_parser"],
            reasoning_parser=facts.get("reasoning_parser"),
            chat_template=facts.get("chat_template"),
            extra_args=tuple(facts.get("extra_args", ())),
            revision=facts.get("revision"),
            max_positions=facts["max_positions"],
        )
        for name, facts in document["models"].items()
    }


@dataclass(frozen=True, slots=True)
class Files:
    """Where vLLM reads the model's files, if not from the Hub.

    Attributes:
        place: A directory, or a place in S3 to stream from.
        streamed: Whether the weights are streamed.
    """

    place: str
    streamed: bool


def build_argv(
    settings: Settings,
    models: Mapping[str, Model],
    files: Files | None = None,
    adapters: Sequence[LocalAdapter] = (),
) -> list[str]:
    """Builds the command line that starts vLLM, from `vllm serve` on.

    Args:
        settings: The engine's settings.
        models: The models of models.yaml.
        files: Where the model's files are, if MODEL_SOURCE is set.
        adapters: The adapters on the disk.

    Raises:
        LaunchError: The model is unknown and no parser is set, or a setting does not fit the model.
    """
    model = _model_of(settings, models)
    if files is None:
        argv = ["vllm", "serve", settings.model]
        argv += _flag("--revision", settings.model_revision or model.revision)
        argv += _flag("--served-model-name", settings.served_model_name)
        argv += _flag("--tokenizer", settings.tokenizer)
    else:
        argv = ["vllm", "serve", files.place]
        argv += ["--served-model-name", settings.served_model_name or settings.model]
        argv += _flag("--tokenizer", _in_place(settings, files))
    argv += ["--host", settings.host, "--port", str(settings.port), "--dtype", settings.dtype]
    argv += _flag("--quantization", settings.quantization)
    argv += _flag("--kv-cache-dtype", settings.kv_cache_dtype)
    argv += _load_flags(settings, files)
    argv += ["--max-model-len", str(settings.max_model_len)]
    argv += ["--gpu-memory-utilization", _decimal(settings.gpu_memory_utilization)]
    argv += ["--max-num-seqs", str(settings.max_num_seqs)]
    argv += ["--max-num-queued-reqs", str(settings.max_num_queued_reqs)]
    if settings.tensor_parallel_size > 1:
        argv += ["--tensor-parallel-size", str(settings.tensor_parallel_size)]
    argv += _kind_flags(settings, model)
    argv += lora_flags(settings, adapters)
    argv += ["--shutdown-timeout", str(settings.shutdown_timeout), "--disable-fastapi-docs"]
    # The orchestrator asks for the control tokens. The route is outside of /v1, and the engine is not public.
    argv += ["--enable-tokenizer-info-endpoint"]
    argv += ["--disable-access-log-for-endpoints", "/health,/metrics,/ping"]
    if settings.otel_exporter_otlp_endpoint:
        argv += ["--otlp-traces-endpoint", f"{settings.otel_exporter_otlp_endpoint}/v1/traces"]
    return [*argv, *_extra_args(settings, model), *settings.extra_args]


def _kind_flags(settings: Settings, model: Model) -> list[str]:
    """The arguments that depend on what the model does."""
    if settings.kind in CHAT_KINDS:
        # The share of cached tokens in the usage, which shows whether requests find their prefixes.
        return [*_tool_flags(settings, model), "--enable-prompt-tokens-details"]
    return ["--runner", "pooling"] if settings.kind in POOLING_KINDS else []


def _extra_args(settings: Settings, model: Model) -> list[str]:
    return [one for one in model.extra_args if settings.kind != "vision" or one != TEXT_ONLY]


def _in_place(settings: Settings, files: Files) -> str | None:
    """The tokenizer; one below MODEL_SOURCE is where the model's other files are."""
    source = f"{settings.model_source}/"
    if settings.tokenizer and settings.tokenizer.startswith(source):
        return f"{files.place}/{settings.tokenizer.removeprefix(source)}"
    return settings.tokenizer


def _load_flags(settings: Settings, files: Files | None) -> list[str]:
    if files is None or not files.streamed:
        return _flag("--load-format", settings.load_format)
    # Without a limit, the streamer buffers up to 40 GB.
    limits = {"memory_limit": settings.stream_memory_mib * 2**20, "concurrency": STREAMS}
    return ["--load-format", STREAMER, "--model-loader-extra-config", json.dumps(limits)]


def _model_of(settings: Settings, models: Mapping[str, Model]) -> Model:
    model = models.get(settings.model)
    if model is None:
        if settings.tool_call_parser is None and settings.kind in CHAT_KINDS:
            near = _nearest(settings.model, models)
            raise LaunchError(
                f"MODEL={settings.model!r}: not in models.yaml"
                + (f"; nearest: {', '.join(near)}" if near else "")
                + ". To serve a model that is not listed, set TOOL_CALL_PARSER to vLLM's parser for it, "
                f"or to {NO_PARSER!r} to serve it without tools."
            )
        return Model(None, None, None, (), None, None)
    if model.max_positions is not None and settings.max_model_len > model.max_positions:
        raise LaunchError(
            f"MAX_MODEL_LEN='{settings.max_model_len}': {settings.model} supports at most "
            f"{model.max_positions} positions"
        )
    return model


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """Returns at most three of `names`, most similar first: by whole parts of the name, then by letters."""
    parts = set(re.split("[-/]", name.lower()))

    def likeness(other: str) -> float:
        others = set(re.split("[-/]", other.lower()))
        shared = 2 * len(parts & others) / (len(parts) + len(others))
        return shared + difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()

    return [other for other in sorted(names, key=likeness, reverse=True)[:3] if likeness(other) > 0.8]


def _tool_flags(settings: Settings, model: Model) -> list[str]:
    parser = settings.tool_call_parser or model.tool_call_parser
    if parser is None:
        raise LaunchError(
            f"MODEL={settings.model!r}: vLLM documents no tool-call parser for this model. Set "
            "TOOL_CALL_PARSER (and CHAT_TEMPLATE if the model's own template does not support tools), or set "
            f"TOOL_CALL_PARSER={NO_PARSER} to serve it without tools."
        )
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", parser, "--tool-strict-level", "function"]
    tools.append("--exclude-tools-when-tool-choice-none")
    reasoning = settings.reasoning_parser or model.reasoning_parser
    return [
        *(tools if parser != NO_PARSER else []),
        *_flag("--reasoning-parser", reasoning if reasoning != NO_PARSER else None),
        *_flag("--chat-template", settings.chat_template or model.chat_template),
    ]


def _flag(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


def _decimal(share: float) -> str:
    return f"{share:.2f}" if round(share, 2) == share else repr(share)
