"""`python -m ops COMMAND`: what a person runs against an account. Each command is a make target too.

Exit status: 0 well, 1 something is wrong or failed, 2 wrong usage or deployment file, 3 AWS cannot be asked,
130 interrupted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.table import Table

from infra.deployment.catalog import load_catalog
from infra.deployment.cost import summary
from infra.deployment.file import DeploymentError, load_deployment
from infra.deployment.plan import Plan

from . import cost, deploy, destroy, doctor, keys, logs, smoke
from .account import Account, Failed, NoAccess, NotAllowed
from .report import Mark, Result, console, show, tell, worst

WRONG, USAGE, NO_ACCESS, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    help="Operate a deployment of Tandem.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="Named API keys; a change holds within a minute.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

DeploymentFile = Annotated[Path, typer.Option("--deployment", help="The deployment file.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Certificate = Annotated[str | None, typer.Option(help="ARN of the load balancer's certificate.")]
FILE = Path("tandem.yaml")


def plan_of(file: Path) -> Plan:
    return Plan(load_deployment(file), load_catalog())


@contextmanager
def exit_on_error(interrupted: Callable[[], str] = lambda: "nothing was changed") -> Iterator[None]:
    """Turns errors into one message and an exit status; `interrupted` says how things stand then."""
    try:
        yield
    except DeploymentError as error:
        tell(str(error))
        raise typer.Exit(USAGE) from None
    except (NoAccess, NotAllowed) as error:
        tell(f"{error}\nHow things stand: {interrupted()}.")
        raise typer.Exit(NO_ACCESS) from None
    except (Failed, ClientError, BotoCoreError) as error:
        tell(str(error))
        raise typer.Exit(WRONG) from None
    except KeyboardInterrupt:
        tell(f"\nInterrupted. How things stand: {interrupted()}.")
        raise typer.Exit(INTERRUPTED) from None


def finish(title: str, results: list[Result], *, as_json: bool) -> None:
    show(title, results, as_json=as_json)
    if worst(results) is Mark.WRONG:
        raise typer.Exit(WRONG)


@app.command("doctor")
def doctor_command(
    deployment: DeploymentFile = FILE, certificate: Certificate = None, as_json: AsJson = False
) -> None:
    """Look for what would make a deployment fail, or for how the deployed one is; changes nothing."""
    with exit_on_error():
        account = Account(plan_of(deployment))
        results = doctor.doctor(account, certificate=certificate)
        finish(f"{account.deployment.name} in {account.region}", results, as_json=as_json)


@app.command("deploy")
def deploy_command(
    deployment: DeploymentFile = FILE,
    certificate: Certificate = None,
    yes: Yes = False,
    no_smoke: Annotated[
        bool, typer.Option("--no-smoke", help="Do not ask the deployed system anything.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look, deploy with progress, and ask the deployed system what its users will ask."""
    plan = _plan_or_exit(deployment)
    goes_on = (
        f"CloudFormation goes on by itself: make doctor tells how far it is; "
        f"aws cloudformation cancel-update-stack --stack-name {plan.deployment.name}-serving takes it back"
    )
    with exit_on_error(lambda: goes_on):
        account = Account(plan)
        results = doctor.doctor(account, certificate=certificate, deploying=True)
        if worst(results) is Mark.WRONG:
            finish("Not deployed: this would fail", results, as_json=as_json)
        tell(summary(plan))
        if not yes and not typer.confirm("Deploy?", err=True):
            raise typer.Exit(WRONG)
        deploy.deploy(account, deployment_file=deployment, certificate=certificate)
        if no_smoke:
            tell(f"Deployed: {account.outputs()['Url']}")
            return
        finish(f"Smoke of {account.outputs()['Url']}", smoke.smoke(_deployed(account)), as_json=as_json)


