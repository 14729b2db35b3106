"""The one place that knows both sides: what infra gives a container is what its service reads."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

import launch
from engine_start.command_line import NO_PARSER
from infra.deployment.catalog import load_catalog
from infra.deployment.environment import OWNED, orchestrator_environment
from infra.deployment.file import Deployment
from infra.deployment.file import settings as all_settings
from infra.deployment.plan import Plan
from infra.serving.monitoring import ENGINE_FAILURES
from infra.template_checks.gpu_instances import engine_services
from infra.template_checks.services import orchestrator_services
from infra.template_checks.template import container, environment
from orchestrator.errors import DeadlineExceeded, EngineFailed, EngineUnavailable
from orchestrator.settings import Settings
from tests.infra.synthesis import VARIANTS, Synthesis, synthesize

SIZE = {"weights_gib": 9, "layers": 34, "kv_heads": 4, "head_dim": 256}
VLLM_OWN = {"VLLM_API_KEY", "HF_TOKEN"}
"""Read by vLLM and by huggingface_hub themselves."""

GIVEN_BY_CDK = {"AWS_REGION"}
SECRET = "s" * 48
SECRETS = {"OTEL_EXPORTER_OTLP_HEADERS": f"x-key={SECRET}"}


def _orchestrator(synthesis: Synthesis) -> Any:
    [(_, task)] = orchestrator_services(synthesis.assembly())
    return task


def _engines(synthesis: Synthesis) -> list[Any]:
    return [task for _, task in engine_services(synthesis.assembly())]


def _engine(synthesis: Synthesis) -> Any:
    return _engines(synthesis)[0]


PLACEHOLDER = "arn:aws:secretsmanager:us-east-1:123456789012:secret:x"
PLACES = {"MODEL_SOURCE": "s3://bucket/models/one", "CACHE_LOCATION": "s3://bucket/engine-cache"}


def _values(task: Any) -> dict[str, str]:
    """The container's environment, with placeholders for values that exist only after a deployment."""
    plain = {
        name: value
        if isinstance(value, str)
        else PLACES.get(name, "arn:aws:secretsmanager:us-east-1:123456789012:secret:x")
        for name, value in environment(task).items()
    }
    secrets = {
        entry["Name"]: SECRETS.get(entry["Name"], SECRET) for entry in container(task).get("Secrets", [])
    }
    assert not plain.keys() & secrets.keys()
    return plain | secrets


@pytest.mark.parametrize("variant", VARIANTS)
def test_orchestrator_reads_every_variable(variant: str) -> None:
    values = _values(_orchestrator(synthesize(variant)))
    known = {name.upper() for name in Settings.model_fields}
    tools = synthesize(variant).plan.deployment.tools
    assert values.keys() - known == {*tools.environment, *tools.all_secrets}
    if "DATABASE_URL" in values:
        values["DATABASE_URL"] = "postgresql://reader:secret@database.example.com:5432/shop"
    Settings.from_environment(values)


@pytest.mark.parametrize("variant", VARIANTS)
def test_engine_reads_every_variable(variant: str) -> None:
    known = {field.name.upper() for field in dataclasses.fields(launch.Settings)}
    for engine in _engines(synthesize(variant)):
        values = _values(engine)
        assert values.keys() - known - VLLM_OWN - GIVEN_BY_CDK == set()
        launch.build_argv(launch.Settings.from_environment(values), launch.load_models())


def test_settings_have_the_values_of_the_deployment() -> None:
    synthesis = synthesize("existing_vpc")
    values = _values(_orchestrator(synthesis)) | {"DATABASE_URL": "postgresql://a:b@c.example.com/d"}
    settings = Settings.from_environment(values)
    ingress, deployment = synthesis.plan.deployment.ingress, synthesis.plan.deployment
    assert settings.vllm_url == ("http://vllm.tandem.internal:8000",)
    assert settings.port == 8001
    assert settings.default_model == deployment.model.id
    assert settings.keep_alive_seconds > ingress.idle_timeout_seconds
    assert settings.request_timeout_seconds == deployment.orchestrator.request_timeout_seconds
    assert settings.stop_seconds < deployment.orchestrator.stop_timeout_seconds
    assert settings.database_tables == ("orders",)
    assert settings.bootstrap_api_key is not None
    assert settings.vllm_api_key is not None
    assert settings.api_keys_secret_arn is not None


