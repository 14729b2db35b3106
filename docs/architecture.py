"""Writes docs/architecture.md: a diagram of the default deployment, drawn from its synthesized templates;
`--check` checks that it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import write_or_check  # noqa: E402
from tests.infra.synthesis import synthesize  # noqa: E402

COMMAND = ".venv/bin/python docs/architecture.py"
TARGET = ROOT / "docs" / "architecture.md"
EXPORTED = "ExportsOutput"

Body = dict[str, Any]

INTRODUCTION = f"""\
# Architecture

<!-- Written by `{COMMAND}`. -->

This is what `npx cdk deploy --all` creates from the `tandem.yaml` in this repository. Every box is a resource
in the synthesized templates. Every arrow is a reference or a security group rule in them, labelled with its
port.
"""


class Templates:
    """The resources of both stacks by logical id, and the references between them."""

    def __init__(self) -> None:
        synthesis = synthesize("default")
        self.resources: dict[str, Body] = {
            **synthesis.foundation["Resources"],
            **synthesis.serving["Resources"],
        }
        self._exports = {
            output["Export"]["Name"]: output["Value"]
            for output in synthesis.foundation["Outputs"].values()
            if "Export" in output
        }

    def of(self, kind: str) -> dict[str, Body]:
        return {name: body["Properties"] for name, body in self.resources.items() if body["Type"] == kind}

    def led_to(self, value: Any) -> Iterator[str]:
        """Logical ids that a value refers to, directly or through an export."""
        if isinstance(value, dict):
            if "Ref" in value and value["Ref"] in self.resources:
                yield value["Ref"]
            elif "Fn::GetAtt" in value:
                yield value["Fn::GetAtt"][0]
            elif "Fn::ImportValue" in value:
                yield from self.led_to(self._exports[value["Fn::ImportValue"].replace('"', "")])
            for item in value.values():
                yield from self.led_to(item)
        elif isinstance(value, list):
            for item in value:
                yield from self.led_to(item)

    def one(self, value: Any, kind: str) -> str:
        """The single resource of a type that a value refers to."""
        (found,) = {name for name in self.led_to(value) if self.resources[name]["Type"] == kind}
        return found


def picture(templates: Templates) -> str:
    """The diagram in Mermaid's language."""
    lines = ["flowchart LR"]
    lines += ['    clients(["clients"])']
    lines += _boxes(templates)
    lines += _traffic(templates)
    lines += _tasks(templates)
    lines += _builds(templates)
    return "\n".join(lines)


