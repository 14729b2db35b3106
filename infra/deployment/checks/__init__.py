"""Checks a deployment file before anything is synthesized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pydantic import ValidationError

from infra.deployment.catalog import Catalog, load_catalog
from infra.deployment.file import Deployment, DeploymentError
from infra.deployment.plan import Plan

from . import gpu_instances, ingress, model, network, orchestrator, tools
from .rule import Changes, Finding, Fix, Rule, Severity, errors

RULES: tuple[Rule[Plan, str], ...] = (
    *model.RULES,
    *gpu_instances.RULES,
    *orchestrator.RULES,
    *tools.RULES,
    *network.RULES,
    *ingress.RULES,
)


def check(deployment: Deployment, catalog: Catalog | None = None) -> list[Finding[str]]:
    """Returns all findings, errors first; none for a deployment that satisfies every rule.

    A fix is offered only if it satisfies the rule and breaks no other. If an error has no such fix, one that
    leads to a warning is offered.
    """
    plan = Plan(deployment, catalog or load_catalog())
    broken = {rule.name: findings for rule in RULES if (findings := rule.find(plan))}
    kept = [rule for rule in RULES if rule.name not in broken]
    kept_errors = [rule for rule in kept if rule.severity is Severity.ERROR]
    found = []
    for rule in RULES:
        if rule.name not in broken:
            continue
        fixes = _fixes(plan, rule, kept)
        if not fixes and rule.severity is Severity.ERROR:
            fixes = _fixes(plan, rule, kept_errors)
        found += [replace(finding, fixes=fixes) for finding in broken[rule.name]]
    return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)


def checked_plan(deployment: Deployment, *, report: Callable[[str], object]) -> Plan:
    """Returns the plan of a deployment without errors, and reports warnings.

    Raises:
        DeploymentError: The deployment would fail. The message lists every finding.
    """
    catalog = load_catalog()
    findings = check(deployment, catalog)
    if errors(findings):
        raise DeploymentError("\n".join(finding.describe(deployment) for finding in findings))
    for finding in findings:
        report(finding.describe(deployment) + "\n")
    return Plan(deployment, catalog)


def _fixes(plan: Plan, broken: Rule[Plan, str], kept: Sequence[Rule[Plan, str]]) -> tuple[Fix, ...]:
    firsts = (_first_working(plan, [broken, *kept], candidates(plan)) for candidates in broken.candidates)
    return tuple(fix for fix in firsts if fix)


def _first_working(plan: Plan, rules: Sequence[Rule[Plan, str]], candidates: Iterable[Changes]) -> Fix | None:
    for changes in candidates:
        fix = Fix(changes)
        try:
            tried = Plan(fix.apply(plan.deployment), plan.catalog)
        except ValidationError:
            continue
        if not any(rule.find(tried) for rule in rules):
            return fix
    return None
