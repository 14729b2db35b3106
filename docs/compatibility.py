"""Writes docs/compatibility.md from the orchestrator's tables; `--check` checks that it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "services/orchestrator")]

from docs.generated import write_or_check  # noqa: E402
from orchestrator.chat.markup import MARKUPS  # noqa: E402
from orchestrator.chat.request_fields import EVERY_ROUND, OTHER_FIELDS  # noqa: E402
from orchestrator.chat.shapes import ODD_SHAPES, OddShape  # noqa: E402
from tests.services.orchestrator.chat.written_calls import WRITTEN  # noqa: E402

COMMAND = ".venv/bin/python docs/compatibility.py"
TARGET = ROOT / "docs" / "compatibility.md"
MODELS = ROOT / "services/vllm/models.yaml"

PAGE = """\
# Clients, engines and models that differ from OpenAI's

<!-- Written by `{command}`. -->

This page is about requests for which the server runs tools. All other requests are relayed as they are.

## Request fields

The server asks the engine several times to answer one request. A field that is not listed here, because it
is newer than vLLM {vllm}, is sent in every round.

| field | sent in | reason |
|---|---|---|
{fields}
Sent in every round: {every}.

`max_tokens` and `max_completion_tokens` limit each round by itself. With `response_format` or
`structured_outputs`, only the answer to a last round is shown, which has the format and no tools.

## Tool choice

| request | effect |
|---|---|
| `tools: []` | the same as no tools |
| `tool_choice: "none"` | the tools are withheld, and configured tools are not attached |
| `tool_choice` that forces a call | holds in the first round; see [tools.md](tools.md) |
| `tool_choice: {{"type": "allowed_tools", ...}}` | only these tools are offered; the mode is the choice |
| `n` above 1 | 400 if the request names server tools; configured tools are not attached |
| header `X-Tool-Execution: client` | the server runs no tools, and the request is relayed |

## Responses

| request | effect |
|---|---|
| `store` absent | means false; OpenAI's default is true |
| `store: true`, `previous_response_id` | a stored response belongs to its key, and expires |
| `item_reference` | 400 that says what to send instead |
| function tool with the name of a server tool | its calls are `mcp_call` items of the server `tandem` |
| tool of type `mcp` with the name of a configured server | that server is used, not `server_url` |
| another tool of type `mcp` with `server_url` | used if `MCP_REQUEST_SERVERS` allows it, else 400 |
| tool of type `mcp` with `connector_id` | relayed to the engine; together with a server tool, 400 |
| `function_call` after calls of the server | its `call_id` is long, since it carries them |

## Calls in the text

vLLM parses calls with the parser of the model (`tool_call_parser` in `services/vllm/models.yaml`). A
call that it leaves in the text is not shown to the client: one that `max_tokens` cuts off, one at the
end of the answer, and any in the last round, which has no tools. A call followed by other text, or
inside a quotation, is text. A call at the end of the text, or at the end of reasoning that no answer
follows, is run with `RESCUE=end_of_turn`, which is the default if `TOOL_CALL_PARSER` is not set or
`none`. If it is not run and there is no other text, the answer says so. If the parser is not in this
table, the formats of all of them count.

| parser | a call starts with | and ends with | example | models |
|---|---|---|---|---|
{parsers}
## Logprobs and token ids

With `logprobs` or `return_token_ids`, the data of each token arrive exactly once, with the text of the
token. Those of calls that the server runs are left out. `prompt_token_ids`, `prompt_logprobs` and
`prompt_text` are those of the first round. In an answer that is not streamed, the text before a call keeps
its data only if the engine reports the bytes of each token, as vLLM does with `logprobs`.

## Answers in odd shapes

Some engines, proxies and models answer in other shapes than OpenAI's. What can be read is read, and the
rest is an error with status 502.

| where | shape | read as |
|---|---|---|
{shapes}"""


def field_rows() -> str:
    rows = sorted((name, rounds.value, reason) for name, (rounds, reason) in OTHER_FIELDS.items())
    return "".join(f"| `{name}` | {rounds} | {reason} |\n" for name, rounds, reason in rows)


def parser_rows(models: dict[str, dict[str, str]]) -> str:
    rows = []
    for parser, markup in MARKUPS.items():
        names = sorted(name for name, facts in models.items() if facts["tool_call_parser"] == parser)
        openings = " or ".join(map(_code, [*markup.openings, *(["{"] if markup.bare else [])]))
        closing = _code(markup.closing) if markup.closing else "the end of the JSON value"
        example = _code(WRITTEN[parser][0].replace("\n", ""))
        rows.append(f"| `{parser}` | {openings} | {closing} | {example} | {', '.join(names)} |\n")
    return "".join(rows)


def shape_rows() -> str:
    return "".join(f"| {shape.place} | {_shape(shape)} | {shape.reading} |\n" for shape in ODD_SHAPES)


def _shape(shape: OddShape) -> str:
    return _code(json.dumps(shape.example))


def _code(text: str) -> str:
    quotes = "``" if "`" in text else "`"
    return f"{quotes}{text}{quotes}".replace("|", "\\|")


def document() -> str:
    """The whole page."""
    models = yaml.safe_load(MODELS.read_text())
    return PAGE.format(
        command=COMMAND,
        vllm=models["vllm"],
        fields=field_rows(),
        every=", ".join(f"`{name}`" for name in sorted(EVERY_ROUND)),
        parsers=parser_rows(models["models"]),
        shapes=shape_rows(),
    )


if __name__ == "__main__":
    sys.exit(write_or_check({TARGET: document()}, COMMAND))
