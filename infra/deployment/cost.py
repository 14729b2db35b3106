"""The monthly cost of a deployment, and the summary that synth prints."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from .catalog import HOURS_PER_MONTH, Instance
from .metrics import load_metrics
from .plan import ROOT_VOLUME_MB_PER_S, Plan
from .settings import HUB, MIRROR
from .sizing import tasks_per_instance, visible_gib, wanted_vcpu

WIDTH = 80

ORCHESTRATOR_IMAGE_GB = 0.2
SECRETS = 3
"""The bootstrap key, the named hashes and the engine's key."""

HEARTBEATS_PER_HOUR = 240
"""Of an orchestrator in the table of limits and usage, each a write and a read."""

METRIC_LINES_PER_HOUR = 360
"""Of an orchestrator, each with every metric."""

METRIC_LINE_BYTES = 2000

MODEL_CACHES_GB = 1
"""Compiled graphs of some releases."""

_SHARED_ALARM_METRICS, _MODEL_ALARM_METRICS = 3, 10
"""Read by the alarms of every deployment, and of every model."""

_WAKE_METRICS = _IDLE_METRICS = _UP_METRICS = _DOWN_METRICS = 3
_UNUSED_METRICS = 4

WAF_MANAGED_RULES = 3
"""Groups of managed rules, in addition to the request limit."""

QUOTAS = {
    ("g", "on_demand"): "Running On-Demand G and VT instances (L-DB2E81BA)",
    ("g", "spot"): "All G and VT Spot Instance Requests (L-3819A6DF)",
    ("p", "on_demand"): "Running On-Demand P instances (L-417A185B)",
    ("p", "spot"): "Spot Instance Requests for this generation of P instances",
}
"""EC2's vCPU quotas, by the first letter of the instance type and by how it is bought."""


@dataclass(frozen=True, slots=True)
class CostItem:
    """An item on the bill, in US dollars per month; None if the price is unknown."""

    name: str
    count: str
    usd: float | None


def monthly_cost(plan: Plan) -> list[CostItem]:
    """Returns the cost of a month without requests, at the catalog's prices.

    Uses the price of the first instance type, and for spot instances a cautious share of it. Excludes all
    that depends on traffic: data transfer, logs, and requests to WAF and CloudFront.
    """
    return [
        *(
            cost
            for entry in plan.entries
            for cost in (_instances(entry), _volumes(entry), *_warm_instances(entry))
        ),
        _orchestrator(plan),
        *_network(plan),
        _load_balancer(plan),
        *_firewall(plan),
        _storage_and_names(plan),
        _usage_table(plan),
        _metrics(plan),
        *(cost for entry in plan.entries for cost in _model_bucket(entry)),
    ]


def total_usd(items: list[CostItem]) -> float | None:
    """Returns the sum in US dollars per month; None if a price is unknown."""
    return None if any(item.usd is None for item in items) else sum(item.usd or 0 for item in items)


def gpu_usd_per_hour(plan: Plan) -> float | None:
    """The hourly price of all GPU instances, spot instances at an estimate; None if it is not known."""
    price = plan.instances[0].usd_per_hour
    if price is None:
        return None
    spot = plan.instance_count - plan.on_demand_count
    return price * (plan.on_demand_count + spot * plan.catalog.prices.spot_share)


def instance_usd_per_hour(plan: Plan) -> float | None:
    """The hourly price of a GPU instance, on average if some are spot instances; None if it is not known."""
    hourly = gpu_usd_per_hour(plan)
    return None if hourly is None else hourly / plan.instance_count


def _instances(plan: Plan) -> CostItem:
    hourly = instance_usd_per_hour(plan)
    usd = None if hourly is None else hourly * plan.idle_instances * HOURS_PER_MONTH
    return CostItem(_item(plan, "GPU instances", "GPUs"), _bought(plan), usd)


def _item(plan: Plan, name: str, short: str) -> str:
    """The name of an item, with that of the model if there are several."""
    several = len(plan.deployment.models) > 1
    return f"{short} {plan.deployment.entry}" if several else name


