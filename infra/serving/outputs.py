"""Stack outputs, which `cdk deploy` prints at the end."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from infra.deployment.file import Deployment
from infra.foundation.secrets import Keys

from .ingress.load_balancer import Ingress
from .orchestrator import Orchestrator
from .served_model import ServedModel

_SNIPPET = """\
from openai import OpenAI
client = OpenAI(base_url="{url}", api_key="THE KEY THAT ReadApiKey PRINTS")
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "What is 123 * 456?"}}],
    tools=[{{"type": "function", "function": {{"name": "calculate_math"}}}}],
)
print(answer.choices[0].message.content)"""


class Outputs(Construct):
    """The URL, the command that prints the key, example code, and the names that `ops` needs."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        cluster: ecs.Cluster,
        served: Sequence[ServedModel],
        orchestrator: Orchestrator,
        ingress: Ingress,
        keys: Keys,
        usage: dynamodb.ITable,
    ) -> None:
        super().__init__(scope, construct_id)
        model = deployment.served_model
        self._add("Url", ingress.url, "Base URL of the OpenAI API")
        if deployment.ingress.page:
            self._add("PageUrl", ingress.url.removesuffix("v1"), "The chat page, for browsers")
        self._add(
            "ReadApiKey",
            "aws secretsmanager get-secret-value --query SecretString --output text "
            f"--region {cdk.Aws.REGION} --secret-id {keys.bootstrap.secret_arn}",
            "Command that prints the first API key",
        )
        self._add("Snippet", _SNIPPET.format(url=ingress.url, model=model), "Python, with the OpenAI SDK")
        balancer = ingress.load_balancer.load_balancer_dns_name
        self._add("LoadBalancerName", balancer, "Name of the load balancer")
        domain = deployment.ingress.domain
        if domain and not deployment.ingress.hosted_zone_id:
            self._add("DnsRecord", f"{domain}. CNAME {balancer}.", "DNS record for you to create")
        self._add("ApiKeysSecretArn", keys.api_keys.secret_arn, "Named hashes of API keys, for `ops keys`")
        self._add("UsageTable", usage.table_name, "DynamoDB table of limits and usage, for `ops usage`")
        self._add("ClusterName", cluster.cluster_name, "ECS cluster")
        for one in served:
            self._services(one)
        if any(one.security_group for one in deployment.tools.egress):
            groups = orchestrator.service.connections.security_groups
            self._add("OrchestratorSecurityGroup", groups[0].security_group_id, "Where tools connect from")
        self._add("OrchestratorService", orchestrator.service.service_name, "ECS service of the orchestrator")

    def _services(self, one: ServedModel) -> None:
        label = one.plan.label
        whose = f" of {one.plan.deployment.entry}" if label else ""
        self._add(
            f"EngineService{label}", one.engine.service.service_name, f"ECS service of the engines{whose}"
        )
        if label:
            self._add(f"ClusterName{label}", one.cluster.cluster_name, f"ECS cluster{whose}")

    def _add(self, name: str, value: str, description: str) -> None:
        cdk.CfnOutput(self, name, value=value, description=description).override_logical_id(name)
