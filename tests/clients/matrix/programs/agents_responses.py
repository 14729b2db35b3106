import os

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"), api_key="unused")
MODEL = OpenAIResponsesModel(os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"), client)


def weather_forecast(location: str) -> str:
    """Get the weather."""
    return f'{{"location": "{location}", "temperature": 21.5, "unit": "celsius", "conditions": "sunny"}}'


def client_tool(question):
    agent = Agent(name="assistant", model=MODEL, tools=[function_tool(weather_forecast)])
    return Runner.run_sync(agent, question).final_output


# end of the snippet
import asyncio

from pydantic import BaseModel

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
            name="assistant", model=MODEL, tools=[function_tool(weather_forecast)], model_settings=LIMIT
        )
        events = Runner.run_streamed(agent, question).stream_events()
        raw = [event.data async for event in events if event.type == "raw_response_event"]
        return [event.delta for event in raw if event.type == "response.output_text.delta"]

    return asyncio.run(pieces())


def structured(question):
    return run(question, output_type=Answer).model_dump_json()


REASON = (
    "it runs each `function_call` of a response itself, even one that has an output: use Chat Completions"
)
NOT = {"server_tool": REASON, "mixed": REASON, "responses": REASON}
