"""What the stacks have between them, and what only some variants have."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra.deployment.cost import AlarmMetrics, alarm_metrics
from tests.infra.synthesis import VARIANTS, plan_of, synthesize


def _kinds(variant: str, kind: str) -> list[dict[str, Any]]:
    synthesis = synthesize(variant)
    return [
        body["Properties"]
        for template in (synthesis.foundation, synthesis.serving)
        for body in template["Resources"].values()
        if body["Type"] == kind
    ]


def _exports(variant: str) -> set[str]:
    return {output["Export"]["Name"] for output in synthesize(variant).foundation["Outputs"].values()}


@pytest.mark.parametrize(
    "variant", ["cloudfront", "four_gpus", "internal", "local_images", "spot", "own_domain"]
)
def test_a_change_of_variant_takes_no_export_away(variant: str) -> None:
    """CloudFormation refuses to take away an export that the other stack, updated later, still uses."""
    assert _exports(variant) == _exports("default")


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_imported_of_what_changes_while_it_is_used(variant: str) -> None:
    imported = [name for name in _exports(variant) if name in json.dumps(synthesize(variant).serving)]
    assert imported
    assert not [name for name in imported if "Certificate" in name]


def test_without_a_certificate_deploying_asks_for_one_first() -> None:
    parameter = synthesize("default").foundation["Parameters"]["CertificateArn"]
    assert "Default" not in parameter
    assert parameter["AllowedPattern"].startswith("^arn:aws")
    assert "CertificateArn" not in synthesize("default").serving["Parameters"]


@pytest.mark.parametrize("variant", ["own_domain", "cloudfront", "existing_vpc"])
def test_with_a_certificate_deploying_asks_for_nothing(variant: str) -> None:
    for template in (synthesize(variant).foundation, synthesize(variant).serving):
        for name, parameter in template.get("Parameters", {}).items():
            assert "Default" in parameter, name


def test_own_domain_gets_a_certificate_and_a_record() -> None:
    [certificate] = _kinds("own_domain", "AWS::CertificateManager::Certificate")
    [record] = _kinds("own_domain", "AWS::Route53::RecordSet")
    assert certificate["DomainName"] == "llm.example.com"
    assert certificate["DomainValidationOptions"][0]["HostedZoneId"] == record["HostedZoneId"]
    assert record["Name"] == "llm.example.com."
    assert synthesize("own_domain").serving["Outputs"]["Url"]["Value"] == "https://llm.example.com/v1"


def test_domain_without_a_hosted_zone_names_the_record_to_create() -> None:
    outputs = synthesize("existing_vpc").serving["Outputs"]
    [first, name, last] = outputs["DnsRecord"]["Value"]["Fn::Join"][1]
    assert (first, last) == ("llm.example.com. CNAME ", ".")
    assert name == outputs["LoadBalancerName"]["Value"]
    assert outputs["Url"]["Value"] == "https://llm.example.com/v1"
    assert _kinds("existing_vpc", "AWS::Route53::RecordSet") == []
    assert "DnsRecord" not in synthesize("own_domain").serving["Outputs"]


@pytest.mark.parametrize(("variant", "ports"), [("default", [443]), ("existing_vpc", [80, 443])])
def test_port_80_is_open_only_for_a_redirect_that_is_asked_for(variant: str, ports: list[int]) -> None:
    listeners = _kinds(variant, "AWS::ElasticLoadBalancingV2::Listener")
    groups = _kinds(variant, "AWS::EC2::SecurityGroup")
    rules = [rule for group in groups for rule in group.get("SecurityGroupIngress", [])]
    assert sorted(one["Port"] for one in listeners) == ports
    assert sorted(rule["FromPort"] for rule in rules if "CidrIp" in rule) == ports


def test_allowed_networks_are_the_only_ones() -> None:
    groups = _kinds("own_domain", "AWS::EC2::SecurityGroup")
    cidrs = {rule["CidrIp"] for group in groups for rule in group.get("SecurityGroupIngress", [])}
    assert cidrs == {"192.0.2.0/24", "198.51.100.0/24"}


def test_cloudfront_reaches_an_internal_load_balancer() -> None:
    [balancer] = _kinds("cloudfront", "AWS::ElasticLoadBalancingV2::LoadBalancer")
    [distribution] = _kinds("cloudfront", "AWS::CloudFront::Distribution")
    [origin] = distribution["DistributionConfig"]["Origins"]
    assert balancer["Scheme"] == "internal"
    assert origin["VpcOriginConfig"]["OriginReadTimeout"] == 120
    assert _kinds("cloudfront", "AWS::CertificateManager::Certificate") == []
    assert [one["Port"] for one in _kinds("cloudfront", "AWS::ElasticLoadBalancingV2::Listener")] == [80]


def test_existing_vpc_creates_no_network() -> None:
    for kind in ("AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::NatGateway"):
        assert _kinds("existing_vpc", kind) == []
    [group] = _kinds("existing_vpc", "AWS::AutoScaling::AutoScalingGroup")
    assert group["VPCZoneIdentifier"] == ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]


def test_scraper_reaches_the_orchestrator() -> None:
    groups = _kinds("existing_vpc", "AWS::EC2::SecurityGroup") + _kinds(
        "existing_vpc", "AWS::EC2::SecurityGroupIngress"
    )
    text = json.dumps(groups)
    assert "sg-0123456789abcdef0" in text


def test_spare_instance_has_room_for_one_more() -> None:
    [group] = _kinds("spare_gpu", "AWS::AutoScaling::AutoScalingGroup")
    [engine] = [one for one in _kinds("spare_gpu", "AWS::ECS::Service") if "DesiredCount" in one]
    assert (group["MinSize"], group["MaxSize"]) == ("0", "3")
    assert engine["DeploymentConfiguration"]["MinimumHealthyPercent"] == 100
    assert engine["DeploymentConfiguration"]["MaximumPercent"] == 150
    assert len(_kinds("spare_gpu", "AWS::EC2::NatGateway")) == 3


def test_spot_instances_have_one_on_demand_among_several_and_several_types() -> None:
    [group] = _kinds("spot", "AWS::AutoScaling::AutoScalingGroup")
    policy = group["MixedInstancesPolicy"]
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    assert policy["InstancesDistribution"]["OnDemandBaseCapacity"] == 1
    types = [one["InstanceType"] for one in policy["LaunchTemplate"]["Overrides"]]
    assert types == ["g5.2xlarge", "g6.2xlarge"]


def test_local_images_need_no_builds() -> None:
    for kind in ("AWS::CodeBuild::Project", "Custom::ContainerImage", "AWS::Lambda::Function"):
        assert _kinds("local_images", kind) == []


def test_removal_policy_retains_images_keys_and_logs() -> None:
    synthesis = synthesize("own_domain")
    kept = ("AWS::ECR::Repository", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::S3::Bucket")
    for template in (synthesis.foundation, synthesis.serving):
        for body in template["Resources"].values():
            if body["Type"] in kept:
                assert body["DeletionPolicy"] == "Retain", body
    for body in synthesize("default").foundation["Resources"].values():
        if body["Type"] in kept:
            assert body["DeletionPolicy"] == "Delete", body


def test_region_is_the_deployments_and_tags_are_on_everything() -> None:
    synthesis = synthesize("own_domain")
    manifest = json.loads((synthesis.directory / "manifest.json").read_text())
    stacks = [one for one in manifest["artifacts"].values() if one["type"] == "aws:cloudformation:stack"]
    assert {one["environment"] for one in stacks} == {"aws://unknown-account/eu-central-1"}
    assert all(one["properties"]["tags"] == {"team": "search"} for one in stacks)


@pytest.mark.parametrize("variant", VARIANTS)
def test_synthesis_asks_aws_for_nothing(variant: str) -> None:
    manifest = json.loads((synthesize(variant).directory / "manifest.json").read_text())
    assert manifest.get("missing", []) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_metric_math_has_no_exponents(variant: str) -> None:
    """CloudWatch and the CDK read the e of 1e+06 as the name of a metric."""
    assert not re.search(r"\d(?:\.\d+)?e[+-]\d", json.dumps(synthesize(variant).serving["Resources"]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_alarms_read_the_metrics_that_their_cost_counts(variant: str) -> None:
    found = AlarmMetrics(0, 0)
    for body in synthesize(variant).serving["Resources"].values():
        if body["Type"] == "AWS::CloudWatch::Alarm":
            alarm = body["Properties"]
            reads = [one["MetricStat"]["Period"] for one in alarm.get("Metrics", []) if "MetricStat" in one]
            periods = reads or [alarm["Period"]]
            fast = min(periods) < 60
            found = AlarmMetrics(found.slow + len(periods) * (not fast), found.fast + len(periods) * fast)
    assert found == alarm_metrics(plan_of(variant))
