import os

import instructor
from openai import OpenAI
from pydantic import BaseModel

client = instructor.from_openai(
    OpenAI(base_url=os.environ.get("TANDEM", "http://127.0.0.1:8001/v1"), api_key="unused"),
    mode=instructor.Mode.JSON_SCHEMA,
)


class Answer(BaseModel):
    answer: str


def structured(question):
    made = client.chat.completions.create(
        model=os.environ.get("MODEL", "Qwen/Qwen2.5-7B-Instruct"),
        messages=[{"role": "user", "content": question}],
        tools=[{"type": "function", "function": {"name": "calculate_math"}}],
        response_model=Answer,
        max_tokens=200,
    )
    return made.model_dump_json()


# end of the snippet
REASON = "it only extracts objects, as the column on structured output shows"
NOT = dict.fromkeys(["chat", "stream", "server_tool", "client_tool", "mixed", "responses"], REASON)
