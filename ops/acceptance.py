"""Tests a deployment as its users reach it, and prints how to use it."""

from __future__ import annotations

import os

import typer

from . import curl, dns, smoke
from .account import Account
from .command_line import FAILURE
from .report import Result, Status, say, show, worst
from .smoke import Target

_TUNNEL = (
    "aws ssm start-session --target INSTANCE --document-name AWS-StartPortForwardingSessionToRemoteHost "
    "--parameters host={host},portNumber=443,localPortNumber=8443"
)


_NO_TOKEN = Result(
    Status.UNKNOWN,
    "smoke",
    "not tested: the load balancer accepts only requests with a token of ingress.jwt.issuer",
    f"export {curl.TOKEN_VARIABLE}=TOKEN; make smoke",
)


def base_url(url: str) -> str:
    """Returns the URL with /v1 at its end, whether it has that already or not."""
    return url.rstrip("/").removesuffix("/v1") + "/v1"


def deployed(
    account: Account, *, key: str | None = None, model: str | None = None, connect_to: str | None = None
) -> Target:
    """Returns the deployed URL, with TANDEM_API_KEY or the bootstrap key unless a key is given."""
    outputs = account.outputs()
    key = key or os.environ.get(curl.VARIABLE)
    if key is None:
        arn = outputs["ReadApiKey"].rpartition("--secret-id ")[2].strip()
        key = account.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    token = os.environ.get(curl.TOKEN_VARIABLE) if account.deployment.ingress.jwt else None
    return Target(outputs["Url"], key, model, connect_to or _connect_to(account, outputs), token)


def _connect_to(account: Account, outputs: dict[str, str]) -> str | None:
    """Returns the load balancer's name while the domain does not resolve, and says so."""
    domain = account.deployment.ingress.domain
    if not domain or dns.addresses(domain):
        return None
    balancer = outputs["LoadBalancerName"]
    say(f"{domain} does not resolve yet, so the test connects to {balancer} under that name.")
    return balancer


def accept(
    target: Target, *, as_json: bool, long_seconds: float | None = None, account: Account | None = None
) -> None:
    """Runs the smoke test and, if that passes, a curl line; prints both.

    Args:
        account: the account in which the target is deployed, if it is.

    Raises:
        typer.Exit: A test failed.
    """
    if account and account.deployment.ingress.jwt and not target.token:
        show(f"Smoke test of {target.url}", [_NO_TOKEN], as_json=as_json)
        return
    results = smoke.smoke(target, long_seconds=long_seconds)
    if account and account.deployment.ingress.scheme == "internal" and _is_out_of_reach(results):
        results = [_not_from_here(account, target)]
    elif worst(results) is not Status.ERROR and any(one.subject == "chat" for one in results):
        results.append(curl.run(target))
    show(f"Smoke test of {target.url}", results, as_json=as_json)
    if worst(results) is Status.ERROR:
        raise typer.Exit(FAILURE)
    if results[-1].subject == "curl":
        say(_how_to_use(target, account))


def _is_out_of_reach(results: list[Result]) -> bool:
    return len(results) == 1 and ("cannot be reached" in results[0].found or "no answer" in results[0].found)


def _not_from_here(account: Account, target: Target) -> Result:
    """The result for an internal load balancer that this machine cannot reach."""
    host = target.connect_to or account.outputs()["LoadBalancerName"]
    found = (
        f"not tested: {target.url} is internal and cannot be reached from here. Run make smoke on a machine "
        "in its network or, with gpu.shell: true, open a tunnel with the command below (INSTANCE is an ID "
        "that make doctor prints), and run make smoke ARGS='--connect-to 127.0.0.1:8443'"
    )
    return Result(Status.UNKNOWN, "smoke", found, _TUNNEL.format(host=host))


def _how_to_use(target: Target, account: Account | None) -> str:
    lines = [f"The API is at {target.url}. This line was run just now:", ""]
    page = account.outputs().get("PageUrl") if account else None
    if page:
        lines.insert(0, f"To chat in a browser, open {page}")
    if account and not target.token:
        lines += [f'export {curl.VARIABLE}="$({account.outputs()["ReadApiKey"]})"']
    return "\n".join([*lines, curl.line(target)])
