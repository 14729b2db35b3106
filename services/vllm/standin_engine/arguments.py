"""vLLM's command-line arguments, as far as they make sense without a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ANY_HOST = "0.0.0.0"  # noqa: S104 - vLLM's default
_SWITCHES = """
    --enable-auto-tool-choice --exclude-tools-when-tool-choice-none --enable-request-id-headers
    --enable-prompt-tokens-details --enable-force-include-usage --enable-tokenizer-info-endpoint
"""
_IGNORED_SWITCHES = """
    --trust-remote-code --enforce-eager --disable-fastapi-docs --disable-uvicorn-access-log
    --language-model-only --enable-chunked-prefill --async-scheduling --disable-log-stats
    --enable-log-requests --enable-log-outputs --enable-expert-parallel --enable-sleep-mode
    --disable-custom-all-reduce --skip-mm-profiling --enable-per-request-metrics
    --enable-server-load-tracking --allow-credentials --return-tokens-as-token-ids --enable-lora
"""
_IGNORED_VALUES = """
    --revision --tokenizer-revision --code-revision --tokenizer --tokenizer-mode --dtype --seed --quantization
    --kv-cache-dtype --load-format --config-format --download-dir --model-loader-extra-config --hf-overrides
    --generation-config --override-generation-config --limit-mm-per-prompt --structured-outputs-config
    --tensor-parallel-size --pipeline-parallel-size --data-parallel-size --distributed-executor-backend
    --gpu-memory-utilization --kv-cache-memory-bytes --block-size --cpu-offload-gb --max-num-batched-tokens
    --max-num-queued-tokens --max-logprobs --scheduling-policy --stream-interval --compilation-config
    --cudagraph-capture-sizes --speculative-config --attention-backend --optimization-level --log-level
    --reasoning-parser --chat-template --chat-template-content-format --default-chat-template-kwargs
    --tool-strict-level --tool-parser-plugin --uvicorn-log-level --disable-access-log-for-endpoints
    --allowed-origins --allowed-methods --allowed-headers --root-path --max-log-len --response-role
    --fingerprint-mode --sse-keep-alive-interval --otlp-traces-endpoint --max-lora-rank --max-loras --runner
    --convert --middleware
"""


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments that the stand-in acts on, with vLLM's defaults."""

    model: str
    served_names: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    changes_adapters: bool = False
    host: str = _ANY_HOST
    port: int = 8000
    max_model_len: int = 32768
    max_num_seqs: int = 256
    max_num_queued_reqs: int | None = None
    api_keys: tuple[str, ...] = ()
    shutdown_timeout: int = 0
    auto_tool_choice: bool = False
    tool_call_parser: str | None = None
    exclude_tools_when_none: bool = False
    request_id_headers: bool = False
    prompt_tokens_details: bool = False
    force_include_usage: bool = False
    tokenizer_info: bool = False
    prefix_caching: bool = True
    max_n: int = 16384
    load_seconds: float = 0.0


def parse_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Reads the arguments of `vllm serve` and the environment variables of vLLM and the stand-in.

    Raises:
        SystemExit: Status 2, for an unknown argument or an invalid value.
    """
    parser = _parser()
    found = parser.parse_args([_with_dashes(argument) for argument in arguments])
    if found.model_tag and found.model and found.model_tag != found.model:
        parser.error(f"two models given: {found.model_tag} and --model {found.model}; give only one")
    model = found.model_tag or found.model
    if not model:
        parser.error("no model given; name one, e.g. Qwen/Qwen2.5-7B-Instruct (nothing is downloaded)")
    if found.enable_auto_tool_choice and not found.tool_call_parser:
        parser.error("--enable-auto-tool-choice requires --tool-call-parser")
    environment_key = environ.get("VLLM_API_KEY")
    adapters = tuple(map(_adapter_name, found.lora_modules or ()))
    return Options(
        model=model,
        served_names=(*(found.served_model_name or (model,)), *adapters),
        adapters=adapters,
        changes_adapters=environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "1",
        host=found.host,
        port=found.port,
        max_model_len=found.max_model_len,
        max_num_seqs=found.max_num_seqs,
        max_num_queued_reqs=found.max_num_queued_reqs,
        api_keys=tuple(found.api_key or ((environment_key,) if environment_key else ())),
        shutdown_timeout=found.shutdown_timeout,
        auto_tool_choice=found.enable_auto_tool_choice,
        tool_call_parser=found.tool_call_parser,
        exclude_tools_when_none=found.exclude_tools_when_tool_choice_none,
        request_id_headers=found.enable_request_id_headers,
        prompt_tokens_details=found.enable_prompt_tokens_details,
        force_include_usage=found.enable_force_include_usage,
        tokenizer_info=found.enable_tokenizer_info_endpoint,
        prefix_caching=found.enable_prefix_caching,
        max_n=int(_from_environment(parser, environ, "VLLM_MAX_N_SEQUENCES", 16384)),
        load_seconds=_from_environment(parser, environ, "STANDIN_LOAD_SECONDS", 0.0),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="standin.py", description=__doc__, allow_abbrev=False, argument_default=None
    )
    parser.add_argument("model_tag", nargs="?", metavar="model")
    parser.add_argument("--model")
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--lora-modules", nargs="+")
    parser.add_argument("--host", default=_ANY_HOST)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-model-len", type=_positive, default=32768)
    parser.add_argument("--max-num-seqs", type=_positive, default=256)
    parser.add_argument("--max-num-queued-reqs", type=_positive)
    parser.add_argument("--api-key", nargs="+")
    parser.add_argument("--shutdown-timeout", type=int, default=0)
    parser.add_argument("--tool-call-parser")
    for flag in (_SWITCHES + _IGNORED_SWITCHES).split():
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    for flag in _IGNORED_VALUES.split():
        parser.add_argument(flag)
    return parser


def _adapter_name(module: str) -> str:
    """The name in `NAME=PATH` or `{"name": NAME, "path": PATH}`."""
    if module.startswith("{"):
        return str(json.loads(module)["name"])
    return module.partition("=")[0]


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return number


def _with_dashes(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def _from_environment(
    parser: argparse.ArgumentParser, environ: Mapping[str, str], name: str, default: float
) -> float:
    value = environ.get(name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        parser.error(f"{name}={value!r}: must be a number of at least 0")
    return number
