"""Checks request bodies in vLLM's order, and rejects them with vLLM's messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import orjson

from .arguments import Options
from .errors import ApiError, bad_request, invalid, not_found, problem, unsupported_media_type
from .faults import Fault, parse_fault
from .fields import CHAT_FIELDS, SAMPLING_FIELDS, check_fields, check_messages, check_text_only

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a request asks to generate, as opposed to what."""

    model: str
    stream: bool
    include_usage: bool
    continuous_usage: bool
    n: int
    max_tokens: int | None
    stop: tuple[str, ...]
    fault: Fault


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated request for a chat completion."""

    sampling: Sampling
    messages: list[JsonObject]
    tools: list[JsonObject]
    tool_choice: str | JsonObject | None
    parallel_tool_calls: bool
    response_format: JsonObject | None
    logprobs: bool
    top_logprobs: int

    @property
    def named_tool(self) -> str | None:
        return self.tool_choice["function"]["name"] if isinstance(self.tool_choice, dict) else None

    @property
    def forced(self) -> bool:
        return self.tool_choice == "required" or self.named_tool is not None


def parse_body(body: bytes, content_type: str) -> JsonObject:
    """Parses the JSON object of a request.

    Raises:
        ApiError: Status 400, with the same body as FastAPI inside vLLM.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise unsupported_media_type()
    if not body:
        raise invalid(problem("missing", "body", "Field required", None))
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _slow_parse(body)
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid(problem("model_attributes_type", "body", message, value))
    return value


