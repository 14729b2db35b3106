"""Monthly cost of a deployment and of alternatives, with live prices if there are credentials."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from infra.deployment.catalog import Catalog, Instance
from infra.deployment.checks.rule import Fix
from infra.deployment.cost import instance_usd_per_hour, monthly_cost, total_usd
from infra.deployment.plan import Plan
from infra.deployment.throughput import FARGATE_SHARE, MEASURED, Traffic, capacity, engines_for

from .account import Account, translated

BUSY_HOURS_PER_MONTH = 5 * 6 * 52 / 12
"""An example: on working days, somebody asks in six hours of the day."""

NIGHTS_OFF_NAME = "gpu.schedule: nights and weekends off"
NIGHTS_OFF = (
    {"cron": "0 8 * * MON-FRI"},
    {"cron": "0 20 * * MON-FRI", "max_replicas": 0},
)

_LOCATION_CODE = "regionCode"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A change to the deployment, the monthly cost with it, and its consequences."""

    change: str
    usd: float
    meaning: str


def live_prices(account: Account) -> dict[str, float]:
    """Reads on-demand prices in US dollars per hour of the deployment's instance types from AWS's price list.

    Raises:
        NoAccess, NotAllowed: The price list cannot be read.
    """
    # Few regions have an endpoint of the price list; this one has the prices of all regions.
    pricing = account.client("pricing", region="us-east-1")
    prices = {}
    for name in account.deployment.instance_types:
        wanted = {
            "instanceType": name,
            _LOCATION_CODE: account.region,
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "tenancy": "Shared",
            "capacitystatus": "Used",
        }
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
        with translated():
            found = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)["PriceList"]
        hourly = [price for product in found if (price := on_demand_usd(json.loads(product))) is not None]
        if hourly:
            prices[name] = min(hourly)
    return prices


def on_demand_usd(product: Any) -> float | None:
    """Returns a product's price in US dollars per hour, or None if it is not sold on demand by the hour.

    Format: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-api.html
    """
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            usd = float(dimension["pricePerUnit"].get("USD", 0))
            if dimension["unit"] == "Hrs" and usd > 0:
                return usd
    return None


def live_spot_share(account: Account, prices: dict[str, float]) -> float | None:
    """Returns the current spot price of the first instance type as a share of its on-demand price.

    Uses the highest price of all zones. Returns None if AWS lists no price.

    Raises:
        NoAccess, NotAllowed: Spot prices cannot be read.
    """
    name = account.deployment.gpu.instance_types[0]
    with translated():
        history = account.client("ec2").describe_spot_price_history(
            InstanceTypes=[name], ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
        )["SpotPriceHistory"]
    spot = max((float(one["SpotPrice"]) for one in history), default=None)
    return None if spot is None or name not in prices else spot / prices[name]


def with_prices(plan: Plan, prices: dict[str, float], *, spot_share: float | None = None) -> Plan:
    """Replaces the catalogue's instance prices with these."""
    instances: dict[str, Instance] = {
        name: replace(instance, usd_per_hour=prices.get(name, instance.usd_per_hour))
        for name, instance in plan.catalog.instances.items()
    }
    others = plan.catalog.prices
    if spot_share is not None:
        others = replace(others, spot_share=spot_share)
    catalog: Catalog = replace(plan.catalog, instances=instances, prices=others)
    return Plan(plan.deployment, catalog)


def alternatives(plan: Plan) -> list[Alternative]:
    """Returns the cost of scaling, and of stopping the GPUs when nobody asks; empty if a price is unknown."""
    now = total_usd(monthly_cost(plan))
    if now is None or not all(one.instances for one in plan.entries):
        return []
    counts = ", ".join(f"{one.instance_count} x {one.instances[0].name}" for one in plan.entries)
    changed = [found for one in plan.entries for found in _alternatives(one)]
    return [Alternative("unchanged", now, counts), *changed]


def _alternatives(plan: Plan) -> list[Alternative]:
    """The alternatives for the engines of one model."""
    hourly = instance_usd_per_hour(plan)
    if hourly is None:
        return []
    gpu = plan.deployment.gpu
    found: list[Alternative] = []
    if not gpu.schedule:
        found += _changed(plan, {"gpu.schedule": NIGHTS_OFF}, "12 h on working days", name=NIGHTS_OFF_NAME)
    if not plan.sleeps:
        found += _asleep(plan, hourly)
    spare = "interrupts service at each release" if gpu.spare_instance else "no interruption at releases"
    changes: tuple[tuple[dict[str, object], str], ...] = (
        (_one_more(plan), "one more engine" if not plan.is_scaled else "one more engine under load"),
        ({"gpu.spare_instance": not gpu.spare_instance}, spare),
    )
    for change, meaning in changes:
        found += _changed(plan, change, meaning)
    if gpu.capacity == "on_demand":
        found += _changed(plan, {"gpu.capacity": "spot"}, "AWS may reclaim the instance; prices vary")
    return found


def _asleep(plan: Plan, hourly: float) -> list[Alternative]:
    """The cost with engines that start on demand, for a number of hours in which somebody asks."""
    change: dict[str, object] = {
        "gpu.replicas": None,
        "gpu.min_replicas": 0,
        "gpu.max_replicas": plan.limits.most,
    }
    idle = total_usd(monthly_cost(Plan(Fix(change).apply(plan.deployment), plan.catalog)))
    if idle is None:
        return []
    usd = idle + hourly * BUSY_HOURS_PER_MONTH * max(plan.instances_for(plan.limits.least), 1)
    wait = f"the first request waits about {plan.start_seconds / 60:.0f} min"
    meaning = f"{BUSY_HOURS_PER_MONTH:.0f} busy hours; {wait}"
    return [Alternative(plan.deployment.in_file("gpu.min_replicas: 0"), usd, meaning)]


def task_capacity(plan: Plan) -> str:
    """Describes what an orchestrator task can handle (see infra/deployment/throughput.py)."""
    orchestrator = plan.deployment.orchestrator
    one = capacity(MEASURED, Traffic(), vcpu=orchestrator.cpu / 1024 * FARGATE_SHARE)
    return (
        f"An orchestrator task handles {one.requests:,.0f} requests/s and {one.tokens:,.0f} tokens/s, the "
        f"output of {engines_for(one.tokens, ENGINE_TOKENS)} engines at {ENGINE_TOKENS:,} tokens/s "
        "(docs/capacity.md)."
    )


ENGINE_TOKENS = 1000
"""Tokens per second of an engine with many concurrent requests: on the order of a 7B model on an A10G."""


def _one_more(plan: Plan) -> dict[str, object]:
    gpu = plan.deployment.gpu
    if gpu.min_replicas is not None or gpu.max_replicas is not None:
        return {"gpu.max_replicas": gpu.most + 1}
    return {"gpu.replicas": gpu.most + 1}


def _changed(
    plan: Plan, change: dict[str, object], meaning: str, *, name: str | None = None
) -> list[Alternative]:
    fix = Fix(change)
    usd = total_usd(monthly_cost(Plan(fix.apply(plan.deployment), plan.catalog)))
    return [] if usd is None else [Alternative(plan.deployment.in_file(name or str(fix)), usd, meaning)]
