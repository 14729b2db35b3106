"""Both images, built from their Dockerfiles and looked at from outside."""

from __future__ import annotations

import httpx
import pytest

from tests.support.containers import images
from tests.support.containers.container import FAST_HEALTH, HARDENED, Running, container
from tests.support.containers.engine import Engine

from .conftest import MODEL


def test_orchestrators_image_has_a_user_without_rights(
    docker_engine: Engine, orchestrator_image: str
) -> None:
    images.runs_as(docker_engine, orchestrator_image, "10001:10001")
    images.cannot_change(docker_engine, orchestrator_image, "/app", "/venv")


def test_orchestrators_modules_are_compiled(docker_engine: Engine, orchestrator_image: str) -> None:
    images.has_compiled_modules(docker_engine, orchestrator_image)


def test_engines_image_has_the_account_of_vllms_image(docker_engine: Engine, engine_image: str) -> None:
    images.runs_as(docker_engine, engine_image, "2000:0")
    images.cannot_change(docker_engine, engine_image, "/opt/tandem")


def test_orchestrators_image_holds_no_build_tool_secret_or_cache(
    docker_engine: Engine, orchestrator_image: str, python_image: str
) -> None:
    images.has_no_build_tools(docker_engine, orchestrator_image)
    images.holds_only_what_it_needs(docker_engine, orchestrator_image, python_image, 160)


def test_engines_image_holds_two_files_more_than_its_base(
    docker_engine: Engine, engine_image: str, standin_base: str
) -> None:
    images.holds_only_what_it_needs(docker_engine, engine_image, standin_base, 1)


def test_orchestrator_answers_read_only_and_without_capabilities(orchestrator: Running) -> None:
    asked = {
        "messages": [{"role": "user", "content": "Calculate 123 * 456"}],
        "tools": [{"type": "function", "function": {"name": "calculate_math"}}],
    }
    answer = httpx.post(f"{orchestrator.url(8001)}/v1/chat/completions", json=asked, timeout=60)
    assert "56088" in answer.json()["choices"][0]["message"]["content"]
    write = "try:\n open('/app/new', 'w')\nexcept OSError as error:\n print(error)\nelse:\n print('written')"
    assert "Read-only file system" in orchestrator.output("python", "-c", write)


def test_orchestrators_health_check_sees_a_service_that_hangs(orchestrator: Running) -> None:
    images.turns_unhealthy_when_it_hangs(orchestrator)


def test_orchestrator_drains_on_sigterm(orchestrator: Running) -> None:
    images.drains(orchestrator, orchestrator.url(8001), stop_timeout=60)


def test_orchestrator_stays_within_2_gib_under_load(orchestrator: Running) -> None:
    images.stays_within_memory(orchestrator, orchestrator.url(8001), 2048)


def test_engine_is_checked_and_drains_without_capabilities(docker_engine: Engine, engine_image: str) -> None:
    rights = {name: value for name, value in HARDENED.items() if name != "read_only"}
    with container(
        docker_engine,
        engine_image,
        environment={"MODEL": MODEL},
        healthcheck=FAST_HEALTH,
        publish=[8000],
        **rights,
    ) as running:
        running.wait_until_healthy()
        images.turns_unhealthy_when_it_hangs(running)
        images.drains(running, running.url(8000), stop_timeout=60)


@pytest.mark.parametrize("image", ["orchestrator_image", "engine_image"])
def test_health_checks_are_as_often_as_the_dockerfiles_say(
    docker_engine: Engine, image: str, request: pytest.FixtureRequest
) -> None:
    check = docker_engine.api.images.get(request.getfixturevalue(image)).attrs["Config"]["Healthcheck"]
    assert check["Interval"] == 10_000_000_000
    assert check["Retries"] == 3