def _slow_parse(body: bytes) -> Any:
    """Parses what orjson rejected: to produce vLLM's message, or to accept NaN as vLLM does."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        loc = f"body.{error.pos}"
        raise invalid(problem("json_invalid", loc, "JSON decode error", {}, error=error.msg)) from None
    except UnicodeDecodeError:
        raise bad_request("There was an error parsing the body") from None


def parse_chat(body: JsonObject, options: Options) -> ChatRequest:
    """Checks a body of /v1/chat/completions.

    Raises:
        ApiError: The first error that vLLM would report.
    """
    _check_stream_options(body)
    _check_tools(body)
    check_fields(body, CHAT_FIELDS, ("messages",))
    check_messages(body["messages"])
    sampling = _sampling(body, options)
    tool_choice = body.get("tool_choice") or ("auto" if body.get("tools") else None)
    if not options.tool_call_parser:
        _check_parser(tool_choice, options)
    if not body["messages"]:
        raise bad_request(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    check_text_only(body["messages"], sampling.model)
    return ChatRequest(
        sampling=sampling,
        messages=body["messages"],
        tools=body.get("tools") or [],
        tool_choice=tool_choice,
        parallel_tool_calls=body.get("parallel_tool_calls") is not False,
        response_format=body.get("response_format"),
        logprobs=body.get("logprobs") is True,
        top_logprobs=_top_logprobs(body),
    )


def parse_completion(body: JsonObject, options: Options) -> tuple[Sampling, list[str]]:
    """Checks a /v1/completions body. Returns its sampling and its prompts as text (a token id is a word)."""
    _check_stream_options(body)
    check_fields(body, SAMPLING_FIELDS, ())
    prompt = body.get("prompt")
    if prompt is None or prompt == []:
        raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    prompts = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    texts = [" ".join(map(str, p)) if isinstance(p, list) else str(p) for p in prompts]
    return _sampling({"max_tokens": 16, **body}, options), texts


def parse_responses(body: JsonObject) -> JsonObject:
    """Turns a body of /v1/responses into one of /v1/chat/completions."""
    if body.get("previous_response_id"):
        raise response_not_found(str(body["previous_response_id"]))
    if body.get("background"):
        message = (
            "This vLLM engine does not support `store=True` and therefore does not support the background "
            "mode. To enable these features, set the environment variable "
            "`VLLM_ENABLE_RESPONSES_API_STORE=1` when launching the vLLM server."
        )
        raise ApiError(400, _invalid_request(message, "background", 400))
    if "input" not in body:
        raise invalid(problem("missing", "body.input", "Field required", body))
    if not isinstance(body["input"], str | list):
        raise invalid(
            problem("string_type", "body.input.str", "Input should be a valid string", body["input"])
        )
    _check_response_tools(body.get("tools"))
    tools = [
        {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
        for tool in body.get("tools") or ()
        if isinstance(tool, dict) and tool.get("type") == "function"
    ]
    choice = body.get("tool_choice")
    if not tools and choice == "required":
        message = (
            "tool_choice requires a function call, but tools contains no function tool the model can call."
        )
        raise bad_request(message, "tool_choice")
    chat: JsonObject = {
        k: body[k] for k in ("model", "temperature", "top_p", "stream", "standin") if k in body
    }
    chat["messages"] = _input_messages(body)
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if response_format := _text_format(body):
        chat["response_format"] = response_format
    if tools:
        chat["tools"] = tools
        named = choice.get("name") if isinstance(choice, dict) else None
        chat["tool_choice"] = {"type": "function", "function": {"name": named}} if named else choice or "auto"
        chat["parallel_tool_calls"] = body.get("parallel_tool_calls")
    return chat


def _check_response_tools(tools: Any) -> None:
    if tools is not None and not isinstance(tools, list):
        raise invalid(problem("list_type", "body.tools", "Input should be a valid list", tools))
    for index, tool in enumerate(tools or ()):
        if not isinstance(tool, dict):
            loc = f"body.tools.{index}"
            raise invalid(problem("dict_type", loc, "Input should be a valid dictionary", tool))


def _text_format(body: JsonObject) -> JsonObject | None:
    """Returns `text.format` of /v1/responses as `response_format` of /v1/chat/completions."""
    text = body.get("text")
    given = text.get("format") if isinstance(text, dict) else None
    if not isinstance(given, dict) or given.get("type") != "json_schema":
        return given if isinstance(given, dict) else None
    schema = {key: given[key] for key in ("name", "schema", "strict") if key in given}
    return {"type": "json_schema", "json_schema": schema}


def response_not_found(response_id: str) -> ApiError:
    message = f"Response with id '{response_id}' not found."
    return ApiError(404, _invalid_request(message, "response_id", 404))


def _invalid_request(message: str, param: str, code: int) -> JsonObject:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _input_messages(body: JsonObject) -> list[JsonObject]:
    messages: list[JsonObject] = []
    if isinstance(body.get("instructions"), str):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
            messages.append(output)
        elif isinstance(item, dict) and "role" in item:
            messages.append(item)
    return messages


def _check_stream_options(body: JsonObject) -> None:
    if body.get("stream_options") and not body.get("stream"):
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")


def _check_tools(body: JsonObject) -> None:
    if body.get("tools") == []:
        raise bad_request(
            "`tools` must not be an empty array. "
            "Either provide at least one tool or omit the field entirely.",
            "tools",
        )
    choice = body.get("tool_choice")
    if choice is None or choice == "none":
        return
    if body.get("tools") is None:
        raise bad_request("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice not in ("auto", "required") and not isinstance(choice, dict):
        message = (
            f"Invalid value for `tool_choice`: {choice}! "
            'Only named tools, "none", "auto" or "required" are supported.'
        )
        raise bad_request(message, "tool_choice")
    if isinstance(choice, dict):
        _check_named(choice, body["tools"])


def _check_named(choice: JsonObject, tools: Any) -> None:
    usage = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'
    function = choice.get("function")
    if not isinstance(function, dict):
        message = f"Invalid value for `function`: `{function}` in `tool_choice`! {usage}"
        raise bad_request(message, "tool_choice.function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        message = f"Invalid `name` in `function`: `{name}` in `tool_choice`! {usage}"
        raise bad_request(message, "tool_choice.function.name")
    known = [
        t["function"].get("name")
        for t in (tools if isinstance(tools, list) else ())
        if isinstance(t, dict) and isinstance(t.get("function"), dict)
    ]
    if name not in known:
        message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise bad_request(message, "tool_choice")


def _check_parser(tool_choice: str | JsonObject | None, options: Options) -> None:
    if tool_choice == "auto" and not options.auto_tool_choice:
        raise bad_request(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )
    if tool_choice not in (None, "none", "auto"):
        named = isinstance(tool_choice, dict)
        described = f'function "{tool_choice["function"]["name"]}"' if named else f'"{tool_choice}"'  # type: ignore[index]
        raise bad_request(f"tool_choice={described} requires --tool-call-parser to be set")


def _sampling(body: JsonObject, options: Options) -> Sampling:
    model = body.get("model") or options.served_names[0]
    if model not in options.served_names:
        aliases = ", ".join(options.served_names)
        raise not_found(f"The model `{model}` does not exist. Valid aliases: {aliases}.", "model")
    stream_options = body.get("stream_options") or {}
    limit = body.get("max_completion_tokens")
    stop = body.get("stop") or ()
    usage = options.force_include_usage or stream_options.get("include_usage") is True
    return Sampling(
        model=model,
        stream=body.get("stream") is True,
        include_usage=usage,
        continuous_usage=usage and stream_options.get("continuous_usage_stats") is True,
        n=_sequences(body, options),
        max_tokens=_max_tokens(body.get("max_tokens") if limit is None else limit, options),
        stop=(stop,) if isinstance(stop, str) else tuple(s for s in stop if isinstance(s, str) and s),
        fault=parse_fault(body.get("standin")),
    )


def _sequences(body: JsonObject, options: Options) -> int:
    n = 1 if body.get("n") is None else int(body["n"])
    if n < 1:
        raise bad_request(f"n must be at least 1, got {n}.")
    if n > options.max_n:
        raise bad_request(
            f"n must be at most {options.max_n}, got {n}. "
            "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
        )
    temperature = 1.0 if body.get("temperature") is None else float(body["temperature"])
    if temperature < 0:
        message = f"temperature must be non-negative, got {temperature}."
        raise bad_request(message, "temperature", temperature)
    if n > 1 and temperature == 0:
        raise bad_request(f"n must be 1 when using greedy sampling, got {n}.")
    return n


def _max_tokens(value: Any, options: Options) -> int | None:
    if value is None:
        return None
    limit = int(value)
    if limit < 1:
        raise bad_request(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if limit > options.max_model_len:
        raise bad_request(
            f"max_tokens={limit} cannot be greater than max_model_len={options.max_model_len}. "
            "Please request fewer output tokens.",
            "max_tokens",
            limit,
        )
    return limit


def _top_logprobs(body: JsonObject) -> int:
    wanted = int(body.get("top_logprobs") or 0)
    if wanted > 20:
        message = f"Requested sample logprobs of {wanted}, which is greater than max allowed: 20"
        raise bad_request(message, "logprobs", wanted)
    return wanted


def check_prompt(length: int, options: Options) -> None:
    """Rejects a prompt that leaves no room in the model's context."""
    if length == options.max_model_len:
        raise bad_request("max_tokens must be at least 1, got 0.", "max_tokens", 0)
    if length > options.max_model_len:
        raise bad_request(
            f"This model's maximum context length is {options.max_model_len} tokens. However, your prompt "
            f"contains at least {options.max_model_len + 1} input tokens, which exceeds this limit even "
            "without any output tokens. Please reduce the length of the input prompt.",
            "input_tokens",
            options.max_model_len + 1,
        )
