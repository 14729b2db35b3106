"""A request that was admitted, as its handler gets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..limits.accounts import Account, Accounts, Ticket
from ..memory import Share
from ..protocol import JsonObject, dumps, exact, parse_object
from ..telemetry import Record
from .form import Form
from .head import Head
from .reply import Reply


@dataclass(slots=True)
class Request:
    """A request whose key and size have been checked. Header names are in lower case.

    Attributes:
        is_form: whether the body is a form. If not, it is JSON.
        content_type: what an engine needs as Content-Type, empty for JSON.
        parsed: the body, if it was parsed before the handler asks for it.
        kept: the body as it came, if another model may have to answer.
    """

    path: str
    headers: dict[bytes, bytes]
    body: bytes
    record: Record
    head: Head
    share: Share
    accounts: Accounts
    account: Account | None
    ticket: Ticket | None
    is_form: bool = False
    content_type: bytes = b""
    parsed: JsonObject | None = None
    kept: bytes = b""

    def payload(self) -> JsonObject:
        """Parses the body. The deployment in one of Azure's paths is its model.

        Of a form, only the fields that the orchestrator needs are returned.

        Raises:
            InvalidRequest: the body is neither a JSON object nor a form.
            NotPermitted: the key may not use the model.
        """
        if self.parsed is not None:
            parsed, self.parsed = self.parsed, None
            return parsed
        payload = self._parse()
        if self.head.deployment and payload.get("model") != self.head.deployment:
            payload = self._renamed(payload, self.head.deployment)
        if self.ticket is not None:
            self.accounts.check_model(self.ticket.account, payload.get("model"))
            self.accounts.expect(self.ticket, payload)
        if self.record.traced:
            self.record.saw_request(payload)
        return payload

    def use(self, payload: JsonObject, model: str | None) -> None:
        """Hands the parsed body to the handler, with another name of the model, if one is given."""
        if model is not None and payload.get("model") != model:
            payload = self._renamed(payload, model)
        self.parsed = payload

    def use_again(self, model: str) -> None:
        """Hands the body that was kept to another model's handler."""
        self.body = self.kept
        self.use(self._parse(), model)

    def _parse(self) -> JsonObject:
        if not self.is_form:
            return parse_object(self.body)
        form = Form(self.body, self.headers.get(b"content-type", b""))
        self.content_type = form.content_type
        return {"stream": form.stream} | ({"model": form.model} if form.model else {})

    def _renamed(self, payload: JsonObject, model: str) -> JsonObject:
        """Returns the payload with another model, and changes the body accordingly."""
        if self.is_form:
            self.body = Form(self.body, self.content_type).with_model(self.body, model)
            return {**payload, "model": model}
        payload = exact(payload, self.body)
        payload["model"] = model
        self.body = dumps(payload)
        return payload

    def free(self) -> None:
        """Frees the body, which the engine has and nobody needs any longer."""
        self.body = self.kept = b""
        self.share.resize(0)


Handler = Callable[[Request, Reply], Awaitable[None]]
