"""One snapshot per variant, so that a review shows every change of the templates.

`UPDATE_SNAPSHOTS=1 pytest tests/infra/test_snapshots.py` writes them again.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.infra.synthesis import VARIANTS, Synthesis, synthesize

SNAPSHOTS = Path(__file__).parent / "snapshots"


def snapshot(synthesis: Synthesis) -> str:
    """Both templates, without the hashes of the services' code and without the CDK's own paths."""
    templates = json.loads(json.dumps({"foundation": synthesis.foundation, "serving": synthesis.serving}))
    for template in templates.values():
        template.pop("Rules", None)
        for resource in template["Resources"].values():
            resource.get("Metadata", {}).pop("aws:cdk:path", None)
            resource.get("Metadata", {}).pop("aws:asset:path", None)
    text = json.dumps(templates, indent=1, ensure_ascii=False) + "\n"
    return re.sub(r"\b([0-9a-f]{64}|[0-9a-f]{32})\b", "<hash>", text)


@pytest.mark.parametrize("variant", VARIANTS)
def test_templates_are_as_reviewed(variant: str) -> None:
    path = SNAPSHOTS / f"{variant}.json"
    text = snapshot(synthesize(variant))
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        f"the templates of {variant} changed: look at the difference, then UPDATE_SNAPSHOTS=1"
    )


def test_no_snapshot_is_left_over() -> None:
    assert sorted(path.stem for path in SNAPSHOTS.glob("*.json")) == VARIANTS
