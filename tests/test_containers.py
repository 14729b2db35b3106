"""Checks of the images and the compose file that need no Docker engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import launch
from infra.deployment.file import Deployment
from orchestrator.settings import Settings

ROOT = Path(__file__).parents[1]
IMAGES = ("services/orchestrator/Dockerfile", "services/vllm/Dockerfile")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
ORCHESTRATOR = COMPOSE["services"]["orchestrator"]
OPEN_WEBUI = COMPOSE["services"]["open-webui"]
ENGINES: dict[str, Any] = yaml.safe_load((ROOT / "services/vllm/compose.yaml").read_text())["services"]


@pytest.mark.parametrize("file", IMAGES)
def test_hadolint_has_nothing_to_say(file: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([linter, ROOT / file], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


@pytest.mark.parametrize("file", IMAGES)
def test_images_run_unprivileged_and_have_a_health_check(file: str) -> None:
    text = (ROOT / file).read_text()
    last_stage = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*:\d+$", last_stage, re.MULTILINE)
    assert "HEALTHCHECK" in last_stage
    assert "/health" in last_stage
    assert not re.search(r"(?i)\b(gcc|build-essential|apt-get)\b", last_stage)


@pytest.mark.parametrize("file", IMAGES)
def test_copied_files_exist(file: str) -> None:
    folder = (ROOT / file).parent
    for line in (ROOT / file).read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = line.split()[1:]
            for source in sources:
                # A pattern names a file that may be missing.
                assert "[" in source or (folder / source).exists(), source


def test_only_the_orchestrator_is_published() -> None:
    assert {name for name, one in COMPOSE["services"].items() if "profiles" not in one} == {
        "orchestrator",
        "vllm",
    }
    assert not any("ports" in engine for engine in ENGINES.values())
    assert ORCHESTRATOR["ports"][0].endswith(":8001")
    assert ORCHESTRATOR["ports"][0].startswith("${ORCHESTRATOR_ADDRESS:-127.0.0.1}")


def test_open_webui_is_opt_in_pinned_and_asks_the_orchestrator() -> None:
    assert OPEN_WEBUI["profiles"] == ["open-webui"]
    assert re.fullmatch(r"ghcr\.io/open-webui/open-webui:v\d+\.\d+\.\d+", OPEN_WEBUI["image"])
    assert OPEN_WEBUI["ports"] == ["${OPEN_WEBUI_ADDRESS:-127.0.0.1}:${OPEN_WEBUI_PORT:-3000}:8080"]
    environment = OPEN_WEBUI["environment"]
    port = ORCHESTRATOR["ports"][0].rpartition(":")[2]
    assert environment["OPENAI_API_BASE_URL"] == f"http://orchestrator:{port}/v1"
    assert environment["OPENAI_API_KEY"] == ORCHESTRATOR["environment"]["BOOTSTRAP_API_KEY"]
    assert json.loads(environment["DEFAULT_MODEL_METADATA"])["capabilities"]["builtin_tools"] is False


def test_traces_go_from_both_tiers_through_the_collector_to_jaeger() -> None:
    collector, jaeger = COMPOSE["services"]["collector"], COMPOSE["services"]["jaeger"]
    assert collector["profiles"] == jaeger["profiles"] == ["traces"]
    for service in (collector, jaeger):
        assert re.fullmatch(r"[a-z-]+/[a-z-]+:\d+\.\d+\.\d+", service["image"])
        assert service["mem_limit"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["cap_drop"] == ["ALL"]
    assert jaeger["ports"] == ["${JAEGER_ADDRESS:-127.0.0.1}:${JAEGER_PORT:-16686}:16686"]
    assert "ports" not in collector
    source, target, _ = collector["volumes"][0].split(":")
    assert collector["command"] == [f"--config={target}"]
    config = yaml.safe_load((ROOT / source).read_text())
    assert config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    [pipeline] = config["service"]["pipelines"].values()
    for kind, names in pipeline.items():
        assert set(names) == set(config[kind]), kind
    assert config["exporters"]["otlp"]["endpoint"] == "jaeger:4317"


def test_both_tiers_get_the_same_collector() -> None:
    for service in (ORCHESTRATOR, ENGINES["gpu"], ENGINES["cpu"]):
        assert service["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"


def test_engine_is_the_gpu_one_unless_a_variable_says_otherwise() -> None:
    chosen = {"extends": {"file": "services/vllm/compose.yaml", "service": "${ENGINE:-gpu}"}}
    assert COMPOSE["services"]["vllm"] == chosen
    assert set(ENGINES) == {"gpu", "cpu", "standin"}


def test_orchestrator_starts_once_the_engine_is_healthy() -> None:
    assert ORCHESTRATOR["depends_on"] == {"vllm": {"condition": "service_healthy"}}
    for name, engine in ENGINES.items():
        assert "healthcheck" in engine or name == "gpu"  # its health check is in the image


def test_every_service_has_a_memory_limit_and_keeps_seccomp() -> None:
    for name, service in {"orchestrator": ORCHESTRATOR, "open-webui": OPEN_WEBUI, **ENGINES}.items():
        assert service["mem_limit"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
    assert ORCHESTRATOR["mem_limit"] == ORCHESTRATOR["memswap_limit"] == "2g"
    assert Deployment().orchestrator.memory_mib == 2048
    files = [
        path for path in ROOT.glob("**/*compose*.y*ml") if not {".cache", "node_modules"} & set(path.parts)
    ]
    assert len(files) == 3
    for path in files:
        assert "unconfined" not in path.read_text()


def test_example_of_two_models_is_valid_and_shares_one_gpu() -> None:
    services = yaml.safe_load((ROOT / "examples/two-models/compose.yaml").read_text())["services"]
    settings = Settings.from_environment(services["orchestrator"]["environment"])
    assert [one.url for one in settings.models] == [("http://vllm:8000",), ("http://vllm-small:8000",)]
    large, small = services["vllm"]["environment"], services["vllm-small"]["environment"]
    assert [one.model for one in settings.models] == [large["MODEL"], small["MODEL"]]
    known = yaml.safe_load((ROOT / "services/vllm/models.yaml").read_text())["models"]
    for one in settings.models:
        assert one.tool_call_parser == known[one.model]["tool_call_parser"]
    assert sum(float(one["GPU_MEMORY_UTILIZATION"]) for one in (large, small)) <= 0.9
    assert services["vllm-small"]["extends"] == {"file": "services/vllm/compose.yaml", "service": "gpu"}
    assert set(services["vllm-small"]["depends_on"]) == {"vllm"}, "one measures the GPU after the other"
    for environment in (large, small):
        assert set(environment) <= {name.upper() for name in launch.Settings.__dataclass_fields__}


def test_named_volumes_are_declared() -> None:
    users = (OPEN_WEBUI, *ENGINES.values())
    volumes = [volume.partition(":")[0] for user in users for volume in user["volumes"]]
    assert {volume for volume in volumes if not volume.startswith(".")} == set(COMPOSE["volumes"])


def test_gpu_engine_has_a_gpu_and_shared_memory_and_a_cache() -> None:
    engine = ENGINES["gpu"]
    (device,) = engine["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert engine["shm_size"] == "2gb"
    assert engine["volumes"] == ["cache:/home/vllm/.cache"]


def test_every_variable_is_read_by_its_service() -> None:
    ours = {name.upper() for name in Settings.model_fields}
    assert set(ORCHESTRATOR["environment"]) <= ours
    engine = {name.upper() for name in launch.Settings.__dataclass_fields__}
    read_by_vllm = {"VLLM_API_KEY", "HF_TOKEN", "VLLM_CPU_KVCACHE_SPACE", "OTEL_EXPORTER_OTLP_HEADERS"}
    assert set(ENGINES["gpu"]["environment"]) <= engine | read_by_vllm
    assert set(ENGINES["cpu"]["environment"]) <= engine | read_by_vllm


def test_example_of_an_env_file_lists_every_variable_and_sets_none() -> None:
    files = ("docker-compose.yml", "services/vllm/compose.yaml")
    read = {name for file in files for name in re.findall(r"\$\{(\w+)", (ROOT / file).read_text())}
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if not line.startswith("# ")]
    assert {line.partition("=")[0] for line in lines if line} == {f"#{name}" for name in read}


def test_env_file_of_a_user_is_not_tracked() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_engine_images_have_the_same_version() -> None:
    dockerfile = (ROOT / "services/vllm/Dockerfile").read_text()
    tag = ENGINES["cpu"]["image"].partition("@")[0].rpartition(":")[2]
    assert f"FROM vllm/vllm-openai:{tag}" in dockerfile


def test_orchestrator_starts_with_an_empty_value_for_each_variable() -> None:
    # Compose passes an unset variable as an empty string.
    empty = dict.fromkeys(ORCHESTRATOR["environment"], "")
    assert Settings.from_environment(empty) == Settings.from_environment({})


def test_stand_in_accepts_the_arguments_it_is_started_with() -> None:
    command = ENGINES["standin"]["entrypoint"]
    arguments = [argument.replace("${MODEL:-Qwen/Qwen2.5-7B-Instruct}", "m") for argument in command[2:]]
    check = (
        "import json, sys; sys.path.insert(0, 'services/vllm'); "
        "from standin_engine.arguments import parse_options; "
        "print(parse_options(json.loads(sys.argv[1]), {}).model)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", check, json.dumps(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "m\n", ran.stderr
