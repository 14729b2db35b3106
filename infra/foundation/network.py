"""The network: a new VPC or an existing one."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.deployment.settings import ExistingVpc
from infra.deployment.settings import Network as Settings
from infra.log_group import log_group
from infra.suppressions import accept

_NO_ROUTE_TABLE = "Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId"


class Network(Construct):
    """The VPC: tasks run in private subnets, a public load balancer in public ones."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        retention_days: int,
        retain: bool,
    ) -> None:
        super().__init__(scope, construct_id)
        existing = settings.existing_vpc
        self.vpc: ec2.IVpc = (
            self._import(existing) if existing else self._create(settings, retention_days, retain=retain)
        )

    def _import(self, existing: ExistingVpc) -> ec2.IVpc:
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=existing.vpc_id,
            vpc_cidr_block=existing.cidr,
            availability_zones=list(existing.availability_zones),
            private_subnet_ids=list(existing.private_subnet_ids),
            public_subnet_ids=list(existing.public_subnet_ids) or None,
        )
        for subnet in (*vpc.private_subnets, *vpc.public_subnets):
            accept(subnet, _NO_ROUTE_TABLE, reason="No route is added to a subnet of an existing VPC.")
        return vpc

    def _create(self, settings: Settings, retention_days: int, *, retain: bool) -> ec2.Vpc:
        zones = list(settings.availability_zones) or _any_zones(settings.zones)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(settings.cidr),
            availability_zones=zones,
            nat_gateways={"one": 1, "per_zone": len(zones), "none": 0}[settings.nat],
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="public", subnet_type=ec2.SubnetType.PUBLIC, map_public_ip_on_launch=False
                ),
                ec2.SubnetConfiguration(
                    name="private",
                    subnet_type=ec2.SubnetType.PRIVATE_ISOLATED
                    if settings.nat == "none"
                    else ec2.SubnetType.PRIVATE_WITH_EGRESS,
                ),
            ],
            # Image layers come from S3; these endpoints are free, and save the NAT traffic.
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
                "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            },
        )
        if settings.flow_logs:
            self._log_flows(vpc, retention_days, retain=retain)
        else:
            accept(
                vpc,
                "AwsSolutions-VPC7",
                reason="Flow logs are charged by volume, so they are optional: network.flow_logs.",
            )
        return vpc

    def _log_flows(self, vpc: ec2.Vpc, retention_days: int, *, retain: bool) -> None:
        group = log_group(self, "FlowLogs", retention_days=retention_days, retain=retain)
        role = iam.Role(
            self,
            "FlowLogsRole",
            assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"),
            inline_policies={
                "Write": iam.PolicyDocument(
                    statements=[
                        iam.PolicyStatement(
                            actions=[
                                "logs:CreateLogStream",
                                "logs:PutLogEvents",
                                "logs:DescribeLogStreams",
                            ],
                            resources=[group.log_group_arn],
                        )
                    ]
                )
            },
        )
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=vpc.vpc_id,
            resource_type="VPC",
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.role_arn,
        )


def private_subnets(vpc: ec2.IVpc) -> list[ec2.ISubnet]:
    """Returns the subnets of the tasks, with or without a NAT gateway."""
    return vpc.private_subnets or vpc.isolated_subnets


def _any_zones(count: int) -> list[str]:
    return [cdk.Fn.select(index, cdk.Fn.get_azs()) for index in range(count)]
