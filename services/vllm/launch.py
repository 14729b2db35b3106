"""Starts vLLM: environment -> `Settings` -> command line -> exec, with a watchdog beside it.

`python launch.py --print` prints the command line and exits. vLLM itself reads `VLLM_API_KEY` from the
environment, so the key never appears in a process list.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

MODELS_FILE = Path(__file__).with_name("models.yaml")
WATCHDOG_FILE = Path(__file__).with_name("watchdog.py")
NO_PARSER = "none"

CHILD_DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_MAX_N_SEQUENCES": "8",
}
"""Added to vLLM's environment unless already set. vLLM itself allows an `n` of up to 16384."""

SECRET_FLAGS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}


class LaunchError(Exception):
    """A setting that vLLM cannot start with. The message names the setting, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Model:
    """The command-line arguments and limits that models.yaml gives for a model."""

    tool_call_parser: str | None
    reasoning_parser: str | None
    chat_template: str | None
    extra_args: tuple[str, ...]
    revision: str | None
    max_positions: int | None


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
    """How the weights are loaded, e.g. runai_streamer. Default: vLLM's auto."""
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
        if flag in _OWN_FLAGS:
            raise ValueError(f"{flag} is controlled by {_OWN_FLAGS[flag]}; set that variable instead")
    return arguments


_READERS: dict[str, Callable[[str], Any]] = {
    "port": _whole(1, 65535),
    "dtype": _one_of("auto", "bfloat16", "float16", "float32"),
    "max_model_len": _whole(1),
    "gpu_memory_utilization": _share,
    "max_num_seqs": _whole(1),
    "max_num_queued_reqs": _whole(1),
    "tensor_parallel_size": _whole(1),
    "shutdown_timeout": _whole(0),
    "hang_seconds": _whole(0),
    "extra_args": _arguments,
}

_OWN_FLAGS = {
    f"--{name.replace('_', '-')}": name.upper()
    for name in (field.name for field in fields(Settings))
    if name not in ("extra_args", "hang_seconds")
} | {"--revision": "MODEL_REVISION"}


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


def build_argv(settings: Settings, models: Mapping[str, Model]) -> list[str]:
    """Builds the command line that starts vLLM, from `vllm serve` on.

    Raises:
        LaunchError: The model is unknown and no parser is set, or a setting does not fit the model.
    """
    model = _model_of(settings, models)
    argv = ["vllm", "serve", settings.model]
    argv += _flag("--revision", settings.model_revision or model.revision)
    argv += _flag("--served-model-name", settings.served_model_name)
    argv += _flag("--tokenizer", settings.tokenizer)
    argv += ["--host", settings.host, "--port", str(settings.port), "--dtype", settings.dtype]
    argv += _flag("--quantization", settings.quantization)
    argv += _flag("--kv-cache-dtype", settings.kv_cache_dtype)
    argv += _flag("--load-format", settings.load_format)
    argv += ["--max-model-len", str(settings.max_model_len)]
    argv += ["--gpu-memory-utilization", _decimal(settings.gpu_memory_utilization)]
    argv += ["--max-num-seqs", str(settings.max_num_seqs)]
    argv += ["--max-num-queued-reqs", str(settings.max_num_queued_reqs)]
    if settings.tensor_parallel_size > 1:
        argv += ["--tensor-parallel-size", str(settings.tensor_parallel_size)]
    argv += _tool_flags(settings, model)
    argv += ["--shutdown-timeout", str(settings.shutdown_timeout), "--disable-fastapi-docs"]
    # The orchestrator asks for the control tokens. The route is outside of /v1, and the engine is not public.
    argv += ["--enable-tokenizer-info-endpoint"]
    argv += ["--disable-access-log-for-endpoints", "/health,/metrics,/ping"]
    return [*argv, *model.extra_args, *settings.extra_args]


def _model_of(settings: Settings, models: Mapping[str, Model]) -> Model:
    model = models.get(settings.model)
    if model is None:
        if settings.tool_call_parser is None:
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


def start_watchdog(settings: Settings) -> None:
    """Starts the process that ends this one, by then vLLM, if it stops answering."""
    if not settings.hang_seconds:
        return
    if os.getpid() == 1:
        # The kernel shields the first process of a container from signals sent inside it.
        print(  # noqa: T201 - the start log
            "launch.py: a hung engine will not be ended, because the container has no init process. "
            "Start it with docker run --init.",
            file=sys.stderr,
        )
        return
    url = f"http://127.0.0.1:{settings.port}/health"
    watchdog = [sys.executable, str(WATCHDOG_FILE), str(os.getpid()), url, str(settings.hang_seconds)]
    subprocess.Popen(watchdog)  # noqa: S603 - our own file


def _engine_key(environ: Mapping[str, str]) -> dict[str, str]:
    """The first of the keys in VLLM_API_KEY, which holds two while the key is rotated. vLLM expects one."""
    key = environ.get("VLLM_API_KEY", "").partition(",")[0]
    return {"VLLM_API_KEY": key} if key else {}


def main(arguments: list[str]) -> None:
    """Replaces this process with vLLM, or prints vLLM's command line if called with `--print`."""
    if arguments not in ([], ["--print"]):
        sys.exit(
            f"launch.py: unknown arguments: {shlex.join(arguments)}; only --print is accepted. "
            "Settings are read from environment variables."
        )
    try:
        settings = Settings.from_environment(os.environ)
        argv = build_argv(settings, load_models())
    except LaunchError as error:
        sys.exit(f"launch.py: {error}")
    if arguments:
        print(shlex.join(argv))  # noqa: T201 - the purpose of --print
        return
    print(f"launch.py: {shlex.join(argv)}", file=sys.stderr, flush=True)  # noqa: T201 - the start log
    start_watchdog(settings)
    os.execvpe(argv[0], argv, CHILD_DEFAULTS | dict(os.environ) | _engine_key(os.environ))  # noqa: S606 - deliberately without a shell


if __name__ == "__main__":
    main(sys.argv[1:])
