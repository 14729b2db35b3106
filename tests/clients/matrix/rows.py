"""The clients of the matrix, what is asked of each, and what its answer must contain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
END = ("# end of the snippet", "// end of the snippet")


@dataclass(frozen=True, slots=True)
class Row:
    """A client.

    Attributes:
        program: the file in `programs/` whose start is the snippet that docs/clients.md shows.
        package: the package whose version is shown.
        needs_context: whether its prompts exceed the context of the tiny model.
    """

    name: str
    program: str
    package: str
    needs_context: bool = False

    @property
    def language(self) -> str:
        return {"py": "python", "mjs": "js", "java": "java", "sh": "sh"}[self.program.rpartition(".")[2]]

    @property
    def is_raw(self) -> bool:
        """Whether it only sends a body to a path."""
        return self.language in ("java", "sh")

    def snippet(self) -> str:
        text = (PROGRAMS / self.program).read_text()
        for end in END:
            text = text.partition(end)[0]
        return text.strip()


ROWS = [
    Row("openai, Python", "openai_python.py", "openai"),
    Row("openai, Node", "openai_node.mjs", "openai"),
    Row("openai-agents, Python, Chat Completions", "agents_chat.py", "openai-agents"),
    Row("openai-agents, Python, Responses", "agents_responses.py", "openai-agents"),
    Row("openai-agents, JS, Chat Completions", "agents_node_chat.mjs", "@openai/agents"),
    Row("openai-agents, JS, Responses", "agents_node_responses.mjs", "@openai/agents"),
    Row("LangChain", "langchain_client.py", "langchain-openai"),
    Row("LangGraph", "langgraph_client.py", "langgraph"),
    Row("Vercel AI SDK, `@ai-sdk/openai-compatible`", "ai_sdk_compatible.mjs", "@ai-sdk/openai-compatible"),
    Row("Vercel AI SDK, `@ai-sdk/openai`", "ai_sdk_openai.mjs", "@ai-sdk/openai"),
    Row("pydantic-ai", "pydantic_ai_client.py", "pydantic-ai-slim"),
    Row("LlamaIndex", "llamaindex_client.py", "llama-index-core"),
    Row("smolagents", "smolagents_client.py", "smolagents", needs_context=True),
    Row("instructor", "instructor_client.py", "instructor"),
    Row("LiteLLM SDK", "litellm_client.py", "litellm"),
    Row("anthropic, Python (Messages)", "anthropic_python.py", "anthropic"),
    Row("JDK HttpClient", "Request.java", ""),
    Row("curl --http2", "request.sh", ""),
]

CELLS = {
    "chat": "chat",
    "stream": "stream",
    "server_tool": "server tool",
    "client_tool": "client tool",
    "mixed": "mixed",
    "structured": "structured",
    "responses": "Responses",
}
QUESTIONS = {
    "chat": "Hello",
    "stream": "Calculate 123 * 456",
    "server_tool": "Calculate 123 * 456",
    "client_tool": "What is the weather in Paris?",
    "mixed": "What is 12 * 7? And what is the weather in Paris?",
    "structured": "Calculate 12 * 7",
    "responses": "Calculate 123 * 456",
}
EXPECTED = {
    "server_tool": ("56088",),
    "client_tool": ("21.5",),
    "mixed": ("84", "21.5"),
    "responses": ("56088",),
}
_NO_TOOLS = "it has no tools of its own"
RAW_REASONS = {"client_tool": _NO_TOOLS, "mixed": _NO_TOOLS}

_SERVER_TOOL = {"type": "function", "function": {"name": "calculate_math"}}
_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 40}},
    "required": ["answer"],
    "additionalProperties": False,
}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}}


def raw_request(cell: str, model: str) -> tuple[str, str]:
    """Returns the path and the body of a request for a client without an API of its own."""
    if cell == "responses":
        tool = {"type": "function", "name": "calculate_math"}
        return "/responses", json.dumps({"model": model, "input": QUESTIONS[cell], "tools": [tool]})
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": QUESTIONS[cell]}]}
    body |= {"max_tokens": 200, "tools": [_SERVER_TOOL]}
    extra: dict[str, dict[str, Any]] = {
        "stream": {"stream": True},
        "structured": {"response_format": _FORMAT},
    }
    return "/chat/completions", json.dumps(body | extra.get(cell, {}))


def raw_answer(cell: str, output: str) -> str | list[str]:
    """Returns what a client of `raw_request` got.

    Raises:
        ValueError, LookupError: it is not an answer.
    """
    if cell == "stream":
        events = [json.loads(line[6:]) for line in output.splitlines() if line.startswith("data: {")]
        return [event["choices"][0]["delta"].get("content") or "" for event in events]
    answer = json.loads(output)
    if cell == "responses":
        texts = [part["text"] for item in answer["output"] for part in item.get("content") or ()]
        return "".join(texts)
    return str(answer["choices"][0]["message"]["content"])


def problem(cell: str, answer: Any) -> str | None:
    """Returns what is wrong with an answer, None if nothing is."""
    if cell == "stream":
        pieces = [piece for piece in answer or () if piece]
        if len(pieces) < 2:
            return f"the text came in {len(pieces)} pieces: {pieces}"
        answer = "".join(pieces)
    if not isinstance(answer, str) or not answer:
        return f"no text: {answer!r}"
    if cell == "structured":
        return None if _is_answer(answer) else f"not the object that was asked for: {answer[:300]!r}"
    missing = [part for part in EXPECTED.get(cell, ()) if part not in answer]
    return f"without {', '.join(missing)}: {answer[:300]!r}" if missing else None


def _is_answer(text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("answer"), str)
