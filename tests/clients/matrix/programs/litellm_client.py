import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm

where = {
    "model": "openai/" + os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
    "api_base": os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"),
    "api_key": "unused",
}


def server_tool(question):
    answer = litellm.completion(
        messages=[{"role": "user", "content": question}],
        tools=[{"type": "function", "function": {"name": "calculate_math"}}],
        max_tokens=200,
        **where,
    )
    return answer.choices[0].message.content


# end of the snippet
import json

from tools import ANSWER, CLIENT_TOOL, SERVER_TOOL, weather_forecast


def ask(messages, **options):
    return litellm.completion(messages=messages, max_tokens=200, **options, **where)


def chat(question):
    return ask([{"role": "user", "content": question}]).choices[0].message.content


def stream(question):
    chunks = ask([{"role": "user", "content": question}], tools=[SERVER_TOOL], stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in chunks]


def client_tool(question, tools=(CLIENT_TOOL,)):
    messages = [{"role": "user", "content": question}]
    while (message := ask(messages, tools=list(tools)).choices[0].message).tool_calls:
        messages.append(message)
        for call in message.tool_calls:
            result = weather_forecast(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return message.content


def mixed(question):
    return client_tool(question, (SERVER_TOOL, CLIENT_TOOL))


def structured(question):
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    asked = [{"role": "user", "content": question}]
    return ask(asked, tools=[SERVER_TOOL], response_format=wanted).choices[0].message.content


def responses(question):
    tool = {"type": "function", "name": "calculate_math"}
    return litellm.responses(input=question, tools=[tool], max_output_tokens=200, **where).output_text
