"""Records what an independent evaluator decides about random policies: `make record-iam`.

The evaluator is `@cloud-copilot/iam-simulate`, which is installed for this alone: its license is not one to
bring into every clone.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("decisions.json")
VERSION = "0.1.173"
CASES = 200

ACCOUNT = "111122223333"
CALLER = f"arn:aws:iam::{ACCOUNT}:role/caller"
CLUSTER = f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/one"
REQUESTS = {
    "ecs:SubmitTaskStateChange": [CLUSTER, CLUSTER.replace("one", "two")],
    "ecs:Poll": [f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/one/1"],
    "s3:GetObject": ["arn:aws:s3:::bucket/a.zip", "arn:aws:s3:::bucket/b/a.zip", "arn:aws:s3:::other/a"],
    "logs:PutLogEvents": [f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/a/b:log-stream:c/d"],
    "ecr:GetAuthorizationToken": ["*"],
    "secretsmanager:GetSecretValue": [f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:key-AbCdEf"],
}
ACTIONS = [
    *REQUESTS,
    "*",
    "ecs:*",
    "ecs:Submit*",
    "ECS:poll",
    "s3:Get*",
    "logs:*",
    "secretsmanager:Get?ecretValue",
]
RESOURCES = [
    "*",
    "arn:aws:*",
    "arn:aws:ecs:*:*:cluster/one",
    "arn:aws:ecs:us-east-1:*:container-instance/one/*",
    f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/???",
    "arn:aws:s3:::bucket",
    "arn:aws:s3:::bucket/*.zip",
    "arn:aws:s3:::*/a.zip",
    "arn:aws:s3:*:*:bucket/a.zip",
    "arn:aws:logs:us-east-1:*:log-group:/a/b",
    "arn:aws:logs:us-east-1:*:log-group:/a/b:*",
    "arn:aws:secretsmanager:*:*:secret:key",
    "arn:aws:secretsmanager:*:*:secret:key-??????",
    "arn:aws:*:*:*:cluster/one",
]
PRINCIPALS: list[Any] = [
    "*",
    {"AWS": "*"},
    {"AWS": CALLER},
    {"AWS": f"{CALLER}s"},
    {"Service": "ecs.amazonaws.com"},
]
TEXTS = ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase"]
ARNS = ["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "StringLike", "StringEquals"]
NUMBERS = ["NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"]
SETS = [f"{every}:{text}" for every in ("ForAllValues", "ForAnyValue") for text in TEXTS[:4]]
CONDITIONS: dict[str, tuple[list[str], list[str]]] = {
    "ecs:cluster": (ARNS, [CLUSTER, "arn:aws:ecs:*:*:cluster/*", "arn:aws:ecs:*:*:cluster/two"]),
    "aws:PrincipalArn": (ARNS, [CALLER, "arn:aws:iam::*:role/*"]),
    "aws:SecureTransport": (["Bool"], ["true", "false"]),
    "aws:SourceAccount": (TEXTS, [ACCOUNT, "999999999999"]),
    "aws:TagKeys": (SETS, ["a", "b"]),
    "aws:MultiFactorAuthAge": (NUMBERS, ["15", "20"]),
    "secretsmanager:VersionStage": (TEXTS, ["AWSCURRENT", "AWS*", "awscurrent"]),
}
EVALUATE = """
import { runSimulation } from '@cloud-copilot/iam-simulate'
import fs from 'fs'
const decisions = []
for (const one of JSON.parse(fs.readFileSync(0))) {
  const context = Object.fromEntries(Object.entries(one.context).map(
    ([key, values]) => [key, key === 'aws:TagKeys' ? values : values[0]]))
  const policy = (statements) => ({ Version: '2012-10-17', Statement: statements })
  const result = await runSimulation({
    request: { principal: one.principal, action: one.action, contextVariables: context,
               resource: { resource: one.resource, accountId: one.principal.split(':')[4] } },
    identityPolicies: one.identity.length ? [{ name: 'identity', policy: policy(one.identity) }] : [],
    resourcePolicy: one.resource_policy.length ? policy(one.resource_policy) : undefined,
    serviceControlPolicies: [], resourceControlPolicies: [] }, {})
  if (!result.overallResult) throw new Error(JSON.stringify(result))
  decisions.push(result.overallResult === 'Allowed')
}
console.log(JSON.stringify(decisions))
"""


def case(chance: random.Random) -> dict[str, Any]:
    """A request, and policies that may or may not allow it."""
    action = chance.choice(list(REQUESTS))
    context = {"aws:SecureTransport": ["true"], "aws:PrincipalArn": [CALLER]}
    if action == "ecs:Poll" and chance.random() < 0.8:
        context["ecs:cluster"] = [CLUSTER]
    if action == "secretsmanager:GetSecretValue" and chance.random() < 0.8:
        context["secretsmanager:VersionStage"] = ["AWSCURRENT"]
    for key, values in {
        "aws:TagKeys": ["a", "c"],
        "aws:SourceAccount": [ACCOUNT],
        "aws:MultiFactorAuthAge": ["15"],
    }.items():
        if chance.random() < 0.4:
            context[key] = values
    identity = [statement(chance) for _ in range(chance.randint(0, 3))]
    of_resource = [
        statement(chance) | {"Principal": chance.choice(PRINCIPALS)} for _ in range(chance.randint(0, 2))
    ]
    return {
        "principal": CALLER,
        "action": action,
        "resource": chance.choice(REQUESTS[action]),
        "context": context,
        "identity": identity,
        "resource_policy": of_resource,
    }


def statement(chance: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Effect": chance.choices(["Allow", "Deny"], [4, 1])[0],
        "Action": chance.sample(ACTIONS, chance.randint(1, 4)),
        "Resource": chance.sample(RESOURCES, chance.randint(1, 4)),
    }
    for _ in range(chance.choice([0, 0, 1, 1, 2])):
        key = chance.choice(list(CONDITIONS))
        operators, values = CONDITIONS[key]
        operator = chance.choice([*operators, "Null"])
        if operator == "Null":
            test: Any = chance.choice(["true", "false"])
        else:
            test = chance.sample(values, chance.randint(1, 2))
            # The two evaluators read a missing key of `ForAnyValue:...IfExists` differently.
            operator += "IfExists" if ":" not in operator and chance.random() < 0.3 else ""
        made.setdefault("Condition", {}).setdefault(operator, {})[key] = test
    return made


def main() -> None:
    chance = random.Random(1)
    cases = [case(chance) for _ in range(CASES)]
    with tempfile.TemporaryDirectory() as directory:
        install = [
            "npm",
            "install",
            "--silent",
            "--prefix",
            directory,
            f"@cloud-copilot/iam-simulate@{VERSION}",
        ]
        subprocess.run(install, check=True)
        program = Path(directory, "evaluate.mjs")
        program.write_text(EVALUATE)
        ended = subprocess.run(
            ["node", program], input=json.dumps(cases), capture_output=True, text=True, check=True
        )
    decided = [
        one | {"allowed": allowed} for one, allowed in zip(cases, json.loads(ended.stdout), strict=True)
    ]
    lines = ",\n".join(json.dumps(one) for one in decided)
    TARGET.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