@app.command("smoke")
def smoke_command(
    url: Annotated[
        str | None, typer.Option(help="Base URL, ending in /v1; default: the deployed one.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="API key; default: TANDEM_API_KEY, or the bootstrap key.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model; default: the first one served.")] = None,
    long: Annotated[bool, typer.Option("--long", help="Also an answer longer than 60 s.")] = False,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Ask what users ask: chat, streams, tools, keys."""
    with exit_on_error():
        key = key or os.environ.get("TANDEM_API_KEY")
        target = smoke.Target(url, key, model) if url else _deployed(Account(plan_of(deployment)), key, model)
        results = smoke.smoke(target, long_seconds=smoke.LONG_SECONDS if long else None)
        finish(f"Smoke of {target.url}", results, as_json=as_json)


@keys_app.command("create")
def create_key(name: str, deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """Make a key and print it, this once."""
    with exit_on_error(
        lambda: f"either there is a new key {name} that nobody knows, or there is none: make keys ARGS=list"
    ):
        key = keys.new_key()
        store = keys.KeyStore(Account(plan_of(deployment)))
        store.change(lambda document: keys.created(document, name, key, keys.now()))
        tell(f"The key of {name}; it is shown this once, and holds within a minute:")
        _tell_key(name, key, as_json=as_json)


@keys_app.command("list")
def list_keys(deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """Names, and when they were made."""
    with exit_on_error():
        listed = keys.listed(keys.KeyStore(Account(plan_of(deployment))).read())
        if as_json:
            sys.stdout.write(json.dumps([dataclasses.asdict(key) for key in listed]) + "\n")
            return
        table = Table("name", "made", box=None, header_style="bold")
        for key in listed:
            table.add_row(key.name, "revoked" if key.revoked else " and ".join(key.created))
        console().print(table)


@keys_app.command("revoke")
def revoke_key(name: str, deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """Take a key away; `bootstrap` is the generated one."""
    with exit_on_error(lambda: "the key holds, or does not any more: make keys ARGS=list"):
        keys.KeyStore(Account(plan_of(deployment))).change(lambda document: keys.revoked(document, name))
        tell(f"{name} is revoked; requests with it get 401 within a minute.")
        if as_json:
            _tell_key(name, None, as_json=True)


@keys_app.command("rotate")
def rotate_key(
    name: str,
    finish_rotation: Annotated[
        bool, typer.Option("--finish", help="End the overlap: drop the older value.")
    ] = False,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Make a second value and print it; both hold until `--finish`."""
    with exit_on_error(
        lambda: "the older value holds: make keys ARGS=list tells whether there is a second one"
    ):
        store = keys.KeyStore(Account(plan_of(deployment)))
        if finish_rotation:
            store.change(lambda document: keys.finished(document, name))
            tell(f"{name}: only the newest value holds, within a minute.")
            if as_json:
                _tell_key(name, None, as_json=True)
            return
        key = keys.new_key()
        store.change(lambda document: keys.rotated(document, name, key, keys.now()))
        tell(
            f"The new key of {name}; the older one holds too, until make keys ARGS='rotate {name} --finish':"
        )
        _tell_key(name, key, as_json=as_json)


@app.command("cost")
def cost_command(deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """What the deployment costs a month, and what would change it; with credentials, at today's prices."""
    with exit_on_error():
        plan = plan_of(deployment)
        source = f"prices of {plan.catalog.prices.date}, {plan.catalog.prices.region}"
        try:
            account = Account(plan)
            prices = cost.live_prices(account)
            if prices:
                plan, source = (
                    cost.with_prices(plan, prices),
                    f"live prices of instances in {account.region}",
                )
        except (NoAccess, NotAllowed, ClientError, BotoCoreError) as error:
            tell(f"No live prices: {error}")
        found = cost.alternatives(plan)
        if as_json:
            body = {"source": source, "alternatives": [dataclasses.asdict(one) for one in found]}
            sys.stdout.write(json.dumps(body) + "\n")
            return
        sys.stdout.write(summary(plan))
        table = Table("What would change it", "US$ a month", "", box=None, header_style="bold")
        table.columns[1].justify = "right"
        for one in found:
            table.add_row(one.change, f"{one.usd:,.0f}", one.meaning)
        console().print(table)
        console().print(f"With {source}.")
        console().print(cost.carried(plan))


@app.command("destroy")
def destroy_command(deployment: DeploymentFile = FILE, yes: Yes = False, as_json: AsJson = False) -> None:
    """Say what goes and what stays, ask, destroy, and list what is left."""
    state = "what was begun goes on in CloudFormation, and `make destroy` again continues"
    with exit_on_error(lambda: state):
        account = Account(plan_of(deployment))
        show(
            f"Destroy {account.deployment.name} in {account.region}",
            destroy.preview(account),
            as_json=False,
        )
        if not yes and not typer.confirm("Destroy?", err=True):
            raise typer.Exit(WRONG)
        destroy.destroy(account, deployment_file=deployment)
        destroy.deleted(account)
        finish("What is left", destroy.left(account), as_json=as_json)


@app.command("logs")
def logs_command(
    since: Annotated[str, typer.Option(help="How far back: 90s, 15m, 1h, 2d.")] = "1h",
    request: Annotated[str | None, typer.Option(help="All of one request, by its X-Request-Id.")] = None,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """The last errors of both tiers, joined by request id."""
    with exit_on_error():
        account = Account(plan_of(deployment))
        entries = logs.errors(account, since=logs.seconds(since), request_id=request)
        if as_json:
            sys.stdout.write(json.dumps([dataclasses.asdict(entry) for entry in entries]) + "\n")
            return
        if not entries:
            tell(f"No errors in the last {since}.")
        for entry in entries:
            sys.stdout.write(
                f"{logs.clock(entry.time)} {entry.tier:<12} {entry.request_id or '-':<32} {entry.text}\n"
            )


def _tell_key(name: str, key: str | None, *, as_json: bool) -> None:
    """A new key on standard output, alone; as JSON with its name, and null where there is no new one."""
    sys.stdout.write(json.dumps({"name": name, "key": key}) + "\n" if as_json else f"{key}\n")


def _plan_or_exit(file: Path) -> Plan:
    with exit_on_error():
        return plan_of(file)


def _deployed(account: Account, key: str | None = None, model: str | None = None) -> smoke.Target:
    """The deployed URL, and the bootstrap key where none is given."""
    outputs = account.outputs()
    if key is None:
        command = outputs["ReadApiKey"]
        arn = command.rpartition("--secret-id ")[2].strip()
        key = account.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    return smoke.Target(outputs["Url"], key, model)


if __name__ == "__main__":
    app()
