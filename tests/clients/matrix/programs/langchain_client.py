import os

from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"),
    api_key="unused",
    model=os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
    max_tokens=200,
)


def server_tool(question):
    bound = model.bind_tools([{"type": "function", "function": {"name": "calculate_math"}}])
    return bound.invoke(question).text


# end of the snippet
from langchain.agents import create_agent
from pydantic import BaseModel

from tools import SERVER_TOOL, calculate_math, weather_forecast


class Answer(BaseModel):
    answer: str


def chat(question):
    return model.invoke(question).text


def stream(question):
    return [chunk.text for chunk in model.bind_tools([SERVER_TOOL]).stream(question)]


def client_tool(question, *functions):
    agent = create_agent(model, [*functions, weather_forecast])
    return agent.invoke({"messages": [("user", question)]})["messages"][-1].text


def mixed(question):
    return client_tool(question, calculate_math)


def structured(question):
    agent = create_agent(model, [calculate_math], response_format=Answer)
    return agent.invoke({"messages": [("user", question)]})["structured_response"].model_dump_json()


def responses(question):
    modern = model.model_copy(update={"use_responses_api": True})
    return (
        modern.bind_tools([{"type": "function", "name": "calculate_math", "strict": False}])
        .invoke(question)
        .text
    )
