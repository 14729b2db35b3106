"""The CloudWatch dashboard: is it up, who waits, how full is it, what do tools do, what does it cost."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.deployment.cost import instance_usd_per_hour
from infra.deployment.metrics import load_metrics

from .ingress.load_balancer import Ingress
from .metrics import DeploymentMetrics
from .served_model import ServedModel

_SECONDS = 60
_PERIOD = cdk.Duration.seconds(_SECONDS)
_HOUR = 3600
_WIDTH = 8


class Dashboard(Construct):
    """One page with the questions of whoever is called at night, from left to right and top to bottom."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        served: Sequence[ServedModel],
        alarms: Sequence[cloudwatch.IAlarm],
        ingress: Ingress,
    ) -> None:
        super().__init__(scope, construct_id)
        status = cloudwatch.AlarmStatusWidget(title="Is it up?", alarms=[*alarms], width=24, height=3)
        rows: list[Sequence[cloudwatch.IWidget]] = [[status]]
        for one in served:
            if len(served) > 1:
                title = f"## {one.plan.deployment.entry}: {one.plan.deployment.served_model}"
                rows.append([cloudwatch.TextWidget(markdown=title, width=24, height=1)])
            rows += _ModelRows(one).rows(ingress)
        cloudwatch.Dashboard(
            self, "Dashboard", default_interval=cdk.Duration.hours(3), widgets=[[*row] for row in rows]
        )


class _ModelRows:
    """The graphs of one model."""

    def __init__(self, one: ServedModel) -> None:
        self._plan = one.plan
        self._metrics = DeploymentMetrics(one.plan.deployment)
        self._capacity = one.capacity
        self._engine = one.engine

    def rows(self, ingress: Ingress) -> list[Sequence[cloudwatch.IWidget]]:
        """Returns the graphs, row by row."""
        return [
            [self._demand(), self._waiting(), self._engines()],
            [self._cache(), self._prefixes(), self._rejections()],
            [self._tools(), self._errors(ingress), self._tokens()],
            [self._hourly_cost(), self._token_cost(), self._gpus()],
        ]

    def _read(
        self, name: str, label: str, *, statistic: str | None = None, seconds: int = _SECONDS
    ) -> cloudwatch.Metric:
        return self._metrics.metric(name, seconds=seconds, statistic=statistic).with_(label=label)

    def _graph(
        self,
        title: str,
        left: Sequence[cloudwatch.IMetric],
        *,
        alarm: str | None = None,
        line: tuple[float, str] | None = None,
        right: Sequence[cloudwatch.IMetric] = (),
    ) -> cloudwatch.GraphWidget:
        """A graph, with the threshold of an alarm or another line."""
        if alarm:
            line = (load_metrics().alarms[alarm].threshold, f"alarm {alarm}")
        lines = [cloudwatch.HorizontalAnnotation(value=line[0], label=line[1])] if line else None
        return cloudwatch.GraphWidget(
            title=title,
            left=[*left],
            right=[*right],
            left_annotations=lines,
            left_y_axis=cloudwatch.YAxisProps(min=0),
            width=_WIDTH,
            height=6,
        )

    def _demand(self) -> cloudwatch.GraphWidget:
        per_engine = self._read("DemandPerEngine", "per engine")
        line = (self._plan.scale_up_at, "another engine starts") if self._plan.limits.most > 1 else None
        demand = self._metrics.math("demand", "requests in engines or held", seconds=_SECONDS)
        held = self._read("HeldDemand", "without an engine")
        return self._graph("What is the queue?", [demand, held, per_engine], line=line)

    def _waiting(self) -> cloudwatch.GraphWidget:
        tokens = [
            self._read("TimeToFirstToken", f"first token, {name}", statistic=name) for name in ("p50", "p95")
        ]
        return self._graph("How long do people wait? (s)", tokens, alarm="FirstTokenSlow")

    def _engines(self) -> cloudwatch.GraphWidget:
        instances = self._capacity.instances(_PERIOD).with_(label="instances")
        start = self._read("EngineStartTime", "duration of a start (s)")
        return self._graph(
            "How many engines run?", [self._read("EnginesUp", "engines"), instances], right=[start]
        )

    def _cache(self) -> cloudwatch.GraphWidget:
        used = self._read("KvCacheUse", "fullest engine")
        preempted = self._read("Preemptions", "interrupted requests")
        return self._graph("How full is the KV cache? (%)", [used], alarm="KvCacheFull", right=[preempted])

    def _prefixes(self) -> cloudwatch.GraphWidget:
        hits = self._read("PrefixHits", "tokens of prompts", statistic=cloudwatch.Stats.AVERAGE)
        return self._graph("Are prefixes found in the cache? (%)", [hits])

    def _rejections(self) -> cloudwatch.GraphWidget:
        rejected = self._read("Rejections", "requests per minute")
        return self._graph("Is anybody turned away?", [rejected], alarm="Rejected")

    def _tools(self) -> cloudwatch.GraphWidget:
        calls, errors = self._read("ToolCalls", "calls per minute"), self._read("ToolErrors", "errors")
        return self._graph("What do the tools do?", [calls, errors], alarm="ToolsFail")

    def _errors(self, ingress: Ingress) -> cloudwatch.GraphWidget:
        codes = ingress.error_counts(_PERIOD)
        return self._graph("Which errors do clients get?", codes, alarm="Errors")

    def _tokens(self) -> cloudwatch.GraphWidget:
        return self._graph(
            "How many tokens per minute?",
            [self._read("TokensIn", "prompts"), self._read("TokensOut", "generated")],
        )

    def _usd(self, expression: str, label: str) -> cloudwatch.MathExpression:
        """Math on `hours`, the instance hours of an hour, and `tokens`, those of prompts and answers."""
        hour = cdk.Duration.seconds(_HOUR)
        metrics: dict[str, cloudwatch.IMetric] = {"hours": self._capacity.instances(hour)}
        if "into" in expression:
            metrics |= {
                "into": self._read("TokensIn", "", seconds=_HOUR),
                "out": self._read("TokensOut", "", seconds=_HOUR),
            }
        return cloudwatch.MathExpression(
            expression=expression, using_metrics=metrics, label=label, period=hour
        )

    def _hourly_cost(self) -> cloudwatch.GraphWidget:
        usd = instance_usd_per_hour(self._plan) or 0
        return self._graph(
            "What does an hour of GPUs cost? ($)", [self._usd(f"hours * {usd:g}", "GPU instances")]
        )

    def _token_cost(self) -> cloudwatch.GraphWidget:
        usd = (instance_usd_per_hour(self._plan) or 0) * 1e6
        # An hour without tokens has no value: CloudWatch leaves a division by 0 out.
        math = f"hours * {usd:.0f} / (into + out)"
        return self._graph("What do a million tokens cost? ($)", [self._usd(math, "GPU instances")])

    def _gpus(self) -> cloudwatch.GraphWidget:
        service = self._engine.service
        metrics = [
            service.metric_cpu_utilization(period=_PERIOD, label="CPU (%)"),
            service.metric_memory_utilization(period=_PERIOD, label="memory (%)"),
        ]
        if self._plan.deployment.metrics.container_insights:
            metrics.append(
                cloudwatch.Metric(
                    namespace="AWS/ECS",
                    metric_name="GPUReservation",
                    dimensions_map={"ClusterName": service.cluster.cluster_name},
                    period=_PERIOD,
                    label="reserved GPUs (%)",
                )
            )
        return self._graph("What do the engines use?", metrics)
