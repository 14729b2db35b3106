"""The stand-in as a server: clients that leave, the queue, the connection, the process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import TOOL_FLAGS, Standin, Start

SCRIPT = Path(__file__).parents[3] / "services" / "vllm" / "standin.py"
CHAT = "/v1/chat/completions"


def endless(stream: bool = True) -> dict[str, Any]:
    """Builds a request that generates for a minute."""
    fault = {"chunks": 6000, "delay_token": 0.01}
    return {"messages": [{"role": "user", "content": "Hello"}], "stream": stream, "standin": fault}


@contextlib.asynccontextmanager
async def running(standin: Standin, body: dict[str, Any]) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """Keeps a request running until the block ends."""
    task = asyncio.create_task(standin.http.post(CHAT, json=body))
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("stream", [True, False])
async def test_generation_stops_when_the_client_disconnects(standin: Standin, stream: bool) -> None:
    async with running(standin, endless(stream)):
        await standin.becomes(1, "num_requests_running")
        assert await standin.metric("kv_cache_usage_perc") > 0
        left = time.monotonic()
    await standin.becomes(0, "num_requests_running")
    assert time.monotonic() - left < 1
    assert await standin.metric("request_success_total", finished_reason="abort") == 1
    assert await standin.metric("kv_cache_usage_perc") == 0


async def test_requests_without_a_free_slot_wait_in_order(start: Start) -> None:
    standin = await start("--max-num-seqs", "1")
    async with running(standin, endless()) as first:
        await standin.becomes(1, "num_requests_running")
        async with running(standin, endless()):
            await standin.becomes(1, "num_requests_waiting")
            async with running(standin, {"messages": [{"role": "user", "content": "Hello"}]}) as third:
                await standin.becomes(2, "num_requests_waiting")
                assert await standin.metric("num_requests_running") == 1
                first.cancel()
                await standin.becomes(1, "num_requests_waiting")
                assert not third.done()
    await standin.becomes(0, "num_requests_running")
    assert await standin.metric("num_requests_waiting") == 0


async def test_waiting_client_that_disconnects_gives_up_its_place(start: Start) -> None:
    standin = await start("--max-num-seqs", "1")
    async with running(standin, endless()) as first:
        await standin.becomes(1, "num_requests_running")
        async with running(standin, endless()):
            await standin.becomes(1, "num_requests_waiting")
        await standin.becomes(0, "num_requests_waiting")
        async with running(standin, {"messages": [{"role": "user", "content": "Hello"}]}) as last:
            await standin.becomes(1, "num_requests_waiting")
            first.cancel()
            assert (await last).status_code == 200


async def test_a_full_queue_answers_503(start: Start) -> None:
    standin = await start("--max-num-seqs", "1", "--max-num-queued-reqs", "2")
    async with running(standin, endless()), running(standin, endless()):
        await standin.becomes(1, "num_requests_waiting")
        for stream in (False, True):
            response = await standin.http.post(CHAT, json=endless(stream))
            assert response.status_code == 503
            error = response.json()["error"]
            assert (error["type"], error["code"]) == ("Service Unavailable", 503)
            assert error["message"].startswith("The engine is currently busy")
        rejections = await standin.metric("admission_rejections_total", reason="max_num_queued_reqs")
        assert rejections == 2


async def test_n_sequences_take_n_slots(start: Start) -> None:
    standin = await start("--max-num-queued-reqs", "2")
    body = {"messages": [{"role": "user", "content": "Hello"}], "n": 3}
    assert (await standin.http.post(CHAT, json=body)).status_code == 503
    assert (await standin.http.post(CHAT, json=body | {"n": 2})).status_code == 200
    assert await standin.metric("request_success_total", finished_reason="stop") == 2


async def test_a_hundred_at_once(standin: Standin) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    answers = await asyncio.gather(*(standin.http.post(CHAT, json=body) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert await standin.metric("request_success_total", finished_reason="stop") == 100
    assert await standin.metric("time_to_first_token_seconds_count") == 100


async def exchange(standin: Standin, *pieces: bytes) -> bytes:
    """Sends raw bytes and reads until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(standin.url.rpartition(":")[2]))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_pipelined_requests_are_answered_in_order(standin: Standin) -> None:
    answer = await exchange(
        standin,
        b"GET /version HTTP/1.1\r\nhost: x\r\n\r\nGET /load HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.index(b'{"version":"0.32.0"}') < answer.index(b'{"server_load":0}')


async def test_expect_continue(standin: Standin) -> None:
    body = b'{"messages": []}'
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n" % CHAT.encode()
    answer = await exchange(
        standin, head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body), body
    )
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad Request\r\n")


