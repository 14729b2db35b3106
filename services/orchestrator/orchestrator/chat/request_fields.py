"""Decides in which rounds the engine gets each field of a client's request.

A request with server tools takes several rounds, and the client wrote it for one. Fields that are not in the
table are sent in every round. Sources: `ChatCompletionRequest` of vLLM 0.32
(`vllm/entrypoints/openai/chat_completion/protocol.py`) and OpenAI's reference of chat completions.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType

from ..protocol import JsonObject


class Rounds(Enum):
    """The rounds in which a field is sent."""

    EVERY = "every round"
    FIRST = "the first round"
    LAST = "a last round without tools"
    WITH_TOOLS = "every round but a last one without tools"
    OWN = "every round, with the orchestrator's own value"
    NEVER = "never"


EVERY_ROUND = frozenset(
    [
        "add_special_tokens",
        "allowed_token_ids",
        "audio",
        "bad_words",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "documents",
        "frequency_penalty",
        "functions",
        "ignore_eos",
        "include_reasoning",
        "include_stop_str_in_output",
        "length_penalty",
        "logit_bias",
        "logprob_token_ids",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "media_io_kwargs",
        "metadata",
        "min_p",
        "min_tokens",
        "mm_payload",
        "mm_processor_kwargs",
        "modalities",
        "model",
        "moderation",
        "n",
        "prediction",
        "presence_penalty",
        "priority",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "repetition_detection",
        "repetition_penalty",
        "request_id",
        "return_mm_kwargs",
        "return_token_ids",
        "return_token_offsets",
        "return_tokens_as_token_ids",
        "safety_identifier",
        "seed",
        "service_tier",
        "session_id",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "store",
        "stream",
        "stream_interval",
        "temperature",
        "thinking_token_budget",
        "top_k",
        "top_logprobs",
        "top_p",
        "truncate_prompt_tokens",
        "truncation_side",
        "use_beam_search",
        "user",
        "verbosity",
        "vllm_xargs",
        "watermarking",
        "web_search_options",
    ]
)
"""Fields that mean the same in every round: sampling, limits per round, templates, caches, and identities."""

OTHER_FIELDS = MappingProxyType(
    {
        "add_generation_prompt": (
            Rounds.FIRST,
            "later prompts end with the results of tools, to be answered",
        ),
        "continue_final_message": (Rounds.FIRST, "the message to continue is the client's"),
        "ec_transfer_params": (Rounds.FIRST, "describe where the client's prompt was encoded"),
        "echo": (Rounds.FIRST, "repeats the message that is continued"),
        "function_call": (Rounds.FIRST, "as `tool_choice`"),
        "kv_transfer_params": (Rounds.FIRST, "describe where the client's prompt was computed"),
        "messages": (Rounds.OWN, "the client's, then each turn and its results"),
        "parallel_tool_calls": (Rounds.WITH_TOOLS, "means nothing without tools"),
        "prompt_logprobs": (
            Rounds.FIRST,
            "those of the client's prompt; they bypass the prefix cache",
        ),
        "response_format": (Rounds.LAST, "with tools, vLLM's grammar would suppress calls"),
        "return_prompt_text": (Rounds.FIRST, "the text of the client's own prompt"),
        "routed_experts_prompt_start": (Rounds.FIRST, "a position in the client's own prompt"),
        "stream_options": (
            Rounds.OWN,
            "in streams: the client's, and usage for the sum",
        ),
        "structured_outputs": (Rounds.LAST, "as `response_format`"),
        "tandem": (Rounds.NEVER, "is for the orchestrator"),
        "tool_choice": (
            Rounds.FIRST,
            "a forced call in every round would leave no room for an answer (but see `must_call_client`)",
        ),
        "tools": (Rounds.WITH_TOOLS, "the last round is for the answer"),
    }
)
"""The other fields: in which rounds they are sent, and why."""

_FIRST = tuple(name for name, (rounds, _) in OTHER_FIELDS.items() if rounds is Rounds.FIRST)
_LAST = tuple(name for name, (rounds, _) in OTHER_FIELDS.items() if rounds is Rounds.LAST)
_TOOLS = ("tool_choice", *(name for name, (rounds, _) in OTHER_FIELDS.items() if rounds is Rounds.WITH_TOOLS))


def fields_of_round(request: JsonObject, *, first: bool, tools: bool) -> JsonObject:
    """Returns the fields of a client's request for one round.

    Args:
        first: whether this is the first round.
        tools: whether this round offers tools.
    """
    fields = dict(request)
    if not first:
        for name in _FIRST:
            fields.pop(name, None)
    if tools:
        for name in _LAST:
            fields.pop(name, None)
    else:
        for name in _TOOLS:
            fields.pop(name, None)
    return fields
