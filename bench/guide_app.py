"""The orchestrator as tutorials write it: FastAPI with a new httpx client per request."""

from __future__ import annotations

import os
from typing import Any

import httpx
from fastapi import FastAPI, Request

app = FastAPI()


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Any:
    body = await request.json()
    async with httpx.AsyncClient(timeout=60) as client:
        response = await client.post(f"{os.environ['ENGINE_URL']}/v1/chat/completions", json=body)
    return response.json()
