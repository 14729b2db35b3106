"""The commands that manage keys: `python -m ops keys COMMAND`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer
from botocore.exceptions import ClientError
from rich.table import Table

from . import engine_key, key_limits, keys, usage
from .account import Account, Failed, NotAllowed
from .command_line import FILE, AsJson, DeploymentFile, account_of, errors_reported
from .report import console, say

keys_app = typer.Typer(help="Manage API keys. Changes take effect within a minute.", no_args_is_help=True)


_COUNT_HELP = "; none for no limit, default for that of all keys."
Requests = Annotated[
    str | None, typer.Option("--requests-per-minute", help="Requests per minute, such as 300" + _COUNT_HELP)
]
Tokens = Annotated[
    str | None, typer.Option("--tokens-per-day", help="Tokens per day (UTC), such as 2M" + _COUNT_HELP)
]
InFlight = Annotated[
    str | None, typer.Option("--max-in-flight", help="Requests at the same time, such as 8" + _COUNT_HELP)
]
Models = Annotated[
    str | None, typer.Option("--models", help="Permitted models, separated by commas; none for all.")
]
Tools = Annotated[
    str | None,
    typer.Option("--tools", help="Permitted tools of the server, separated by commas; none for all."),
]
Expires = Annotated[
    str | None,
    typer.Option("--expires", help="When the key expires: 12h, 90d, 8w, a date (UTC), or none."),
]
Admin = Annotated[
    bool | None, typer.Option("--admin/--no-admin", help="Whether the key may see the usage of all keys.")
]


@keys_app.command("create")
def create_key(
    name: str,
    requests_per_minute: Requests = None,
    tokens_per_day: Tokens = None,
    max_in_flight: InFlight = None,
    models: Models = None,
    tools: Tools = None,
    expires: Expires = None,
    admin: Admin = None,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it. It is shown only once."""
    state = f"Either there is no key {name}, or one whose value nobody knows: check with make keys ARGS=list."
    options = _options(requests_per_minute, tokens_per_day, max_in_flight, models, tools, expires, admin)
    with errors_reported(state, as_json=as_json):
        key = keys.new_key()
        store = keys.KeyStore(account_of(deployment))
        store.change(lambda document: keys.created(document, name, key, keys.now(), options))
        say(f"The key of {name}. It is shown only once, and works within a minute:")
        _print_key(name, key, as_json=as_json)


@keys_app.command("set")
def set_limits(
    name: str,
    requests_per_minute: Requests = None,
    tokens_per_day: Tokens = None,
    max_in_flight: InFlight = None,
    models: Models = None,
    tools: Tools = None,
    expires: Expires = None,
    admin: Admin = None,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Change the limits of a key. Limits that are not given stay as they are."""
    options = _options(requests_per_minute, tokens_per_day, max_in_flight, models, tools, expires, admin)
    state = "The limits may or may not have changed: check with make keys ARGS=list."
    with errors_reported(state, as_json=as_json):
        store = keys.KeyStore(account_of(deployment))
        document = store.change(lambda document: keys.limited(document, name, options, keys.now()))
        limits = next(key.limits for key in keys.listed(document) if key.name == name)
        say(f"{name}: {key_limits.shown(limits, keys.now()) or 'no limits of its own'}, within a minute.")
        if as_json:
            sys.stdout.write(json.dumps({"name": name, "limits": limits}) + "\n")


def _options(*values: str | bool | None) -> keys.Options:
    return dict(zip(key_limits.FIELDS, values, strict=True))


@keys_app.command("list")
def list_keys(deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """List the keys, their limits, and what each has used today (UTC)."""
    with errors_reported(as_json=as_json):
        account = account_of(deployment)
        listed = keys.listed(keys.KeyStore(account).read())
        used = _used(account)
        if as_json:
            shown = [dataclasses.asdict(key) | {"today": _today(key.name, used)} for key in listed]
            sys.stdout.write(json.dumps(shown) + "\n")
            return
        table = Table(
            "name", "created", "limits", "requests today", "tokens today", box=None, header_style="bold"
        )
        for key in listed:
            created = "revoked" if key.revoked else " and ".join(key.created)
            limits = key_limits.shown(key.limits, keys.now())
            table.add_row(
                key.name, created, limits, *_cells(key, used, account.deployment.limits.tokens_per_day)
            )
        console().print(table)


def _used(account: Account) -> dict[str, usage.Row] | None:
    """Returns what each key has used today, or None if it cannot be read, which is reported."""
    try:
        return usage.of_keys(account, keys.now())
    except (Failed, NotAllowed, ClientError) as problem:
        say(f"What was used today is unknown: {problem}")
        return None


def _today(name: str, used: dict[str, usage.Row] | None) -> dict[str, int] | None:
    if used is None:
        return None
    row = used.get(name, dict.fromkeys(usage.COUNTS, 0))
    return {"requests": row["requests"], "tokens": row["prompt_tokens"] + row["completion_tokens"]}


def _cells(key: keys.Key, used: dict[str, usage.Row] | None, default: int | None) -> tuple[str, str]:
    today = _today(key.name, used)
    if today is None:
        return "unknown", "unknown"
    limit = key.limits.get("tokens_per_day", default)
    of = f" of {key_limits.short(limit)}" if limit else ""
    return key_limits.short(today["requests"]), key_limits.short(today["tokens"]) + of


@keys_app.command("revoke")
def revoke_key(name: str, deployment: DeploymentFile = FILE, as_json: AsJson = False) -> None:
    """Revoke a key. The generated one is named `bootstrap`."""
    with errors_reported(
        "The key may or may not be revoked: check with make keys ARGS=list.", as_json=as_json
    ):
        keys.KeyStore(account_of(deployment)).change(lambda document: keys.revoked(document, name))
        say(f"{name} is revoked. Requests with it get a 401 within a minute.")
        if as_json:
            _print_key(name, None, as_json=True)


@keys_app.command("rotate")
def rotate_key(
    name: str,
    finish_rotation: Annotated[bool, typer.Option("--finish", help="Remove the older value.")] = False,
    deployment: DeploymentFile = FILE,
    as_json: AsJson = False,
) -> None:
    """Create a second value and print it. Both are valid until `--finish`."""
    with errors_reported(
        "The older value is valid. Whether there is a second one: make keys ARGS=list.", as_json=as_json
    ):
        store = keys.KeyStore(account_of(deployment))
        if finish_rotation:
            store.change(lambda document: keys.finished(document, name))
            say(f"{name}: within a minute, only the newest value is valid.")
            if as_json:
                _print_key(name, None, as_json=True)
            return
        key = keys.new_key()
        store.change(lambda document: keys.rotated(document, name, key, keys.now()))
        say(f"The new key of {name}. The older one is valid until: make keys ARGS='rotate {name} --finish'")
        _print_key(name, key, as_json=as_json)


@keys_app.command("rotate-engine")
def rotate_engine_key(deployment: DeploymentFile = FILE) -> None:
    """Replace the key between the tiers. Both restart; with one GPU, the engine has a gap as in a release."""
    with errors_reported("make keys ARGS=rotate-engine continues the rotation."):
        engine_key.EngineKey(account_of(deployment)).rotate(say)
        say("The engines accept only the new key. The old one is worthless.")


def _print_key(name: str, key: str | None, *, as_json: bool) -> None:
    """Prints only a new key; with `as_json` also its name, and null if there is no new key."""
    sys.stdout.write(json.dumps({"name": name, "key": key}) + "\n" if as_json else f"{key}\n")
