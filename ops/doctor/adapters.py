"""Checks the prefixes from which engines load adapters while they run."""

from __future__ import annotations

from collections.abc import Iterator

from ops.account import Account, Failed
from ops.adapters import AdapterStore
from ops.report import Result, Status

_SUBJECT = "adapters"


def check_adapters(account: Account) -> list[Result]:
    """Checks that the prefix of each model can be read, and reports adapters that engines leave out."""
    loading = [one.deployment.entry for one in account.plan.entries if one.deployment.model.adapters_from]
    if not loading:
        return [Result(Status.OK, _SUBJECT, "no model has adapters_from")]
    return [result for entry in loading for result in _check(AdapterStore(account, entry or None), account)]


def _check(store: AdapterStore, account: Account) -> Iterator[Result]:
    try:
        found = store.list()
    except Failed as error:
        fix = f"aws s3 mb s3://{store.place.bucket} --region {account.region}"
        yield Result(Status.ERROR, _SUBJECT, str(error), fix)
        return
    complete = [one.name for one in found if one.state == "complete"]
    yield Result(Status.OK, _SUBJECT, f"{len(complete)} complete in {store.place}")
    for one in found:
        if one.state != "complete":
            fix = f'make adapters ARGS="remove {one.name}", or add it again'
            yield Result(Status.WARNING, _SUBJECT, f"{one.name} is {one.state}: {one.reason}", fix)
