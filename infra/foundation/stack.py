"""The stack of everything that outlives a release: network, image registries, keys, usage."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from infra.deployment.file import Deployment
from infra.deployment.settings import HUB

from .certificate import Certificate
from .model_bucket import ModelBucket
from .network import Network, private_subnets
from .registries import Registries
from .secrets import Keys
from .usage_table import UsageTable


class FoundationStack(cdk.Stack):
    """The stack that is deployed first."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        env: cdk.Environment | None,
    ) -> None:
        super().__init__(
            scope, construct_id, env=env, description="Tandem: network, image registries and keys"
        )
        retain = deployment.removal_policy == "retain"
        self.network = Network(
            self,
            "Network",
            settings=deployment.network,
            retention_days=deployment.logs.retention_days,
            retain=retain,
        )
        self.registries = Registries(self, "Registries", prefix=deployment.name, retain=retain)
        self.keys = Keys(self, "Keys", retain=retain)
        self.usage = UsageTable(self, "Usage", retain=retain)
        if any(one.model.source != HUB for one in deployment.entries):
            ModelBucket(self, "Models", deployment=deployment)
        if not deployment.ingress.cloudfront:
            Certificate(self, "Certificate", deployment=deployment)
        self._export()

    def _export(self) -> None:
        """Exports everything that the other stack may use, whether it does or not.

        An export in use cannot be removed. The CDK exports only what is used now: with a changed deployment
        it would remove exports that the other stack, which is updated later, still uses.
        """
        vpc = self.network.vpc
        values = [
            self.registries.orchestrator.repository_arn,
            self.registries.orchestrator.repository_name,
            self.registries.vllm.repository_arn,
            self.registries.vllm.repository_name,
            self.usage.table.table_arn,
            self.usage.table.table_name,
            *(secret.secret_arn for secret in (self.keys.bootstrap, self.keys.engine, self.keys.api_keys)),
        ]
        if isinstance(vpc, ec2.Vpc):
            subnets = [*vpc.public_subnets, *private_subnets(vpc)]
            values += [vpc.vpc_id, *(subnet.subnet_id for subnet in subnets)]
        for value in values:
            self.export_value(value)
