"""The settings of an engine: environment variables -> `Settings`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from .adapter import Adapter, parse_adapters
from .location import Location

KINDS = ("chat", "vision", "embedding", "reranker", "speech-to-text")
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM has for --max-lora-rank."""

SECRET_FLAGS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}


class LaunchError(Exception):
    """vLLM cannot start. The message names the setting, its value and what is allowed, or what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings and their defaults. Each is read from the environment variable of its name in capitals."""

    model: str = "Qwen/Qwen2.5-7B-Instruct"
    """Name on the Hugging Face Hub, or a local path."""
    model_revision: str | None = None
    """Commit, tag or branch of the model. Default: the one in models.yaml, if any."""
    served_model_name: str | None = None
    """The name that clients use. Default: the model's own name."""
    tokenizer: str | None = None
    """Name or path of a tokenizer other than the model's own."""
    host: str = "0.0.0.0"  # noqa: S104 - the container's host decides whether the port is published
    port: int = 8000
    dtype: str = "bfloat16"
    """Data type of the activations, and of weights that are not quantized."""
    quantization: str | None = None
    """Quantization method. Default: the one in the model's config.json."""
    kv_cache_dtype: str | None = None
    """Data type of the KV cache. Default: the same as the activations."""
    load_format: str | None = None
    """How the weights are loaded, e.g. runai_streamer. Default: runai_streamer from S3, else auto."""
    model_source: Location | None = None
    """s3://bucket/prefix of the model's files. Default: the Hugging Face Hub, or the path in MODEL."""
    stream_memory_mib: int = 4096
    """Memory in MiB for streaming weights from S3."""
    cache_location: Location | None = None
    """s3://bucket/prefix where compiled graphs are kept between starts. Default: only on this disk."""
    status_port: int = 0
    """Port that answers with the state of the start. 0: none."""
    metrics_namespace: str | None = None
    """CloudWatch namespace for the seconds of a start, written to the log. Default: no metrics."""
    deployment_name: str | None = None
    """Name of the deployment in those metrics."""
    max_model_len: int = 16384
    """Maximum number of tokens in a prompt and its answer together."""
    gpu_memory_utilization: float = 0.90
    """Fraction of the GPU's memory that vLLM may use."""
    max_num_seqs: int = 32
    """Maximum number of requests that generate at the same time."""
    max_num_queued_reqs: int = 64
    """Maximum number of requests running or waiting; beyond it vLLM answers 503."""
    tensor_parallel_size: int = 1
    """Number of GPUs that the model is split across."""
    kind: str = "chat"
    """What the model does: chat, vision (chat with images), embedding, reranker or speech-to-text."""
    adapters: tuple[Adapter, ...] = ()
    """LoRA adapters: a JSON list of {"name": NAME, "source": s3://bucket/prefix or a Hub repository}."""
    max_lora_rank: int | None = None
    """Largest rank of an adapter. Default: what the adapters need, and at least 16 with ADAPTERS_FROM."""
    max_loras: int | None = None
    """Number of adapters that one batch may use. Default: all, but at most 4; with ADAPTERS_FROM, 4."""
    adapters_from: Location | None = None
    """s3://bucket/prefix whose folders are further adapters, loaded and unloaded while the engine runs."""
    adapters_seconds: int = 60
    """Seconds between two looks at ADAPTERS_FROM."""
    tool_call_parser: str | None = None
    """vLLM's parser for tool calls. Default: the one in models.yaml. `none` serves without tools."""
    reasoning_parser: str | None = None
    """vLLM's reasoning parser. Default: the one in models.yaml. `none` leaves reasoning in the text."""
    chat_template: str | None = None
    """Path of a Jinja file. Default: the one in models.yaml, otherwise the model's own."""
    shutdown_timeout: int = 90
    """Seconds that running requests have to finish after SIGTERM."""
    hang_seconds: int = 30
    """Seconds that a loaded engine may leave /health unanswered before it is ended. 0: forever."""
    otel_exporter_otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector (OTLP over HTTP) for vLLM's own spans. Default: no traces."""
    extra_args: tuple[str, ...] = ()
    """Further arguments for `vllm serve`, split like a shell command."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the settings. An unset or empty variable keeps its default.

        Raises:
            LaunchError: A value is invalid. The message names the variable, the value and what is allowed.
        """
        given: dict[str, Any] = {}
        for field in fields(cls):
            name = field.name.upper()
            value = environ.get(name, "").strip()
            if value:
                try:
                    given[field.name] = _READERS.get(field.name, _word)(value)
                except ValueError as error:
                    raise LaunchError(f"{name}={value!r}: {error}") from None
        return cls(**given)


