"""Every request in steps 4 to 7 of the guide, as written there except for the address.

Two things deliberately differ from the guide:
- The engine is not published (only the orchestrator may reach it), so the curl to port 8000 runs where the
  engine is reachable, as on its own host.
- vLLM's /health has an empty body, whereas the guide expects `{"status":"ok"}`, which is what the
  orchestrator's /health returns.

The answers in the guide's troubleshooting section are messages of this product; they are tested last.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.clients.conftest import KEY
from tests.clients.support import EMAIL, WEATHER, Json, metric, question, running
from tests.support.guide import CHAT, at, block, log_messages, metric_names, own_tool, python, said, shell
from tests.support.live import events_of, text_of
from tests.support.processes import MODEL, NotStarted, Processes, Service


def address(service: Service) -> str:
    return service.url.removeprefix("http://")


def curl(service: Service, path: str, *arguments: str) -> tuple[int, Any]:
    """Returns the status and body that curl received."""
    script = """curl --silent --write-out '\\n%{http_code}' "$@" """
    body, _, status = shell(script, f"{service.url}{path}", *arguments).rpartition("\n")
    return int(status), json.loads(body)


# Step 4: deploy


def test_step_4_orchestrator_logs_the_messages_to_wait_for(tandem: Service) -> None:
    lines = log_messages()
    assert len(lines) == 2
    for line in lines:
        assert line.replace("0.0.0.0:8001", address(tandem)) in tandem.log


def test_step_4_services_are_up(tandem: Service, standin: Service) -> None:
    script = block("Verify Services (from Your Local Machine)")
    assert "${AWS_IP}:8000/health" in script
    printed = shell(at(script, tandem.url).replace("${AWS_IP}:8000", address(standin)))
    models = json.loads(printed)  # the engine's /health printed nothing
    assert [model["id"] for model in models["data"]] == [MODEL]
    assert curl(tandem, "/health") == (200, {"status": "ok"})


# Step 5: tools


def test_step_5_weather_by_curl(tandem: Service) -> None:
    content = said(shell(at(block("Weather Tool Example"), tandem.url)))
    assert "San Francisco" in content
    assert "14.6 °C" in content


def test_step_5_calculator_by_curl(tandem: Service) -> None:
    assert "123 * 456 = 56088" in said(shell(at(block("Calculator Tool Example"), tandem.url)))


def test_step_5_python_sdk(tandem: Service) -> None:
    printed = python(at(block("Python SDK Example (from Your Mac)"), tandem.url, "54.123.45.67"))
    assert "Tokyo" in printed
    assert "15.4 °C" in printed


def test_step_5_expected_flow(tandem: Service) -> None:
    """The guide's seven steps: the tool runs once, between two requests to the engine."""
    counters = [("tool_calls_total", {"tool_name": "get_current_weather"}), ("tool_rounds_sum", {})]
    before = [metric(tandem, name, **labels) for name, labels in counters]
    shell(at(block("Weather Tool Example"), tandem.url))
    after = [metric(tandem, name, **labels) for name, labels in counters]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 2]


# Step 6: your own tools


def test_step_6_query_database_exists_already(tandem: Service) -> None:
    status, tools = curl(tandem, "/v1/tools")
    assert status == 200
    assert "query_database" in [tool["function"]["name"] for tool in tools]
    tool = {"type": "function", "function": {"name": "query_database"}}
    request = question("Query the database table products", tool)
    answer = httpx.post(f"{tandem.url}{CHAT}", json=request, timeout=20).text
    assert "Hiking boot" in said(answer)


def test_step_6_own_tool_is_a_function_in_a_module(
    processes: Processes, standin: Service, tmp_path: Path
) -> None:
    (tmp_path / "our_tools.py").write_text(own_tool().replace("query_database", "query_archive"))
    own = processes.orchestrator(standin.url, PYTHONPATH=str(tmp_path), TOOL_MODULES="our_tools")
    tool = {"type": "function", "function": {"name": "query_archive"}}
    request = question("Query the archive: table orders, filter by year", tool)
    answer = httpx.post(f"{own.url}{CHAT}", json=request, timeout=20).text
    assert "Query results from orders: [sample data]" in said(answer)


