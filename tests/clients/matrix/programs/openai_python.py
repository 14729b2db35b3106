import json
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"), api_key="unused")
MODEL = os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct")


def server_tool(question):
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        tools=[{"type": "function", "function": {"name": "calculate_math"}}],
        max_tokens=200,
    )
    return answer.choices[0].message.content


# end of the snippet
from tools import ANSWER, CLIENT_TOOL, SERVER_TOOL, weather_forecast


def chat(question):
    asked = [{"role": "user", "content": question}]
    return (
        client.chat.completions.create(model=MODEL, messages=asked, max_tokens=50).choices[0].message.content
    )


def stream(question):
    asked = [{"role": "user", "content": question}]
    chunks = client.chat.completions.create(
        model=MODEL, messages=asked, tools=[SERVER_TOOL], stream=True, max_tokens=200
    )
    return [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]


def client_tool(question, tools=(CLIENT_TOOL,)):
    messages = [{"role": "user", "content": question}]
    while True:
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, tools=list(tools), max_tokens=200
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message)
        for call in message.tool_calls:
            result = weather_forecast(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def mixed(question):
    return client_tool(question, (SERVER_TOOL, CLIENT_TOOL))


def structured(question):
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    asked = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(
        model=MODEL, messages=asked, tools=[SERVER_TOOL], response_format=wanted, max_tokens=200
    )
    return answer.choices[0].message.content


def responses(question):
    tool = {"type": "function", "name": "calculate_math"}
    return client.responses.create(
        model=MODEL, input=question, tools=[tool], max_output_tokens=200
    ).output_text
