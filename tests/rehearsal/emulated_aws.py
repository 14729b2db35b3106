"""The AWS emulator, extended by what it lacks and this deployment needs.

`emulator.py` runs it in its own environment. It does not depend on the project.

Types that the emulator's CloudFormation lacks are created through the emulator's own services, so that
describing them returns what was created. Their properties are checked against botocore's model of the real
service. Services that ECS rejects are rejected here too. `emulated_builds.py` starts the runs of CodeBuild.

With ORDER=soonest in the environment, CloudFormation creates image builds and services as soon as their
declared dependencies exist, so that a missing dependency is noticed.
"""

from __future__ import annotations

import json
import os
import re
import string
import uuid
from pathlib import Path
from typing import Any

import ministack.app
import ministack.services.alb as alb
import ministack.services.cloudformation.stacks as stacks
import ministack.services.ec2 as ec2
import ministack.services.ecs as ecs
import ministack.services.s3 as s3
import ministack.services.secretsmanager as secretsmanager

from tests.rehearsal import (
    creation_order,
    emulated_account,
    emulated_alarms,
    emulated_builds,
    emulated_scaling,
    emulated_waf,
)
from tests.rehearsal.emulated_builds import answered
from tests.rehearsal.emulated_types import HANDLERS, added, checked

Properties = dict[str, Any]
_FREE_FORM = {"dockerLabels", "options", "labels"}  # maps whose keys are the user's own


