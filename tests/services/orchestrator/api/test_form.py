"""Forms: the engine's parser must find in them what the orchestrator found."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.formparsers import MultiPartException

from orchestrator.api.form import Form, boundary_of
from orchestrator.errors import InvalidRequest
from tests.support.forms import fields_of

TYPE = b"multipart/form-data; boundary=b"


def part(value: bytes, disposition: bytes = b'form-data; name="model"', *more: bytes) -> bytes:
    lines = [b"--b", b"Content-Disposition: " + disposition, *more, b"", value, b""]
    return b"\r\n".join(lines)


FILE = part(b"RIFF\0\xff", b'form-data; name="file"; filename="a.wav"', b"Content-Type: audio/wav")
END = b"--b--\r\n"
WHOLE = part(b"whisper") + FILE + part(b"true", b'form-data; name="stream"') + END


def as_engine(body: bytes, content_type: bytes) -> list[tuple[str, Any]]:
    return asyncio.run(fields_of(body, content_type))


def test_model_and_stream_are_found_and_the_model_is_replaced() -> None:
    form = Form(WHOLE, TYPE)
    assert (form.model, form.stream) == ("whisper", True)
    renamed = form.with_model(WHOLE, "openai/whisper-large-v3-turbo")
    assert renamed == WHOLE.replace(b"\r\nwhisper\r\n", b"\r\nopenai/whisper-large-v3-turbo\r\n")
    assert as_engine(renamed, form.content_type) == [
        ("model", "openai/whisper-large-v3-turbo"),
        ("file", ("a.wav", b"RIFF\0\xff")),
        ("stream", "true"),
    ]


@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_model_is_added_where_there_is_none(before: bytes) -> None:
    form = Form(before + FILE + END, TYPE)
    assert (form.model, form.stream) == (None, False)
    renamed = form.with_model(before + FILE + END, "whisper")
    assert as_engine(renamed, form.content_type) == [
        ("model", "whisper"),
        ("file", ("a.wav", b"RIFF\0\xff")),
    ]


@pytest.mark.parametrize("word", ["true", "True", "1", "on", "yes"])
def test_every_word_for_true_asks_for_a_stream(word: str) -> None:
    assert Form(part(word.encode(), b'form-data; name="stream"') + END, TYPE).stream


def test_forms_of_clients_are_read() -> None:
    sent = httpx.Request(
        "POST", "http://x/", data={"model": "größe", "stream": "false"}, files={"file": ("ä\"'.wav", b"x")}
    )
    form = Form(sent.read(), sent.headers["content-type"].encode())
    assert (form.model, form.stream) == ("größe", False)
    curl = b"--b\r\nContent-Disposition: form-data; name=model\r\nContent-Length: 1\r\n\r\nw\r\n" + FILE + END
    assert Form(curl, b'Multipart/Form-Data; charset=utf-8; boundary="b"').model == "w"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"", 415),
        (b"application/json", 415),
        (b"multipart/mixed; boundary=b", 415),
        (b"multipart/form-data", 400),
        (b"multipart/form-data; boundary=", 400),
        (b"multipart/form-data; boundary=" + b"b" * 71, 400),
        (b'multipart/form-data; boundary="b\\""', 400),
        (b"multipart/form-data; boundary=\xff", 400),
    ],
)
def test_other_content_types_are_rejected(content_type: bytes, status: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        boundary_of(content_type)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "does not begin"),
        (b"{}", "does not begin"),
        (b"preamble\r\n" + WHOLE, "does not begin"),
        (WHOLE[:-6], "ends before"),
        (b"--bc" + WHOLE[3:], "not at the end of a line"),
        (FILE.replace(b"RIFF", b"\r\n--b \r\n") + END, "not at the end of a line"),
        (part(b"a") + part(b"b") + END, "model must be one field"),
        (part(b"a", b'form-data; name="model"; filename="m"') + END, "model must be one field"),
        (part(b"a", b"form-data; name=\"model\"; filename*=utf-8''m") + END, "model must be one field"),
        (part(b"a", b"form-data; name*=utf-8''model") + END, "Content-Disposition"),
        (part(b"a", b'form-data; name="x"; name="model"') + END, "Content-Disposition"),
        (part(b"a", b'form-data; name="x"; NAME="model"') + END, "Content-Disposition"),
        (part(b"a", b'form-data; name="x\\"; name=\\"model"') + END, "Content-Disposition"),
        (part(b"a", b'attachment; name="model"') + END, "Content-Disposition"),
        (part(b"a", b"form-data") + END, "Content-Disposition"),
        (part(b"a", b'form-data; name="x"', b'content-disposition: form-data; name="model"') + END, "one"),
        (part(b"a", b'form-data;\r\n name="model"') + END, "header line"),
        (part(b"a", b'form-data; name="model"\n') + END, "header line"),
        (b"--b\r\n\r\nx\r\n" + END, "header"),
        (part(b"\xff") + END, "not UTF-8"),
        (part(b"x" * 1025) + END, "more than 1,024 bytes"),
        (part(b"x", b'form-data; name="file"', b"X: " + b"x" * 5000) + END, "4,096 bytes"),
        (part(b"x", b'form-data; name="file"') * 65 + END, "more than 64 parts"),
    ],
)
def test_forms_that_parsers_may_read_differently_are_rejected(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(problem)) as caught:
        Form(body, TYPE)
    assert (caught.value.status, caught.value.code) == (400, "invalid_form")


PIECES = (
    b"--b", b"--b--", b"\r\n", b"\r", b"\n", b"-", b"\r\n--b\r\n", b"\r\n\r\n", b"Content-Disposition: ",
    b"form-data", b"; ", b";", b'name="model"', b"name=model", b'name="stream"', b'name="file"', b'"', b"\\",
    b'filename="a"', b"filename*=utf-8''a", b"name*=utf-8''model", b"Content-Type: audio/wav", b"model", b" ",
    b"whisper", b"\xff", b"\0", b"=", b":", b"*",
)  # fmt: skip


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Draws a form, and often damages it."""
    body = b"".join(
        draw(st.permutations([part(b"whisper"), FILE, part(b"1", b'form-data; name="stream"')]))
    ) + draw(st.sampled_from([END, b"--b--", b"--b--epilogue", b""]))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.integers(0, 4))
        inserted = draw(st.lists(st.sampled_from(PIECES), max_size=4).map(b"".join) | st.binary(max_size=4))
        body = body[:start] + inserted + body[end:]
    return body


