"""Checks a deployment before anything is made of it: every problem that its file alone shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError

from infra.deployment.catalog import Catalog, load_catalog
from infra.deployment.file import Deployment, DeploymentError
from infra.deployment.plan import Plan

from . import gpu_instances, model, service
from .finding import Finding, Mend, Severity, errors
from .rule import Changes, Rule

RULES: tuple[Rule, ...] = (*model.RULES, *gpu_instances.RULES, *service.RULES)


def check(deployment: Deployment, catalog: Catalog | None = None) -> list[Finding]:
    """All findings, errors first; none for a deployment that keeps every rule.

    A mend is offered only if the deployment with it keeps that rule, and breaks none that it did not break
    before. Where an error has no such mend, one that earns a warning is offered.
    """
    plan = Plan(deployment, catalog or load_catalog())
    problems = [(rule, problem) for rule in RULES if (problem := rule.find(plan))]
    kept = [rule for rule in RULES if rule not in [broken for broken, _ in problems]]
    stopping = [rule for rule in kept if rule.severity is Severity.ERROR]
    findings = []
    for rule, problem in problems:
        mends = _mends(plan, rule, kept)
        if not mends and rule.severity is Severity.ERROR:
            mends = _mends(plan, rule, stopping)
        findings.append(Finding(rule.name, rule.severity, problem.knob, problem.message, mends))
    return sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)


def checked_plan(deployment: Deployment, *, tell: Callable[[str], object]) -> Plan:
    """The plan of a deployment that keeps every rule on the file; warnings are told.

    Raises:
        DeploymentError: it breaks a rule, so that it would fail; names every finding.
    """
    catalog = load_catalog()
    findings = check(deployment, catalog)
    if errors(findings):
        raise DeploymentError("\n".join(finding.describe(deployment) for finding in findings))
    for finding in findings:
        tell(finding.describe(deployment) + "\n")
    return Plan(deployment, catalog)


def _mends(plan: Plan, broken: Rule, kept: Sequence[Rule]) -> tuple[Mend, ...]:
    firsts = (_first_working(plan, [broken, *kept], neighbours(plan)) for neighbours in broken.neighbours)
    return tuple(mend for mend in firsts if mend)


def _first_working(plan: Plan, rules: Sequence[Rule], candidates: Iterable[Changes]) -> Mend | None:
    for changes in candidates:
        mend = Mend(changes)
        try:
            tried = Plan(mend.apply(plan.deployment), plan.catalog)
        except ValidationError:
            continue
        if not any(rule.find(tried) for rule in rules):
            return mend
    return None