async def test_bytes_that_are_not_http_are_rejected(standin: Standin) -> None:
    answer = await exchange(standin, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_stream_pauses_while_the_client_does_not_read(start: Start) -> None:
    """Its events do not pile up in memory, and other clients are served."""
    standin = await start("--served-model-name", "long" * 1000)
    body = endless() | {"standin": {"chunks": 8000}}
    content = json.dumps(body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(standin.url.rpartition(":")[2])))
        client.sendall(head + b"content-length: %d\r\n\r\n" % len(content) + content)
        await standin.becomes(1, "num_requests_running")
        response = await standin.http.post(CHAT, json=body)
        assert response.text.endswith("data: [DONE]\n\n")
        assert await standin.metric("num_requests_running") == 1
    await standin.becomes(0, "num_requests_running")
    assert await standin.metric("request_success_total", finished_reason="abort") == 1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def process(
    *arguments: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Runs the stand-in as a process, and kills it at the end if it is still running."""
    command = [sys.executable, str(SCRIPT), *arguments]
    environment = {"PATH": os.environ["PATH"], **(environ or {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def ready(started: subprocess.Popen[str]) -> tuple[str, str]:
    """Reads the log until the process serves; returns its address and the preceding lines."""
    assert started.stderr is not None
    before = ""
    for line in started.stderr:
        if "Serving on " in line:
            return line.rpartition(" ")[2].strip(), before
        before += line
    raise AssertionError(f"exited before it served: {before}")


def test_process_says_what_it_is_and_works_from_any_directory(tmp_path: Path) -> None:
    with process("some/model", "--host", "127.0.0.1", "--port", "0", cwd=tmp_path) as started:
        url, notice = ready(started)
        assert "not a language model" in notice
        assert httpx.get(f"{url}/health").content == b""
        (model,) = httpx.get(f"{url}/v1/models").json()["data"]
        assert (model["id"], model["root"]) == ("some/model", "some/model")
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 0


def test_process_lets_requests_finish_after_sigterm() -> None:
    with process("m", "--host=127.0.0.1", "--port=0", "--shutdown-timeout=20") as started:
        url, _ = ready(started)
        fault = {"chunks": 20, "delay_token": 0.02}
        body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "standin": fault}
        with httpx.stream("POST", url + CHAT, json=body) as response:
            lines = response.iter_lines()
            next(lines)
            started.send_signal(signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert started.wait(10) == 0


def test_process_aborts_requests_without_a_shutdown_timeout() -> None:
    with process("m", "--host=127.0.0.1", "--port=0") as started:
        url, _ = ready(started)
        with httpx.stream("POST", url + CHAT, json=endless()) as response:
            lines = response.iter_lines()
            next(lines)
            started.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert started.wait(10) == 0


def test_process_refuses_connections_while_it_loads() -> None:
    port = free_port()
    arguments = ("m", "--host=127.0.0.1", f"--port={port}")
    with process(*arguments, environ={"STANDIN_LOAD_SECONDS": "1"}) as started:
        assert started.stderr is not None
        assert "Stand-in engine" in started.stderr.readline()
        begun = time.monotonic()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/health")
        ready(started)
        assert time.monotonic() - begun > 0.5
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_process_reports_a_port_in_use() -> None:
    with process("m", "--host=127.0.0.1", "--port=0") as first:
        port = ready(first)[0].rpartition(":")[2]
        with process("m", "--host=127.0.0.1", f"--port={port}") as second:
            _, error = second.communicate(timeout=20)
            assert second.returncode == 1
            assert error == f"standin.py: --host 127.0.0.1 --port {port}: Address already in use\n"


def test_process_stops_while_it_loads() -> None:
    with process("m", "--host=127.0.0.1", "--port=0", environ={"STANDIN_LOAD_SECONDS": "3000"}) as started:
        assert started.stderr is not None
        started.stderr.readline()
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 0


def test_key_from_the_environment_is_required() -> None:
    with process("m", "--host=127.0.0.1", "--port=0", environ={"VLLM_API_KEY": "very-secret"}) as started:
        url, notice = ready(started)
        assert "very-secret" not in notice
        for header in ({}, {"authorization": "Basic very-secret"}, {"authorization": "Bearer very-secre"}):
            assert httpx.get(f"{url}/v1/models", headers=header).json() == {"error": "Unauthorized"}
        authorized = {"authorization": "Bearer very-secret"}
        assert httpx.get(f"{url}/v1/models", headers=authorized).status_code == 200
        assert httpx.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        ((), {}, "no model given"),
        (("m", "--no-such-flag"), {}, "unrecognized arguments: --no-such-flag"),
        (("m", "--max-model"), {}, "unrecognized arguments: --max-model"),
        (("m", "--model", "other"), {}, "two models given: m and --model other"),
        (("m", "--max-num-seqs", "0"), {}, "0 is less than 1"),
        (("m", "--port", "http"), {}, "invalid int value: 'http'"),
        (("m", "--enable-auto-tool-choice"), {}, "requires --tool-call-parser"),
        (
            ("m",),
            {"STANDIN_LOAD_SECONDS": "soon"},
            "STANDIN_LOAD_SECONDS='soon': must be a number of at least 0",
        ),
        (("m",), {"VLLM_MAX_N_SEQUENCES": "-1"}, "VLLM_MAX_N_SEQUENCES='-1': must be a number of at least 0"),
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: tuple[str, ...], environ: dict[str, str], message: str
) -> None:
    with process(*arguments, environ=environ) as started:
        _, error = started.communicate(timeout=20)
        assert started.returncode == 2
        assert message in error


def test_common_arguments_of_vllm_are_accepted() -> None:
    arguments = """
        --model m --served-model-name a b --host=127.0.0.1 --port 0 --tokenizer t --dtype float32
        --enforce-eager --max_model_len 512 --no-enable-prefix-caching --trust-remote-code --seed 1
        --api-key one two --tensor-parallel-size 2 --kv-cache-dtype fp8 --enable-log-requests
        --reasoning-parser qwen3
    """
    with process(*arguments.split(), *TOOL_FLAGS) as started:
        url, _ = ready(started)
        listed = httpx.get(f"{url}/v1/models", headers={"authorization": "bearer two"}).json()["data"]
        assert [(model["id"], model["max_model_len"]) for model in listed] == [("a", 512), ("b", 512)]


async def test_request_ids_are_generated_if_the_client_sends_none(start: Start) -> None:
    standin = await start("--enable-request-id-headers")
    ids = [(await standin.http.get("/health")).headers["x-request-id"] for _ in range(2)]
    assert len(set(ids)) == 2
    assert all(len(bytes.fromhex(one)) == 16 for one in ids)


async def test_large_bodies_arrive_whole(standin: Standin) -> None:
    body = {"messages": [{"role": "user", "content": "x " * 400_000}]}
    response = await standin.http.post(CHAT, json=body)
    assert response.json()["error"]["param"] == "input_tokens"
