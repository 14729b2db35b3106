import os

from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

model = ChatOpenAI(
    base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"),
    api_key="unused",
    model=os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
    max_tokens=200,
)


def graph(server_tools, client_functions):
    """Tools of the server need no node: their calls never reach the graph."""
    bound = model.bind_tools([*server_tools, *client_functions])
    builder = StateGraph(MessagesState)
    builder.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    builder.add_node("tools", ToolNode(client_functions))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile()


def server_tool(question, client_functions=()):
    server_tools = [{"type": "function", "function": {"name": "calculate_math"}}]
    state = graph(server_tools, list(client_functions)).invoke({"messages": [("user", question)]})
    return state["messages"][-1].text


# end of the snippet
from tools import SERVER_TOOL, weather_forecast


def chat(question):
    return graph([], [weather_forecast]).invoke({"messages": [("user", question)]})["messages"][-1].text


def stream(question):
    parts = graph([SERVER_TOOL], []).stream({"messages": [("user", question)]}, stream_mode="messages")
    return [chunk.text for chunk, _ in parts]


def client_tool(question):
    return graph([], [weather_forecast]).invoke({"messages": [("user", question)]})["messages"][-1].text


def mixed(question):
    return server_tool(question, [weather_forecast])


NOT = {
    "structured": "LangChain's model does it; see that row",
    "responses": "LangChain's model does it; see that row",
}
