"""/v1/chat/completions: vLLM's JSON, as one body and as a stream."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from .requests import ChatRequest, JsonObject
from .turn import Generated, Token

FINGERPRINT = "vllm-0.32.0-00000000"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The tokens of a prompt and how many of them were cached; if `detailed`, usage reports the latter."""

    count: int
    cached: int
    detailed: bool

    def usage(self, completion: int) -> JsonObject:
        """Returns the usage of a response that is not streamed."""
        details = None
        if self.detailed:
            details = {
                "cached_tokens": self.cached,
                "created_cache_tokens": self.count - self.cached,
                "multimodal_tokens": None,
            }
        return {
            "prompt_tokens": self.count,
            "total_tokens": self.count + completion,
            "completion_tokens": completion,
            "prompt_tokens_details": details,
            "completion_tokens_details": None,
        }

    def final_usage(self, completion: int) -> JsonObject:
        """Returns the usage in a stream's last chunk, which omits null fields."""
        usage = self.usage(completion)
        usage["prompt_tokens_details"] = {
            key: value for key, value in (usage["prompt_tokens_details"] or {}).items() if value is not None
        }
        return {key: value for key, value in usage.items() if value not in (None, {})}

    def running_usage(self, completion: int) -> JsonObject:
        """Returns the usage in every chunk of a stream with `continuous_usage_stats`."""
        return {
            "prompt_tokens": self.count,
            "total_tokens": self.count + completion,
            "completion_tokens": completion,
            "completion_tokens_details": None,
        }


@dataclass(frozen=True, slots=True)
class EventStream:
    """A stream: the events of each decode step, followed by those that end it."""

    steps: Iterator[list[bytes]]
    tail: list[bytes]


def new_id(prefix: str, request_id: str | None = None) -> str:
    """Returns an id in vLLM's format, based on the client's x-request-id if there is one."""
    return f"{prefix}-{request_id or os.urandom(8).hex()}"


def whole(
    request: ChatRequest, identity: str, prompt: PromptTokens, generated: Sequence[Generated]
) -> JsonObject:
    """Returns the body of a response that is not streamed."""
    return {
        "id": identity,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.sampling.model,
        "choices": [_choice(request, index, one) for index, one in enumerate(generated)],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": prompt.usage(sum(one.count for one in generated)),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def _choice(request: ChatRequest, index: int, generated: Generated) -> JsonObject:
    message: JsonObject = {
        "role": "assistant",
        "content": generated.message["content"],
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if "tool_calls" in generated.message:
        message["tool_calls"] = generated.message["tool_calls"]
    message["reasoning"] = None
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(request, generated.tokens),
        "finish_reason": generated.finish_reason,
        "stop_reason": generated.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _logprobs(request: ChatRequest, tokens: Sequence[Token]) -> JsonObject | None:
    """Reports every token as certain: its log probability is 0 and all others are unlikely."""
    if not request.logprobs:
        return None
    content = []
    for token in tokens:
        entry: JsonObject = {"token": token.text, "logprob": 0.0, "bytes": list(token.text.encode())}
        content.append(entry | {"top_logprobs": [entry] if request.top_logprobs else []})
    return {"content": content}


def stream(
    request: ChatRequest, identity: str, prompt: PromptTokens, generated: Sequence[Generated]
) -> EventStream:
    """Returns the events of a streamed response."""
    sampling = request.sampling
    envelope = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
        orjson.dumps(identity),
        int(time.time()),
        orjson.dumps(sampling.model),
    )

    def chunk(choice: JsonObject | None, rest: JsonObject) -> bytes:
        tail = b"," + orjson.dumps(rest)[1:] if rest else b"}"
        return envelope + (orjson.dumps(choice) if choice else b"") + b"]" + tail + b"\n\n"

    def steps() -> Iterator[list[bytes]]:
        usage = {"usage": prompt.running_usage(0)} if sampling.continuous_usage else {}
        events = [chunk({"index": i} | _ROLE, usage | _PROMPT_ECHO) for i in range(len(generated))]
        for step in range(max(len(one.tokens) + _has_end(one) for one in generated)):
            for index, one in enumerate(generated):
                if choice := _step(request, index, one, step):
                    rest: JsonObject = {}
                    if sampling.continuous_usage:
                        rest["usage"] = prompt.running_usage(min(step + 1, one.count))
                    if not sampling.include_usage and choice["finish_reason"]:
                        rest["system_fingerprint"] = FINGERPRINT
                    events.append(chunk(choice, rest))
            yield events
            events = []

    if not sampling.include_usage:
        return EventStream(steps(), [DONE])
    usage = prompt.final_usage(sum(one.count for one in generated))
    return EventStream(steps(), [chunk(None, {"usage": usage, "system_fingerprint": FINGERPRINT}), DONE])


_ROLE: JsonObject = {
    "delta": {"role": "assistant", "content": ""},
    "logprobs": None,
    "finish_reason": None,
}
_PROMPT_ECHO: JsonObject = {"prompt_token_ids": None, "prompt_text": None}


def _has_end(generated: Generated) -> bool:
    """Returns whether a step for the end-of-sequence token follows the last token."""
    return not generated.tokens or generated.count > len(generated.tokens)


def _step(request: ChatRequest, index: int, generated: Generated, step: int) -> JsonObject | None:
    """Returns the choice of a chunk, or None for a token that vLLM does not stream."""
    last = len(generated.tokens) - 1 + _has_end(generated)
    if step > last:
        return None
    token = generated.tokens[step] if step < len(generated.tokens) else None
    delta = token.delta if token else None
    if delta is None and step < last:
        return None
    logprobs = _logprobs(request, [token]) if token and delta else None
    choice: JsonObject = {"index": index, "delta": delta or {}, "logprobs": logprobs}
    if step == last:
        reasons = {"finish_reason": generated.finish_reason, "stop_reason": generated.stop_reason}
        return choice | reasons | {"token_ids": None}
    return choice | {"finish_reason": None, "token_ids": None}