def test_engine_serves_what_the_deployment_says() -> None:
    synthesis = synthesize("four_gpus")
    settings = launch.Settings.from_environment(_values(_engine(synthesis)))
    model = synthesis.plan.deployment.model
    assert (settings.model, settings.max_model_len) == (model.id, model.max_model_len)
    assert settings.gpu_memory_utilization == model.gpu_memory_utilization
    assert settings.tensor_parallel_size == 4
    assert settings.port == 8000


def test_alarm_counts_the_codes_that_the_orchestrator_logs() -> None:
    counted = re.findall(r'\$\.error_code = "(\w+)"', ENGINE_FAILURES)
    logged = {EngineUnavailable, EngineFailed, DeadlineExceeded}
    assert set(counted) == {kind.code for kind in logged}


def test_tool_settings_reach_the_orchestrator() -> None:
    settings = Settings.from_environment(_values(_orchestrator(synthesize("internal"))))
    assert settings.tool_modules == ("shipping",)
    assert settings.attach_tools == ("all",)


def test_every_setting_of_the_orchestrator_can_be_set() -> None:
    """Those that the deployment sets are named with the setting to use; all others go through by name."""
    assert set(OWNED) <= {name.upper() for name in Settings.model_fields}
    settings = {setting.path for setting in all_settings()}
    assert {setting for setting in OWNED.values() if setting} <= settings
    plan = synthesize("default").plan
    given = {"GEOCODING_URL": "https://geo.example.com", "LOG_CONTENT": "true", "TOOL_THREADS": "8"}
    deployment = plan.deployment.with_setting("orchestrator.environment", given)
    values = orchestrator_environment(
        dataclasses.replace(plan, deployment=deployment),
        api_keys_secret_arn="",
    )
    settings_ = Settings.from_environment(values)
    assert (settings_.geocoding_url, settings_.log_content, settings_.tool_threads) == (
        "https://geo.example.com", True, 8
    )  # fmt: skip


def test_origins_reach_the_orchestrator() -> None:
    settings = Settings.from_environment(_values(_orchestrator(synthesize("own_domain"))))
    assert settings.cors_origins == ("https://app.example.com", "http://localhost:5173")
    assert Settings.from_environment(_values(_orchestrator(synthesize("default")))).cors_origins == ()


@pytest.mark.parametrize(("variant", "pages"), [("default", True), ("internal", False)])
def test_pages_are_served_unless_they_are_switched_off(variant: str, pages: bool) -> None:
    synthesis = synthesize(variant)
    assert Settings.from_environment(_values(_orchestrator(synthesis))).pages is pages
    conditions = [
        condition["PathPatternConfig"]["Values"]
        for rule in synthesis.serving["Resources"].values()
        if rule["Type"] == "AWS::ElasticLoadBalancingV2::ListenerRule"
        for condition in rule["Properties"]["Conditions"]
    ]
    assert (["/", "/page/*", "/docs", "/docs/*", "/openapi.json"] in conditions) is pages


def test_tokens_of_the_issuer_reach_the_orchestrator() -> None:
    settings = Settings.from_environment(_values(_orchestrator(synthesize("own_domain"))))
    assert (settings.jwt_issuer, settings.jwt_audience) == ("https://login.example.com/", "tandem")
    assert Settings.from_environment(_values(_orchestrator(synthesize("default")))).jwt_issuer is None


def test_gated_model_gets_its_token() -> None:
    assert "HF_TOKEN" in _values(_engine(synthesize("internal")))
    assert "HF_TOKEN" not in _values(_engine(synthesize("default")))


def test_shortest_stop_timeout_is_still_one_that_the_service_takes() -> None:
    plan = synthesize("default").plan
    deployment = plan.deployment.with_setting("orchestrator.stop_timeout_seconds", 30)
    values = orchestrator_environment(
        dataclasses.replace(plan, deployment=deployment),
        api_keys_secret_arn="arn:aws:secretsmanager:us-east-1:123456789012:secret:x",
    )
    assert Settings.from_environment(values).stop_seconds == 20


