"""`make demo`: both tiers on this machine, and two questions through the official OpenAI client."""

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
    "standin": "a stand-in: no language model, it picks tools by rules",
    "vllm": "vLLM on the CPU",
}
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def ask_streaming(client: OpenAI, model: str, question: str) -> None:
    """Asks, and prints tool calls and answer as they come."""
    print(f"\n{BOLD}Question:{PLAIN} {question}  {DIM}(streamed){PLAIN}")
    stream = client.chat.completions.create(
        model=model,
        temperature=0,
        messages=[{"role": "user", "content": question}],
        tools=TOOLS,
        stream=True,
        extra_body={"tandem": {"events": True}},
    )
    begun = False
    for chunk in stream:
        if event := (chunk.model_extra or {}).get("tandem"):
            show_event(event)
        if chunk.choices and chunk.choices[0].delta.content:
            if not begun:
                print(f"{BOLD}Answer:{PLAIN}   ", end="")
                begun = True
            print(chunk.choices[0].delta.content, end="", flush=True)
    print()


def ask(client: OpenAI, model: str, question: str) -> None:
    """Asks, and prints tool calls and answer when all is there."""
    print(f"\n{BOLD}Question:{PLAIN} {question}  {DIM}(in one piece){PLAIN}")
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
            print(f"  orchestrator  {orchestrator.url}  speaks the OpenAI API and runs the tools")
            with OpenAI(base_url=f"{orchestrator.url}/v1", api_key="unused") as client:
                model = client.models.list().data[0].id
                ask_streaming(client, model, "What is the weather in San Francisco?")
                ask(client, model, "Calculate 123 * 456")
    except StartError as error:
        sys.exit(str(error))
    print("\nBoth tiers have ended. `make up` leaves them running.")


if __name__ == "__main__":
    main()
