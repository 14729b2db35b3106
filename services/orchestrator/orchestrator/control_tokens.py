"""Makes the control tokens of a model's tokenizer and its call markup harmless in tool results.

A space after the first character, as in `< |im_end|>`, is enough: the tokenizer no longer finds the token,
while the model and the user can still read it. The engine lists its tokens (`/tokenizer_info`); the table is
for engines that do not. Its sources are the files tokenizer_config.json and chat_template.jinja (tekken.json
for Mistral, docs/format.md of openai/harmony for gpt-oss) of the models in models.yaml.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger("orchestrator.engine")

_MAX_LENGTH = 64
_MAX_TOKENS = 100_000
_MAX_PATTERNS = 1_000
_MARKED = re.compile(r"[<>\[\]|\uff5c\u2581]")
_DIGITS = re.compile(r"\d+")
# `<|im_start|>` and similar tokens in all families; `<|turn>` and `<turn|>` in Gemma.
_SHAPES = (r"\|[^\s<>|]{1,64}\|?>", r"[\w/]{1,64}\|>")

_QWEN = "<tool_call> </tool_call> <tool_response> </tool_response> <think> </think> <tools> </tools>"
TOKENS: Mapping[str, str] = {
    "hermes": _QWEN,
    "qwen3_coder": f"{_QWEN} <function= </function> <parameter= </parameter>",
    "llama3_json": "",
    "openai": "",
    "mistral": "<s> </s> <unk> <pad> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] "
    "[/TOOL_RESULTS] [TOOL_CALLS] [TOOL_CONTENT] [ARGS] [CALL_ID] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [IMG] "
    "[IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [THINK] [/THINK] [AUDIO] [BEGIN_AUDIO] <SPECIAL_0>",
    "gemma4": "<bos> <eos> <pad> <unk> <mask> <start_of_turn> <end_of_turn> <start_of_image> <end_of_image> "
    "<unused0>",
}
"""Tokens and markup that `_SHAPES` does not match, by the name of vLLM's tool-call parser."""


class ControlTokens:
    """The tokens to make harmless.

    Args:
        parser: the engine's tool-call parser, None if unknown.

    Attributes:
        source: `engine`, `table`, or `unknown`, which makes the tokens of all families harmless.
    """

    def __init__(self, parser: str | None) -> None:
        known = TOKENS.get(parser or "")
        self.source = "unknown" if known is None else "table"
        self._tokens = set((" ".join(TOKENS.values()) if known is None else known).split())
        self._pattern = self._compile()

    def report(self) -> None:
        """Logs a warning if the model's tokens are unknown."""
        if self.source == "unknown":
            log.warning(
                "the control tokens of the model are unknown, so those of all known families are made "
                "harmless in tool results: set TOOL_CALL_PARSER, or start vLLM with "
                "--enable-tokenizer-info-endpoint"
            )

    def learn(self, tokenizer_info: Any) -> None:
        """Adds the tokens of an engine's tokenizer, as `/tokenizer_info` of vLLM describes it."""
        found = set(_tokens_in(tokenizer_info))
        if not found:
            return
        self.source = "engine"
        if not found <= self._tokens:
            self._tokens |= found
            self._pattern = self._compile()
            log.info("control tokens known", extra={"fields": {"tokens": len(self._tokens)}})

    def neutralize(self, text: str) -> str:
        """Returns the text with all control tokens and call markup made harmless."""
        if not any(first in text for first in self._firsts):
            return text
        return self._pattern.sub(r"\g<0> ", text)

    def neutralize_content(self, content: Any) -> Any:
        """Does the same for the content of a message, which may be a list of parts."""
        if isinstance(content, str):
            return self.neutralize(content)
        if not isinstance(content, list):
            return content
        return [
            {**part, "text": self.neutralize(part["text"])}
            if isinstance(part, dict) and isinstance(part.get("text"), str)
            else part
            for part in content
        ]

    def _compile(self) -> re.Pattern[str]:
        """Matches the first character of each token. A number matches any number: families have thousands."""
        firsts = "<" + "".join(token[0] for token in self._tokens)
        self._firsts = sorted({*firsts, *("0123456789" if _DIGITS.search(firsts) else "")})
        split = {(_pattern_of(token[0]), _pattern_of(token[1:])) for token in self._tokens}
        longest_first = sorted(split, key=lambda parts: (-len(parts[1]), parts))[:_MAX_PATTERNS]
        rests: dict[str, list[str]] = {"<": [*_SHAPES]}
        for first, rest in longest_first:
            rests.setdefault(first, []).append(rest)
        return re.compile("|".join(f"{first}(?={'|'.join(rest)})" for first, rest in rests.items()))


def _pattern_of(text: str) -> str:
    """Matches the text with any numbers in place of its numbers."""
    return _DIGITS.sub(r"\\d+", re.escape(text))


def _tokens_in(tokenizer_info: Any) -> Iterable[str]:
    if not isinstance(tokenizer_info, dict):
        return
    candidates: list[Any] = []
    for name, value in tokenizer_info.items():
        if name.endswith("_token"):
            candidates.append(value)
        elif name in ("additional_special_tokens", "extra_special_tokens") and isinstance(value, list):
            candidates += value
        elif name in ("added_tokens_decoder", "extra_special_tokens") and isinstance(value, dict):
            candidates += value.values()
    for candidate in candidates[:_MAX_TOKENS]:
        token = candidate.get("content") if isinstance(candidate, dict) else candidate
        if not isinstance(token, str) or not 2 <= len(token) <= _MAX_LENGTH:
            continue
        if _MARKED.search(token) and not any(character.isspace() for character in token):
            yield token