def test_step_6_duplicate_tool_name_stops_the_start_and_says_what_to_do(
    processes: Processes, standin: Service, tmp_path: Path
) -> None:
    (tmp_path / "our_tools.py").write_text(own_tool())
    with pytest.raises(NotStarted, match="two tools are named 'query_database'") as caught:
        processes.orchestrator(standin.url, PYTHONPATH=str(tmp_path), TOOL_MODULES="our_tools")
    assert "our_tools.query_database" in str(caught.value)
    assert "rename one" in str(caught.value)


# Step 7: production


def test_step_7_metrics_have_the_guides_names(tandem: Service) -> None:
    counter, label, histogram = metric_names()
    assert (counter, label, histogram) == ("tool_calls_total", "tool_name", "request_latency_seconds")

    def counts() -> list[float]:
        return [
            metric(tandem, counter, **{label: "calculate_math"}),
            metric(tandem, f"{histogram}_count", route=CHAT),
        ]

    before = counts()
    shell(at(block("Calculator Tool Example"), tandem.url))
    assert [new - old for new, old in zip(counts(), before, strict=True)] == [1, 1]
    assert metric(tandem, f"{histogram}_sum", route=CHAT) > 0


def test_step_7_key_in_the_guides_header(strict_tandem: Service) -> None:
    assert 'alias="X-API-Key"' in block("Security")
    asked = ["-H", "Content-Type: application/json", "-d", json.dumps(question("Hi"))]
    status, body = curl(strict_tandem, CHAT, *asked)
    assert (status, body["error"]["code"]) == (401, "missing_api_key")
    assert "X-API-Key: KEY" in body["error"]["message"]
    status, body = curl(strict_tandem, CHAT, *asked, "-H", "X-API-Key: wrong")
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    status, body = curl(strict_tandem, CHAT, *asked, "-H", f"X-API-Key: {KEY}")
    assert status == 200
    assert body["choices"][0]["message"]["content"]


