import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"), api_key="unused")
MODEL = os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct")
model = OpenAIChatModel(MODEL, provider=provider)


def calculate_math(expression: str) -> str:
    """Calculate an arithmetic expression."""
    raise RuntimeError("the server has a tool of this name and runs it")


def server_tool(question):
    return Agent(model, tools=[calculate_math]).run_sync(question).output


# end of the snippet
import asyncio

from pydantic import BaseModel
from pydantic_ai import NativeOutput
from pydantic_ai.models.openai import OpenAIResponsesModel

from tools import weather_forecast

LIMIT = {"max_tokens": 200}


class Answer(BaseModel):
    answer: str


def chat(question):
    return Agent(model, model_settings=LIMIT).run_sync(question).output


def stream(question):
    async def pieces():
        agent = Agent(model, tools=[calculate_math], model_settings=LIMIT)
        async with agent.run_stream(question) as result:
            return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

    return asyncio.run(pieces())


def client_tool(question):
    return Agent(model, tools=[weather_forecast], model_settings=LIMIT).run_sync(question).output


def mixed(question):
    return (
        Agent(model, tools=[calculate_math, weather_forecast], model_settings=LIMIT).run_sync(question).output
    )


def structured(question):
    agent = Agent(model, tools=[calculate_math], output_type=NativeOutput(Answer), model_settings=LIMIT)
    return agent.run_sync(question).output.model_dump_json()


def responses(question):
    model = OpenAIResponsesModel(MODEL, provider=provider)
    return Agent(model, tools=[calculate_math], model_settings=LIMIT).run_sync(question).output
