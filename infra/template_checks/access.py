"""Rules on secrets and registries, and on policies however they are used."""

from __future__ import annotations

from infra.deployment.checks.rule import Found, rule

from .template import Assembly, Resource, listed, statements


@rule("T-wildcards")
def wildcards(assembly: Assembly) -> Found[Resource]:
    """Policies list actions by name: a `*` also allows unintended and future actions."""
    for kind in ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        for policy in assembly.of_kind(kind):
            if _of_framework(policy):
                continue
            for statement in statements(policy):
                wide = [one for one in listed(statement.get("Action", [])) if "*" in one]
                if wide and statement["Effect"] == "Allow":
                    yield (policy, f"it allows {', '.join(wide)}; list the actions by name")


def _of_framework(policy: Resource) -> bool:
    """Returns whether the CDK itself wrote the policy, for functions that empty a bucket."""
    return policy.logical_id.startswith("CustomS3AutoDeleteObjects")


@rule("T-registries")
def registries(assembly: Assembly) -> Found[Resource]:
    """Image tags are immutable; otherwise a rollback could deploy the release that it should undo."""
    for repository in assembly.of_kind("AWS::ECR::Repository"):
        if repository.get("ImageTagMutability") != "IMMUTABLE":
            yield (repository, "ImageTagMutability must be IMMUTABLE")
        if repository.get("ImageScanningConfiguration.ScanOnPush") is not True:
            yield (repository, "ScanOnPush must be on")
        if not repository.get("LifecyclePolicy"):
            yield (repository, "without a lifecycle policy, every 12 GB image is kept and charged for")


@rule("T-generated-keys")
def generated_keys(assembly: Assembly) -> Found[Resource]:
    """Secrets are generated, since everyone who can read a template knows what is in it."""
    for secret in assembly.of_kind("AWS::SecretsManager::Secret"):
        text = secret.get("SecretString")
        length = secret.number("GenerateSecretString.PasswordLength", 32)
        if text is None and length < 32:
            yield (secret, f"its key has {length:g} characters; at least 32 are required")
        if text not in (None, "{}"):
            yield (secret, "its value is in the template; generate it instead")


@rule("T-imports")
def imports(assembly: Assembly) -> Found[Resource]:
    """Everything that one stack imports is exported by the other."""
    for resource, name in assembly.missing_imports():
        yield (resource, f"it imports {name}, which nothing exports")


RULES = (
    wildcards,
    registries,
    generated_keys,
    imports,
)
