"""Forms with audio: parts that parsers read differently, then bytes where they do not belong.

Each gets a 200 or an error of the client's. The engine must find the model in a form that the orchestrator
found, and everything else as the client sent it.
"""

from __future__ import annotations

import logging
from typing import Any

from hypothesis import strategies as st
from starlette.formparsers import MultiPartException

from tests.fuzz.mutate import Edit, edits, mutated
from tests.fuzz.rig import Failure, Meter, Rig, check_error
from tests.fuzz.target import Case, Target
from tests.support.forms import fields_of
from tests.support.scripted_engine import EngineRequest, Exchange, body, raw_stream

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each form that it rejects

_MODEL = "openai/whisper"
_MODELS = (
    {"model": "scripted"},
    {"model": _MODEL, "kind": "speech-to-text", "aliases": ["whisper-1"]},
)
_TEXT = {"text": "Hello.", "usage": {"type": "duration", "seconds": 3}}
_STREAM = b'data: {"choices": [{"delta": {"content": "Hello."}}]}\n\ndata: [DONE]\n\n'
_TYPES = (
    "multipart/form-data; boundary=b", 'multipart/form-data; boundary="b"', "Multipart/Form-Data;boundary=b",
    "multipart/form-data; charset=utf-8; boundary=b", "multipart/form-data; boundary=b; boundary=c",
)  # fmt: skip
_DISPOSITIONS = (
    'form-data; name="model"', "form-data; name=model", 'form-data; name="stream"',
    'form-data; name="language"', 'form-data; name="file"; filename="a.wav"',
    'form-data; name="model"; filename="a"', 'form-data; name="x"; name="model"',
    "form-data; name*=utf-8''model", 'form-data; name="mo\\"del"', 'FORM-DATA; NAME="model"',
    'form-data; filename="name=model"; name="file"', 'form-data; name="model" ; x=y',
)  # fmt: skip
_HEADERS = ("", "\r\nContent-Type: audio/wav", "\r\nContent-Transfer-Encoding: base64", "\r\nX-Y: 1")
_VALUES = ("whisper-1", _MODEL, "scripted", "other", "", "true", "en", "\xff", "a" * 1100, "--b", "\r\n--b")
TOKENS = (
    "\r\n", "\n", "\r", "--b", "--b--", "\r\n--b\r\n", "\r\n--b--\r\n", "\r\n\r\n", ";", '"', "\\", "=",
    "\0", "\t", ' name="model"', "name*=", 'filename="', "Content-Disposition: form-data; ", "--c",
    "x" * 5000,
    '\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nscripted', "\r\n--b" * 300,
)  # fmt: skip
_PARTS = st.tuples(st.sampled_from(_DISPOSITIONS), st.sampled_from(_HEADERS), st.sampled_from(_VALUES))


def _case(
    path: str, content_type: str, parts: list[tuple[str, str, str]], end: str, changes: list[Edit]
) -> Case:
    texts = [f"--b\r\nContent-Disposition: {name}{more}\r\n\r\n{value}\r\n" for name, more, value in parts]
    sent = mutated("".join([*texts, end]).encode("latin-1"), changes)
    return {"path": path, "type": content_type, "body": sent.decode("latin-1")}


_CASES = st.builds(
    _case,
    st.sampled_from(("/v1/audio/transcriptions", "/v1/audio/translations")),
    st.sampled_from(_TYPES),
    st.lists(_PARTS, min_size=1, max_size=4),
    st.sampled_from(("--b--\r\n", "--b--\r\n", "--b--", "--b--\r\nmore", "")),
    edits(TOKENS, most=3),
)


def check(rig: Rig, case: Case) -> None:
    meter = Meter(rig)
    rig.run(_send(rig, case))
    meter.check()


async def _send(rig: Rig, case: Case) -> None:
    rig.engine.otherwise = _transcribe
    sent = case["body"].encode("latin-1")
    answer = await rig.post(case["path"], sent, content_type=case["type"])
    if answer.status >= 400:
        check_error(answer)
    elif answer.status != 200 or not answer.whole or b'"error"' in answer.body:
        raise Failure(f"a correct answer of the engine became {answer.status} {answer.body[-300:]!r}")
    for request in rig.asked():
        await _check_form(request, sent, case["type"])


async def _check_form(request: EngineRequest, sent: bytes, content_type: str) -> None:
    """Compares what the engine's parser finds in a form with what it would have found in the client's."""
    try:
        found = await _fields(request)
    except MultiPartException:
        return  # the engine rejects it
    models = [value for name, value in found if name == "model"]
    if models not in ([], [""], [_MODEL]):  # without a name, the engine's own model answers
        raise Failure(f"the engine reads the model {models!r} from {request.body[:500]!r}")
    try:
        before = await fields_of(sent, content_type.encode())
    except (MultiPartException, KeyError):
        return
    if _others(found) != _others(before):
        raise Failure(f"the engine reads {_others(found)!r}, and the client sent {_others(before)!r}")


async def _transcribe(exchange: Exchange) -> None:
    try:
        streams = dict(await _fields(exchange.request)).get("stream")
    except MultiPartException:
        await body({"error": {"message": "invalid form"}}, status=400)(exchange)
        return
    is_true = isinstance(streams, str) and streams.lower() in ("true", "1", "on", "t", "y", "yes")
    await (raw_stream(_STREAM) if is_true else body(_TEXT))(exchange)


async def _fields(request: EngineRequest) -> list[tuple[str, Any]]:
    return await fields_of(request.body, request.headers["content-type"].encode())


def _others(fields: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in fields if name != "model"]


TARGET = Target("forms", _CASES, check, _MODELS)
