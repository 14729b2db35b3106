"""Rules on what each role may do, against the requests that it has to make and the ones that it must not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from infra.deployment.checks.rule import Found, rule

from .permissions.arns import ACCOUNT
from .permissions.callers import Caller
from .permissions.evaluation import (
    CannotEvaluate,
    Request,
    Statement,
    decide,
    names_action,
    names_resource,
    unmet_conditions,
)
from .permissions.expectations import Expected, expectations, managed_policy, reference
from .permissions.policies import Policies, granted
from .template import Assembly, Resource, listed


@rule("T-role-purpose")
def role_purpose(assembly: Assembly) -> Found[Resource]:
    """Every role has a known use, with a list of the requests that it must be allowed."""
    policies = Policies(assembly)
    used = {caller.role for caller in policies.callers}
    for caller in policies.callers:
        if caller.role is None and expectations()[caller.kind].service is None:
            yield (caller.user, f"its role, as {caller.kind}, is not in the templates")
    for role in assembly.of_kind("AWS::IAM::Role"):
        if role not in used:
            yield (
                role,
                "nothing in permissions/callers.py says what uses it; "
                "add its use there and its requests to permissions/requests.yaml",
            )
        for arn in policies.managed_arns(role):
            declared = policies.tools.policy_arns if policies.is_of_tools(role) else ()
            if managed_policy(arn) is None and arn not in declared:
                yield (role, f"the statements of {arn} are not in permissions/requests.yaml; add them")


@rule("T-role-may")
def role_may(assembly: Assembly) -> Found[Resource]:
    """Every request that a caller has to make is allowed; a denied one leaves tasks in PENDING."""
    policies = Policies(assembly)
    for place, messages in _by_place((caller, _denials(policies, caller)) for caller in policies.callers):
        for message in messages:
            yield (place, message)


def _by_place(found: Iterable[tuple[Caller, Iterable[str]]]) -> Iterator[tuple[Resource, list[str]]]:
    """The messages of each role, or of each resource that a service calls, without repetitions."""
    places: dict[Resource, dict[str, None]] = {}
    for caller, messages in found:
        places.setdefault(caller.role or caller.user, {}).update(dict.fromkeys(messages))
    yield from ((place, list(messages)) for place, messages in places.items())


def _denials(policies: Policies, caller: Caller) -> Iterator[str]:
    denied = []
    for request in _requests(policies, caller, expectations()[caller.kind].allowed):
        try:
            if not policies.decide(caller, request).allowed:
                denied.append((request.resource, _why(policies, caller, request), request.action))
        except CannotEvaluate as error:
            yield f"a policy cannot be evaluated: {error}"
    for (resource, why), requests in groupby(sorted(denied), key=lambda one: one[:2]):
        actions = ", ".join(action for _, _, action in requests)
        yield f"as {caller.kind} it may not {actions} on {resource}: {why}"


def _why(policies: Policies, caller: Caller, request: Request) -> str:
    """What a policy lacks for a request that is denied."""
    own = policies.own(caller.role) if caller.role else []
    about = [one for one in own if one["Effect"] == "Allow" and names_action(one, request.action)]
    for statement in about:
        if names_resource(statement, request.resource):
            keys = ", ".join(unmet_conditions(statement, request))
            return f"the statement that allows it has a condition on {keys}, which the request does not meet"
    if about:
        patterns = sorted({str(one) for statement in about for one in listed(statement["Resource"])})
        return f"it is allowed on {', '.join(patterns)} only"
    return "no statement allows it"


@rule("T-role-may-not")
def role_may_not(assembly: Assembly) -> Found[Resource]:
    """Roles have no permission that no known request needs, and none on what belongs to others."""
    policies = Policies(assembly)
    for place, messages in _by_place((caller, _excesses(policies, caller)) for caller in policies.callers):
        for message in messages:
            yield (place, message)


def _excesses(policies: Policies, caller: Caller) -> Iterator[str]:
    always = expectations()["every_role"].denied if caller.role else []
    for request in _requests(policies, caller, [*expectations()[caller.kind].denied, *always]):
        try:
            if policies.decide(caller, request, with_declared=False).allowed:
                yield f"as {caller.kind} it may {request.action} on {request.resource}, which must be denied"
        except CannotEvaluate:
            continue  # T-role-may reports it
    declared = policies.declared(caller.role) if caller.role else []
    for statement in policies.own(caller.role) if caller.role else []:
        if statement not in declared and (unneeded := _unneeded(policies, caller.role, statement)):
            yield f"it may {unneeded}, which no request in requests.yaml needs"


def _unneeded(policies: Policies, role: Resource | None, statement: Statement) -> str:
    """The actions and the resources of a statement that no listed request of the role needs."""
    requests = [
        request
        for caller in policies.callers
        if caller.role == role
        for request in _requests(policies, caller, expectations()[caller.kind].allowed)
    ]
    pairs = granted(statement)
    needed = [
        (action, resource)
        for action, resource in pairs
        for request in requests
        if names_action({"Action": action}, request.action)
        and names_resource({"Resource": resource}, request.resource)
        and (resource != "*" or "Condition" in statement or not reference()[request.action].resources)
    ]
    actions = sorted({action for action, _ in pairs} - {action for action, _ in needed})
    if actions:
        return f"{', '.join(actions)} on {', '.join(sorted({resource for _, resource in pairs}))}"
    resources = sorted({resource for _, resource in pairs} - {resource for _, resource in needed})
    return (
        f"{', '.join(sorted({action for action, _ in pairs}))} on {', '.join(resources)}" if resources else ""
    )


@rule("T-role-conditions")
def role_conditions(assembly: Assembly) -> Found[Resource]:
    """Conditions use keys that AWS sends with the action; on another key, an Allow allows nothing."""
    policies = Policies(assembly)
    for role in assembly.of_kind("AWS::IAM::Role"):
        for statement in policies.own(role):
            tests = statement.get("Condition", {}).values()
            for key in sorted({key for test in tests for key in test}):
                without = [
                    action
                    for action in listed(statement.get("Action", []))
                    if (documented := reference().get(action)) and not documented.supports(key)
                ]
                if without:
                    yield (role, f"AWS sends no {key} with {', '.join(without)}; allow them without it")


@rule("T-trust")
def trust(assembly: Assembly) -> Found[Resource]:
    """Each role can only be assumed by the service it is for."""
    policies = Policies(assembly)
    for caller in policies.callers:
        service = expectations()[caller.kind].assumed_by
        if caller.role is None or service is None:
            continue
        trusted = policies.trust(caller.role)
        principals = {one for statement in trusted for one in listed(statement["Principal"].get("Service"))}
        request = Request(service, "sts:AssumeRole", "*", {"aws:SourceAccount": [ACCOUNT]})
        if principals != {service} or not decide(request, identity=[], resource=trusted).allowed:
            yield (caller.role, f"{sorted(map(str, principals))} may assume it; it must be {service}")


@rule("T-tool-permissions")
def tool_permissions(assembly: Assembly) -> Found[Resource]:
    """The tools may do what the deployment file declares for them; other roles have no such policies."""
    policies = Policies(assembly)
    for role in assembly.of_kind("AWS::IAM::Role"):
        for missing in policies.missing(role):
            yield (role, f"it lacks {missing}, which the deployment file declares for the tools")
        declared = policies.tools.policy_arns if policies.is_of_tools(role) else ()
        for arn in policies.all_managed_arns(role):
            if ":iam::aws:policy/" not in arn and arn not in declared:
                yield (role, f"it has {arn}, which tools.policy_arns does not list for it")


@rule("T-boundary")
def boundary(assembly: Assembly) -> Found[Resource]:
    """Every role of every stack has the permissions boundary of the deployment file, and no other."""
    expected = assembly.plan.deployment.permissions_boundary_arn
    for kind in ("AWS::IAM::Role", "AWS::IAM::User"):
        for one in assembly.of_kind(kind):
            found = one.get("PermissionsBoundary")
            if found != expected:
                yield (one, f"its permissions boundary is {found}; it must be {expected}")


def _requests(policies: Policies, caller: Caller, expected: Sequence[Expected]) -> Iterator[Request]:
    principal = policies.principal(caller)
    for one in expected:
        yield from one.requests(principal, caller.names)


RULES = (role_purpose, role_may, role_may_not, role_conditions, trust, tool_permissions, boundary)
