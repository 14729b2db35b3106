"""docker compose with each engine, as the README describes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.containers.bases import ROOT, VLLM, VLLM_CPU, cpu_engine, tagged
from tests.support.containers.compose import Compose, compose, crash
from tests.support.containers.container import until
from tests.support.containers.engine import Engine

from . import guide_requests
from .conftest import MODEL

TINY = ROOT / "tests" / "e2e" / "engine" / "model"
TINY_MODEL = f"""
services:
  vllm:
    environment:
      MODEL: /model
      TOKENIZER: /model/tokenizer
      SERVED_MODEL_NAME: Qwen/Qwen2.5-7B-Instruct
      DTYPE: float32
      MAX_MODEL_LEN: "2048"
      MAX_NUM_SEQS: "8"
      TOOL_CALL_PARSER: hermes
      EXTRA_ARGS: --enforce-eager
      VLLM_CPU_KVCACHE_SPACE: "1"
      HF_HUB_OFFLINE: "1"
    volumes:
      - {TINY}:/model:ro
"""
NO_GPU = "    deploy: !reset null\n"


def ask(url: str, question: str, tool: str, **fields: Any) -> str:
    """The answer to a question with a tool of the server."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "tools": [{"type": "function", "function": {"name": tool}}],
        **fields,
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def answers_after_a_crash(
    project: Compose, service: str, engine: Engine, image: str, seconds: float = 60.0
) -> None:
    crash(engine, project.container(service), image)
    project.container(service).wait_until_healthy(seconds)
    until(lambda: httpx.get(f"{project.url}/ready", timeout=20).status_code == 200, "ready again", seconds)
    assert "56088" in ask(project.url, "Calculate 123 * 456", "calculate_math")


def goes_down_clean(project: Compose) -> None:
    project("stop", "--timeout", "60")
    assert project.exit_statuses() == {"orchestrator": 0, "vllm": 0}
    project("down")
    assert project.leftovers() == []


@pytest.fixture(scope="module")
def standin(docker_engine: Engine, python_image: str) -> Iterator[Compose]:
    with compose(docker_engine, "tandem-test-standin", ENGINE="standin") as project:
        project.up()
        yield project


@pytest.fixture(scope="module")
def cpu_image(docker_engine: Engine) -> str:
    return cpu_engine(docker_engine)


@pytest.mark.parametrize("step", guide_requests.STEPS, ids=lambda step: str(step.__name__))
def test_standin_answers_the_guide(standin: Compose, step: Callable[[Compose], None]) -> None:
    step(standin)


def test_guides_own_tool_is_served_after_the_guides_rebuild(standin: Compose, tmp_path: Path) -> None:
    guide_requests.own_tool_after_a_rebuild(standin, tmp_path)


def test_only_the_orchestrator_is_published_on_this_machine_only(standin: Compose) -> None:
    assert standin.url.startswith("http://127.0.0.1:")
    assert standin.container("vllm").state["Running"]
    assert "Publishers" not in standin("ps", "vllm", "--format", "{{.Publishers}}")
    assert "0.0.0.0" not in standin("ps", "--format", "{{.Ports}}")


def test_open_webui_is_part_of_its_profile_only(standin: Compose) -> None:
    assert set(standin.config["services"]) == {"orchestrator", "vllm"}
    chosen = json.loads(
        standin("--profile", "open-webui", "config", "--format", "json", BOOTSTRAP_API_KEY="sk-one")
    )
    webui = chosen["services"]["open-webui"]
    assert webui["environment"]["OPENAI_API_BASE_URL"] == "http://orchestrator:8001/v1"
    assert webui["environment"]["OPENAI_API_KEY"] == "sk-one"
    assert [(port["host_ip"], port["published"], port["target"]) for port in webui["ports"]] == [
        ("127.0.0.1", "3000", 8080)
    ]
    assert webui["depends_on"]["orchestrator"]["condition"] == "service_healthy"


def test_traces_are_part_of_their_profile_only(standin: Compose) -> None:
    url = "http://collector:4318"
    asked = ("--profile", "traces", "config", "--format", "json")
    services = json.loads(standin(*asked, OTEL_EXPORTER_OTLP_ENDPOINT=url))["services"]
    assert set(services) == {"orchestrator", "vllm", "collector", "jaeger"}
    assert services["orchestrator"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == url
    assert services["orchestrator"]["environment"]["OTEL_TRACES_SAMPLER_ARG"] == ""
    [port] = services["jaeger"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "16686", 16686)
    [volume] = services["collector"]["volumes"]
    assert Path(volume["source"]).is_file()


@pytest.mark.parametrize("service", ["vllm", "orchestrator"])
def test_container_restarts_after_a_crash(
    service: str, standin: Compose, docker_engine: Engine, python_image: str
) -> None:
    answers_after_a_crash(standin, service, docker_engine, python_image)


def test_goes_down_clean(standin: Compose) -> None:
    goes_down_clean(standin)


def test_cpu_engine_survives_crashes_answers_the_guide_and_keeps_its_cache(
    docker_engine: Engine, cpu_image: str, python_image: str, tmp_path: Path
) -> None:
    overrides = tmp_path / "tiny-model.yml"
    overrides.write_text(TINY_MODEL)
    with (
        tagged(docker_engine, cpu_image, VLLM_CPU),
        compose(docker_engine, "tandem-test-cpu", overrides, ENGINE="cpu", MODEL=MODEL) as project,
    ):
        project.up()
        for service in ("orchestrator", "vllm"):
            answers_after_a_crash(project, service, docker_engine, python_image, seconds=240)
        for step in guide_requests.STEPS:
            step(project)
        project.container("vllm").execute("touch", "/root/.cache/kept")
        project("down")
        assert project.leftovers() == []
        kept = project("run", "--rm", "--no-deps", "--entrypoint", "ls", "vllm", "/root/.cache")
        assert "kept" in kept


def test_gpu_engine_is_valid_and_starts_on_the_cpu_build(
    docker_engine: Engine, cpu_image: str, python_image: str, tmp_path: Path
) -> None:
    with compose(docker_engine, "tandem-test-gpu") as project:
        engine = project.config["services"]["vllm"]
        (device,) = engine["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    overrides = tmp_path / "no-gpu.yml"
    overrides.write_text(TINY_MODEL + NO_GPU)
    with (
        tagged(docker_engine, cpu_image, VLLM),
        compose(docker_engine, "tandem-test-gpu", overrides, MODEL=MODEL) as project,
    ):
        project.up()
        assert "56088" in ask(project.url, "Calculate 123 * 456", "calculate_math")
        owner = project.container("vllm").output("stat", "--format", "%u", "/home/vllm/.cache")
        assert owner == "2000\n"