def camel(value: Any, key: str = "") -> Any:
    """CloudFormation's names as the ECS API writes them."""
    if isinstance(value, dict):
        if key in _FREE_FORM:
            return {name: str(item) for name, item in value.items()}
        return {_lower(name): camel(item, _lower(name)) for name, item in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def query(prefix: str, value: Any) -> dict[str, list[str]]:
    """Nested parameters as EC2's query protocol writes them."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in query(f"{prefix}.{key}", item).items()}
    if isinstance(value, list):
        numbered = enumerate(value, start=1)
        return {k: v for n, item in numbered for k, v in query(f"{prefix}.{n}", item).items()}
    return {prefix.lstrip("."): [str(value)]}


def element(body: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]+)</{name}>", body)
    if found is None:
        raise ValueError(f"no {name} in {body}")
    return found[1]


# EC2


def _tags(properties: Properties, kind: str) -> Properties:
    tags = properties.get("Tags")
    return {"TagSpecification": [{"ResourceType": kind, "Tag": tags}]} if tags else {}


def _create_address(_logical_id: str, properties: Properties, _stack: str) -> Any:
    body = answered(ec2._allocate_address(query("", {"Domain": "vpc", **_tags(properties, "elastic-ip")})))
    return element(body, "allocationId"), {
        "AllocationId": element(body, "allocationId"),
        "PublicIp": element(body, "publicIp"),
    }


def _release_address(physical_id: str, _properties: Properties) -> None:
    answered(ec2._release_address(query("", {"AllocationId": physical_id})))


def _create_nat_gateway(_logical_id: str, properties: Properties, _stack: str) -> Any:
    wanted = {key: properties[key] for key in ("SubnetId", "AllocationId")}
    body = answered(ec2._create_nat_gateway(query("", {**wanted, **_tags(properties, "natgateway")})))
    return element(body, "natGatewayId"), {"NatGatewayId": element(body, "natGatewayId")}


def _delete_nat_gateway(physical_id: str, _properties: Properties) -> None:
    answered(ec2._delete_nat_gateway(query("", {"NatGatewayId": physical_id})))
    ec2._nat_gateways.pop(physical_id, None)  # the real one is gone after an hour; nothing is left to list


def _security_group_rule(direction: str) -> tuple[Any, Any]:
    peer = "SourceSecurityGroupId" if direction == "ingress" else "DestinationSecurityGroupId"

    def parameters(properties: Properties) -> dict[str, list[str]]:
        if not properties.get(peer):
            raise ValueError(f"a rule of this deployment has a {peer}")
        permission = {
            "IpProtocol": properties["IpProtocol"],
            "FromPort": properties["FromPort"],
            "ToPort": properties["ToPort"],
            "Groups": [{"GroupId": properties[peer], "Description": properties.get("Description", "")}],
        }
        return query("", {"GroupId": properties["GroupId"], "IpPermissions": [permission]})

    def create(_logical_id: str, properties: Properties, _stack: str) -> Any:
        answered(getattr(ec2, f"_authorize_sg_{direction}")(parameters(properties)))
        physical_id = f"sgr-{uuid.uuid4().hex[:17]}"
        return physical_id, {"Id": physical_id}

    def delete(_physical_id: str, properties: Properties) -> None:
        answered(getattr(ec2, f"_revoke_sg_{direction}")(parameters(properties)))

    return create, delete


# ECS


def _create_capacity_provider(logical_id: str, properties: Properties, stack: str) -> Any:
    wanted = camel(properties)
    wanted.setdefault("name", f"{stack}-{logical_id}")
    body = answered(ecs._create_capacity_provider(checked("ecs", "CreateCapacityProvider", wanted)))
    return json.loads(body)["capacityProvider"]["name"], {}


def _delete_capacity_provider(physical_id: str, _properties: Properties) -> None:
    answered(ecs._delete_capacity_provider({"capacityProvider": physical_id}))


def _associate(_logical_id: str, properties: Properties, _stack: str) -> Any:
    wanted = checked("ecs", "PutClusterCapacityProviders", camel(properties))
    known = {
        one["name"] for one in json.loads(answered(ecs._describe_capacity_providers({})))["capacityProviders"]
    }
    unknown = set(wanted["capacityProviders"]) - known
    if unknown:
        raise ValueError(f"The specified capacity provider {sorted(unknown)} does not exist")
    answered(ecs._put_cluster_capacity_providers(wanted))
    return properties["Cluster"], {}


def _dissociate(_physical_id: str, properties: Properties) -> None:
    empty = {"cluster": properties["Cluster"], "capacityProviders": [], "defaultCapacityProviderStrategy": []}
    answered(ecs._put_cluster_capacity_providers(empty))


def _create_task_definition(_logical_id: str, properties: Properties, _stack: str) -> Any:
    wanted = checked("ecs", "RegisterTaskDefinition", camel(properties))
    arn = json.loads(answered(ecs._register_task_definition(wanted)))["taskDefinition"]["taskDefinitionArn"]
    return arn, {"TaskDefinitionArn": arn}


def _create_service(logical_id: str, properties: Properties, stack: str) -> Any:
    wanted = camel(properties)
    wanted.setdefault("serviceName", f"{stack}-{logical_id}")
    wanted.setdefault("desiredCount", 1)
    wanted = checked("ecs", "CreateService", wanted)
    _refuse_as_ecs_does(wanted)
    service = json.loads(answered(ecs._create_service(wanted)))["service"]
    return service["serviceArn"], {"Name": service["serviceName"], "ServiceArn": service["serviceArn"]}


def _refuse_as_ecs_does(service: Properties) -> None:
    cluster = json.loads(answered(ecs._describe_clusters({"clusters": [service["cluster"]]})))["clusters"][0]
    wanted = {entry["capacityProvider"] for entry in service.get("capacityProviderStrategy", [])}
    missing = wanted - set(cluster.get("capacityProviders", []))
    if missing:
        raise ValueError(
            f"The specified capacity provider {sorted(missing)} is not associated with the cluster"
        )
    asked = ecs._describe_task_definition({"taskDefinition": service["taskDefinition"]})
    task = json.loads(answered(asked))["taskDefinition"]
    for load_balancer in service.get("loadBalancers", []):
        _refuse_target(load_balancer, task)


def _refuse_target(load_balancer: Properties, task: Properties) -> None:
    name, port = load_balancer["containerName"], load_balancer["containerPort"]
    container = next((c for c in task["containerDefinitions"] if c["name"] == name), None)
    if container is None:
        raise ValueError(f"The container {name} does not exist in the task definition.")
    if port not in [mapping["containerPort"] for mapping in container.get("portMappings", [])]:
        raise ValueError(f"The container {name} did not have a container port {port} defined.")
    group = alb._tgs[load_balancer["targetGroupArn"]]
    if group["TargetType"] != "ip":
        raise ValueError(
            f"The target type {group['TargetType']} is incompatible with the awsvpc network mode"
        )
    served = {
        action.get("TargetGroupArn") for rule in alb._rules.values() for action in rule.get("Actions", [])
    }
    if load_balancer["targetGroupArn"] not in served:
        raise ValueError("The target group does not have an associated load balancer.")


# Secrets Manager: Ref gives the ARN, as in AWS

_create_secret = HANDLERS["AWS::SecretsManager::Secret"]["create"]


def _create_secret_by_arn(logical_id: str, properties: Properties, stack: str) -> Any:
    _, attributes = _create_secret(logical_id, _without_punctuation(properties), stack)
    return attributes["Arn"], attributes


def _without_punctuation(properties: Properties) -> Properties:
    """Applies `ExcludePunctuation`, which the emulator ignores: a comma would make one key two."""
    generate = properties.get("GenerateSecretString", {})
    if generate.get("ExcludePunctuation") not in (True, "true"):
        return properties
    excluded = string.punctuation + generate.get("ExcludeCharacters", "")
    return {**properties, "GenerateSecretString": {**generate, "ExcludeCharacters": excluded}}


def _delete_secret_by_arn(physical_id: str, _properties: Properties) -> None:
    for name, secret in list(secretsmanager._secrets.items()):
        if secret["ARN"] == physical_id:
            del secretsmanager._secrets[name]


# Buckets that are emptied before they are deleted: the CDK's own function needs Node's SDK, which is not here


def _promise_to_empty(logical_id: str, _properties: Properties, stack: str) -> Any:
    return f"{stack}-{logical_id}", {}


def _empty(_physical_id: str, properties: Properties) -> None:
    bucket = s3._buckets.get(properties["BucketName"])
    if bucket:
        bucket["objects"].clear()


# Service Quotas: enough of everything, except for the quotas in the file QUOTAS


async def _quotas(
    _method: str, _path: str, headers: dict[str, str], body: bytes, _query: object
) -> tuple[int, dict[str, str], bytes]:
    target = next(value for name, value in headers.items() if name.lower() == "x-amz-target")
    asked = json.loads(body)
    file = Path(os.environ["QUOTAS"])
    short = json.loads(file.read_text()) if file.exists() else {}
    if target.endswith("ListServiceQuotas"):
        names = [f"Concurrently running builds for Linux/{size} environment" for size in ("Small", "Large")]
        quotas = [{"QuotaName": name, "QuotaCode": f"L-{n}", "Value": 1.0} for n, name in enumerate(names)]
        answer: Properties = {"Quotas": quotas}
    else:
        code = asked["QuotaCode"]
        answer = {"Quota": {"QuotaCode": code, "Value": float(short.get(code, 1000))}}
    return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()


def extend() -> None:
    """Adds everything to the emulator."""
    added("AWS::EC2::EIP", _create_address, _release_address)
    added("AWS::EC2::NatGateway", _create_nat_gateway, _delete_nat_gateway)
    added("AWS::EC2::SecurityGroupIngress", *_security_group_rule("ingress"))
    added("AWS::EC2::SecurityGroupEgress", *_security_group_rule("egress"))
    added("AWS::WAFv2::WebACLAssociation", emulated_waf.associate, emulated_waf.dissociate)
    added("Custom::S3AutoDeleteObjects", _promise_to_empty, _empty)
    added("AWS::ECS::CapacityProvider", _create_capacity_provider, _delete_capacity_provider)
    added("AWS::ECS::ClusterCapacityProviderAssociations", _associate, _dissociate)
    HANDLERS["AWS::ECS::TaskDefinition"] |= {
        "create": _create_task_definition,
        "update": lambda _id, _old, new, stack, name: _create_task_definition(name, new, stack),
    }
    HANDLERS["AWS::ECS::Service"]["create"] = _create_service
    HANDLERS["AWS::SecretsManager::Secret"] |= {
        "create": _create_secret_by_arn,
        "delete": _delete_secret_by_arn,
    }

    ministack.app.SERVICE_HANDLERS["servicequotas"] = _quotas
    emulated_alarms.extend()
    emulated_scaling.extend()
    emulated_builds.extend()
    emulated_account.extend()
    if os.environ.get("ORDER") == "soonest":
        stacks._topological_sort = creation_order.soonest


if __name__ == "__main__":
    extend()
    ministack.app.main()