def _bought(plan: Plan) -> str:
    instance, on_demand = plan.instances[0], plan.on_demand_count
    spot, price = plan.instance_count - on_demand, instance.usd_per_hour
    if price is not None and plan.limits.least < plan.limits.most:
        usd = instance_usd_per_hour(plan) or price
        counts = f"{plan.instances_for(plan.limits.least)} to {plan.instance_count}"
        return f"{counts} x {instance.name} at ${usd:.4g}/h"
    if price is None:
        return f"{plan.instance_count} x {instance.name}, price unknown"
    if not spot:
        return f"{on_demand} x {instance.name} at ${price:g}/h"
    if on_demand:
        return f"{on_demand} + {spot} spot x {instance.name}"
    return f"{spot} x {instance.name}, spot, about ${price * plan.catalog.prices.spot_share:.3g}/h"


def _volume_usd(plan: Plan) -> float:
    """The price of a root volume in US dollars per month."""
    prices, extra = plan.catalog.prices, plan.root_volume_mb_per_s - ROOT_VOLUME_MB_PER_S
    return plan.deployment.gpu.root_volume_gib * prices.gp3_gb_month + extra * prices.gp3_mb_per_s_month


def _warm_instances(plan: Plan) -> list[CostItem]:
    """Stopped instances cost their volumes."""
    warm, gib = plan.deployment.gpu.warm_instances, plan.deployment.gpu.root_volume_gib
    count = f"{warm} x {gib} GiB gp3, {plan.root_volume_mb_per_s} MB/s, stopped"
    return [CostItem(_item(plan, "warm instances", "warm"), count, warm * _volume_usd(plan))] * bool(warm)


def _volumes(plan: Plan) -> CostItem:
    gib = plan.deployment.gpu.root_volume_gib
    counts = (
        f"{plan.idle_instances:.2g}" if plan.limits.least < plan.limits.most else f"{plan.instance_count}"
    )
    name, usd = _item(plan, "root volumes", "disk"), plan.idle_instances * _volume_usd(plan)
    return CostItem(name, f"{counts} x {gib} GiB gp3", usd)


def _orchestrator(plan: Plan) -> CostItem:
    given = plan.deployment.orchestrator
    price = plan.catalog.prices.fargate[given.architecture]
    vcpu, memory_gib = given.cpu / 1024, given.memory_mib / 1024
    hour = vcpu * price.vcpu_hour + memory_gib * price.gb_hour
    return CostItem(
        "orchestrator",
        f"{given.min_tasks} x {vcpu:g} vCPU, {memory_gib:g} GiB (up to {given.max_tasks})",
        given.min_tasks * hour * HOURS_PER_MONTH,
    )


def _network(plan: Plan) -> list[CostItem]:
    network, prices = plan.deployment.network, plan.catalog.prices
    gateways = 0 if network.existing_vpc else {"none": 0, "one": 1, "per_zone": _zones(plan)}[network.nat]
    hour = prices.nat_gateway_hour + prices.public_ipv4_hour
    return [CostItem("NAT", f"{gateways} with address", gateways * hour * HOURS_PER_MONTH)] * bool(gateways)


def _zones(plan: Plan) -> int:
    network = plan.deployment.network
    if network.existing_vpc:
        return len(network.existing_vpc.availability_zones)
    return len(network.availability_zones) or network.zones


def _load_balancer(plan: Plan) -> CostItem:
    ingress, prices = plan.deployment.ingress, plan.catalog.prices
    addresses = _zones(plan) if ingress.scheme == "public" and not ingress.cloudfront else 0
    hour = (
        prices.load_balancer_hour
        + prices.load_balancer_capacity_unit_hour
        + addresses * prices.public_ipv4_hour
    )
    count = "1 capacity unit" + (f", {addresses} addresses" if addresses else "")
    return CostItem("load balancer", count, hour * HOURS_PER_MONTH)


def _firewall(plan: Plan) -> list[CostItem]:
    prices = plan.catalog.prices
    rules = 1 + WAF_MANAGED_RULES * plan.deployment.ingress.waf_managed_rules
    cost = prices.waf_web_acl_month + rules * prices.waf_rule_month
    count = f"{rules} rules" if rules > 1 else "1 rule, the request limit"
    return [CostItem("WAF", count, cost)] * plan.deployment.has_firewall


def _storage_and_names(plan: Plan) -> CostItem:
    prices, engine = plan.catalog.prices, plan.catalog.engine
    images = (engine.compressed_gb + ORCHESTRATOR_IMAGE_GB) * prices.ecr_gb_month
    return CostItem(
        "images, secrets, DNS",
        f"{engine.compressed_gb + ORCHESTRATOR_IMAGE_GB:g} GB, {SECRETS} secrets, 1 private zone",
        images + SECRETS * prices.secret_month + prices.private_zone_month,
    )


