"""Rules on where the model's files come from."""

from __future__ import annotations

from infra.deployment.plan import Plan
from infra.deployment.settings import HUB, MIRROR

from .rule import Found, Severity, rule

MIRROR_SECONDS = 44 * 60
MIRROR_GB_PER_SECOND = 0.05
"""Cautious: CodeBuild's network is faster, the Hub at times is not."""


@rule(
    "model-source",
    Severity.WARNING,
    lambda _: [{"model.revision": None}],
    lambda _: [{"model.hf_token_secret_arn": None}],
)
def model_source(plan: Plan) -> Found[str]:
    """Settings of the Hugging Face Hub have no effect on a model in a bucket of one's own."""
    model = plan.deployment.model
    if model.source in (HUB, MIRROR):
        return
    if model.revision:
        yield ("model.revision", f"{model.revision} has no effect: the files in {model.source} are served")
    if model.hf_token_secret_arn:
        yield ("model.hf_token_secret_arn", f"it has no effect: the weights come from {model.source}")


@rule("model-mirror", Severity.ERROR, lambda _: [{"model.source": HUB}])
def model_mirror(plan: Plan) -> Found[str]:
    """CloudFormation waits an hour for a mirror; larger models need a bucket that is filled beforehand."""
    if plan.deployment.model.source != MIRROR or plan.weights_gb is None:
        return
    most = MIRROR_GB_PER_SECOND * MIRROR_SECONDS
    if plan.weights_gb > most:
        yield (
            "model.source",
            f"a build copies about {most:.0f} GB of weights while CloudFormation waits, and this model has "
            f"{plan.weights_gb:.0f} GB; copy them to a bucket yourself and name it: s3://bucket/prefix",
        )


RULES = (model_source, model_mirror)
