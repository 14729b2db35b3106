"""The settings of models: `MODELS`, or the variables of a single model."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

Kind = Literal["chat", "vision", "embedding", "reranker", "speech-to-text"]
Rescue = Literal["never", "end_of_turn"]

CHAT_KINDS = frozenset({"chat", "vision"})
MAX_MODELS = 100
_NAME = re.compile(r"[\w./:@+-]{1,256}")
PARSER = r"^[a-z0-9_]{1,64}$"


def split(value: Any) -> Any:
    """Splits a text at its commas."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def base_url(value: str) -> str:
    """Returns the base URL of an HTTP server without a trailing `/v1`.

    Raises:
        ValueError: it cannot be used.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a base URL such as http://vllm:8000")
    if parts.username or parts.password:
        raise ValueError("must not contain a user or password; set VLLM_API_KEY to the engine's key")
    _ = parts.port
    if parts.path.rstrip("/") not in ("", "/v1"):
        raise ValueError("must not have a path (a trailing /v1 is dropped)")
    return f"{parts.scheme}://{parts.netloc}"


def _engine_urls(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must contain at least one base URL such as http://vllm:8000")
    return tuple(dict.fromkeys(base_url(url) for url in value))


def is_name(value: str) -> bool:
    """Returns whether a model or an adapter may have this name."""
    return _NAME.fullmatch(value) is not None


def _model_name(value: str) -> str:
    if not is_name(value):
        raise ValueError("must have 1 to 256 letters, digits and characters of ./:@+_-")
    return value


EngineUrls = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_engine_urls)]
ModelName = Annotated[str, AfterValidator(_model_name)]


class ModelSettings(BaseModel):
    """One model and the engines that serve it.

    Attributes:
        model: the name by which its engines know it.
        kind: what the model is for, which decides about the routes that serve it.
        aliases: other names by which clients may ask for it.
        adapters: names of its LoRA adapters, which clients ask for like models.
        loads_adapters: whether its engines have further adapters, which come and go while they run.
        fallback: another model that answers while this one is not available.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName
    url: EngineUrls
    kind: Kind = "chat"
    aliases: tuple[ModelName, ...] = ()
    adapters: tuple[ModelName, ...] = ()
    loads_adapters: bool = False
    fallback: ModelName | None = None
    startup_seconds: float = Field(0, ge=0, le=3600)
    status_port: int = Field(0, ge=0, le=65535)
    takes_images: bool = False
    rescue: Rescue | None = None
    tool_call_parser: str | None = Field(None, pattern=PARSER)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name by which clients may ask for the model or one of its adapters."""
        return (self.model, *self.aliases, *self.adapters)

    @property
    def sees_images(self) -> bool:
        return self.takes_images or self.kind == "vision"


def read_models(value: Any) -> Any:
    """Reads MODELS.

    Raises:
        ValueError: it is not a list of usable models. The message names the model, the field and its value.
    """
    if not isinstance(value, str):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"must be JSON: {error}") from None
    if not isinstance(found, list) or not 0 < len(found) <= MAX_MODELS:
        raise ValueError(f"must be a JSON list of 1 to {MAX_MODELS} objects, one per model")
    models = tuple(_model(number, one) for number, one in enumerate(found, 1))
    _check_names(models)
    for one in models:
        _check_fallback(one, models)
    return models


def _model(number: int, value: Any) -> ModelSettings:
    if not isinstance(value, dict):
        raise ValueError(f"entry {number} must be an object with model and url, not {_shown(value)}")
    try:
        return ModelSettings.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        found = f"; it is {_shown(problem['input'])}"
        if problem["type"] == "extra_forbidden":
            message, found = f"is not a field; the fields are {', '.join(ModelSettings.model_fields)}", ""
        elif problem["type"] == "missing":
            message, found = "is missing; every model needs model and url", ""
        who = f" ({value['model']})" if isinstance(value.get("model"), str) else ""
        raise ValueError(f"entry {number}{who}: {where} {message}{found}") from None


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()[:200]


def _check_names(models: tuple[ModelSettings, ...]) -> None:
    counts = Counter(name for one in models for name in one.names)
    for name, count in counts.items():
        if count > 1:
            owners = ", ".join(dict.fromkeys(one.model for one in models if name in one.names))
            raise ValueError(
                f"the name {name} occurs {count} times, in {owners}: give each model, alias and adapter "
                "a name of its own"
            )


def _check_fallback(one: ModelSettings, models: tuple[ModelSettings, ...]) -> None:
    if one.fallback is None:
        return
    wrong = f"the fallback {one.fallback} of {one.model}"
    others = {other.model: other for other in models if other is not one}
    other = others.get(one.fallback)
    if other is None:
        raise ValueError(
            f"{wrong} must be the model of another entry: {', '.join(others) or 'there is none'}"
        )
    if not {one.kind, other.kind} <= CHAT_KINDS and one.kind != other.kind:
        raise ValueError(f"{wrong} must be of the same kind, {one.kind}; it is of the kind {other.kind}")
    if one.kind == "embedding":
        raise ValueError(
            f"{wrong} cannot be used: the vectors of two embedding models cannot be compared. Remove it"
        )