def _usage_table(plan: Plan) -> CostItem:
    prices, tasks = plan.catalog.prices, plan.deployment.orchestrator.min_tasks
    beats = tasks * HOURS_PER_MONTH * HEARTBEATS_PER_HOUR / 1e6
    each = prices.dynamodb_write_million + prices.dynamodb_read_million
    return CostItem(
        "limits and usage", f"DynamoDB, ${prices.dynamodb_write_million:g} per million writes", beats * each
    )


@dataclass(frozen=True, slots=True)
class AlarmMetrics:
    """The metrics that alarms read, by the length of their periods: at least a minute, or 10 s."""

    slow: int
    fast: int


def alarm_metrics(plan: Plan) -> AlarmMetrics:
    """Returns what alarms for people read, and alarms that scale engines."""
    models = [_model_alarm_metrics(entry) for entry in plan.entries]
    slow = _SHARED_ALARM_METRICS + sum(one.slow for one in models)
    return AlarmMetrics(slow, sum(one.fast for one in models))


def _model_alarm_metrics(plan: Plan) -> AlarmMetrics:
    limits = plan.limits
    guarded = plan.deployment.gpu.max_instance_hours_per_day is not None
    several = 1 < limits.most != limits.least
    slow = _MODEL_ALARM_METRICS + (limits.least > 0) + guarded
    slow += (_IDLE_METRICS + _UNUSED_METRICS) * plan.sleeps + _DOWN_METRICS * several
    return AlarmMetrics(slow, _WAKE_METRICS * plan.sleeps + _UP_METRICS * several)


def _metrics(plan: Plan) -> CostItem:
    prices, alarms = plan.catalog.prices, alarm_metrics(plan)
    metrics = len(load_metrics().metrics) * len(plan.entries)
    lines = plan.deployment.orchestrator.min_tasks * METRIC_LINES_PER_HOUR * HOURS_PER_MONTH
    usd = (
        metrics * prices.metric_month
        + alarms.slow * prices.alarm_metric_month
        + alarms.fast * prices.fast_alarm_metric_month
        + prices.dashboard_month
        + lines * METRIC_LINE_BYTES / 1e9 * prices.log_gb
    )
    count = f"{metrics} metrics, alarms on {alarms.slow + alarms.fast}, 1 dashboard"
    return CostItem("metrics and alarms", count, usd)


def _model_bucket(plan: Plan) -> list[CostItem]:
    """The mirror of the weights, and some caches of compiled graphs."""
    source = plan.deployment.model.source
    if source == HUB:
        return []
    weights = plan.weights_gb if source == MIRROR else 0
    price = plan.catalog.prices.s3_gb_month
    if weights is None:
        return [CostItem(_item(plan, "weights in S3", "S3"), "size unknown", None)]
    gb = weights + MODEL_CACHES_GB
    name = _item(plan, "weights in S3", "S3")
    return [CostItem(name, f"{gb:.0f} GB, read without NAT", gb * price)]


def summary(plan: Plan) -> str:
    """Describes a deployment in plain text of 80 columns: what runs, what fits, what it costs.

    Args:
        plan: The plan of a deployment that passed the checks.
    """
    entries = plan.entries
    several = f"{len(entries)} models"
    lines = [
        f'Tandem deployment "{plan.deployment.name}", {_engines(plan) if len(entries) == 1 else several}'
    ]
    for entry in entries:
        if len(entries) > 1:
            lines.append(f"{entry.deployment.entry}, {_engines(entry)}")
        lines += [line for name, text in _rows(entry) for line in _wrapped(name, text)]
    return "\n".join([*lines, *_cost_lines(plan)]) + "\n"


def _rows(plan: Plan) -> list[tuple[str, str]]:
    instance, model = plan.instances[0], plan.deployment.model
    return [
        ("model", f"{model.id}, {model.quantization or model.dtype}, context {model.max_model_len:,} tokens"),
        ("instance", _instance_line(plan, instance)),
        *_fit_lines(plan, instance),
        ("releases", _release_line(plan)),
        ("quota", _quota_line(plan, instance)),
    ]


