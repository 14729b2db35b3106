"""`make clients`: asks each client of the matrix for each thing, and prints a table.

Two orchestrators get the requests in turn. ENGINE=vllm puts the real vLLM with the tiny model behind them.
That model repeats results wrongly and may fill a string up to the limit, so the cells that it can spoil do
not decide about the exit status then.
WRITE=1 writes the table into README.md; without it, a table that differs from the one there is a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.clients.matrix.alternate import alternating
from tests.clients.matrix.rows import (
    CELLS,
    PROGRAMS,
    QUESTIONS,
    RAW_REASONS,
    ROWS,
    Row,
    problem,
    raw_answer,
    raw_request,
)
from tests.clients.matrix.table import render, write
from tests.support.processes import MODEL, ROOT, Processes

PYTHON = ROOT / ".venv-clients/bin/python"
_SECONDS = 240
_AT_ONCE = 2
_NEEDS_A_GOOD_MODEL = ("mixed", "structured")

Outcome = dict[str, Any]


def main() -> None:
    real = os.environ.get("ENGINE") == "vllm"
    chosen = [row for row in ROWS if all(word in row.program for word in sys.argv[1:])]
    with Processes() as processes, _engine(processes, real=real) as (engine_url, model):
        urls = [processes.orchestrator(engine_url, ENGINE_WAIT_SECONDS="120").url for _ in range(2)]
        with alternating(*urls) as both, ThreadPoolExecutor(_AT_ONCE) as pool:
            asked = [row for row in chosen if not (real and row.needs_context)]
            outcomes = dict(
                zip(asked, pool.map(lambda row: _ask(row, both, urls[0], model), asked), strict=True)
            )
    errors = [
        (row, cell, outcome["error"])
        for row, cells in outcomes.items()
        for cell, outcome in cells.items()
        if "error" in outcome
    ]
    table = render(outcomes)
    print(table)
    for row, cell, error in errors:
        print(f"\nFAILED {row.name}, {CELLS[cell]}: {error}", file=sys.stderr)
    failed = [cell for _, cell, _ in errors if not (real and cell in _NEEDS_A_GOOD_MODEL)]
    if not real and len(chosen) == len(ROWS) and not errors:
        failed += write(table, check=not os.environ.get("WRITE"))
    sys.exit(1 if failed else 0)


@contextlib.contextmanager
def _engine(processes: Processes, *, real: bool) -> Iterator[tuple[str, str]]:
    """Yields the engine's URL and the name of its model."""
    if not real:
        yield processes.standin("--enable-auto-tool-choice", "--tool-call-parser", "hermes").url, MODEL
        return
    from tests.e2e.engine.serve import MODEL_NAME, running_engine

    python = Path(os.environ.get("VLLM_PYTHON", ROOT / ".venv-vllm/bin/python"))
    with tempfile.TemporaryDirectory() as folder, running_engine(python, Path(folder) / "log") as url:
        yield url, MODEL_NAME


def _ask(row: Row, base: str, direct: str, model: str) -> dict[str, Outcome]:
    """Runs all cells of a row, and returns the outcome of each: an answer, a reason for none, or an error."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "TANDEM": f"{direct if row.is_raw else base}/v1",
        "MODEL": model,
        "OPENAI_API_KEY": "unused",
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        "DO_NOT_TRACK": "1",
    }
    outcomes = _ask_raw(row, environment) if row.is_raw else _ask_program(row, environment)
    for cell, outcome in outcomes.items():
        if "answer" in outcome and (found := problem(cell, outcome["answer"])):
            outcome["error"] = found
    return outcomes


def _ask_program(row: Row, environment: dict[str, str]) -> dict[str, Outcome]:
    name, _, ending = row.program.rpartition(".")
    command = [str(PYTHON), "run.py"] if ending == "py" else ["node", "run.mjs"]
    output = _run([*command, name, json.dumps(QUESTIONS)], environment)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"cell"')]
    found: dict[str, Outcome] = {line.pop("cell"): line for line in lines}
    return {cell: found.get(cell, {"error": f"no outcome:\n{output[-2000:]}"}) for cell in CELLS}


def _ask_raw(row: Row, environment: dict[str, str]) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for cell in CELLS:
        if cell in RAW_REASONS:
            outcomes[cell] = {"reason": RAW_REASONS[cell]}
            continue
        path, body = raw_request(cell, environment["MODEL"])
        output = _run(["java" if row.language == "java" else "sh", row.program, path, body], environment)
        try:
            outcomes[cell] = {"answer": raw_answer(cell, output)}
        except (ValueError, LookupError):
            outcomes[cell] = {"error": output[-2000:]}
    return outcomes


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Returns the output of a program, with its errors if it failed or took too long."""
    try:
        done = subprocess.run(
            command,
            cwd=PROGRAMS,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return (
            f"{(error.stdout or b'').decode()}\n{(error.stderr or b'').decode()}\ntook more than {_SECONDS} s"
        )
    return done.stdout + (done.stderr if done.returncode else "")


if __name__ == "__main__":
    main()
