"""`python -m ops COMMAND`: operates a deployment in an AWS account. Each command is also a make target.

Exit status: 0 success, 1 a problem was found or the command failed, 2 wrong usage or invalid deployment file,
3 AWS cannot be called, 130 interrupted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table

from infra.deployment.cost import summary

from . import (
    acceptance,
    base_images,
    cdk,
    cost,
    deploy,
    destroy,
    doctor,
    existing_vpc,
    instance_hours,
    logs,
    machine_image,
    releases,
    usage,
)
from .account import NoAccess, NotAllowed
from .adapter_commands import adapters_app
from .command_line import (
    FAILURE,
    FILE,
    AsJson,
    DeploymentFile,
    Yes,
    account_of,
    errors_reported,
    finish,
    plan_of,
)
from .curl import VARIABLE
from .key_commands import keys_app
from .report import Status, console, say, show, worst
from .smoke import LONG_SECONDS, Target

ConnectTo = Annotated[
    str | None,
    typer.Option(help="HOST or HOST:PORT to connect to instead of the URL's, such as a tunnel's end."),
]
Certificate = Annotated[str | None, typer.Option(help="ARN of the load balancer's certificate.")]

app = typer.Typer(
    help="Operate a deployment of Tandem.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys_app, name="keys")
app.add_typer(adapters_app, name="adapters")


@app.command("synth")
def run_synth(deployment: DeploymentFile = FILE) -> None:
    """Write the templates of the deployment to cdk.out/ and check them. Needs no account and no network."""
    with errors_reported():
        status = cdk.synth(deployment)
    if status:
        raise typer.Exit(status)


@app.command("pin-images")
def run_pin_images() -> None:
    """Add the digests that the registries report to the names of the base images in this project."""
    with errors_reported():
        for line in base_images.pin():
            say(line)


@app.command("doctor")
def run_doctor(
    deployment: DeploymentFile = FILE, certificate: Certificate = None, as_json: AsJson = False
) -> None:
    """Check whether a deployment would succeed, or how the deployed one is doing.

    Changes nothing in AWS. Writes what belongs to an existing VPC into the deployment file.
    """
    with errors_reported(as_json=as_json):
        account = existing_vpc.completed(account_of(deployment), deployment)
        results = doctor.doctor(account, certificate=certificate)
        finish(f"{account.deployment.name} in {account.region}", results, as_json=as_json)


@app.command("deploy")
def run_deploy(
    deployment: DeploymentFile = FILE,
    certificate: Certificate = None,
    yes: Yes = False,
    connect_to: ConnectTo = None,
    no_smoke: Annotated[bool, typer.Option("--no-smoke", help="Do not test the deployed system.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run doctor, deploy with progress, and test the deployed system."""
    with errors_reported(as_json=as_json):
        account = existing_vpc.completed(account_of(deployment), deployment)
        plan = account.plan
        results = doctor.doctor(account, certificate=certificate, deploying=True)
        if worst(results) is Status.ERROR:
            finish("Not deployed, because it would fail", results, as_json=as_json)
        say(summary(plan))
        if not yes and not typer.confirm("Deploy?", err=True):
            raise typer.Exit(FAILURE)
    state = (
        "CloudFormation continues on its own: make doctor shows its state, and aws cloudformation "
        f"cancel-update-stack --stack-name {plan.deployment.name}-serving rolls an update back."
    )
    with errors_reported(state, as_json=as_json):
        machine_image.pin(account, deployment)
        releases.keep(account)
        deploy.deploy(account, deployment_file=deployment, certificate=certificate)
        instance_hours.resume(account)
        record = account.outputs().get("DnsRecord")
        if record:
            say(f"Create this DNS record, unless you already have: {record}")
        if no_smoke:
            say(f"Deployed: {account.outputs()['Url']}")
            return
        target = acceptance.deployed(account, connect_to=connect_to)
        acceptance.accept(target, as_json=as_json, account=account)


