"""/v1/completions: vLLM's JSON, as one body and as a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import orjson

from .chat import DONE, FINGERPRINT, EventStream, PromptTokens
from .requests import JsonObject, Sampling
from .turn import Generated


def whole(
    sampling: Sampling, identity: str, prompt: PromptTokens, generated: Sequence[Generated]
) -> JsonObject:
    """Returns the body of a response that is not streamed."""
    return {
        "id": identity,
        "object": "text_completion",
        "created": int(time.time()),
        "model": sampling.model,
        "choices": [
            {
                "index": index,
                "text": one.message["content"],
                "logprobs": None,
                "finish_reason": one.finish_reason,
                "stop_reason": one.stop_reason,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
            for index, one in enumerate(generated)
        ],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": prompt.usage(sum(one.count for one in generated)),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def stream(
    sampling: Sampling, identity: str, prompt: PromptTokens, generated: Sequence[Generated]
) -> EventStream:
    """Returns the events of a streamed response."""
    envelope: JsonObject = {
        "id": identity,
        "object": "text_completion",
        "created": int(time.time()),
        "model": sampling.model,
    }

    def chunk(rest: JsonObject) -> bytes:
        return b"data: " + orjson.dumps(envelope | rest) + b"\n\n"

    def steps() -> Iterator[list[bytes]]:
        for step in range(max(one.count for one in generated)):
            events = []
            for index, one in enumerate(generated):
                if step < one.count:
                    rest: JsonObject = {"choices": [_choice(index, one, step)]}
                    if sampling.continuous_usage:
                        rest["usage"] = prompt.running_usage(step + 1)
                    events.append(chunk(rest))
            yield events

    if not sampling.include_usage:
        return EventStream(steps(), [DONE])
    usage = prompt.final_usage(sum(one.count for one in generated))
    final = chunk({"choices": [], "usage": usage, "system_fingerprint": FINGERPRINT})
    return EventStream(steps(), [final, DONE])


def _choice(index: int, generated: Generated, step: int) -> JsonObject:
    last = step == generated.count - 1
    return {
        "index": index,
        "text": generated.tokens[step].text if step < len(generated.tokens) else "",
        "logprobs": None,
        "finish_reason": generated.finish_reason if last else None,
        "stop_reason": generated.stop_reason if last else None,
        "prompt_token_ids": None,
        "token_ids": None,
    }
