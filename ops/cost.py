"""What a deployment costs a month, with live prices where there are credentials, and what would change it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from infra.deployment.catalog import HOURS_PER_MONTH, Catalog, Instance
from infra.deployment.cost import monthly_cost, total_usd
from infra.deployment.plan import Plan
from infra.deployment.throughput import FARGATE_SHARE, MEASURED, Traffic, capacity, engines_for

from .account import Account, translated

WORKING_HOURS_PER_MONTH = 5 * 12 * 52 / 12
"""Monday to Friday, 12 hours a day."""

_LOCATION_CODE = "regionCode"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A change of the deployment, what it costs a month then, and what it means."""

    change: str
    usd: float
    meaning: str


def live_prices(account: Account) -> dict[str, float]:
    """US dollars an hour, on demand, of the deployment's instance types in its region, from AWS's price list.

    Raises:
        NoAccess, NotAllowed: the price list cannot be read.
    """
    # The price list has an endpoint in few regions; this one has all regions' prices.
    pricing = account.client("pricing", region="us-east-1")
    prices = {}
    for name in account.deployment.gpu.instance_types:
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
    """US dollars an hour of a product of the price list; None where it is not sold on demand by the hour.

    The format: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-the-aws-price-list-api.html
    """
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            usd = float(dimension["pricePerUnit"].get("USD", 0))
            if dimension["unit"] == "Hrs" and usd > 0:
                return usd
    return None


def with_prices(plan: Plan, prices: dict[str, float]) -> Plan:
    """The plan with these prices of instances in place of the catalogue's."""
    instances: dict[str, Instance] = {
        name: replace(instance, usd_per_hour=prices.get(name, instance.usd_per_hour))
        for name, instance in plan.catalog.instances.items()
    }
    catalog: Catalog = replace(plan.catalog, instances=instances)
    return Plan(plan.deployment, catalog)


def alternatives(plan: Plan) -> list[Alternative]:
    """What scale, and turning the GPU off at night, would come to; empty where a price is not known."""
    now = total_usd(monthly_cost(plan))
    hourly = plan.instances[0].usd_per_hour if plan.instances else None
    if now is None or hourly is None:
        return []
    gpu = hourly * HOURS_PER_MONTH * plan.instance_count
    working = hourly * WORKING_HOURS_PER_MONTH * plan.instance_count
    found = [
        Alternative("as it is", now, f"{plan.instance_count} x {plan.instances[0].name}"),
        Alternative(
            "GPU off at night and on weekends",
            now - gpu + working,
            "12 h on working days, by a schedule",
        ),
    ]
    gpu_knobs = plan.deployment.gpu
    changes: tuple[tuple[dict[str, object], str], ...] = (
        ({"gpu.replicas": gpu_knobs.replicas + 1}, "one more engine"),
        ({"gpu.spare_instance": not gpu_knobs.spare_instance}, "a pause at releases, or none"),
    )
    for change, meaning in changes:
        found += _changed(plan, change, meaning)
    if plan.deployment.gpu.capacity == "on_demand":
        found.append(
            Alternative(
                "gpu.capacity: spot",
                now - gpu * _SPOT_SAVING,
                "may be taken back; prices vary",
            )
        )
    return found


def carried(plan: Plan) -> str:
    """What the orchestrator's tasks carry, in a line (infra/deployment/throughput.py)."""
    orchestrator = plan.deployment.orchestrator
    one = capacity(MEASURED, Traffic(), vcpu=orchestrator.cpu / 1024 * FARGATE_SHARE)
    return (
        f"An orchestrator task carries {one.requests:,.0f} requests/s, {one.tokens:,.0f} tokens/s: what "
        f"{engines_for(one.tokens, ENGINE_TOKENS)} engines of {ENGINE_TOKENS:,} give (docs/capacity.md)."
    )


ENGINE_TOKENS = 1000
"""Tokens a second of an engine with many requests side by side: the order of a 7B model on an A10G."""

_SPOT_SAVING = 0.5
"""A cautious guess: AWS names up to 90%, and g5 has been between 30 and 70% off."""


def _changed(plan: Plan, change: dict[str, object], meaning: str) -> list[Alternative]:
    deployment = plan.deployment
    for knob, value in change.items():
        deployment = deployment.with_knob(knob, value)
    usd = total_usd(monthly_cost(Plan(deployment, plan.catalog)))
    name = ", ".join(f"{knob}: {json.dumps(value)}" for knob, value in change.items())
    return [] if usd is None else [Alternative(name, usd, meaning)]
