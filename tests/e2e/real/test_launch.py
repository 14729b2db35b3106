"""vLLM's own argument parser knows every flag that launch.py can produce."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import launch
from engine_start.adapters import LocalAdapter
from engine_start.settings import KINDS
from tests.e2e.engine.serve import environment

from .conftest import PYTHON

# Parses each command line on standard input with the parser of `vllm serve`.
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
outcomes = []
for argv in json.load(sys.stdin):
    try:
        parser.parse_args(argv)
        outcomes.append(0)
    except SystemExit as error:
        outcomes.append(error.code)
print("OUTCOMES" + json.dumps(outcomes))
"""


def outcomes(command_lines: list[list[str]]) -> list[int]:
    ran = subprocess.run(
        [PYTHON, "-c", PARSE],
        input=json.dumps(command_lines),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    marked = [line for line in ran.stdout.splitlines() if line.startswith("OUTCOMES")]
    assert marked, ran.stderr[-3000:]
    found: list[int] = json.loads(marked[0].removeprefix("OUTCOMES"))
    return found


def every_setting() -> launch.Settings:
    return launch.Settings(
        model_revision="abc", served_model_name="name", tokenizer="other", host="127.0.0.1", port=1,
        dtype="float16", quantization="fp8", kv_cache_dtype="fp8", load_format="runai_streamer",
        max_model_len=4096, gpu_memory_utilization=0.5, max_num_seqs=2, max_num_queued_reqs=3,
        tensor_parallel_size=8, max_loras=3, reasoning_parser="qwen3", chat_template="/a/t.jinja",
        shutdown_timeout=1,
    )  # fmt: skip


@pytest.mark.timeout(120)
def test_vllm_accepts_every_command_line_of_launch_and_rejects_an_unknown_flag() -> None:
    models = launch.load_models()
    names = [name for name, model in models.items() if model.tool_call_parser]
    lengths = {name: min(16384, models[name].max_positions or 16384) for name in names}
    built = [
        launch.build_argv(launch.Settings(model=name, max_model_len=lengths[name]), models)[2:]
        for name in names
    ]
    adapters = [LocalAdapter(name, Path("/adapters") / name, 24) for name in ("tone", "sql")]
    built.append(launch.build_argv(every_setting(), models, adapters=adapters)[2:])
    built += [
        launch.build_argv(launch.Settings(model="acme/one", kind=kind, tool_call_parser="none"), models)[2:]
        for kind in KINDS
    ]
    unknown = [*built[0], "--no-such-flag"]
    assert outcomes([*built, unknown]) == [0] * len(built) + [2]
