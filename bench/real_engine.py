"""`make bench-engine`: measures what the orchestrator adds in front of a real vLLM.

Sends streaming requests one at a time, alternating between the engine and the orchestrator. Prints time to
first token, tokens per second, and the whole tool loop compared with the engine calls it consists of. Each
figure is the median of the rounds; the ratio is what counts, since all processes share the machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from examples.tiers import start_orchestrator
from tests.e2e.engine.serve import RealEngine

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 128
TOOLS: list[Any] = [{"type": "function", "function": {"name": "calculate_math"}}]


def stream(http: httpx.Client) -> tuple[float, float]:
    """Returns the seconds to the first token and the tokens per second after it, for one streamed answer."""
    payload = {
        "model": "tiny", "stream": True, "temperature": 0, "max_tokens": TOKENS, "min_tokens": TOKENS,
        "ignore_eos": True, "messages": [{"role": "user", "content": "Tell me something."}],
    }  # fmt: skip
    start = time.perf_counter()
    first = last = 0.0
    chunks = 0
    with http.stream("POST", "/v1/chat/completions", json=payload) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                last = time.perf_counter()
                first = first or last
                chunks += 1
    return first - start, (chunks - 1) / (last - first)


def tool_loop(orchestrator: httpx.Client, engine: httpx.Client, number: int) -> tuple[float, float]:
    """Returns the seconds of an answer with a tool, and of its two engine calls made by hand."""
    messages: list[Any] = [{"role": "user", "content": f"Calculate {number} * 17"}]
    payload = {"model": "tiny", "temperature": 0, "messages": messages, "tools": TOOLS}
    start = time.perf_counter()
    whole = orchestrator.post("/v1/chat/completions", json=payload).json()
    through = time.perf_counter() - start
    if str(number * 17) not in whole["choices"][0]["message"]["content"]:
        raise SystemExit(f"wrong answer, so nothing was measured: {whole}")
    tools = orchestrator.get("/v1/tools").json()
    payload["tools"] = [tool for tool in tools if tool["function"]["name"] == "calculate_math"]
    start = time.perf_counter()
    turn = engine.post("/v1/chat/completions", json=payload).json()["choices"][0]["message"]
    by_hand = time.perf_counter() - start
    call = turn["tool_calls"][0]
    result = f'{{"result":{number * 17}}}'
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]
    start = time.perf_counter()
    engine.post("/v1/chat/completions", json=payload).raise_for_status()
    return through, by_hand + time.perf_counter() - start


def measure(rounds: int, engine_url: str, orchestrator_url: str) -> list[tuple[str, str, float, float]]:
    """Returns rows of name, unit, figure without and figure with the orchestrator."""
    with (
        httpx.Client(base_url=engine_url, timeout=120) as engine,
        httpx.Client(base_url=orchestrator_url, timeout=120) as orchestrator,
    ):
        for http in (engine, orchestrator):
            stream(http)  # warm-up
        streams = [(stream(engine), stream(orchestrator)) for _ in range(rounds)]
        tool_loop(orchestrator, engine, 3)
        loops = [tool_loop(orchestrator, engine, 100 + number) for number in range(rounds)]
    (waits, rates), (waits_through, rates_through) = (
        tuple(zip(*(pair[side] for pair in streams), strict=True)) for side in (0, 1)
    )
    through, by_hand = zip(*loops, strict=True)
    return [
        ("time to first token", "ms", 1e3 * median(waits), 1e3 * median(waits_through)),
        ("tokens per second", "1/s", median(rates), median(rates_through)),
        ("two rounds with a tool", "ms", 1e3 * median(by_hand), 1e3 * median(through)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        engine = RealEngine(ROOT / ".venv-vllm/bin/python", Path(folder) / "engine.log")
        engine.start()
        try:
            orchestrator = start_orchestrator([engine.url])
            try:
                rows = measure(rounds, engine.url, orchestrator.url)
            finally:
                orchestrator.stop()
        finally:
            engine.stop()
    print(f"{'median of ' + str(rounds):24} {'engine':>10} {'through':>10} {'ratio':>7}")
    for name, unit, direct, through in rows:
        print(f"{name:24} {direct:>8.2f}{unit:>3} {through:>8.2f}{unit:>3} {through / direct:>6.3f}")


if __name__ == "__main__":
    main()
