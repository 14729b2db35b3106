"""Faults of the GPU instances and how tasks come onto them."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    ASG,
    ASSOCIATION,
    BOX,
    DATA,
    DEPLOYMENT,
    LAUNCH,
    OLD_AMI,
    SERVICE,
    TASK,
    Mutation,
    drop,
    in_user_data,
    put,
    without_dependency,
)

FAULTS = (
    Mutation("the guide's task memory", "T-task-fits", put(TASK, (*BOX, "Memory"), 24576, "Engine")),
    Mutation(
        "shm beyond the rest",
        "T-task-fits",
        put(TASK, (*BOX, "LinuxParameters", "SharedMemorySize"), 4096, "Engine"),
    ),
    Mutation(
        "two GPUs on g5.xlarge",
        "T-task-fits",
        put(TASK, (*BOX, "ResourceRequirements", 0, "Value"), "2", "Engine"),
    ),
    Mutation("more vCPU than there are", "T-task-fits", put(TASK, (*BOX, "Cpu"), 8192, "Engine")),
    Mutation(
        "100/100 with one GPU",
        "T-rollout-ends",
        put(SERVICE, (DEPLOYMENT, "MinimumHealthyPercent"), 100, "Engine"),
    ),
    Mutation(
        "CDK's own limits",
        "T-rollout-ends",
        put(
            SERVICE, (DEPLOYMENT,), {"DeploymentCircuitBreaker": {"Enable": True, "Rollback": True}}, "Engine"
        ),
    ),
    Mutation("no room for an engine", "T-rollout-ends", put(ASG, ("MaxSize",), "0")),
    Mutation(
        "one of one engine must stay, though three may run",
        "T-rollout-ends",
        put(SERVICE, (DEPLOYMENT, "MinimumHealthyPercent"), 66, "Engine"),
        "scaled",
    ),
    Mutation("the spare instance is gone", "T-rollout-ends", put(ASG, ("MaxSize",), "2"), "spare_gpu"),
    Mutation("association missing", "T-capacity-provider", drop(ASSOCIATION, ())),
    Mutation(
        "another provider associated",
        "T-capacity-provider",
        put(ASSOCIATION, ("CapacityProviders",), ["FARGATE"]),
    ),
    Mutation(
        "dependency on the association removed",
        "T-capacity-provider",
        without_dependency("EngineService", "Cluster"),
    ),
    Mutation(
        "launch type beside the strategy",
        "T-capacity-provider",
        put(SERVICE, ("LaunchType",), "EC2", "Engine"),
    ),
    Mutation("AL2 AMI with driver 550", "T-machine-image", put(LAUNCH, (DATA, "ImageId"), OLD_AMI)),
    Mutation(
        "g7 on driver 580",
        "T-machine-image",
        put(
            ASG,
            ("MixedInstancesPolicy", "LaunchTemplate", "Overrides", 0, "InstanceType"),
            "g7.2xlarge",
        ),
    ),
    Mutation(
        "another AMI than the file's",
        "T-machine-image",
        put(LAUNCH, (DATA, "ImageId"), "ami-0fedcba9876543210"),
    ),
    Mutation(
        "30 GB root volume",
        "T-root-volume",
        put(LAUNCH, (DATA, "BlockDeviceMappings", 0, "Ebs", "VolumeSize"), 30),
    ),
    Mutation(
        "wrong root device",
        "T-root-volume",
        put(LAUNCH, (DATA, "BlockDeviceMappings", 0, "DeviceName"), "/dev/sda1"),
    ),
    Mutation(
        "root volume in clear",
        "T-root-volume",
        put(LAUNCH, (DATA, "BlockDeviceMappings", 0, "Ebs", "Encrypted"), False),
    ),
    Mutation(
        "IMDSv1", "T-metadata-service", put(LAUNCH, (DATA, "MetadataOptions", "HttpTokens"), "optional")
    ),
    Mutation(
        "tasks get the instance's role", "T-metadata-service", in_user_data("ECS_AWSVPC_BLOCK_IMDS=true", "")
    ),
    Mutation("cluster not named", "T-joins-cluster", in_user_data("ECS_CLUSTER=", "ECS_CLUSTERS=")),
    Mutation("one zone", "T-zones", put(ASG, ("VPCZoneIdentifier",), [{"Ref": "Subnet"}])),
    Mutation("cache not mounted", "T-model-cache", drop(TASK, (*BOX, "MountPoints"), "Engine")),
)