@pytest.mark.parametrize(
    ("model", "takes_images"),
    [
        ({"id": "Qwen/Qwen2.5-7B-Instruct"}, False),
        ({"id": "google/gemma-3-4b-it"}, True),
        ({"id": "google/gemma-3-4b-it", "size": SIZE}, True),
        ({"id": "google/gemma-3-4b-it", "extra_args": ["--language-model-only"]}, False),
        ({"id": "acme/Unknown-1"}, False),
    ],
)
def test_orchestrator_knows_whether_the_model_takes_images(model: dict[str, Any], takes_images: bool) -> None:
    plan = Plan(Deployment.model_validate({"model": model}), load_catalog())

    def taken(plan: Plan) -> bool:
        values = orchestrator_environment(plan, api_keys_secret_arn="")
        return Settings.from_environment(values).model_takes_images

    assert taken(plan) is takes_images
    opposite = {"MODEL_TAKES_IMAGES": str(not takes_images).lower()}
    overridden = plan.deployment.with_setting("orchestrator.environment", opposite)
    assert taken(dataclasses.replace(plan, deployment=overridden)) is not takes_images


@pytest.mark.parametrize("variant", VARIANTS)
def test_orchestrator_knows_the_parser_that_the_engine_uses(variant: str) -> None:
    engine = launch.Settings.from_environment(_values(_engine(synthesize(variant))))
    line = launch.build_argv(engine, launch.load_models())
    used = line[line.index("--tool-call-parser") + 1] if "--tool-call-parser" in line else NO_PARSER
    settings = Settings.from_environment(_values(_orchestrator(synthesize(variant))))
    assert settings.tool_call_parser == used


def test_several_models_reach_the_orchestrator_and_their_engines() -> None:
    synthesis = synthesize("two_models")
    values = _values(_orchestrator(synthesis))
    models = json.loads(values["MODELS"])
    assert models == [
        {
            "model": "Qwen/Qwen2.5-7B-Instruct",
            "url": "http://vllm.tandem.internal:8000",
            "aliases": ["gpt-4o"],
            "adapters": ["support-tone", "sql"],
            "loads_adapters": True,
            "fallback": "Qwen/Qwen2.5-0.5B-Instruct",
            "status_port": 8002,
            "tool_call_parser": "hermes",
        },
        {
            "model": "Qwen/Qwen2.5-0.5B-Instruct",
            "url": "http://vllm-small.tandem.internal:8000",
            "startup_seconds": 900,
            "status_port": 8002,
            "tool_call_parser": "hermes",
        },
        {
            "model": "Qwen/Qwen3-Embedding-0.6B",
            "url": "http://vllm-embed.tandem.internal:8000",
            "kind": "embedding",
            "status_port": 8002,
        },
    ]
    entries = Settings.from_environment(values).entries
    assert [one.names for one in entries] == [
        ("Qwen/Qwen2.5-7B-Instruct", "gpt-4o", "support-tone", "sql"),
        ("Qwen/Qwen2.5-0.5B-Instruct",),
        ("Qwen/Qwen3-Embedding-0.6B",),
    ]
    engines = [launch.Settings.from_environment(_values(one)) for one in _engines(synthesis)]
    assert [(one.model, one.kind) for one in engines] == [
        ("Qwen/Qwen2.5-7B-Instruct", "chat"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "chat"),
        ("Qwen/Qwen3-Embedding-0.6B", "embedding"),
    ]
    assert [str(one.source) for one in engines[0].adapters] == [
        "s3://acme-adapters/support-tone",
        "acme/sql-adapter",
    ]
    assert [str(one.adapters_from) for one in engines] == ["s3://acme-adapters/later", "None", "None"]


def test_each_of_several_models_says_whether_it_takes_images() -> None:
    models = {
        "main": {},
        "seeing": {"id": "google/gemma-3-4b-it"},
        "stated": {"id": "acme/Unknown-1", "kind": "vision"},
    }
    plan = Plan(Deployment.model_validate({"models": models}), load_catalog())
    values = orchestrator_environment(plan, api_keys_secret_arn="")
    assert "MODEL_TAKES_IMAGES" not in values
    entries = Settings.from_environment(values).entries
    assert [one.sees_images for one in entries] == [False, True, True]


def test_adapters_of_later_make_a_list_of_one_model() -> None:
    given = Deployment.model_validate({"model": {"adapters_from": "s3://acme-adapters/later"}})
    values = orchestrator_environment(Plan(given, load_catalog()), api_keys_secret_arn="")
    [entry] = Settings.from_environment(values).entries
    assert (entry.loads_adapters, entry.adapters) == (True, ())


def test_one_model_needs_no_list() -> None:
    assert "MODELS" not in _values(_orchestrator(synthesize("default")))
