"""The orchestrator's metrics as CloudWatch metrics of one deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from infra.deployment.file import Deployment
from infra.deployment.metrics import load_metrics


@dataclass(frozen=True)
class DeploymentMetrics:
    """The metrics of a deployment's model."""

    deployment: Deployment

    def metric(self, name: str, *, seconds: int, statistic: str | None = None) -> cloudwatch.Metric:
        """Returns a metric of metrics.json, with its own statistic unless another one is given."""
        catalog = load_metrics()
        deployment, model = catalog.dimensions
        return cloudwatch.Metric(
            namespace=catalog.namespace,
            metric_name=name,
            dimensions_map={deployment: self.deployment.name, model: self.deployment.served_model},
            statistic=statistic or catalog.metrics[name].statistic,
            period=cdk.Duration.seconds(seconds),
        )

    def math(
        self,
        expression: str,
        label: str,
        *,
        seconds: int,
        others: Mapping[str, cloudwatch.IMetric] | None = None,
    ) -> cloudwatch.MathExpression:
        """Returns metric math on `demand`, requests in engines or held, and `up`, the engines that answer.

        Without a line of the orchestrator there is no value, so that a dead publisher decides nothing.

        Args:
            others: Further metrics by their names in the expression.
        """
        return cloudwatch.MathExpression(
            expression=expression.replace("demand", "(engine + held)"),
            using_metrics={
                "engine": self.metric("EngineDemand", seconds=seconds),
                "held": self.metric("HeldDemand", seconds=seconds),
                **({"up": self.metric("EnginesUp", seconds=seconds)} if "up" in expression else {}),
                **(others or {}),
            },
            label=label,
            period=cdk.Duration.seconds(seconds),
        )
