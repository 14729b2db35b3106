"""The CDK app: reads the deployment file, builds the stacks, synthesizes.

`-c deployment=FILE` takes another deployment file than tandem.yaml.
"""

import json
import sys
from pathlib import Path

import infra  # noqa: F401  before aws_cdk, whose runtime it keeps from printing a banner on Node 20

try:
    import aws_cdk as cdk

    from infra.deployment import service_check
    from infra.deployment.checks import checked_plan
    from infra.deployment.cost import summary
    from infra.deployment.file import DeploymentError, load_deployment
    from infra.stacks import build_stacks
except ModuleNotFoundError as error:
    sys.exit(
        f"The package {error.name} is not installed in .venv. Run make synth, which installs what it needs."
    )

app = cdk.App(stack_traces=False)
deployment_file = Path(app.node.try_get_context("deployment") or "tandem.yaml")
try:
    plan = checked_plan(load_deployment(deployment_file), report=sys.stderr.write)
    service_check.checked(plan, report=sys.stderr.write)
except DeploymentError as error:
    sys.exit(str(error))
preflight = build_stacks(app, plan)
assembly = app.synth()
# From this report, the CLI would remind of optional feature flags after every command.
manifest = Path(assembly.directory, "manifest.json")
contents = json.loads(manifest.read_text())
contents["artifacts"].pop("aws-cdk-lib/feature-flag-report", None)
manifest.write_text(json.dumps(contents, indent=1) + "\n")
if preflight.passed:
    sys.stderr.write(summary(plan))
