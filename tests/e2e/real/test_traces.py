"""vLLM's own spans, in the trace of the orchestrator's request."""

from __future__ import annotations

import secrets

import openai

from tests.clients.support import CALCULATOR
from tests.support.otlp import Collector, Seen, roots
from tests.support.processes import eventually


async def test_engines_spans_are_below_the_rounds_of_the_request(
    asking: openai.AsyncOpenAI, traces: Collector
) -> None:
    trace_id, caller = secrets.token_hex(16), secrets.token_hex(8)
    await asking.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Calculate 123 * 456"}],
        temperature=0,
        extra_body={"tools": [CALCULATOR]},
        extra_headers={"traceparent": f"00-{trace_id}-{caller}-01"},
    )

    def spans(name: str = "") -> list[Seen]:
        return [span for span in traces.spans if span.trace_id == trace_id and name in span.name]

    # The orchestrator sends its spans every 5 s.
    await eventually(
        lambda: len(spans("llm_request")) == len(spans("chat tiny")) > 0, "the whole trace", seconds=30
    )
    [root] = roots(spans())
    assert (root.name, root.parent) == ("POST /v1/chat/completions", caller)
    [agent] = root.children
    rounds = [span for span in agent.children if span.name == "chat tiny"]
    assert len(rounds) == 2
    for one in rounds:
        [engines] = one.children
        assert engines.name == "llm_request"
        assert engines.attributes["gen_ai.usage.prompt_tokens"] == one.attributes["gen_ai.usage.input_tokens"]
