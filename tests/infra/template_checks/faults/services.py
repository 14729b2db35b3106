"""Faults of the services and their tasks."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    BOX,
    DEPLOYMENT,
    IMAGE,
    POLICY,
    PROJECT,
    SCALABLE,
    SERVICE,
    TASK,
    Mutation,
    drop,
    put,
    variable,
    without_dependency,
)

FAULTS = (
    Mutation("tensor parallel of two", "T-both-tiers", variable("Engine", "TENSOR_PARALLEL_SIZE", "2")),
    Mutation("no engine wanted", "T-engine-count", put(SERVICE, ("DesiredCount",), 0, "Engine")),
    Mutation("engine without a GPU", "T-both-tiers", drop(TASK, (*BOX, "ResourceRequirements"), "Engine")),
    Mutation(
        "loads longer than the health check",
        "T-health-check",
        put(TASK, (*BOX, "HealthCheck", "Retries"), 1, "Engine"),
    ),
    Mutation(
        "start period beyond ECS's limit",
        "T-health-check",
        put(TASK, (*BOX, "HealthCheck", "StartPeriod"), 1200, "Engine"),
    ),
    Mutation(
        "port check",
        "T-health-check",
        put(TASK, (*BOX, "HealthCheck", "Command"), ["CMD-SHELL", "nc -z 127.0.0.1 8000"], "Engine"),
    ),
    Mutation(
        "health check of another port",
        "T-health-check",
        put(TASK, (*BOX, "PortMappings", 0, "ContainerPort"), 8080, "Engine"),
    ),
    Mutation("no health check", "T-health-check", drop(TASK, (*BOX, "HealthCheck"), "Engine")),
    Mutation(
        "the guide's VLLM_URL",
        "T-engine-url",
        variable("Orchestrator", "VLLM_URL", "http://vllm-service:8000"),
    ),
    Mutation(
        "another name in Cloud Map",
        "T-engine-url",
        put("AWS::ServiceDiscovery::Service", ("Name",), "engine"),
    ),
    Mutation("engine on another port", "T-engine-url", variable("Engine", "PORT", "8080")),
    Mutation("bridge network", "T-service-discovery", put(TASK, ("NetworkMode",), "bridge", "Engine")),
    Mutation(
        "SRV records",
        "T-service-discovery",
        put("AWS::ServiceDiscovery::Service", ("DnsConfig", "DnsRecords", 0, "Type"), "SRV"),
    ),
    Mutation(
        "public health check of a private address",
        "T-service-discovery",
        put("AWS::ServiceDiscovery::Service", ("HealthCheckConfig",), {"Type": "TCP"}),
    ),
    Mutation("not registered", "T-service-discovery", drop(SERVICE, ("ServiceRegistries",), "Engine")),
    Mutation(
        "no circuit breaker",
        "T-circuit-breaker",
        put(SERVICE, (DEPLOYMENT, "DeploymentCircuitBreaker", "Enable"), False, "Engine"),
    ),
    Mutation(
        "no rollback",
        "T-circuit-breaker",
        put(SERVICE, (DEPLOYMENT, "DeploymentCircuitBreaker", "Rollback"), False, "Orchestrator"),
    ),
    Mutation("30 s to stop", "T-stop-timeout", drop(TASK, (*BOX, "StopTimeout"), "Engine")),
    Mutation(
        "stop timeout beyond Fargate's",
        "T-stop-timeout",
        put(TASK, (*BOX, "StopTimeout"), 300, "Orchestrator"),
    ),
    Mutation(
        "engine ends before its requests may",
        "T-stop-timeout",
        variable("Engine", "SHUTDOWN_TIMEOUT", "90"),
    ),
    Mutation(
        "engine killed at Fargate's limit", "T-stop-timeout", put(TASK, (*BOX, "StopTimeout"), 120, "Engine")
    ),
    Mutation("no watchdog", "T-hung-engine", variable("Engine", "HANG_SECONDS", "0")),
    Mutation("watchdog of ten minutes", "T-hung-engine", variable("Engine", "HANG_SECONDS", "600")),
    Mutation(
        "engine as process 1",
        "T-hung-engine",
        put(TASK, (*BOX, "LinuxParameters", "InitProcessEnabled"), False, "Engine"),
    ),
    Mutation("fixed count", "T-scaling", put(SERVICE, ("DesiredCount",), 3, "Orchestrator")),
    Mutation("scales to five", "T-scaling", put(SCALABLE, ("MaxCapacity",), 5)),
    Mutation("no scaling policy", "T-scaling", drop(POLICY, ())),
    Mutation(
        "scales on memory",
        "T-scaling",
        put(
            POLICY,
            (
                "TargetTrackingScalingPolicyConfiguration",
                "PredefinedMetricSpecification",
                "PredefinedMetricType",
            ),
            "ECSServiceAverageMemoryUtilization",
        ),
    ),
    Mutation("no pair of Fargate's", "T-fargate-size", put(TASK, ("Memory",), "1024", "Orchestrator")),
    Mutation("image for Arm", "T-architecture", put(PROJECT, ("Environment", "Type"), "ARM_CONTAINER")),
    Mutation(
        "task for Arm",
        "T-architecture",
        put(TASK, ("RuntimePlatform", "CpuArchitecture"), "ARM64", "Orchestrator"),
    ),
    Mutation("image not waited for", "T-image", without_dependency("EngineTaskCA", "ImageBuilder")),
    Mutation("another tag built", "T-image", put(IMAGE, ("ImageTag",), "latest")),
    Mutation("logs kept for ever", "T-logs", drop("AWS::Logs::LogGroup", ("RetentionInDays",))),
    Mutation(
        "logs to a group of nobody's",
        "T-logs",
        put(TASK, (*BOX, "LogConfiguration", "Options", "awslogs-group"), "tandem"),
    ),
    Mutation("key in the environment", "T-plain-secrets", variable("Orchestrator", "VLLM_API_KEY", "k" * 32)),
    Mutation("engine without a key", "T-plain-secrets", drop(TASK, (*BOX, "Secrets"), "Engine")),
)
