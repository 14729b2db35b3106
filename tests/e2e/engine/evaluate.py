"""Scores the tiny model through the real engine: `python -m tests.e2e.engine.evaluate`.

Every case consists of two requests, as the orchestrator makes them. The calls must be exactly those expected,
and so must the answer to the tool results. Exits with status 1 if a target is missed.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.e2e.engine.cases import Case, Cases
from tests.e2e.engine.serve import MODEL, MODEL_NAME, running_engine
from tests.e2e.engine.train.conversations import Message

SEED = 2026
AT_ONCE = 4  # requests
AIMS = {
    ("held-out cities *", "held-out expressions *"): 0.98,
    (
        "weather tool's results *",
        "weather tool's errors *",
        "calculator's results *",
        "calculator's errors *",
    ): 0.95,
}


@dataclass(frozen=True)
class Outcome:
    """Whether each round of a case was right, and the output of the first that was not."""

    calls_right: bool
    answer_right: bool
    miss: str = ""

    @property
    def right(self) -> bool:
        return self.calls_right and self.answer_right


class Engine:
    """The engine, called through the official client."""

    def __init__(self, url: str) -> None:
        self._client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        self._free = asyncio.Semaphore(AT_ONCE)

    async def outcome(self, case: Case) -> Outcome:
        async with self._free:
            if not case.expected.calls:
                said = await self._ask(case, case.expected.asked(), tools=True)
                right = said == ([], case.expected.answer)
                return Outcome(right, right, "" if right else f"{case.expected.question!r}: {said}")
            wanted = [(call.name, call.arguments) for call in case.expected.calls]
            called, text = await self._ask(case, case.expected.asked(), tools=True, **case.options)
            answer = await self._ask(case, case.expected.called(), tools=case.tools_in_answer)
        calls_right, answer_right = called == wanted, answer == ([], case.expected.answer)
        miss = "" if calls_right else f"{case.expected.question!r}: {called or text!r}"
        if calls_right and not answer_right:
            miss = f"{list(case.expected.contents)}: {answer[0] or answer[1]!r}"
        return Outcome(calls_right, answer_right, miss)

    async def _ask(
        self, case: Case, messages: list[Message], *, tools: bool, **options: Any
    ) -> tuple[list[tuple[str, Any]], str]:
        """Returns the calls and the text of one answer; malformed arguments stay text."""
        if tools:
            options["tools"] = case.tools.specs
        conversation = cast("list[ChatCompletionMessageParam]", [*case.history, *messages])
        completion: ChatCompletion = await self._client.chat.completions.create(
            model=MODEL_NAME, messages=conversation, temperature=0, max_tokens=400, **options
        )
        message = completion.choices[0].message
        functions = [call.function for call in message.tool_calls or [] if call.type == "function"]
        return [(function.name, _parsed(function.arguments)) for function in functions], message.content or ""


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


async def evaluate(url: str, groups: dict[str, list[Case]]) -> dict[str, list[Outcome]]:
    """Runs the cases of every group against the engine at `url` and returns the outcomes."""
    engine = Engine(url)
    scores = {}
    for group, cases in groups.items():
        scores[group] = await asyncio.gather(*map(engine.outcome, cases))
        say(f"{group}: {share(scores[group]):.0%} of {len(cases)}", sys.stderr)
    return scores


def share(outcomes: list[Outcome]) -> float:
    return sum(outcome.right for outcome in outcomes) / len(outcomes)


def table(scores: dict[str, list[Outcome]]) -> str:
    """Formats the scores as in the model card (Markdown)."""
    lines = ["| group | cases | calls right | answers right | both right |", "|---|---|---|---|---|"]
    for group, outcomes in scores.items():
        calls = sum(outcome.calls_right for outcome in outcomes)
        answers = sum(outcome.answer_right for outcome in outcomes)
        both = sum(outcome.right for outcome in outcomes)
        lines.append(f"| {group} | {len(outcomes)} | {calls} | {answers} | {both} |")
    return "\n".join(lines)


def missed_aims(scores: dict[str, list[Outcome]]) -> list[str]:
    missed = []
    for groups, aim in AIMS.items():
        reached = share([outcome for group in groups for outcome in scores[group]])
        line = f"{' + '.join(groups)}: {reached:.1%}, aim {aim:.0%}"
        say(line, sys.stdout)
        if reached < aim:
            missed.append(line)
    return missed


def say(line: str, stream: TextIO) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.engine.evaluate", description=__doc__)
    parser.add_argument(
        "--python", type=Path, default=Path(".venv-vllm/bin/python"), help="the engine's Python"
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="the model's folder")
    parser.add_argument("--misses", action="store_true", help="print the wrong outputs")
    options = parser.parse_args()
    groups = Cases(SEED).groups()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_engine(options.python, Path(folder) / "engine.log", options.model) as url,
    ):
        scores = asyncio.run(evaluate(url, groups))
    say(table(scores), sys.stdout)
    if options.misses:
        for group, outcomes in scores.items():
            for outcome in outcomes:
                if outcome.miss:
                    say(f"{group}: {outcome.miss}", sys.stdout)
    if missed_aims(scores):
        sys.exit("a target was missed")


if __name__ == "__main__":
    main()
