"""Faults of permissions, secrets and registries."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    PROJECT,
    REPOSITORY,
    SECRET,
    Mutation,
    drop,
    put,
    with_action,
    without_action,
)

FAULTS = (
    Mutation("every action", "T-wildcards", with_action("OrchestratorTaskTaskRole", "s3:*")),
    Mutation(
        "secret not readable",
        "T-execution-role",
        without_action("EngineTaskExecutionRole", "secretsmanager:GetSecretValue"),
    ),
    Mutation(
        "image not pullable",
        "T-execution-role",
        without_action("OrchestratorTaskExecutionRole", "ecr:BatchGetImage"),
    ),
    Mutation(
        "log not writable", "T-execution-role", without_action("EngineTaskExecutionRole", "logs:PutLogEvents")
    ),
    Mutation(
        "key hashes not readable",
        "T-task-role",
        without_action("OrchestratorTaskTaskRole", "secretsmanager:GetSecretValue"),
    ),
    Mutation("task role may do more", "T-task-role", with_action("OrchestratorTaskTaskRole", "s3:GetObject")),
    Mutation(
        "role of another service",
        "T-trust",
        put(
            "AWS::IAM::Role",
            ("AssumeRolePolicyDocument", "Statement", 0, "Principal", "Service"),
            "ec2.amazonaws.com",
            "EngineTaskExecutionRole",
        ),
    ),
    Mutation("build may not push", "T-build-permissions", without_action("EngineBuildRole", "ecr:PutImage")),
    Mutation(
        "build may not be started",
        "T-build-permissions",
        without_action("ImageBuilderRole", "codebuild:StartBuild"),
    ),
    Mutation(
        "nobody hears that the build ended", "T-build-permissions", drop("AWS::Events::Rule", (), "Engine")
    ),
    Mutation("build longer than the wait", "T-build-permissions", put(PROJECT, ("TimeoutInMinutes",), 120)),
    Mutation(
        "agent may not register",
        "T-instance-role",
        without_action("GpuCapacityRole", "ecs:RegisterContainerInstance"),
    ),
    Mutation("tags that move", "T-registries", put(REPOSITORY, ("ImageTagMutability",), "MUTABLE")),
    Mutation("images kept for ever", "T-registries", drop(REPOSITORY, ("LifecyclePolicy",))),
    Mutation("key in the template", "T-generated-keys", put(SECRET, ("SecretString",), "sk-1234", "Engine")),
    Mutation(
        "short key",
        "T-generated-keys",
        put(SECRET, ("GenerateSecretString", "PasswordLength"), 8, "Bootstrap"),
    ),
    Mutation("export taken away", "T-imports", lambda templates: templates["foundation"]["Outputs"].clear()),
)
