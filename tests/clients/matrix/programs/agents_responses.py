import os

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"), api_key="unused")
MODEL = OpenAIResponsesModel(os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"), client)


def calculate_math(expression: str) -> str:
    """Calculate an arithmetic expression."""
    raise RuntimeError("the server has a tool of this name and runs it")


def server_tool(question):
    agent = Agent(name="assistant", model=MODEL, tools=[function_tool(calculate_math)])
    return Runner.run_sync(agent, question).final_output


# end of the snippet
import asyncio

from pydantic import BaseModel

from tools import weather_forecast

LIMIT = ModelSettings(max_tokens=200)


class Answer(BaseModel):
    answer: str


def run(question, *functions, **options):
    tools = [function_tool(each) for each in functions]
    agent = Agent(name="assistant", model=MODEL, tools=tools, model_settings=LIMIT, **options)
    return Runner.run_sync(agent, question).final_output


def chat(question):
    return run(question)


def stream(question):
    async def pieces():
        agent = Agent(
            name="assistant", model=MODEL, tools=[function_tool(calculate_math)], model_settings=LIMIT
        )
        events = Runner.run_streamed(agent, question).stream_events()
        raw = [event.data async for event in events if event.type == "raw_response_event"]
        return [event.delta for event in raw if event.type == "response.output_text.delta"]

    return asyncio.run(pieces())


def client_tool(question):
    return run(question, weather_forecast)


def mixed(question):
    return run(question, calculate_math, weather_forecast)


def structured(question):
    return run(question, calculate_math, output_type=Answer).model_dump_json()


responses = server_tool
