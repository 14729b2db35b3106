"""Routes of the stand-in."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import adapters, chat, completions, messages, responses
from .arguments import Options
from .errors import ApiError
from .pace import Work, deliver
from .requests import (
    ChatRequest,
    JsonObject,
    Sampling,
    check_prompt,
    parse_body,
    parse_chat,
    parse_completion,
    parse_responses,
    response_not_found,
)
from .scheduler import Scheduler
from .server import Connection, Request
from .tokens import prompt_tokens
from .turn import Decision, Generated, decide, limit, make_turn

VERSION = "0.32.0"
NOTICE = "A stand-in, not a language model: it picks tools by simple rules and repeats their results."

_GUARDED = ("/v1", "/v2", "/inference", "/cohere")
"""The paths that `--api-key` protects in vLLM."""
_STORED_RESPONSE = re.compile(r"/v1/responses/([^/]+)(/cancel)?")
_COUNT_TOKENS = "/v1/messages/count_tokens"
_JSON, _METRICS = "application/json", "text/plain; version=1.0.0; charset=utf-8"

_TOKENIZER_INFO = {
    "tokenizer_class": "Qwen2Tokenizer",
    "eos_token": "<|im_end|>",
    "added_tokens_decoder": {
        "151643": "<|endoftext|>", "151644": "<|im_start|>", "151645": "<|im_end|>", "151657": "<tool_call>",
        "151658": "</tool_call>",
    },
}  # fmt: skip
"""As vLLM gives it, of Qwen2.5, as far as it says which tokens are special."""

Page = tuple[bytes | Mapping[str, Any], str]


class App:
    """Answers the requests of every connection."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._keys = [hashlib.sha256(key.encode()).digest() for key in options.api_keys]
        self._created = int(time.time())
        self.scheduler = Scheduler(options)
        self._pages: dict[str, Callable[[], Page]] = {
            "/health": lambda: (b"", _JSON),
            "/ping": lambda: (b"", _JSON),
            "/version": lambda: ({"version": VERSION}, _JSON),
            "/load": lambda: ({"server_load": self.scheduler.running}, _JSON),
            "/metrics": lambda: (self.scheduler.metrics().encode(), _METRICS),
            "/v1/models": lambda: (
                {"object": "list", "data": list(map(self._model, self._options.served_names))},
                _JSON,
            ),
        }
        if options.tokenizer_info:
            self._pages["/tokenizer_info"] = lambda: (_TOKENIZER_INFO, _JSON)
        self._posts: dict[str, Callable[[JsonObject, str | None], Work]] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/responses": self._response,
            "/v1/messages": self._message,
        }

    async def __call__(self, request: Request, connection: Connection) -> None:
        """Answers one request."""
        headers = self._request_id(request)
        if request.path.startswith(_GUARDED) and not self._authorized(request):
            connection.respond(401, {"error": "Unauthorized"}, headers=headers)
            return
        headers["vary"] = "Origin"
        try:
            await self._route(request, connection, headers)
        except ApiError as error:
            connection.respond(error.status, error.body, headers=headers)

    async def _route(self, request: Request, connection: Connection, headers: dict[str, str]) -> None:
        page, generates = self._pages.get(request.path), request.path in self._posts
        counts = request.path == _COUNT_TOKENS
        change = adapters.ROUTES.get(request.path) if self._options.changes_adapters else None
        stored = _STORED_RESPONSE.fullmatch(request.path)
        if not (page or generates or counts or stored or change):
            connection.respond(404, {"detail": "Not Found"}, headers=headers)
            return
        allowed = "POST" if generates or counts or change or (stored and stored.group(2)) else "GET"
        if request.method != allowed:
            connection.respond(405, {"detail": "Method Not Allowed"}, headers=headers | {"allow": allowed})
        elif stored:
            raise response_not_found(stored.group(1))
        elif page:
            body, content_type = page()
            connection.respond(200, body, content_type, headers)
        else:
            body = parse_body(bytes(request.body), request.headers.get("content-type", ""))
            if change:
                self._options, done = change(self._options, body)
                connection.respond(200, done.encode(), headers=headers)
                return
            if counts:
                connection.respond(200, self._count_tokens(body), headers=headers)
                return
            work = self.work_for(request.path, body, request.headers.get("x-request-id"))
            await deliver(work, self.scheduler, connection, headers)

    def work_for(self, path: str, body: JsonObject, request_id: str | None = None) -> Work:
        """Parses a POST to one of the generating routes into the work it asks for.

        Raises:
            ApiError: The request is invalid.
        """
        return self._posts[path](body, request_id)

    def _request_id(self, request: Request) -> dict[str, str]:
        if not self._options.request_id_headers:
            return {}
        return {"x-request-id": request.headers.get("x-request-id") or os.urandom(16).hex()}

    def _authorized(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(key.encode()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._keys]
        return not self._keys or (scheme.lower() == "bearer" and any(matches))

    def _model(self, name: str) -> JsonObject:
        permission = {
            "id": f"modelperm-{os.urandom(8).hex()}",
            "object": "model_permission",
            "created": self._created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "standin",
            "root": self._options.model,
            "parent": self._options.served_names[0] if name in self._options.adapters else None,
            "max_model_len": self._options.max_model_len,
            "permission": [permission],
            "notice": NOTICE,
        }

    def _chat(self, body: JsonObject, request_id: str | None) -> Work:
        request = parse_chat(body, self._options)
        prompt, decision, generated = self._generate(request)
        identity = chat.new_id("chatcmpl", request_id)
        return Work(
            sampling=request.sampling,
            calls=bool(decision.calls),
            prompt=prompt.count,
            generated=generated,
            whole=lambda: chat.whole(request, identity, prompt, generated),
            stream=lambda: chat.stream(request, identity, prompt, generated),
        )

    def _response(self, body: JsonObject, request_id: str | None) -> Work:  # noqa: ARG002 - its ids are always random
        request = parse_chat(parse_responses(body), self._options)
        prompt, decision, generated = self._generate(request)
        return Work(
            sampling=request.sampling,
            calls=bool(decision.calls),
            prompt=prompt.count,
            generated=generated,
            whole=lambda: responses.whole(body, request, prompt, generated[0]),
            stream=lambda: responses.stream(body, request, prompt, generated[0]),
        )

    def _message(self, body: JsonObject, request_id: str | None) -> Work:  # noqa: ARG002 - its ids are always random
        request = parse_chat(messages.chat_body(body, generates=True), self._options)
        prompt, decision, generated = self._generate(request)
        identity = messages.new_id()
        return Work(
            sampling=request.sampling,
            calls=bool(decision.calls),
            prompt=prompt.count,
            generated=generated,
            whole=lambda: messages.whole(request, prompt, generated[0], identity),
            stream=lambda: messages.stream(request, prompt, generated[0], identity),
        )

    def _count_tokens(self, body: JsonObject) -> JsonObject:
        request = parse_chat(messages.chat_body(body, generates=False), self._options)
        return messages.count(len(prompt_tokens(request.messages, request.tools)))

    def _completion(self, body: JsonObject, request_id: str | None) -> Work:
        sampling, texts = parse_completion(body, self._options)
        made = [self._generate(_plain(sampling, text)) for text in texts]
        prompt = chat.PromptTokens(
            sum(tokens.count for tokens, _, _ in made),
            sum(tokens.cached for tokens, _, _ in made),
            made[0][0].detailed,
        )
        generated = [one for _, _, several in made for one in several]
        identity = chat.new_id("cmpl", request_id)
        return Work(
            sampling=sampling,
            calls=False,
            prompt=prompt.count,
            generated=generated,
            whole=lambda: completions.whole(sampling, identity, prompt, generated),
            stream=lambda: completions.stream(sampling, identity, prompt, generated),
        )

    def _generate(self, request: ChatRequest) -> tuple[chat.PromptTokens, Decision, list[Generated]]:
        options, sampling = self._options, request.sampling
        hidden = request.tool_choice == "none" and options.exclude_tools_when_none
        tokens = prompt_tokens(request.messages, [] if hidden else request.tools)
        check_prompt(len(tokens), options)
        self.scheduler.check_admission(sampling.n)
        cached = self.scheduler.cached_tokens(tokens)
        decision = decide(request, exclude_tools_when_none=hidden)
        room = sampling.fault.chunks + 1 if sampling.fault.chunks else options.max_model_len - len(tokens)
        most = min(room, sampling.max_tokens or room)
        turns = [limit(make_turn(decision, request), most, sampling.stop) for _ in range(sampling.n)]
        return chat.PromptTokens(len(tokens), cached, options.prompt_tokens_details), decision, turns


def _plain(sampling: Sampling, text: str) -> ChatRequest:
    """Wraps a prompt without roles in a chat request that asks the same."""
    return ChatRequest(
        sampling=sampling,
        messages=[{"role": "user", "content": text}],
        tools=[],
        tool_choice=None,
        parallel_tool_calls=True,
        response_format=None,
        logprobs=False,
        top_logprobs=0,
    )
