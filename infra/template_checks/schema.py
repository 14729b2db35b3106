"""CloudFormation's schema: the types, names and values of properties, as cfn-lint knows them.

cfn-lint needs about three seconds per deployment, so a template that it accepted is not checked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator
from pathlib import Path

from infra.deployment.checks.rule import Finding, Severity

from .template import Resource

RULE = "T-schema"
CACHE = Path(__file__).parents[2] / ".cache" / "cfn-lint"
NOT_LINTED = {
    "W3005": "the CDK writes a dependency that a reference makes already",
    "W6001": "the outputs of the serving stack name secrets of the foundation stack",
}


def find(paths: Iterable[str], *, region: str, cache: Path = CACHE) -> list[Finding[Resource]]:
    """Returns what CloudFormation would reject in template files.

    Args:
        region: the region whose resource types are known.
        cache: directory with an empty file per accepted template.
    """
    findings: list[Finding[Resource]] = []
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        accepted = cache / _key(text, region)
        if accepted.exists():
            continue
        found = list(_lint(path, text, region))
        findings += found
        if not found:
            # Without a cache, the next synthesis takes a little longer.
            with contextlib.suppress(OSError):
                cache.mkdir(parents=True, exist_ok=True)
                accepted.touch()
    return findings


def _key(text: str, region: str) -> str:
    version = importlib.metadata.version("cfn-lint")
    return hashlib.sha256("\0".join([version, region, *NOT_LINTED, text]).encode()).hexdigest()


def _lint(path: str, text: str, region: str) -> Iterator[Finding[Resource]]:
    from cfnlint.api import ManualArgs, lint  # type: ignore[import-untyped]

    for match in lint(text, config=ManualArgs(regions=[region], ignore_checks=[*NOT_LINTED])):
        where = [str(part) for part in match.path or []]
        logical_id = where[1] if where[:1] == ["Resources"] and len(where) > 1 else "/".join(where[:2])
        place = Resource(path, logical_id, "", {}, frozenset(), {})
        property_path = ".".join(where[3:])
        message = f"{property_path}: {match.message}" if property_path else match.message
        yield Finding(RULE, Severity.ERROR, place, f"{message} (cfn-lint {match.rule.id})")
