"""A request's body: parsed once, and with another name of its model."""

from __future__ import annotations

from orchestrator.api.head import Head
from orchestrator.api.request import Request
from orchestrator.limits.accounts import Accounts
from orchestrator.limits.rules import Limits
from orchestrator.memory import Budget, Share
from orchestrator.telemetry import Record

BODY = b'{"model": "alias", "seed": 123456789012345678901234567890}'


def request() -> Request:
    share = Share(Budget(2**20))
    share.resize(1000)
    route = "/v1/completions"
    return Request(route, {}, BODY, Record("r", route), Head(), share, Accounts(Limits()), None, None)


def test_body_is_handed_on_once_and_not_kept() -> None:
    one = request()
    payload = one.payload()
    one.use(payload, "alias")
    assert one.body is BODY, "the name is the same"
    assert one.payload() is payload
    assert one.payload() is not payload, "nothing keeps what the handler may free"


def test_another_name_leaves_the_rest_exact() -> None:
    one = request()
    one.use(one.payload(), "name")
    wanted = {"model": "name", "seed": 123456789012345678901234567890}
    assert one.payload() == wanted
    assert one.body == b'{"model":"name","seed":123456789012345678901234567890}'


def test_freeing_frees_every_copy() -> None:
    one = request()
    one.kept = one.body
    one.free()
    assert (one.body, one.kept, one.share.size) == (b"", b"", 0)
