"""What the commands share: options, exit statuses, and errors as messages."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.deployment.catalog import load_catalog
from infra.deployment.file import DeploymentError, load_deployment
from infra.deployment.plan import Plan

from .account import Account, Failed, NoAccess, NotAllowed
from .report import Result, Status, say, show, worst

FAILURE, USAGE, NO_ACCESS, INTERRUPTED = 1, 2, 3, 130

DeploymentFile = Annotated[Path, typer.Option("--deployment", envvar="DEPLOYMENT", help="Deployment file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
FILE = Path("tandem.yaml")


def plan_of(file: Path) -> Plan:
    return Plan(load_deployment(file), load_catalog())


def account_of(file: Path) -> Account:
    """Returns the account of a deployment file.

    Raises:
        DeploymentError: The file is invalid.
        NoAccess: No region is set.
    """
    return Account(plan_of(file))


@contextmanager
def errors_reported(state: str = "Nothing was changed.", *, as_json: bool = False) -> Iterator[None]:
    """Turns errors into a message and an exit status; `state` describes the state after an interruption.

    With `as_json`, the message is also printed as a JSON object with the key `error`.
    """
    try:
        yield
    except DeploymentError as error:
        raise _exit(str(error), USAGE, as_json=as_json) from None
    except (NoAccess, NotAllowed) as error:
        raise _exit(f"{error}\n{state}", NO_ACCESS, as_json=as_json) from None
    except (Failed, ClientError, BotoCoreError) as error:
        raise _exit(str(error), FAILURE, as_json=as_json) from None
    except KeyboardInterrupt:
        raise _exit(f"\nInterrupted. {state}", INTERRUPTED, as_json=as_json) from None


def _exit(message: str, status: int, *, as_json: bool) -> typer.Exit:
    say(message)
    if as_json:
        sys.stdout.write(json.dumps({"error": message.strip()}) + "\n")
    return typer.Exit(status)


def finish(title: str, results: list[Result], *, as_json: bool) -> None:
    show(title, results, as_json=as_json)
    if worst(results) is Status.ERROR:
        raise typer.Exit(FAILURE)
