"""Faults of the model's files in S3, and of the report of an engine's start."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    INGRESS_RULE,
    PROJECT,
    Change,
    Mutation,
    Templates,
    drop,
    in_statement,
    put,
    resources,
    variable,
    with_action,
    without_action,
    without_dependency,
)

_BUCKET, _ENDPOINT, _MIRROR = "AWS::S3::Bucket", "AWS::EC2::VPCEndpoint", "Custom::ModelMirror"
_RULES = ("LifecycleConfiguration", "Rules")


def _project(name: str, **changes: str) -> Change:
    """Changes a variable of the project that mirrors the model."""

    def change(templates: Templates) -> None:
        [project] = resources(templates, PROJECT, "Model")
        variables = project["Properties"]["Environment"]["EnvironmentVariables"]
        [entry] = [one for one in variables if one["Name"] == name]
        assert entry | changes != entry
        entry |= changes

    return change


def _found(name: str, rule: str, change: Change, variant: str = "mirrored") -> Mutation:
    return Mutation(name, rule, change, variant)


FAULTS = (
    _found(
        "weights from the Hub although mirrored", "T-model-source", variable("Engine", "MODEL_SOURCE", None)
    ),
    _found(
        "weights from somebody else's bucket",
        "T-model-source",
        variable("Engine", "MODEL_SOURCE", "s3://acme-models/support/v2"),
        "own_weights",
    ),
    _found(
        "engine starts before the mirror is complete",
        "T-model-mirror",
        without_dependency("EngineTask", "ImageBuilderModelMirror"),
    ),
    _found(
        "mirror in another place than the engine reads",
        "T-model-mirror",
        put(_MIRROR, ("Target",), "s3://bucket/models/other"),
    ),
    _found("mirror of another revision", "T-model-mirror", _project("REVISION", Value="v2")),
    _found("token of the Hub as plain text", "T-model-mirror", _project("HF_TOKEN", Type="PLAINTEXT")),
    _found(
        "mirror runs while an image is built",
        "T-builds-in-turn",
        without_dependency("ImageBuilderModelMirror", "ImageBuilderEngineImage"),
    ),
    _found(
        "mirror that takes longer than CloudFormation waits",
        "T-build-time",
        put(PROJECT, ("TimeoutInMinutes",), 55, "Model"),
    ),
    _found("no cache of compiled graphs", "T-model-bucket", variable("Engine", "CACHE_LOCATION", None)),
    _found("bucket without encryption", "T-model-bucket", drop(_BUCKET, ("BucketEncryption",))),
    _found("weights expire", "T-model-bucket", put(_BUCKET, (*_RULES, 1, "Prefix"), "models/")),
    _found("caches are kept for ever", "T-model-bucket", drop(_BUCKET, (*_RULES, 1))),
    _found("weights through the NAT gateway", "T-s3-endpoint", drop(_ENDPOINT, ())),
    _found("engine may not list the bucket", "T-role-may", without_action("EngineTask", "s3:ListBucket")),
    _found(
        "engine may not read your bucket",
        "T-role-may",
        in_statement("EngineTask", "s3:GetObject", Resource="arn:aws:s3:::acme-models/other/*"),
        "own_weights",
    ),
    _found("engine may change the weights", "T-role-may-not", with_action("EngineTask", "s3:PutObject")),
    _found(
        "mirror may not look for files that are there",
        "T-role-may",
        without_action("ModelBuild", "s3:ListBucket"),
    ),
    _found(
        "mirror may not read the token",
        "T-role-may",
        without_action("ModelBuild", "secretsmanager:GetSecretValue"),
    ),
    _found(
        "state of a start out of reach",
        "T-reachability",
        put(INGRESS_RULE, ("FromPort",), 8003, "8002"),
        "default",
    ),
    _found(
        "state of a start not served", "T-start-report", variable("Engine", "STATUS_PORT", None), "default"
    ),
    _found(
        "metrics of a start under another name",
        "T-start-report",
        variable("Engine", "DEPLOYMENT_NAME", "other"),
        "default",
    ),
)
