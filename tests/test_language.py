"""Prose is plain English: phrases that made readers stop are rejected, each with what to write instead.

A phrase is looked for in documents, comments, docstrings, messages and the names of tests, not in code.
"""

from __future__ import annotations

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WHAT_USERS_SAY = {"services/vllm/standin_engine/words.py", "tests/e2e/engine/train/phrases.py"}
"""Lists of words and sentences that people say to a model."""

PHRASES = {
    r"(?<!\|)\b(tells?|told|telling)\b(?!\|| me\b)": "report, return, print, show",
    r"\bmend(s|ed|ing)?\b": "fix, remedy",
    r"(?<!there )\b(is|are|was|were) no\b(?! (longer|more|less|later|better|worse|one)\b)": "is not a",
    r"\btimes running\b": "times in a row",
    r"\b(one \w+|lines?|rows?|CPU|[mµu]s|[KMG]i?B|bytes|microseconds|milliseconds) an? "
    r"(call|chunk|entry|field|finding|gateway|problem|request|round|rule|setting|token|variant)\b": "per",
    r"\brequests an address\b": "per address",
    r"\bwhose end\b": "wait for it to end",
    r"\b(gives?|is|are|takes?) in the order of\b": "is on the order of",
    r"\b(it|request|body|key) (is|was) refused\b": "is rejected",
    r"\bknobs?\b": "setting",
    r"\breckon(s|ed|ing)?\b": "calculate, estimate",
    r"\banew\b": "again",
    r"\bof (yours|ours)\b": "your own, our own",
    r"\bbut for\b": "except for",
    r"(?<!separated )\bby commas\b": "separated by commas",
    r"\b(engines?|tasks?) (is|are) away\b": "is unavailable",
    r"\bfound out by\b": "determined by",
    r"\bhow things stand\b": "status",
    r"\bin (their|its) order\b": "in order",
    r"\b(stands?|stood) (in|at) (the|a|an|one|its)\b(?! way)": "is in",
    r"\bwhich has not\b": "which does not have",
    r"\bas good as (any|the)\b": "the same as",
}
_COMPILED = [(re.compile(phrase, re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]

Passage = tuple[int, str]
"""A piece of prose and the line that it begins on."""


def _python(text: str) -> Iterator[Passage]:
    """Comments, strings and names of tests; strings and comments that follow each other are one passage."""
    begin, parts, kind = 0, list[str](), tokenize.ENDMARKER
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            continue
        if token.type != kind or token.type not in (tokenize.COMMENT, tokenize.STRING):
            if parts:
                yield begin, " ".join(parts)
            begin, parts, kind = token.start[0], [], token.type
        if token.type == tokenize.COMMENT:
            parts.append(token.string.lstrip("# "))
        elif token.type == tokenize.STRING:
            # Parts of one message are joined without a gap, as Python joins them; names in braces are code.
            content = re.sub(r"\{[^{}]*\}", "…", re.sub(r"^\w*[\"']+|[\"']+$", "", token.string))
            parts = ["".join([*parts, content])]
        elif previous == "def" and token.string.startswith("test_"):
            yield token.start[0], token.string.replace("_", " ")
        previous = token.string
    if parts:
        yield begin, " ".join(parts)


def _c(text: str) -> Iterator[Passage]:
    for match in re.finditer(r"/\*[\s\S]*?\*/|(?:[ \t]*//.*\n)+|\"(?:[^\"\\\n]|\\.)*\"", text):
        yield text.count("\n", 0, match.start()) + 1, match[0].replace("//", "")


def _paragraphs(text: str) -> Iterator[Passage]:
    """The whole text, by paragraph; without the marks of comments, tables and lists."""
    for match in re.finditer(r"(?:.*\S.*\n?)+", text):
        yield text.count("\n", 0, match.start()) + 1, re.sub(r"(?m)^[ \t#*-]+", "", match[0])


def found(text: str, suffix: str) -> list[str]:
    """A line for each phrase in a file's text."""
    readers = {".py": _python, ".c": _c, ".mjs": _c}
    problems = []
    for line, passage in readers.get(suffix, _paragraphs)(text):
        flat = re.sub(r"\s+", " ", passage)
        for phrase, instead in _COMPILED:
            for match in phrase.finditer(flat):
                around = flat[max(0, match.start() - 30) : match.end() + 30]
                problems.append(f"{line}: “{around}”: write {instead!r}")
    return problems


def _files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    kinds = {".md", ".py", ".yaml", ".yml", ".toml", ".c", ".mjs", ".in", ".sql", ".example", ""}
    names = [name for name in listed.stdout.split("\0") if name and Path(name).suffix in kinds]
    return [ROOT / name for name in names if name not in WHAT_USERS_SAY]


def test_prose_is_plain() -> None:
    files = _files()
    assert len(files) > 100
    problems = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in files
        if path != Path(__file__)
        for problem in found(path.read_text(encoding="utf-8"), path.suffix)
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("suffix", "text", "lines"),
    [
        (".md", "A page that\ntells it.\n\n| one | the mend |\n", [1, 4]),
        (".yaml", "a: 1\n\n# It prints one line a\n# problem.\n", [3]),
        (".c", 'int told;\n// It is no\n// list.\nputs("whose end");\n', [2, 4]),
        (".py", '"""One line a\nproblem."""\nx = "is "  "no list"\n# Three times\n# running.\n', [1, 3, 4]),
        (".py", 'def test_who_is_told(told: int) -> str:\n    return f"{told} times"\n', [1]),
        (".py", '"There is no such model; it is no longer served."\n', []),
    ],
)
def test_phrases_are_found_in_prose_and_not_in_code(suffix: str, text: str, lines: list[int]) -> None:
    assert [int(problem.partition(":")[0]) for problem in found(text, suffix)] == lines
