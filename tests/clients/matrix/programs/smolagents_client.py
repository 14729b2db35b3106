import os

from smolagents import OpenAIServerModel

model = OpenAIServerModel(
    api_base=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"),
    api_key="unused",
    model_id=os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
    max_tokens=200,
)


def server_tool(question):
    tools = [{"type": "function", "function": {"name": "calculate_math"}}]
    return model.generate([{"role": "user", "content": question}], tools=tools).content


# end of the snippet
from smolagents import ToolCallingAgent, tool

from tools import ANSWER, SERVER_TOOL, weather_forecast


def chat(question):
    return model.generate([{"role": "user", "content": question}]).content


def stream(question):
    deltas = model.generate_stream([{"role": "user", "content": question}], tools=[SERVER_TOOL])
    return [delta.content or "" for delta in deltas]


def client_tool(question, *functions):
    """Runs the agent for one step, whose observation is the result of the call."""
    agent = ToolCallingAgent([tool(each) for each in (*functions, weather_forecast)], model, max_steps=1)
    list(agent.run(question, stream=True))
    return agent.memory.steps[1].observations


def structured(question):
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    messages = [{"role": "user", "content": question}]
    return model.generate(messages, tools=[SERVER_TOOL], response_format=wanted).content


NOT = {
    "mixed": "its agent sends calls back as text, so that the results of the server's own calls cannot be restored",
    "responses": "it speaks Chat Completions only",
}