@app.command("rollback")
def run_rollback(
    yes: Yes = False,
    connect_to: ConnectTo = None,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Return the serving stack to the release before the deployed one, and test it."""
    with errors_reported(as_json=as_json):
        account = account_of(deployment)
        release = releases.previous(account)
        change_set, changes = releases.prepare(account, release)
        if not as_json:
            show(f"Back to the release of {release.deployed:%Y-%m-%d %H:%M} UTC", changes, as_json=False)
        if not yes and not typer.confirm("Roll back?", err=True):
            releases.discard(account, change_set)
            raise typer.Exit(FAILURE)
        releases.keep(account)
    state = "CloudFormation continues on its own: make doctor shows its state."
    with errors_reported(state, as_json=as_json):
        releases.execute(account, change_set)
        say("Your files still have the newer release: the next make deploy deploys it again.")
        target = acceptance.deployed(account, connect_to=connect_to)
        acceptance.accept(target, as_json=as_json, account=account)


@app.command("smoke")
def run_smoke(
    url: Annotated[
        str | None, typer.Option(help="Base URL, with or without /v1. Default: the deployed one.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="API key. Default: TANDEM_API_KEY, or the bootstrap key.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model. Default: the first one served.")] = None,
    connect_to: ConnectTo = None,
    long: Annotated[bool, typer.Option("--long", help="Include an answer that takes over 60 s.")] = False,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Test a server like its users would: chat, streams, tools, keys."""
    with errors_reported(as_json=as_json):
        account = None if url else account_of(deployment)
        if account:
            target = acceptance.deployed(account, key=key, model=model, connect_to=connect_to)
        else:
            key = key or os.environ.get(VARIABLE)
            target = Target(acceptance.base_url(url or ""), key, model, connect_to)
        long_seconds = LONG_SECONDS if long else None
        acceptance.accept(target, as_json=as_json, long_seconds=long_seconds, account=account)


@app.command("cost")
def run_cost(deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """Show the monthly cost and how to change it; with credentials, at current prices."""
    with errors_reported(as_json=as_json):
        plan = plan_of(deployment)
        source = f"prices of {plan.catalog.prices.date} in {plan.catalog.prices.region}"
        try:
            account = account_of(deployment)
            prices = cost.live_prices(account)
            if prices:
                source = f"live instance prices in {account.region}"
                spot_share = cost.live_spot_share(account, prices)
                plan = cost.with_prices(plan, prices, spot_share=spot_share)
        except (NoAccess, NotAllowed, ClientError, BotoCoreError) as error:
            say(f"Live prices are unavailable: {error}")
        found = cost.alternatives(plan)
        if as_json:
            body = {"source": source, "alternatives": [dataclasses.asdict(one) for one in found]}
            sys.stdout.write(json.dumps(body) + "\n")
            return
        sys.stdout.write(summary(plan))
        table = Table("Alternatives", "US$ per month", "", box=None, header_style="bold")
        table.columns[1].justify = "right"
        for one in found:
            table.add_row(one.change, f"{one.usd:,.0f}", one.meaning)
        console().print(table)
        console().print(f"Based on {source}.")
        console().print(cost.task_capacity(plan))


@app.command("destroy")
def run_destroy(deployment: DeploymentFile = FILE, yes: Yes = False, as_json: AsJson = False) -> None:
    """Show what will be deleted and what is kept, ask, destroy, and list what is left."""
    with errors_reported(as_json=as_json):
        account = account_of(deployment)
        show(
            f"Destroy {account.deployment.name} in {account.region}",
            destroy.preview(account),
            as_json=False,
        )
        if not yes and not typer.confirm("Destroy?", err=True):
            raise typer.Exit(FAILURE)
    state = "CloudFormation continues what has started; make destroy continues from there."
    with errors_reported(state, as_json=as_json):
        destroy.destroy(account, deployment_file=deployment)
        destroy.deleted(account)
        releases.forget(account)
        finish("What is left", destroy.left(account), as_json=as_json)


@app.command("logs")
def run_logs(
    since: Annotated[str, typer.Option(help="Period to show: 90s, 15m, 1h, 2d.")] = "1h",
    request: Annotated[
        str | None, typer.Option(help="Show everything about one request, by its X-Request-Id.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Show recent errors of both tiers, grouped by request id."""
    with errors_reported(as_json=as_json):
        account = account_of(deployment)
        period = logs.seconds(since)
        if follow:
            for entry in logs.follow(account, since=period, request_id=request, pause=_pause):
                sys.stdout.write(
                    json.dumps(dataclasses.asdict(entry)) + "\n" if as_json else logs.shown(entry)
                )
                sys.stdout.flush()
        entries = logs.errors(account, since=period, request_id=request)
        if as_json:
            sys.stdout.write(json.dumps([dataclasses.asdict(entry) for entry in entries]) + "\n")
            return
        if not entries:
            say(f"No errors in the last {since}.")
        sys.stdout.writelines(logs.shown(entry) for entry in entries)


@app.command("usage")
def run_usage(
    since: Annotated[
        str, typer.Option(help="From when on: a period such as 1d or 4w, or a date (UTC).")
    ] = "7d",
    url: Annotated[
        str | None, typer.Option(help="Base URL of a server to ask. Default: the deployment's table.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="API key for --url. Default: TANDEM_API_KEY.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a row per day, key, model.")] = False,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Show who used how many requests, tokens, tool calls and how much engine time."""
    with errors_reported(as_json=as_json):
        period = usage.period(since, datetime.now(UTC))
        rows = usage.reported(url, key, period) if url else usage.stored(account_of(deployment), period.days)
        if as_json:
            sys.stdout.write(json.dumps(rows) + "\n")
        elif as_csv:
            sys.stdout.write(usage.as_csv(rows))
        else:
            console().print(f"Usage from {period.days[0]} to {period.days[-1]} (UTC)")
            console().print(usage.table(rows))


def _pause() -> None:
    time.sleep(deploy.POLL_SECONDS)


if __name__ == "__main__":
    app()
