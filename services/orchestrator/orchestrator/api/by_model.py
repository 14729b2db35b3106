"""Several models on one route: finds the model that a request names, or the one that stands in for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..engine.fleet import Fleet, Fleets, unknown_model
from ..errors import ApiError, EngineUnavailable, InvalidRequest, ModelBusy, NotFound
from ..model_settings import CHAT_KINDS, Kind
from .in_flight import Bulkhead
from .reply import Reply
from .request import Handler, Request

FALLBACK_HEADER = b"x-fallback-model"

ROUTES: Mapping[str, Sequence[Kind]] = {
    "/v1/chat/completions": ("chat", "vision"),
    "/v1/completions": ("chat", "vision"),
    "/v1/responses": ("chat", "vision"),
    "/v1/messages": ("chat", "vision"),
    "/v1/messages/count_tokens": ("chat", "vision"),
    "/v1/embeddings": ("embedding",),
    "/v1/pooling": ("embedding", "reranker"),
    "/v1/rerank": ("reranker", "embedding"),
    "/v1/score": ("reranker", "embedding"),
    "/v1/classify": ("reranker",),
    "/v1/audio/transcriptions": ("speech-to-text",),
    "/v1/audio/translations": ("speech-to-text",),
}
"""The kinds of models that have each route; a model of the first kind answers requests that name none.

Only these routes of vLLM are reachable. Those that load adapters must never be among them.
"""

FORM_ROUTES = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
"""The routes whose bodies are forms, since they have files."""

ENGINE_PATHS = {"/v1/pooling": "/pooling", "/v1/classify": "/classify"}
"""Paths that vLLM has only without `/v1`."""


def serving(route: str, fleets: Iterable[Fleet]) -> list[Fleet]:
    """Returns the models that have a route, the one for requests that name none first."""
    kinds = ROUTES[route]
    able = [fleet for fleet in fleets if fleet.settings.kind in kinds]
    if set(kinds) <= CHAT_KINDS:
        return able
    return sorted(able, key=lambda fleet: kinds.index(fleet.settings.kind))


class ByModel:
    """Handles one route, by the handler of the model that the request names.

    Args:
        handlers: a handler for each model that has this route.
        bulkheads: of all models, each shared by its routes.
    """

    def __init__(
        self,
        route: str,
        fleets: Fleets,
        handlers: Mapping[Fleet, Handler],
        bulkheads: Mapping[Fleet, Bulkhead],
    ) -> None:
        self._route = route
        self._fleets = fleets
        self._handlers = handlers
        self._bulkheads = bulkheads

    async def __call__(self, request: Request, reply: Reply) -> None:
        payload = request.payload()
        fleet, name = self.find(payload.get("model"))
        fallback = self._fallback(fleet, name, request)
        request.use(payload, name)
        del payload  # the handler's to free
        if fallback is None:
            await self._serve(fleet, request, reply)
            return
        request.kept = request.body
        request.share.resize(request.share.size + len(request.kept))
        request.record.may_wait = not fallback.ready
        lines = reply.lines
        try:
            await self._serve(fleet, request, reply)
        except (EngineUnavailable, ModelBusy) as error:
            if not (_is_untouched(request, reply) and fallback.ready):
                raise
            reply.lines = lines
            await self._serve_instead(fallback, error, request, reply)

    def find(self, name: object) -> tuple[Fleet, str | None]:
        """Returns the model that serves a request, and the name that its engine has to get.

        Without a name, that is the first model that has the route, and its engine gets none.

        Raises:
            NotFound: no model has this name. InvalidRequest: the model does not serve this route.
        """
        if name is None or name == "":
            if not self._handlers:
                raise NotFound(f"No model has the route {self._route}; {self._models_by_kind()}")
            return next(iter(self._handlers)), None
        if not isinstance(name, str):
            raise InvalidRequest("model must be a string: the name of a model", param="model")
        found = self._fleets.names.get(name)
        if found is None:
            raise unknown_model(name, self._fleets.names)
        if found[0] not in self._handlers:
            able = ", ".join(fleet.settings.model for fleet in self._handlers) or "none"
            raise InvalidRequest(
                f"The model {name} ({found[0].settings.kind}) does not have the route {self._route}; models "
                f"that have it: {able}",
                param="model",
                code="model_not_supported",
            )
        return found

    def _models_by_kind(self) -> str:
        return "the models are " + ", ".join(
            f"{fleet.settings.model} ({fleet.settings.kind})" for fleet in self._fleets
        )

    def _fallback(self, fleet: Fleet, name: str | None, request: Request) -> Fleet | None:
        """Returns the model that may answer instead. An adapter has none: it answers differently."""
        fallback = self._fleets.fallback_of(fleet)
        if fallback is None or name in fleet.adapters:
            return None
        account = request.account
        permitted = account is None or request.accounts.permits(account, fallback.settings.model)
        return fallback if permitted else None

    async def _serve(self, fleet: Fleet, request: Request, reply: Reply) -> None:
        record, share, bulkhead = request.record, request.share, self._bulkheads[fleet]
        record.entry, record.clock = fleet.entry, fleet.clock
        bulkhead.enter(share)
        try:
            await self._handlers[fleet](request, reply)
        finally:
            bulkhead.leave(share)

    async def _serve_instead(self, fleet: Fleet, error: ApiError, request: Request, reply: Reply) -> None:
        """Lets another model answer; a failure of both is reported as that of the first."""
        lines = reply.lines
        reply.close()
        reply.add_header(FALLBACK_HEADER, fleet.settings.model)
        request.record.rejected()
        request.use_again(fleet.settings.model)
        try:
            await self._serve(fleet, request, reply)
        except (EngineUnavailable, ModelBusy):
            if not reply.started:
                reply.lines = lines
                raise error from None
            raise


def _is_untouched(request: Request, reply: Reply) -> bool:
    """Whether the client has got nothing of an answer, and no tool has run for it."""
    record = request.record
    return not reply.started and record.rounds < 2 and not record.tools
