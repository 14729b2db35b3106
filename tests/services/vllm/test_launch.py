"""launch.py: environment -> settings -> command line."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch import CHILD_DEFAULTS, LaunchError, Model, Settings, build_argv, load_models
from standin_engine.arguments import parse_options

LAUNCH = Path(__file__).parents[3] / "services" / "vllm" / "launch.py"
MODELS = load_models()

DEFAULT = (
    "vllm serve Qwen/Qwen2.5-7B-Instruct --revision a09a35458c702b33eeacc393d103063234e8bc28 "
    "--host 0.0.0.0 --port 8000 --dtype bfloat16 --max-model-len 16384 --gpu-memory-utilization 0.90 "
    "--max-num-seqs 32 --max-num-queued-reqs 64 --enable-auto-tool-choice --tool-call-parser hermes "
    "--tool-strict-level function --exclude-tools-when-tool-choice-none --enable-prompt-tokens-details "
    "--shutdown-timeout 90 "
    "--disable-fastapi-docs "
    "--enable-tokenizer-info-endpoint "
    "--disable-access-log-for-endpoints /health,/metrics,/ping"
)


def argv(**environ: str) -> list[str]:
    return build_argv(Settings.from_environment(environ), MODELS)


def test_default_command_line() -> None:
    assert shlex.join(argv()) == DEFAULT


def test_empty_variables_keep_their_defaults() -> None:
    assert argv(MODEL="", PORT=" ", EXTRA_ARGS="") == argv()


def test_every_setting_reaches_the_command_line() -> None:
    line = argv(
        MODEL="Qwen/Qwen3-8B",
        MODEL_REVISION="abc123",
        SERVED_MODEL_NAME="chat",
        TOKENIZER="other/tokenizer",
        HOST="127.0.0.1",
        PORT="9000",
        DTYPE="float16",
        QUANTIZATION="fp8",
        KV_CACHE_DTYPE="fp8",
        LOAD_FORMAT="runai_streamer",
        MAX_MODEL_LEN="4096",
        GPU_MEMORY_UTILIZATION="0.875",
        MAX_NUM_SEQS="8",
        MAX_NUM_QUEUED_REQS="9",
        TENSOR_PARALLEL_SIZE="2",
        TOOL_CALL_PARSER="qwen3_xml",
        REASONING_PARSER="deepseek_r1",
        CHAT_TEMPLATE="/templates/own.jinja",
        SHUTDOWN_TIMEOUT="5",
        EXTRA_ARGS="--seed 7 --override-generation-config '{\"temperature\": 0}'",
    )
    assert shlex.join(line) == (
        "vllm serve Qwen/Qwen3-8B --revision abc123 --served-model-name chat --tokenizer other/tokenizer "
        "--host 127.0.0.1 --port 9000 --dtype float16 --quantization fp8 --kv-cache-dtype fp8 "
        "--load-format runai_streamer --max-model-len 4096 --gpu-memory-utilization 0.875 --max-num-seqs 8 "
        "--max-num-queued-reqs 9 --tensor-parallel-size 2 --enable-auto-tool-choice "
        "--tool-call-parser qwen3_xml --tool-strict-level function "
        "--exclude-tools-when-tool-choice-none --reasoning-parser deepseek_r1 "
        "--chat-template /templates/own.jinja --enable-prompt-tokens-details --shutdown-timeout 5 "
        "--disable-fastapi-docs "
        "--enable-tokenizer-info-endpoint "
        "--disable-access-log-for-endpoints /health,/metrics,/ping --seed 7 "
        "--override-generation-config '{\"temperature\": 0}'"
    )


@pytest.mark.parametrize("name", MODELS)
def test_stand_in_accepts_the_command_line_of_every_model(name: str) -> None:
    model = MODELS[name]
    settings = {} if model.tool_call_parser else {"TOOL_CALL_PARSER": "pythonic"}
    if model.max_positions is not None:
        settings["MAX_MODEL_LEN"] = str(min(model.max_positions, 16384))
    line = argv(MODEL=name, **settings)
    options = parse_options(line[2:], {})
    assert options.model == name
    assert options.tool_call_parser == (model.tool_call_parser or "pythonic")
    for argument in (*model.extra_args, model.reasoning_parser, model.chat_template):
        assert argument is None or argument in line


def test_model_without_a_documented_parser_names_the_setting() -> None:
    with pytest.raises(LaunchError, match=r"google/gemma-3-4b-it.*TOOL_CALL_PARSER"):
        argv(MODEL="google/gemma-3-4b-it")


def test_parser_none_serves_without_tools() -> None:
    line = argv(MODEL="google/gemma-3-4b-it", TOOL_CALL_PARSER="none")
    assert not {"--enable-auto-tool-choice", "--tool-call-parser", "--tool-strict-level"} & set(line)


@pytest.mark.parametrize("kind", ["embedding", "reranker"])
def test_pooling_models_are_served_without_tools(kind: str) -> None:
    line = argv(MODEL="BAAI/bge-m3", KIND=kind, MAX_MODEL_LEN="8192")
    assert line[line.index("--runner") + 1] == "pooling"
    assert not {"--enable-auto-tool-choice", "--enable-prompt-tokens-details"} & set(line)


def test_speech_to_text_has_no_flags_of_chats() -> None:
    line = argv(MODEL="openai/whisper-large-v3", KIND="speech-to-text", MAX_MODEL_LEN="448")
    assert not {"--runner", "--enable-auto-tool-choice", "--enable-prompt-tokens-details"} & set(line)


def test_model_with_images_keeps_its_encoder() -> None:
    assert "--language-model-only" in argv(MODEL="Qwen/Qwen3.5-9B")
    assert "--language-model-only" not in argv(MODEL="Qwen/Qwen3.5-9B", KIND="vision")


def test_reasoning_parser_none_omits_the_flag() -> None:
    assert "--reasoning-parser" in argv(MODEL="Qwen/Qwen3-8B")
    assert "--reasoning-parser" not in argv(MODEL="Qwen/Qwen3-8B", REASONING_PARSER="none")


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen3-8b", "Qwen/Qwen3-8B"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct"),
    ],
)
def test_unknown_model_names_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(LaunchError) as raised:
        argv(MODEL=asked)
    message = str(raised.value)
    assert repr(asked) in message
    assert f"; nearest: {nearest}" in message
    assert "TOOL_CALL_PARSER" in message


def test_unknown_model_with_a_parser_is_served() -> None:
    line = argv(MODEL="/models/own", TOOL_CALL_PARSER="hermes")
    assert line[2] == "/models/own"
    assert "--revision" not in line


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "0", "from 1 to 65535"),
        ("PORT", "http", "from 1 to 65535"),
        ("DTYPE", "bf16", "bfloat16"),
        ("MAX_MODEL_LEN", "16k", "whole number of at least 1"),
        ("MAX_MODEL_LEN", "40000", "at most 32768 positions"),
        ("GPU_MEMORY_UTILIZATION", "90", "at most 1"),
        ("GPU_MEMORY_UTILIZATION", "nan", "at most 1"),
        ("MAX_NUM_SEQS", "-1", "whole number of at least 1"),
        ("TENSOR_PARALLEL_SIZE", "1.5", "whole number of at least 1"),
        ("SHUTDOWN_TIMEOUT", "-1", "whole number of at least 0"),
        ("MODEL", "--help", "does not start with '-'"),
        ("TOKENIZER", "two words", "single word"),
        ("EXTRA_ARGS", "--seed '7", "cannot be split like a shell command"),
        ("KIND", "embeddings", "must be one of chat, vision, embedding"),
        ("MAX_LORA_RANK", "24", "must be one of 1, 8, 16, 32"),
        ("MAX_LORAS", "0", "whole number from 1 to 256"),
        ("ADAPTERS", "support-tone", "must be a JSON list such as"),
        ("ADAPTERS", '{"name": "a"}', "must be a JSON list such as"),
        ("ADAPTERS", '[{"name": "a"}]', "must be a JSON list such as"),
        ("ADAPTERS", '[{"name": "../a", "source": "s3://b/c"}]', "not a name of an adapter"),
        ("ADAPTERS", '[{"name": "a", "source": "/etc"}]', "not the source of an adapter"),
        ("ADAPTERS", '[{"name": "a", "source": "o/r"}, {"name": "a", "source": "o/s"}]', "used twice"),
        ("EXTRA_ARGS", "--enable-lora", "controlled by ADAPTERS"),
        ("EXTRA_ARGS", "--runner pooling", "controlled by KIND"),
        ("EXTRA_ARGS", "--port 9", "controlled by PORT"),
        ("EXTRA_ARGS", "--max_model_len=9", "controlled by MAX_MODEL_LEN"),
        ("EXTRA_ARGS", "--revision x", "controlled by MODEL_REVISION"),
        ("EXTRA_ARGS", "--api-key=s", "VLLM_API_KEY"),
        ("EXTRA_ARGS", "--api_ke s", "VLLM_API_KEY"),
        ("EXTRA_ARGS", "--hf-token s", "HF_TOKEN"),
    ],
)
def test_error_names_the_variable_its_value_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    with pytest.raises(LaunchError) as raised:
        argv(**{name: value})
    assert str(raised.value).startswith(f"{name}={value!r}: ")
    assert allowed in str(raised.value)


@given(key=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12))
def test_the_key_is_never_on_the_command_line(key: str) -> None:
    assert not any(key in argument for argument in argv(VLLM_API_KEY=key, HF_TOKEN=key))


@given(share=st.floats(min_value=0.01, max_value=1.0))
def test_a_share_survives_the_command_line(share: float) -> None:
    line = argv(GPU_MEMORY_UTILIZATION=repr(share))
    assert float(line[line.index("--gpu-memory-utilization") + 1]) == share


def test_model_of_unknown_length_accepts_any_length() -> None:
    models = {"m": Model("hermes", None, None, (), None, None)}
    line = build_argv(Settings(model="m", max_model_len=10**6), models)
    assert "1000000" in line


def run_launch(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LAUNCH), *arguments],
        env={"PATH": os.environ["PATH"]} | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_print_prints_and_exits() -> None:
    done = run_launch("--print", VLLM_API_KEY="very-secret-key")
    assert (done.returncode, done.stdout, done.stderr) == (0, DEFAULT + "\n", "")


def test_invalid_setting_exits_with_its_message() -> None:
    done = run_launch(PORT="x")
    assert done.returncode == 1
    assert done.stderr == "launch.py: PORT='x': must be a whole number from 1 to 65535\n"


def test_unknown_argument_exits_with_an_error() -> None:
    assert run_launch("--prin").returncode == 1


def test_vllm_gets_the_first_key_of_a_rotation(tmp_path: Path) -> None:
    vllm = tmp_path / "vllm"
    vllm.write_text("#!/bin/sh\necho $VLLM_API_KEY\n")
    vllm.chmod(0o755)
    done = run_launch(PATH=f"{tmp_path}:{os.environ['PATH']}", VLLM_API_KEY="new,old")
    assert done.stdout == "new\n"


def test_launch_executes_vllm_with_environment_defaults(tmp_path: Path) -> None:
    vllm = tmp_path / "vllm"
    vllm.write_text('#!/bin/sh\necho "$@"\necho $VLLM_NO_USAGE_STATS $VLLM_MAX_N_SEQUENCES $VLLM_API_KEY\n')
    vllm.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VLLM_MAX_N_SEQUENCES": "2", "VLLM_API_KEY": "k-1"}
    done = run_launch(**environ)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [DEFAULT.removeprefix("vllm "), "1 2 k-1"]
    assert "k-1" not in done.stderr
    assert CHILD_DEFAULTS["VLLM_MAX_N_SEQUENCES"] == "8"


def test_vllm_sends_its_spans_over_http(tmp_path: Path) -> None:
    vllm = tmp_path / "vllm"
    vllm.write_text('#!/bin/sh\necho "$@"\necho $OTEL_EXPORTER_OTLP_TRACES_PROTOCOL $OTEL_SERVICE_NAME\n')
    vllm.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}
    command, environment = run_launch(**environ).stdout.splitlines()
    assert command.endswith("--otlp-traces-endpoint http://c:4318/v1/traces")
    assert environment == "http/protobuf tandem-engine"


@pytest.mark.parametrize("url", ["collector:4318", "grpc://c:4317", "http://u:p@c:4318", "http://c/?a=b"])
def test_collector_needs_a_url(url: str) -> None:
    done = run_launch("--print", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert done.returncode == 1
    assert "must be a URL such as http://collector:4318" in done.stderr


def test_collector_has_a_variable_of_its_own() -> None:
    done = run_launch("--print", EXTRA_ARGS="--otlp-traces-endpoint=http://c")
    assert "set that variable instead" in done.stderr
