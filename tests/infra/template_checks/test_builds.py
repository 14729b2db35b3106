"""What the rules on builds take from elsewhere is what it is there."""

from __future__ import annotations

import boto3

from infra.template_checks.builds import FINAL_STATES


def test_final_states_are_codebuilds() -> None:
    model = boto3.client("codebuild", region_name="us-east-1").meta.service_model
    states = set(model.shape_for("StatusType").metadata["enum"])
    assert states - {"IN_PROGRESS"} == FINAL_STATES
