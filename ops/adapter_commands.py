"""The commands that change adapters without a release: `python -m ops adapters COMMAND`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.table import Table

from .adapters import AdapterStore
from .command_line import FILE, AsJson, DeploymentFile, account_of, errors_reported
from .report import console, say

adapters_app = typer.Typer(
    help="Manage the adapters that engines load while they run (adapters_from). Needs no release.",
    no_args_is_help=True,
)

Model = Annotated[
    str | None, typer.Option("--model", help="Entry of models. Default: the one that has adapters_from.")
]
_MB = 1_000_000


@adapters_app.command("add")
def add_adapter(
    name: Annotated[str, typer.Argument(help="The name by which clients request it.")],
    source: Annotated[str, typer.Argument(help="A directory, or s3://bucket/prefix.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace an adapter of this name.")] = False,
    model: Model = None,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Check an adapter and copy it to where the engines look."""
    state = "The adapter may be there in part, which engines ignore: add it again, or remove it."
    with errors_reported(as_json=as_json):
        store = AdapterStore(account_of(deployment), model)
    with errors_reported(state, as_json=as_json):
        rank = store.add(name, source, replace=replace)
        say(
            f"{name} (rank {rank}) is in {store.place}/{name}. The engines of {store.model} look every "
            "minute; once all have it, /v1/models lists it."
        )
        if as_json:
            sys.stdout.write(json.dumps({"name": name, "model": store.model, "rank": rank}) + "\n")


@adapters_app.command("list")
def list_adapters(model: Model = None, deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """List the adapters where the engines look, and why engines would not load one."""
    with errors_reported(as_json=as_json):
        store = AdapterStore(account_of(deployment), model)
        found = store.list()
        if as_json:
            shown = [
                {**dataclasses.asdict(one), "changed": one.changed.isoformat(timespec="seconds")}
                for one in found
            ]
            sys.stdout.write(json.dumps(shown) + "\n")
            return
        if not found:
            say(f"There are no adapters below {store.place}.")
            return
        table = Table("name", "state", "rank", "MB", "changed (UTC)", box=None, header_style="bold")
        for one in found:
            rank = "" if one.rank is None else str(one.rank)
            size = f"{one.size / _MB:.1f}"
            table.add_row(one.name, one.state, rank, size, f"{one.changed:%Y-%m-%d %H:%M}")
        console().print(table)
        for one in found:
            if one.reason:
                say(f"{one.name}: {one.reason}")


@adapters_app.command("remove")
def remove_adapter(
    name: str, model: Model = None, deployment: DeploymentFile = FILE, as_json: AsJson = False
) -> None:
    """Delete an adapter from where the engines look. Requests that use it finish."""
    state = "The adapter may be removed in part, and engines may still serve it: remove it again."
    with errors_reported(as_json=as_json):
        store = AdapterStore(account_of(deployment), model)
    with errors_reported(state, as_json=as_json):
        store.remove(name)
        say(f"{name} is removed. Within two minutes, requests for it get a 404.")
        if as_json:
            sys.stdout.write(json.dumps({"name": name, "model": store.model}) + "\n")
