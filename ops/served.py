"""The models that a server lists, and a request to each that shows that it does what it is for."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai
from openai.types import Model

CHATS = ("chat", "vision")
_HERTZ = 16_000
_TEXTS = ("a cat on a mat", "a load balancer")


class Unexpected(Exception):
    """The answer is wrong. The message contains it."""


class Starting(Exception):
    """The request has started an engine, and did not wait for it."""

    def __init__(self, model: str) -> None:
        super().__init__("no engine ran; the request has started one, which takes minutes")
        self.model = model


@dataclass(frozen=True, slots=True)
class Served:
    """A name that clients may request.

    Attributes:
        kind: What the model does; None if the server does not say, as where it has a single model.
        sleeps: Whether a request has to start an engine first.
        is_alias: Whether it is another name of a model that is listed too.
        base: The model of which it is an adapter.
    """

    name: str
    kind: str | None = None
    sleeps: bool = False
    is_alias: bool = False
    base: str | None = None

    @property
    def chats(self) -> bool:
        """Whether it answers chats, as far as the server says."""
        return self.kind is None or self.kind in CHATS


def served(listed: Sequence[Model]) -> list[Served]:
    """Returns the names that a server lists, in order."""
    return [_served(one) for one in listed]


def _served(model: Model) -> Served:
    fields = model.model_extra or {}
    said = fields.get("tandem")
    state: dict[str, Any] = said if isinstance(said, dict) else {}
    return Served(
        model.id,
        kind=state.get("kind"),
        sleeps=state.get("state") in ("sleeping", "starting"),
        is_alias="alias_of" in state,
        base=fields.get("parent"),
    )


def first_of(models: Sequence[Served], wanted: str | None) -> Served:
    """Returns the one that is tested most: the wanted one, or the first that chats, or the first."""
    if wanted is not None:
        return next((one for one in models if one.name == wanted), Served(wanted))
    return next((one for one in models if one.chats), models[0])


def others_of(models: Sequence[Served], first: Served) -> list[Served]:
    """Returns the other models and adapters, if the server says what each of several does."""
    return [one for one in models if one.kind is not None and one != first and not one.is_alias]


def ask(client: openai.OpenAI, model: Served) -> str:
    """Sends a request of the model's kind, and returns what the answer shows.

    Raises:
        Unexpected: The answer is wrong.
        Starting: There is no answer yet: only a stream, which chats have, is held until an engine is there.
    """
    try:
        match model.kind:
            case "embedding":
                return _embedding(client, model.name)
            case "reranker":
                return _reranking(client, model.name)
            case "speech-to-text":
                return _transcription(client, model.name)
    except openai.InternalServerError as error:
        if error.code != "engine_starting":
            raise
        raise Starting(model.name) from None
    return _chat(client, model.name)


def _chat(client: openai.OpenAI, model: str) -> str:
    """Asks with a stream, which the server holds while an engine starts."""
    stream = client.chat.completions.create(
        model=model, max_tokens=16, messages=[{"role": "user", "content": "Say hello."}], stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    if not text.strip():
        raise Unexpected("the stream ended without any text")
    return " ".join(text.split())[:48]


def _embedding(client: openai.OpenAI, model: str) -> str:
    vectors = [one.embedding for one in client.embeddings.create(model=model, input=list(_TEXTS)).data]
    sizes = {len(vector) for vector in vectors}
    if len(vectors) != len(_TEXTS) or len(sizes) != 1 or vectors[0] == vectors[1]:
        raise Unexpected(f"{len(_TEXTS)} texts got {len(vectors)} vectors of {sorted(sizes)} numbers")
    return f"vectors of {sizes.pop()} numbers"


def _reranking(client: openai.OpenAI, model: str) -> str:
    body = {"model": model, "query": "Which animal sits there?", "documents": list(_TEXTS)}
    answer: Any = client.post("/rerank", body=body, cast_to=object)
    found = {one.get("index") for one in answer.get("results", [])} if isinstance(answer, dict) else set()
    if found != set(range(len(_TEXTS))):
        raise Unexpected(f"{len(_TEXTS)} documents got these ranks: {answer}")
    return f"{len(found)} documents ranked"


def _transcription(client: openai.OpenAI, model: str) -> str:
    audio = io.BytesIO()
    with wave.open(audio, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_HERTZ)
        file.writeframes(bytes(2 * _HERTZ))
    answer = client.audio.transcriptions.create(model=model, file=("silence.wav", audio.getvalue()))
    text = getattr(answer, "text", None)  # the client does not check what it gets
    if not isinstance(text, str):
        raise Unexpected(f"a second of silence got this answer: {answer}")
    return f"a second of silence heard as {text.strip()[:40]!r}"
