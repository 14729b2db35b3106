"""Faults of secrets, registries and wildcards."""

from __future__ import annotations

from tests.infra.template_checks.mutations import (
    REPOSITORY,
    SECRET,
    Mutation,
    drop,
    put,
    with_action,
)

FAULTS = (
    Mutation("every action", "T-wildcards", with_action("OrchestratorTaskTaskRole", "s3:*")),
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
