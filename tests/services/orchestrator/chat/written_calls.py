"""Calls as models write them in text, for each tool-call parser of vLLM."""

from __future__ import annotations

WRITTEN = {
    "hermes": [
        '<tool_call>\n{"name": "get_current_weather", "arguments": {"location": "Paris"}}\n</tool_call>',
        '<tool_call>{"arguments": {"location": "Paris"}, "name": "get_current_weather"}</tool_call>',
    ],
    "qwen3_coder": [
        "<tool_call>\n<function=get_current_weather>\n<parameter=location>\nParis\n</parameter>\n</function>\n"
        "</tool_call>",
        "<function=get_current_weather>\n<parameter=location>\nParis\n</parameter>\n</function>",
    ],
    "llama3_json": [
        '<|python_tag|>{"name": "get_current_weather", "parameters": {"location": "Paris"}}',
        '{"name": "get_current_weather", "parameters": {"location": "Paris"}}',
        '{"type": "function", "name": "get_current_weather", "parameters": {"location": "Paris"}}',
    ],
    "mistral": [
        '[TOOL_CALLS][{"name": "get_current_weather", "arguments": {"location": "Paris"}}]',
        '[TOOL_CALLS] [{"name": "get_current_weather", "arguments": {"location": "Paris"}}]',
        '[TOOL_CALLS]get_current_weather{"location": "Paris"}',
        '[TOOL_CALLS]get_current_weather[ARGS]{"location": "Paris"}',
        '[TOOL_CALLS]get_current_weather[CALL_ID]abcdef123[ARGS]{"location": "Paris"}',
    ],
    "openai": [
        "<|channel|>commentary to=functions.get_current_weather <|constrain|>json<|message|>"
        '{"location": "Paris"}<|call|>',
        "<|start|>assistant<|channel|>commentary to=functions.get_current_weather <|constrain|>json"
        "<|message|>"
        '{"location": "Paris"}<|call|>',
        "<|start|>assistant to=functions.get_current_weather<|channel|>commentary json<|message|>"
        '{"location": "Paris"}',
    ],
    "gemma4": [
        '<|tool_call>call:get_current_weather{location:<|"|>Paris<|"|>}<tool_call|>',
    ],
}
ALL_WRITTEN = [(parser, text) for parser, texts in WRITTEN.items() for text in texts]
TAGGED = [(parser, text) for parser, text in ALL_WRITTEN if not text.startswith("{")]
