"""Checks a deployment file before anything is synthesized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pydantic import ValidationError

from infra.deployment.catalog import Catalog, load_catalog
from infra.deployment.file import Deployment, DeploymentError
from infra.deployment.plan import Plan

from . import (
    gpu_instances,
    ingress,
    metrics,
    model,
    model_files,
    model_kinds,
    models,
    network,
    orchestrator,
    scaling,
    tools,
    warm_instances,
)
from .rule import Changes, Finding, Fix, Rule, Severity, errors

MODEL_RULES: tuple[Rule[Plan, str], ...] = (
    *model.RULES,
    *model_kinds.RULES,
    *model_files.RULES,
    *gpu_instances.RULES,
    *scaling.RULES,
    *warm_instances.RULES,
)
"""Rules on one model and its engines."""

RULES: tuple[Rule[Plan, str], ...] = (
    *MODEL_RULES,
    *models.RULES,
    *orchestrator.RULES,
    *tools.RULES,
    *network.RULES,
    *ingress.RULES,
    *metrics.RULES,
)


def check(deployment: Deployment, catalog: Catalog | None = None) -> list[Finding[str]]:
    """Returns all findings, errors first; none for a deployment that satisfies every rule.

    A fix is offered only if it satisfies the rule and breaks no other. If an error has no such fix, one that
    leads to a warning is offered. The fixes of all findings agree: none sets a setting to another value than
    those of earlier findings.
    """
    plan = Plan(deployment, catalog or load_catalog())
    found = _check(plan, RULES)
    for other in plan.entries[1:]:
        found += _check(other, MODEL_RULES)
    return errors(found) + [finding for finding in found if finding.severity is not Severity.ERROR]


def _check(plan: Plan, rules: Sequence[Rule[Plan, str]]) -> list[Finding[str]]:
    """Returns the findings on one model, with settings as the file names them."""
    broken = {rule.name: findings for rule in rules if (findings := rule.find(plan))}
    order = sorted(
        (rule for rule in rules if rule.name in broken), key=lambda rule: rule.severity is not Severity.ERROR
    )
    offered: list[Fix] = []
    found = []
    for rule in order:
        fixes = _agreeing(plan, rule, rules, order, offered)
        offered += fixes
        found += [_in_file(replace(finding, fixes=fixes), plan.deployment) for finding in broken[rule.name]]
    return found


def _in_file(finding: Finding[str], deployment: Deployment) -> Finding[str]:
    if not deployment.entry:
        return finding
    fixes = tuple(
        Fix({deployment.in_file(name): value for name, value in fix.changes.items()}) for fix in finding.fixes
    )
    place, message = deployment.in_file(finding.place), deployment.in_file(finding.message)
    return replace(finding, place=place, message=message, fixes=fixes)


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


def _agreeing(
    plan: Plan,
    rule: Rule[Plan, str],
    rules: Sequence[Rule[Plan, str]],
    broken: Sequence[Rule[Plan, str]],
    offered: Sequence[Fix],
) -> tuple[Fix, ...]:
    """The fixes of a broken rule that do not contradict those offered before, or else one of those."""
    kept = [one for one in rules if one not in broken]
    errors_kept = [one for one in kept if one.severity is Severity.ERROR]
    errors_broken = [one for one in broken if one.severity is Severity.ERROR and one is not rule]
    # At best a fix resolves every error at once.
    choices = [[*kept, *errors_broken], kept]
    if rule.severity is Severity.ERROR:
        choices.append(errors_kept)
    for others in choices:
        fixes = _fixes(plan, rule, others)
        if agreeing := tuple(fix for fix in fixes if not _contradicts(fix, offered)):
            return agreeing
        for fix in offered:
            if _works(plan, fix, [rule, *others]):
                return (fix,)
    return ()


def _contradicts(fix: Fix, offered: Sequence[Fix]) -> bool:
    """Whether earlier fixes set one of its settings, and never to the same value."""
    for setting, value in fix.changes.items():
        values = [one.changes[setting] for one in offered if setting in one.changes]
        if values and value not in values:
            return True
    return False


def _fixes(plan: Plan, broken: Rule[Plan, str], kept: Sequence[Rule[Plan, str]]) -> tuple[Fix, ...]:
    firsts = (_first_working(plan, [broken, *kept], candidates(plan)) for candidates in broken.candidates)
    return tuple(fix for fix in firsts if fix)


def _first_working(plan: Plan, rules: Sequence[Rule[Plan, str]], candidates: Iterable[Changes]) -> Fix | None:
    return next((fix for changes in candidates if _works(plan, fix := Fix(changes), rules)), None)


def _works(plan: Plan, fix: Fix, rules: Sequence[Rule[Plan, str]]) -> bool:
    """Whether a deployment with the fix satisfies the rules."""
    try:
        tried = Plan(fix.apply(plan.deployment), plan.catalog)
    except ValidationError:
        return False
    return not any(rule.find(tried) for rule in rules)