def test_step_7_replicas_share_nothing_that_a_conversation_needs(
    tandem: Service, strict_tandem: Service
) -> None:
    request = question("Send an email to ada@example.com", EMAIL)
    first = httpx.post(f"{tandem.url}{CHAT}", json=request, timeout=20).json()["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "Sent at 12:34."}
    request["messages"] += [first, result]
    headers = {"X-API-Key": KEY}
    second = httpx.post(f"{strict_tandem.url}{CHAT}", json=request, headers=headers, timeout=20)
    assert "Sent at 12:34." in said(second.text)


# Troubleshooting: "Connection refused" from orchestrator to vLLM


def no_engine(processes: Processes, url: str) -> tuple[str, httpx.Response]:
    """Returns what /ready and a chat request report without an engine."""
    alone = processes.orchestrator(url, ENGINE_WAIT_SECONDS="0")
    ready = httpx.get(f"{alone.url}/ready")
    assert ready.status_code == 503
    return ready.json()["reason"], httpx.post(f"{alone.url}{CHAT}", json=question("Hi"), timeout=20)


def test_refused_connection_names_the_address_and_the_setting(processes: Processes) -> None:
    with socket.socket() as silent:  # bound but not listening, so it refuses connections
        silent.bind(("127.0.0.1", 0))
        engine = f"127.0.0.1:{silent.getsockname()[1]}"
        reason, answer = no_engine(processes, f"http://{engine}")
    for message in (reason, answer.json()["error"]["message"]):
        assert engine in message
        assert "it is still starting or hangs, or VLLM_URL is wrong" in message
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "Try again in a few seconds" in answer.json()["error"]["message"]


def test_name_that_does_not_resolve_names_the_host_and_the_setting(processes: Processes) -> None:
    reason, answer = no_engine(processes, "http://vllm.invalid:8000")
    for message in (reason, answer.json()["error"]["message"]):
        assert "vllm.invalid:8000: the name does not resolve" in message
        assert "VLLM_URL" in message
    assert answer.status_code == 503


def test_invalid_vllm_url_stops_the_start_and_shows_a_valid_one(processes: Processes) -> None:
    with pytest.raises(NotStarted, match=r"VLLM_URL='vllm:8000' cannot be used.*http://vllm:8000"):
        processes.orchestrator("vllm:8000")


# Troubleshooting: Tool call not detected


@pytest.mark.parametrize("written", [True, "bare"], ids=["in tags", "as the guide's JSON"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_call_that_the_model_writes_as_text_is_run(
    tandem: Service, written: bool | str, stream: bool
) -> None:
    request = question("What is the weather in San Francisco?", WEATHER, stream=stream)
    request["standin"] = {"call_as_text": written}
    before = metric(tandem, "tool_calls_total", tool_name="get_current_weather", outcome="ok")
    answer = httpx.post(f"{tandem.url}{CHAT}", json=request, timeout=20).text
    content = text_of(events_of(answer)) if stream else said(answer)
    assert content.startswith("The weather in San Francisco")
    assert "14.6 °C" in content
    assert metric(tandem, "tool_calls_total", tool_name="get_current_weather", outcome="ok") == before + 1


def test_error_of_an_engine_started_as_in_the_guide_names_the_missing_flags(processes: Processes) -> None:
    command = yaml.safe_load(block("Step 2: Create Docker Compose Configuration"))["services"]["vllm"][
        "command"
    ]
    assert command[:3] == ["python", "-m", "vllm.entrypoints.openai.api_server"]
    engine = processes.standin(*command[3:])
    orchestrator = processes.orchestrator(engine.url)
    request = question("What is the weather in San Francisco?", WEATHER)
    answer = httpx.post(f"{orchestrator.url}{CHAT}", json=request, timeout=20)
    assert answer.status_code == 400
    for flag in ("--enable-auto-tool-choice", "--tool-call-parser"):
        assert flag in answer.json()["error"]["message"]


# Troubleshooting: Slow response times


def test_streaming_shows_the_answer_while_the_engine_still_works(tandem: Service, standin: Service) -> None:
    request: Json = question("What is the weather in San Francisco?", WEATHER, stream=True)
    request["standin"] = {"when": "answer", "chunks": 200_000, "delay_token": 0.01}
    with httpx.stream("POST", f"{tandem.url}{CHAT}", json=request, timeout=20) as answer:
        seen, lines = "", answer.iter_lines()
        for line in lines:
            chunk: Any = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            seen += "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", []))
            if "San Francisco" in seen:
                break
        assert running(standin) == 1


def test_second_round_uses_the_engines_prefix_cache(tandem: Service) -> None:
    request = question("What is the weather in San Francisco?", WEATHER)
    request["messages"].insert(0, {"role": "system", "content": "You answer guests of a hotel. " * 100})
    answers = [httpx.post(f"{tandem.url}{CHAT}", json=request, timeout=20).json() for _ in range(2)]
    cached = [
        answer["usage"]["prompt_tokens_details"]["cached_tokens"] / answer["usage"]["prompt_tokens"]
        for answer in answers
    ]
    assert cached[0] > 0.4  # in the second round
    assert cached[1] > 0.9  # the system prompt is known from the request before


def test_silence_is_filled_with_heartbeats(strict_tandem: Service) -> None:
    request = question("Hi", stream=True) | {"standin": {"delay_first": 1.0}}
    headers = {"X-API-Key": KEY}
    answer = httpx.post(f"{strict_tandem.url}{CHAT}", json=request, headers=headers, timeout=20)
    beats, _, rest = answer.text.partition("data: ")
    assert beats.count(": keep-alive\n") >= 3
    assert rest.endswith("data: [DONE]\n\n")