def _boxes(templates: Templates) -> Iterator[str]:
    (balancer,) = templates.of("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    (vpc,) = templates.of("AWS::EC2::VPC").values()
    public, private = _subnets(templates)
    yield f'    subgraph vpc["VPC {vpc["CidrBlock"]}"]'
    yield f'        subgraph public["{public} public subnets"]'
    yield f'            balancer["load balancer<br/>{balancer["Scheme"]}"]'
    yield f'            nat["{len(templates.of("AWS::EC2::NatGateway"))} NAT gateway"]'
    yield "        end"
    yield f'        subgraph private["{private} private subnets"]'
    for service, body in templates.of("AWS::ECS::Service").items():
        yield f"            {_tier(service)}[{_described(templates, body)!r}]".replace("'", '"')
    yield "        end"
    yield "    end"


def _subnets(templates: Templates) -> tuple[int, int]:
    """How many subnets route to the internet gateway, and how many to the NAT gateway."""
    routes = templates.of("AWS::EC2::Route").values()
    return sum("GatewayId" in route for route in routes), sum("NatGatewayId" in route for route in routes)


def _tier(service: str) -> str:
    return "engine" if service.startswith("Engine") else "orchestrator"


def _described(templates: Templates, service: Body) -> str:
    if "CapacityProviderStrategy" in service:
        (template,) = templates.of("AWS::EC2::LaunchTemplate").values()
        (group,) = templates.of("AWS::AutoScaling::AutoScalingGroup").values()
        (record,) = templates.of("AWS::ServiceDiscovery::Service").values()
        (namespace,) = templates.of("AWS::ServiceDiscovery::PrivateDnsNamespace").values()
        kind = template["LaunchTemplateData"]["InstanceType"]
        least, most = group["MinSize"], group["MaxSize"]
        where = f"{least if least == most else f'{least} to {most}'} {kind}, ECS on EC2"
        return f"engine: vLLM<br/>{where}<br/>{record['Name']}.{namespace['Name']}"
    (target,) = templates.of("AWS::ApplicationAutoScaling::ScalableTarget").values()
    return f"orchestrator<br/>{target['MinCapacity']} to {target['MaxCapacity']} tasks on Fargate"


def _traffic(templates: Templates) -> Iterator[str]:
    """An arrow for each ingress rule of a security group."""
    owners: dict[str, str] = {}
    for service, body in templates.of("AWS::ECS::Service").items():
        group = body["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"]
        owners[templates.one(group, "AWS::EC2::SecurityGroup")] = _tier(service)
    (balancer,) = templates.of("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    owners[templates.one(balancer["SecurityGroups"], "AWS::EC2::SecurityGroup")] = "balancer"
    listeners = {
        body["Port"]: body["Protocol"]
        for body in templates.of("AWS::ElasticLoadBalancingV2::Listener").values()
    }
    for name, group in templates.of("AWS::EC2::SecurityGroup").items():
        for rule in group.get("SecurityGroupIngress", []):
            protocol = listeners.get(rule["FromPort"], rule["IpProtocol"])
            yield f'    clients -- "{protocol} {rule["FromPort"]}" --> {owners[name]}'
    for rule in templates.of("AWS::EC2::SecurityGroupIngress").values():
        source = owners[templates.one(rule["SourceSecurityGroupId"], "AWS::EC2::SecurityGroup")]
        target = owners[templates.one(rule["GroupId"], "AWS::EC2::SecurityGroup")]
        yield f'    {source} -- "{rule["FromPort"]}" --> {target}'
    # Every private subnet's default route leads to the NAT gateway.
    if any("NatGatewayId" in route for route in templates.of("AWS::EC2::Route").values()):
        yield '    private -- "443" --> nat --> internet(["Hugging Face, AWS, APIs of tools"])'


def _tasks(templates: Templates) -> Iterator[str]:
    """The secrets and the image that each task uses."""
    secrets = templates.of("AWS::SecretsManager::Secret")
    names = {name: f"secret{number}" for number, name in enumerate(secrets)}
    yield '    subgraph kept["kept in the first stack"]'
    for name, body in secrets.items():
        yield f'        {names[name]}[("{body["Description"].removeprefix("Tandem: ").partition(";")[0]}")]'
    for name, body in templates.of("AWS::ECR::Repository").items():
        yield f'        {name}[("images {body["RepositoryName"]}")]'
    yield "    end"
    for service, body in templates.of("AWS::ECS::Service").items():
        task = templates.resources[templates.one(body["TaskDefinition"], "AWS::ECS::TaskDefinition")]
        (container,) = task["Properties"]["ContainerDefinitions"]
        used = set(templates.led_to([container["Secrets"], container["Environment"]]))
        for name in sorted(used & secrets.keys()):
            yield f"    {names[name]} -.-> {_tier(service)}"
        yield f"    {templates.one(container['Image'], 'AWS::ECR::Repository')} -.-> {_tier(service)}"


def _builds(templates: Templates) -> Iterator[str]:
    for name, project in templates.of("AWS::CodeBuild::Project").items():
        variables = project["Environment"]["EnvironmentVariables"]
        repository = templates.one(variables, "AWS::ECR::Repository")
        machine = project["Environment"]["ComputeType"].removeprefix("BUILD_GENERAL1_").lower()
        yield f'    {name}["CodeBuild, {machine}<br/>while CloudFormation waits"] --> {repository}'


def document() -> str:
    """The whole page."""
    templates = Templates()
    kinds: dict[str, int] = {}
    for body in templates.resources.values():
        kinds[body["Type"]] = kinds.get(body["Type"], 0) + 1
    rows = "".join(f"| {kind} | {count} |\n" for kind, count in sorted(kinds.items()))
    picture_ = picture(templates)
    return f"{INTRODUCTION}\n```mermaid\n{picture_}\n```\n\n## All resources\n\n| type | |\n|---|---|\n{rows}"


if __name__ == "__main__":
    sys.exit(write_or_check({TARGET: document()}, COMMAND))
