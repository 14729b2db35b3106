"""`make demo`: starts both tiers on this machine and asks two questions with the official OpenAI client."""

from __future__ import annotations

import os
import sys
from typing import Any

from openai import OpenAI

from examples.tiers import StartError, running_tiers

TOOLS: Any = [
    {"type": "function", "function": {"name": name}}
    for name in ("get_current_weather", "calculate_math", "query_database")
]
ABOUT = {
    "standin": "a stand-in, not a language model: it picks tools by simple rules",
    "vllm": "vLLM on the CPU",
}
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def ask_streaming(client: OpenAI, model: str, question: str) -> None:
    """Asks a question, and prints tool calls and the answer as they arrive."""
    print(f"\n{BOLD}Question:{PLAIN} {question}  {DIM}(streamed){PLAIN}")
    stream = client.chat.completions.create(
        model=model,
        temperature=0,
        messages=[{"role": "user", "content": question}],
        tools=TOOLS,
        stream=True,
        extra_body={"tandem": {"events": True}},
    )
    answering = False
    for chunk in stream:
        if event := (chunk.model_extra or {}).get("tandem"):
            show_event(event)
        if chunk.choices and chunk.choices[0].delta.content:
            if not answering:
                print(f"{BOLD}Answer:{PLAIN}   ", end="")
                answering = True
            print(chunk.choices[0].delta.content, end="", flush=True)
    print()


def ask(client: OpenAI, model: str, question: str) -> None:
    """Asks a question without streaming, and prints tool calls and the answer at the end."""
    print(f"\n{BOLD}Question:{PLAIN} {question}  {DIM}(not streamed){PLAIN}")
    answer = client.chat.completions.create(
        model=model,
        temperature=0,
        messages=[{"role": "user", "content": question}],
        tools=TOOLS,
        extra_body={"tandem": {"events": True}},
    )
    for event in (answer.model_extra or {})["tandem"]["events"]:
        show_event(event)
    print(f"{BOLD}Answer:{PLAIN}   {answer.choices[0].message.content}")


def show_event(event: dict[str, Any]) -> None:
    if event["type"] == "tool_call.started":
        print(f"  tool    {event['name']} {event['arguments']}")
    else:
        print(f"  result  {event['result']}  {DIM}{event['seconds'] * 1000:.1f} ms{PLAIN}")


def main() -> None:
    print("Starting both tiers ...", flush=True)
    try:
        with running_tiers() as (engine, orchestrator):
            print(f"  engine        {engine.url}  {ABOUT[os.environ.get('ENGINE', 'standin')]}")
            print(f"  orchestrator  {orchestrator.url}  serves the OpenAI API and runs the tools")
            with OpenAI(base_url=f"{orchestrator.url}/v1", api_key="unused") as client:
                model = client.models.list().data[0].id
                ask_streaming(client, model, "What is the weather in San Francisco?")
                ask(client, model, "Calculate 123 * 456")
    except StartError as error:
        sys.exit(str(error))
    print("\nBoth tiers have stopped. `make up` starts them and leaves them running.")


if __name__ == "__main__":
    main()
