"""The bill, and the summary that synth prints."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.catalog import load_catalog
from infra.deployment.cost import WIDTH, CostItem, gpu_usd_per_hour, monthly_cost, summary, total_usd
from infra.deployment.file import Deployment
from infra.deployment.plan import Plan
from infra.deployment.sizing import tasks_per_instance

CATALOG = load_catalog()

VPC = {
    "vpc_id": "vpc-0123456789abcdef0",
    "cidr": "10.1.0.0/16",
    "availability_zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "private_subnet_ids": [
        "subnet-0123456789abcdef0",
        "subnet-0123456789abcdef1",
        "subnet-0123456789abcdef2",
    ],
    "public_subnet_ids": ["subnet-0123456789abcdef3", "subnet-0123456789abcdef4", "subnet-0123456789abcdef5"],
}


def plan(**settings: Any) -> Plan:
    deployment = Deployment()
    for path, value in settings.items():
        deployment = deployment.with_setting(path.replace("__", "."), value)
    return Plan(deployment, CATALOG)


def bill(**settings: Any) -> dict[str, float | None]:
    return {item.name: item.usd for item in monthly_cost(plan(**settings))}


def test_the_default_deployment_costs_about_935_dollars_a_month() -> None:
    items = bill()
    assert items["GPU instances"] == pytest.approx(734.38, abs=0.01)
    assert items["orchestrator"] == pytest.approx(108.12, abs=0.01)
    assert items["NAT"] == pytest.approx(32.85 + 3.65, abs=0.01)
    assert items["load balancer"] == pytest.approx(16.425 + 5.84 + 2 * 3.65, abs=0.01)
    assert total_usd(monthly_cost(plan())) == pytest.approx(935, rel=0.01)


@pytest.mark.parametrize(
    ("settings", "item", "usd"),
    [
        ({"gpu__spare_instance": True}, "GPU instances", 2 * 734.38),
        ({"gpu__instance_types": ["g6.xlarge", "g5.xlarge"]}, "GPU instances", 0.8048 * 730),
        ({"gpu__instance_types": ["g5.12xlarge"], "gpu__replicas": 5}, "GPU instances", 2 * 5.672 * 730),
        ({"gpu__instance_types": ["g5.12xlarge"], "gpu__gpus_per_task": 4}, "GPU instances", 5.672 * 730),
        ({"gpu__root_volume_gib": 200, "gpu__replicas": 2}, "root volumes", 32),
        ({"orchestrator__architecture": "arm64"}, "orchestrator", 3 * (0.03238 + 2 * 0.00356) * 730),
        (
            {"orchestrator__min_tasks": 1, "orchestrator__cpu": 512},
            "orchestrator",
            (0.02024 + 2 * 0.004445) * 730,
        ),
        ({"network__nat": "per_zone", "network__zones": 3}, "NAT", 3 * 36.5),
        ({"network__existing_vpc": VPC}, "load balancer", 16.425 + 5.84 + 3 * 3.65),
        ({"ingress__scheme": "internal"}, "load balancer", 16.425 + 5.84),
        ({"ingress__cloudfront": True}, "load balancer", 16.425 + 5.84),
        ({}, "WAF", 6),
        ({"ingress__waf_managed_rules": True}, "WAF", 9),
        ({"ingress__cloudfront": True, "region": "us-east-1"}, "WAF", 6),
        ({"ingress__scheme": "internal", "ingress__waf": True}, "WAF", 6),
    ],
)
def test_each_setting_that_affects_the_cost(settings: dict[str, Any], item: str, usd: float) -> None:
    assert bill(**settings)[item] == pytest.approx(usd, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "item"),
    [
        ({"network__existing_vpc": VPC}, "NAT"),
        ({"network__nat": "none"}, "NAT"),
        ({"ingress__waf": False}, "WAF"),
        ({"ingress__scheme": "internal"}, "WAF"),
        ({"ingress__cloudfront": True}, "WAF"),
    ],
)
def test_absent_parts_are_not_on_the_bill(settings: dict[str, Any], item: str) -> None:
    assert item not in bill(**settings)


def test_unknown_price_is_reported() -> None:
    settings = {"gpu__instance_types": ["p5e.48xlarge"], "gpu__gpus_per_task": 4, "gpu__replicas": 2}
    assert bill(**settings)["GPU instances"] is None
    assert total_usd(monthly_cost(plan(**settings))) is None
    text = summary(plan(**settings))
    assert "1 x p5e.48xlarge, price unknown" in text
    assert text.splitlines()[-1].split() == ["total", "?"]


def test_the_total_is_the_sum() -> None:
    items = [CostItem("a", "", 1.5), CostItem("b", "", 2.25)]
    assert total_usd(items) == 3.75
    assert total_usd([*items, CostItem("c", "", None)]) is None


def test_the_summary_of_the_default_deployment() -> None:
    assert summary(plan()) == (
        'Tandem deployment "tandem", 1 engine\n'
        "  model       Qwen/Qwen2.5-7B-Instruct, bfloat16, context 16,384 tokens\n"
        "  instance    1 x g5.xlarge, on demand: 1 x A10G, 4 vCPU (vLLM recommends 6), 16\n"
        "              GiB\n"
        "  weights     14.2 of the 19.9 GiB that an engine may use on 1 GPU\n"
        "  KV cache    50,488 tokens: 3.1 requests at full context\n"
        "  releases    the engine is unavailable for about 6 minutes; gpu.spare_instance:\n"
        "              true avoids that\n"
        "  quota       4 vCPU of Running On-Demand G and VT instances (L-DB2E81BA); new\n"
        "              accounts have 0\n"
        "US dollars per month before traffic (prices of us-east-1, 2026-07-20)\n"
        "  GPU instances         1 x g5.xlarge at $1.006/h                            734\n"
        "  root volumes          1 x 100 GiB gp3                                        8\n"
        "  orchestrator          3 x 1 vCPU, 2 GiB (up to 10)                         108\n"
        "  NAT                   1 with address                                        36\n"
        "  load balancer         1 capacity unit, 2 addresses                          30\n"
        "  WAF                   1 rule, the request limit                              6\n"
        "  images, secrets, DNS  12.2 GB, 3 secrets, 1 private zone                     3\n"
        "  limits and usage      DynamoDB, $0.625 per million writes                    0\n"
        "  metrics and alarms    14 metrics, alarms on 14, 1 dashboard                  9\n"
        "  total                                                                      935\n"
    )


def test_unknown_facts_about_the_model_are_reported() -> None:
    hybrid = summary(plan(model__id="Qwen/Qwen3.5-9B"))
    assert "GPU memory  22 GB according to vLLM's recipe, of 23.5 GB available" in hybrid
    assert "KV cache    not predicted for this model" in hybrid
    unknown = summary(plan(model__id="acme/Model-1", model__tool_call_parser="hermes"))
    assert "GPU memory  size unknown" in unknown
    assert "unavailable while it loads" in unknown


def test_spot_is_priced_as_spot() -> None:
    one = CATALOG.instances["g5.xlarge"].usd_per_hour
    share = CATALOG.prices.spot_share
    assert one is not None
    assert gpu_usd_per_hour(plan(gpu__capacity="spot")) == one * share
    assert gpu_usd_per_hour(plan(gpu__capacity="spot", gpu__replicas=3)) == pytest.approx(
        one * (1 + 2 * share)
    )
    all_spot = plan(gpu__capacity="spot", gpu__replicas=3, gpu__on_demand_base=0)
    assert gpu_usd_per_hour(all_spot) == pytest.approx(3 * one * share)
    text = " ".join(summary(plan(gpu__capacity="spot", gpu__replicas=3)).split())
    assert "1 + 2 spot x g5.xlarge" in text
    assert "4 vCPU of Running On-Demand G and VT instances" in text
    assert "8 vCPU of All G and VT Spot Instance Requests" in text


def test_engines_that_follow_the_load_cost_what_the_minimum_costs_and_at_most_the_maximum() -> None:
    one = CATALOG.instances["g5.xlarge"].usd_per_hour
    assert one is not None
    assert bill(gpu__min_replicas=0)["GPU instances"] == 0
    assert bill(gpu__max_replicas=4)["GPU instances"] == pytest.approx(one * 730)
    nights = ({"cron": "0 8 * * MON-FRI"}, {"cron": "0 20 * * MON-FRI", "max_replicas": 0})
    assert bill(gpu__schedule=nights)["GPU instances"] == pytest.approx(one * 730 * 60 / 168)
    text = summary(plan(gpu__min_replicas=0, gpu__max_replicas=3))
    assert "0 to 3 engines" in text
    assert "0 to 3 x g5.xlarge at $1.006/h" in text
    total, most = [int(line.split()[-1].replace(",", "")) for line in text.splitlines()[-2:]]
    assert most - total == pytest.approx(3 * one * 730, abs=1)
    assert "every engine on" not in summary(plan(gpu__replicas=2))


def test_warm_instances_cost_their_volumes_and_their_throughput() -> None:
    warm = {"gpu__min_replicas": 0, "gpu__max_replicas": 2, "gpu__root_volume_gib": 200}
    items = bill(**warm, gpu__warm_instances=2)
    # 200 GiB at $0.08, and 275 MB/s more than the 125 that the price contains, at $0.04.
    assert items["warm instances"] == pytest.approx(2 * (16 + 11))
    assert items["GPU instances"] == 0
    assert "warm instances" not in bill(**warm)


def test_warm_instances_keep_everything_on_the_root_volume() -> None:
    cold, warm = plan(gpu__min_replicas=0), plan(gpu__min_replicas=0, gpu__warm_instances=1)
    assert (cold.images_on_instance_store, warm.images_on_instance_store) == (True, False)
    assert warm.weights_gb
    assert warm.root_volume_gb - cold.root_volume_gb == pytest.approx((2 * warm.weights_gb + 10) / 0.8, abs=1)


def test_prices_of_another_region_are_said_to_differ() -> None:
    assert "(prices of us-east-1, 2026-07-20)" in summary(plan())
    assert "Prices in eu-west-1 differ" in summary(plan(region="eu-west-1"))
    assert "differ" not in summary(plan(region="us-east-1"))


@given(
    instance=st.sampled_from(sorted(CATALOG.instances)),
    model=st.sampled_from(sorted(CATALOG.models)),
    replicas=st.integers(1, 100),
    spare=st.booleans(),
    capacity=st.sampled_from(["on_demand", "spot"]),
    tasks=st.integers(1, 1000),
)
def test_the_summary_fits_80_columns(
    instance: str, model: str, replicas: int, spare: bool, capacity: str, tasks: int
) -> None:
    one = plan(
        gpu__instance_types=[instance],
        model__id=model,
        gpu__replicas=replicas,
        gpu__spare_instance=spare,
        gpu__capacity=capacity,
        orchestrator__min_tasks=tasks,
        orchestrator__max_tasks=1000,
        ingress__waf=True,
    )
    text = summary(one)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert all(line.isprintable() for line in text.splitlines())
    engines = tasks_per_instance(CATALOG.instances[instance], 1) * (one.instance_count - spare)
    assert engines >= replicas


def test_prices_have_one_region_and_date() -> None:
    prices = CATALOG.prices
    assert (prices.region, prices.date.isoformat()) == ("us-east-1", "2026-07-20")
    numbers = [value for value in dataclasses.asdict(prices).values() if isinstance(value, float)]
    assert all(value > 0 for value in numbers)


def test_several_models_are_priced_one_by_one() -> None:
    several = Plan(
        Deployment.model_validate(
            {"models": {"main": {}, "small": {"id": "Qwen/Qwen2.5-0.5B-Instruct", "min_replicas": 0}}}
        ),
        CATALOG,
    )
    costs = {item.name: item.usd for item in monthly_cost(several)}
    assert costs["GPUs main"] == pytest.approx(734, rel=0.01)
    assert costs["GPUs small"] == 0
    one = {item.name: item.usd for item in monthly_cost(plan())}
    shared = one.keys() & costs.keys() - {"metrics and alarms"}
    assert {name: costs[name] for name in shared} == {name: one[name] for name in shared}
    assert (costs["metrics and alarms"] or 0) > (one["metrics and alarms"] or 0)
    text = summary(several)
    assert '"tandem", 2 models' in text
    assert "small, 0 to 1 engine\n" in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_stopped_instances_are_priced_for_the_model_that_keeps_them() -> None:
    warm = {"id": "Qwen/Qwen2.5-0.5B-Instruct", "min_replicas": 0, "warm_instances": 1}
    models = {"main": {}, "small": {**warm, "root_volume_gib": 200}}
    several = Plan(Deployment.model_validate({"models": models}), CATALOG)
    costs = {item.name: item.usd for item in monthly_cost(several)}
    assert costs["warm small"] == pytest.approx(16 + 11)
    assert "warm main" not in costs
    assert max(len(line) for line in summary(several).splitlines()) <= WIDTH