@given(forms(), st.sampled_from(["m", "org/model", "größe"]))
@example(WHOLE, "m")
def test_the_engine_s_parser_reads_what_this_one_has_read(body: bytes, model: str) -> None:
    try:
        form = Form(body, TYPE)
    except InvalidRequest:
        return
    renamed = form.with_model(body, model)
    try:
        before = as_engine(body, form.content_type)
    except MultiPartException:
        with pytest.raises(MultiPartException):
            as_engine(renamed, form.content_type)
        return
    assert [value for name, value in before if name == "model"] == (
        [] if form.model is None else [form.model]
    )
    after = as_engine(renamed, form.content_type)
    assert [value for name, value in after if name == "model"] == [model]
    assert [one for one in after if one[0] != "model"] == [one for one in before if one[0] != "model"]


@given(st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
def test_any_bytes_are_a_form_or_an_error(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        Form(body, TYPE)


def test_files_cost_a_search_at_most() -> None:
    """A parser in Python would take a second for each of these."""
    line = b"\r\n--" + b"x" * 69
    content_type = b"multipart/form-data; boundary=" + b"x" * 70
    head = b"--" + b"x" * 70 + b'\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for content in (b"\r\n" * 4_000_000, line * 100_000, b"\r\n--" * 2_000_000):
        body = head + content + line + b"x--\r\n"
        form = Form(body, content_type)
        assert len(form.with_model(body, "m")) > len(body)
