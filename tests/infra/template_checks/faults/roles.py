"""Faults of roles, and of the policies that let AWS services in."""

from __future__ import annotations

from typing import Any

from tests.infra.template_checks.mutations import (
    Mutation,
    drop,
    in_statement,
    put,
    with_action,
    with_resource,
    with_statement,
    without_action,
)

ROLE, PERMISSION = "AWS::IAM::Role", "AWS::Lambda::Permission"
STATEMENTS = ("PolicyDocument", "Statement")
ASSUMED = ("AssumeRolePolicyDocument", "Statement", 0)
LAMBDA_TRUST: dict[str, Any] = {
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ]
}
AGENT, BUILD, HANDLER = "GpuCapacityRole", "EngineBuildRole", "ImageBuilderRole"
ORCHESTRATOR, ENGINE_START, ORCHESTRATOR_START = (
    "OrchestratorTaskTaskRole",
    "EngineTaskExecutionRole",
    "OrchestratorTaskExecutionRole",
)
ON_CLUSTER = {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": ["ClusterEB0386A7", "Arn"]}}}
SUBMIT = "ecs:SubmitTaskStateChange"

MAY = (
    ("task states under the condition of the cluster", in_statement(AGENT, SUBMIT, Condition=ON_CLUSTER)),
    ("agent may not register", without_action(AGENT, "ecs:RegisterContainerInstance")),
    ("agent may not report task states", without_action(AGENT, SUBMIT)),
    ("agent may not poll", without_action(AGENT, "ecs:Poll")),
    (
        "agent polls on the cluster",
        in_statement(AGENT, "ecs:Poll", Resource=ON_CLUSTER["ArnEquals"]["ecs:cluster"]),
    ),
    ("agent of another cluster", in_statement(AGENT, SUBMIT, Resource="arn:aws:ecs:*:*:cluster/another")),
    ("secret not readable", without_action(ENGINE_START, "secretsmanager:GetSecretValue")),
    ("image not pullable", without_action(ORCHESTRATOR_START, "ecr:BatchGetImage")),
    (
        "image of another region",
        in_statement(ENGINE_START, "ecr:BatchGetImage", Resource="arn:aws:ecr:eu-north-1:*:*"),
    ),
    (
        "token for the registry on the repository",
        in_statement(BUILD, "ecr:GetAuthorizationToken", Resource="arn:aws:ecr:*:*:repository/*"),
    ),
    ("log not writable", without_action(ENGINE_START, "logs:PutLogEvents")),
    (
        "log group without its streams",
        in_statement(
            ENGINE_START,
            "logs:PutLogEvents",
            Resource={
                "Fn::Join": [
                    "",
                    ["arn:aws:logs:us-east-1:111122223333:log-group:", {"Ref": "EngineLogs990B69DA"}],
                ]
            },
        ),
    ),
    ("key hashes not readable", without_action(ORCHESTRATOR, "secretsmanager:GetSecretValue")),
    (
        "key hashes by a name without its suffix",
        in_statement(
            ORCHESTRATOR,
            "secretsmanager:GetSecretValue",
            Resource="arn:aws:secretsmanager:*:*:secret:KeysApiKeys",
        ),
    ),
    ("usage not storable", without_action(ORCHESTRATOR, "dynamodb:BatchWriteItem")),
    (
        "leases in another table",
        in_statement(
            ORCHESTRATOR,
            "dynamodb:UpdateItem",
            Resource="arn:aws:dynamodb:us-east-1:111122223333:table/another",
        ),
    ),
    ("build may not push", without_action(BUILD, "ecr:PutImage")),
    ("build may not read its source", without_action(BUILD, "s3:GetObject")),
    (
        "build reads the bucket instead of the object",
        in_statement(
            BUILD, "s3:GetObject", Resource="arn:aws:s3:::cdk-hnb659fds-assets-111122223333-us-east-1"
        ),
    ),
    ("action misspelt", in_statement(BUILD, "ecr:GetAuthorizationToken", Action="ecr:GetAuthorisationToken")),
    (
        "build denied from another statement",
        with_statement(BUILD, {"Effect": "Deny", "Action": "ecr:*", "Resource": "*"}),
    ),
    (
        "statement by exclusion",
        with_statement(BUILD, {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
    ),
    ("build may not be started", without_action(HANDLER, "codebuild:StartBuild")),
    ("end of a build not readable", without_action(HANDLER, "codebuild:BatchGetBuilds")),
    ("log of a failed build not readable", without_action(HANDLER, "logs:GetLogEvents")),
    (
        "event of another rule may invoke",
        put(PERMISSION, ("SourceArn",), "arn:aws:events:us-east-1:111122223333:rule/another"),
    ),
    ("nothing may invoke", drop(PERMISSION, ())),
)
MAY_NOT = (
    ("agent of any cluster", in_statement(AGENT, "ecs:Poll", Condition=None)),
    ("agent reports for any cluster", in_statement(AGENT, SUBMIT, Resource="*")),
    (
        "build reads every asset",
        in_statement(
            BUILD, "s3:GetObject", Resource="arn:aws:s3:::cdk-hnb659fds-assets-111122223333-us-east-1/*.zip"
        ),
    ),
    ("build reads every bucket", in_statement(BUILD, "s3:GetObject", Resource="*")),
    ("build pushes to every repository", in_statement(BUILD, "ecr:PutImage", Resource="*")),
    ("handler starts every build", in_statement(HANDLER, "codebuild:StartBuild", Resource="*")),
    ("task role may do more", with_action(ORCHESTRATOR, "s3:GetObject")),
    (
        "orchestrator writes every table",
        in_statement(ORCHESTRATOR, "dynamodb:UpdateItem", Resource="*"),
    ),
    ("orchestrator deletes its table", with_action(ORCHESTRATOR, "dynamodb:DeleteTable")),
    (
        "orchestrator reads every secret",
        in_statement(ORCHESTRATOR, "secretsmanager:GetSecretValue", Resource="*"),
    ),
    (
        "containers start with every secret",
        in_statement(ENGINE_START, "secretsmanager:GetSecretValue", Resource="*"),
    ),
    (
        "permission to pass roles",
        with_statement(HANDLER, {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}),
    ),
)
PURPOSE = (
    ("role without a purpose", with_resource("Helper", ROLE, {"AssumeRolePolicyDocument": LAMBDA_TRUST})),
    (
        "AWS's policy with unknown statements",
        put(ROLE, ("ManagedPolicyArns",), ["arn:aws:iam::aws:policy/AdministratorAccess"], AGENT),
    ),
    ("task without an execution role", drop("AWS::ECS::TaskDefinition", ("ExecutionRoleArn",), "Engine")),
    (
        "instances without a profile",
        drop("AWS::EC2::LaunchTemplate", ("LaunchTemplateData", "IamInstanceProfile")),
    ),
)

FAULTS = (
    *(Mutation(name, "T-role-may", change) for name, change in MAY),
    *(Mutation(name, "T-role-may-not", change) for name, change in MAY_NOT),
    *(Mutation(name, "T-role-purpose", change) for name, change in PURPOSE),
    Mutation(
        "CloudWatch may not send alarms",
        "T-role-may",
        drop("AWS::SNS::TopicPolicy", (*STATEMENTS, 1)),
        "own_domain",
    ),
    Mutation(
        "access logs under another prefix",
        "T-role-may",
        put("AWS::S3::BucketPolicy", (*STATEMENTS, 1, "Resource"), "arn:aws:s3:::*/logs/*"),
        "own_domain",
    ),
    Mutation("bucket that is not emptied", "T-role-may", drop("AWS::S3::BucketPolicy", ()), "internal"),
    Mutation("flow log not writable", "T-role-may", drop(ROLE, ("Policies",), "FlowLogs"), "spare_gpu"),
    Mutation(
        "condition that AWS never evaluates",
        "T-role-conditions",
        in_statement(AGENT, SUBMIT, Condition=ON_CLUSTER),
    ),
    Mutation(
        "condition on a key of another service",
        "T-role-conditions",
        in_statement(
            HANDLER, "codebuild:StartBuild", Condition={"StringEquals": {"ecr:ResourceTag/team": "search"}}
        ),
    ),
    Mutation(
        "role of another service",
        "T-trust",
        put(ROLE, (*ASSUMED, "Principal", "Service"), "ec2.amazonaws.com", "EngineTaskExecutionRole"),
    ),
    Mutation(
        "instance role for tasks",
        "T-trust",
        put(ROLE, (*ASSUMED, "Principal", "Service"), "ecs-tasks.amazonaws.com", AGENT),
    ),
    Mutation(
        "role for another account's tasks",
        "T-trust",
        put(
            ROLE,
            (*ASSUMED, "Condition"),
            {"StringEquals": {"aws:SourceAccount": "999999999999"}},
            "EngineTaskTaskRole",
        ),
    ),
    Mutation("role for everyone", "T-trust", put(ROLE, (*ASSUMED, "Principal"), {"AWS": "*"}, HANDLER)),
)
