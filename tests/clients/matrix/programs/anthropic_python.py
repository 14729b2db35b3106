import os

from anthropic import Anthropic

client = Anthropic(
    base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1").removesuffix("/v1"), api_key="unused"
)
MODEL = os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct")


def server_tool(question):
    answer = client.messages.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        tools=[{"name": "calculate_math", "input_schema": {"type": "object"}}],
        max_tokens=200,
    )
    return "".join(block.text for block in answer.content if block.type == "text")


# end of the snippet
from tools import ANSWER, CLIENT_TOOL, weather_forecast

SERVER = {"name": "calculate_math", "input_schema": {"type": "object"}}
OWN = {
    "name": "weather_forecast",
    "input_schema": CLIENT_TOOL["function"]["parameters"],
    "description": "Get the weather",
}


def text_of(answer):
    return "".join(block.text for block in answer.content if block.type == "text")


def chat(question):
    asked = [{"role": "user", "content": question}]
    return text_of(client.messages.create(model=MODEL, messages=asked, max_tokens=50))


def stream(question):
    asked = [{"role": "user", "content": question}]
    with client.messages.stream(model=MODEL, messages=asked, tools=[SERVER], max_tokens=200) as events:
        return list(events.text_stream)


def client_tool(question, tools=(OWN,)):
    messages = [{"role": "user", "content": question}]
    while True:
        answer = client.messages.create(model=MODEL, messages=messages, tools=list(tools), max_tokens=200)
        if answer.stop_reason != "tool_use":
            return text_of(answer)
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": weather_forecast(**block.input)}
            for block in answer.content
            if block.type == "tool_use" and block.name == "weather_forecast"
        ]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def mixed(question):
    return client_tool(question, (SERVER, OWN))


def structured(question):
    answer = client.messages.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        tools=[SERVER],
        output_config={"format": {"type": "json_schema", "schema": ANSWER}},
        max_tokens=200,
    )
    return text_of(answer)


NOT = {
    "responses": "it speaks the Messages API",
}