def _word(value: str) -> str:
    if value.startswith("-") or any(c.isspace() for c in value):
        raise ValueError("must be a single word that does not start with '-'")
    return value


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    allowed = "must be a whole number " + (
        f"from {low} to {high}" if high is not None else f"of at least {low}"
    )

    def read(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise ValueError(allowed) from None
        if number < low or (high is not None and number > high):
            raise ValueError(allowed)
        return number

    return read


def _share(value: str) -> float:
    allowed = "must be a number above 0 and at most 1, e.g. 0.90"
    try:
        share = float(value)
    except ValueError:
        raise ValueError(allowed) from None
    if not 0 < share <= 1:
        raise ValueError(allowed)
    return share


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return read


def _collector(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ValueError("must be a URL such as http://collector:4318, without a password")
    return value.rstrip("/")


def _rank(value: str) -> int:
    if not value.isdecimal() or int(value) not in LORA_RANKS:
        raise ValueError(f"must be one of {', '.join(map(str, LORA_RANKS))}")
    return int(value)


def _arguments(value: str) -> tuple[str, ...]:
    try:
        arguments = tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"cannot be split like a shell command: {error}") from None
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        for secret, variable in SECRET_FLAGS.items():
            if len(flag) > 2 and secret.startswith(flag):  # argparse accepts abbreviated flags
                raise ValueError(
                    f"{secret} would expose a secret in the process list; set {variable} instead"
                )
        if flag in OWN_FLAGS:
            raise ValueError(f"{flag} is controlled by {OWN_FLAGS[flag]}; set that variable instead")
    return arguments


_READERS: dict[str, Callable[[str], Any]] = {
    "port": _whole(1, 65535),
    "dtype": _one_of("auto", "bfloat16", "float16", "float32"),
    "max_model_len": _whole(1),
    "gpu_memory_utilization": _share,
    "max_num_seqs": _whole(1),
    "max_num_queued_reqs": _whole(1),
    "tensor_parallel_size": _whole(1),
    "kind": _one_of(*KINDS),
    "adapters": parse_adapters,
    "max_lora_rank": _rank,
    "max_loras": _whole(1, 256),
    "adapters_from": Location.parse,
    "adapters_seconds": _whole(1, 3600),
    "shutdown_timeout": _whole(0),
    "hang_seconds": _whole(0),
    "otel_exporter_otlp_endpoint": _collector,
    "extra_args": _arguments,
    "model_source": Location.parse,
    "stream_memory_mib": _whole(256),
    "cache_location": Location.parse,
    "status_port": _whole(0, 65535),
}

_NOT_FLAGS = frozenset(
    {
        "extra_args", "hang_seconds", "model_source", "stream_memory_mib", "cache_location", "status_port",
        "metrics_namespace", "deployment_name", "otel_exporter_otlp_endpoint", "kind", "adapters",
        "adapters_from", "adapters_seconds",
    }
)  # fmt: skip
OWN_FLAGS = {
    f"--{name.replace('_', '-')}": name.upper()
    for name in (field.name for field in fields(Settings))
    if name not in _NOT_FLAGS
} | {
    "--revision": "MODEL_REVISION",
    "--model-loader-extra-config": "STREAM_MEMORY_MIB",
    "--otlp-traces-endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "--enable-lora": "ADAPTERS",
    "--lora-modules": "ADAPTERS",
    "--runner": "KIND",
}
