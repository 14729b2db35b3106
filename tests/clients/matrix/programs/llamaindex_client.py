import asyncio
import os

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    api_base=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"),
    api_key="unused",
    model=os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
    is_chat_model=True,
    is_function_calling_model=True,
    max_tokens=200,
)


def calculate_math(expression: str) -> str:
    """Calculate an arithmetic expression."""
    raise RuntimeError("the server has a tool of this name and runs it")


def server_tool(question, *functions):
    async def answer():
        return str(await FunctionAgent(tools=[calculate_math, *functions], llm=llm).run(question))

    return asyncio.run(answer())


# end of the snippet
from llama_index.core.agent.workflow import AgentStream

from tools import ANSWER, SERVER_TOOL, weather_forecast


def chat(question):
    return llm.complete(question).text


def stream(question):
    async def pieces():
        handler = FunctionAgent(tools=[calculate_math], llm=llm).run(question)
        return [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]

    return asyncio.run(pieces())


def client_tool(question):
    async def answer():
        return str(await FunctionAgent(tools=[weather_forecast], llm=llm).run(question))

    return asyncio.run(answer())


def mixed(question):
    return server_tool(question, weather_forecast)


def structured(question):
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER, "strict": True}}
    return llm.complete(question, tools=[SERVER_TOOL], response_format=wanted).text


NOT = {
    "responses": "its OpenAILike speaks Chat Completions only",
}