def _engines(plan: Plan) -> str:
    least, most = plan.limits.least, plan.limits.most
    count = f"{most}" if least == most else f"{least} to {most}"
    return f"{count} engine{'s' * (most > 1)}"


def _instance_line(plan: Plan, instance: Instance) -> str:
    spot = plan.instance_count - plan.on_demand_count
    bought = "on demand" if not spot else "spot" if not plan.on_demand_count else f"{spot} of them spot"
    others = f", or {', '.join(plan.deployment.gpu.instance_types[1:])}" if len(plan.instances) > 1 else ""
    return (
        f"{plan.instance_count} x {instance.name}{others}, {bought}: {instance.gpus} x {instance.gpu.name}, "
        f"{instance.vcpu} vCPU{_vcpu_note(plan, instance)}, {instance.memory_mib // 1024} GiB"
    )


def _vcpu_note(plan: Plan, instance: Instance) -> str:
    """What vLLM recommends, if the instance has less; it works, but is slower under load."""
    gpus = plan.deployment.gpu.gpus_per_task
    wanted = wanted_vcpu(gpus) * tasks_per_instance(instance, gpus)
    return f" (vLLM recommends {wanted})" if instance.vcpu < wanted else ""


def _fit_lines(plan: Plan, instance: Instance) -> list[tuple[str, str]]:
    size, gpus = plan.size(instance), plan.deployment.gpu.gpus_per_task
    if size is None or size.kv_tokens is None:
        weights = (
            "size unknown"
            if size is None or size.recipe_gb is None
            else (f"{size.recipe_gb:g} GB according to vLLM's recipe, of {size.offered_gb:.1f} GB available")
        )
        return [("GPU memory", weights), ("KV cache", "not predicted for this model")]
    given = visible_gib(instance) * plan.deployment.model.gpu_memory_utilization * gpus
    requests = size.kv_tokens / plan.deployment.model.max_model_len
    return [
        (
            "weights",
            f"{size.weights_gib:.1f} of the {given:.1f} GiB that an engine may use on {gpus} "
            f"GPU{'s' * (gpus > 1)}",
        ),
        ("KV cache", f"{size.kv_tokens:,} tokens: {requests:.1f} requests at full context"),
    ]


def _release_line(plan: Plan) -> str:
    if plan.deployment.gpu.spare_instance:
        return "a new engine starts before one stops"
    period = f"for about {plan.load_seconds / 60:.0f} minutes" if plan.load_seconds else "while it loads"
    engine = "the engine" if plan.limits.most == 1 else "one engine at a time"
    return f"{engine} is unavailable {period}; gpu.spare_instance: true avoids that"


def _quota_line(plan: Plan, instance: Instance) -> str:
    family, on_demand = instance.name[0], plan.on_demand_count
    counts = (("on_demand", on_demand), ("spot", plan.instance_count - on_demand))
    parts = [f"{count * instance.vcpu} vCPU of {QUOTAS[family, how]}" for how, count in counts if count]
    return f"{' and '.join(parts)}; new accounts have 0"


def _cost_lines(plan: Plan) -> list[str]:
    items, prices = monthly_cost(plan), plan.catalog.prices
    heading = [f"US dollars per month before traffic (prices of {prices.region}, {prices.date})"]
    region = plan.deployment.region
    if region and region != prices.region:
        heading.append(f"  Prices in {region} differ. `make cost` reads its instance prices from AWS.")
    rows = [
        f"  {item.name:<22}{item.count:<46}{'?' if item.usd is None else f'{item.usd:,.0f}':>10}"
        for item in items
    ]
    total = total_usd(items)
    lines = [*heading, *rows, f"  {'total':<68}{'?' if total is None else f'{total:,.0f}':>10}"]
    more = [_usd_of_more(entry) for entry in plan.entries if entry.limits.least < entry.limits.most]
    if more and total is not None and None not in more:
        most = total + sum(usd or 0 for usd in more)
        lines.append(f"  {'with every engine on, day and night':<68}{most:>10,.0f}")
    return lines


def _usd_of_more(plan: Plan) -> float | None:
    """What a month costs more if every engine of a model is on all the time."""
    hourly = instance_usd_per_hour(plan)
    count = plan.instance_count - plan.idle_instances
    return None if hourly is None else hourly * HOURS_PER_MONTH * count


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14, break_on_hyphens=False
    )
