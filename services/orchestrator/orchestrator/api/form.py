"""Forms (multipart/form-data, RFC 7578): finds the model in one, and replaces it, without reading its files.

It is stricter than RFC 2046 where the engine's parser, python-multipart, may interpret the bytes differently:
the engine must not read another model than the one that the key was checked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message

from ..errors import InvalidRequest

_MOST_PARTS = 64
_MOST_HEADER_BYTES = 4096
_LONGEST_VALUE = 1024
_FIELDS = (b"model", b"stream")
"""The fields that decide about a request. No other value is read."""

_TRUE = frozenset({"true", "1", "on", "t", "y", "yes"})  # pydantic's, and so vLLM's
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_PARAMETER = rb';[ \t]*([a-z]+\*?)=("[^"]*"|[^ \t";]+)[ \t]*'
_DISPOSITION = re.compile(rb"[ \t]*form-data[ \t]*((?:%b)+)" % _PARAMETER, re.IGNORECASE)
_EACH_PARAMETER = re.compile(_PARAMETER, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Field:
    """The text of a field, and where it is in the body."""

    text: str
    start: int
    end: int


class Form:
    """What the orchestrator has to know of a form.

    Raises:
        InvalidRequest: the body is not a form, or not one that all parsers read alike.
    """

    def __init__(self, body: bytes, content_type: bytes) -> None:
        boundary = boundary_of(content_type)
        self._delimiter = b"--" + boundary.encode()
        self.content_type = f'multipart/form-data; boundary="{boundary}"'.encode()
        self._fields = _fields(body, self._delimiter)

    @property
    def model(self) -> str | None:
        field = self._fields.get(b"model")
        return field.text if field else None

    @property
    def stream(self) -> bool:
        field = self._fields.get(b"stream")
        return field is not None and field.text.lower() in _TRUE

    def with_model(self, body: bytes, model: str) -> bytes:
        """Returns the body with another model."""
        name, field = model.encode(), self._fields.get(b"model")
        if field is not None:
            return b"".join((body[: field.start], name, body[field.end :]))
        part = b'%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % (self._delimiter, name)
        return part + body.removeprefix(b"\r\n")


def boundary_of(content_type: bytes) -> str:
    """Returns the boundary that a Content-Type has.

    Raises:
        InvalidRequest: it is not that of a form.
    """
    message = Message()
    message["content-type"] = content_type.decode("latin-1")
    if message.get_content_type() != "multipart/form-data":
        raise InvalidRequest(
            f"The request body must be a form, with the Content-Type multipart/form-data; it is "
            f"{content_type[:80].decode('latin-1') or 'missing'!r}",
            status=415,
            code="unsupported_media_type",
        )
    boundary = message.get_boundary()
    if boundary is None or not _BOUNDARY.fullmatch(boundary):
        raise _invalid("the Content-Type must have a boundary of 1 to 70 characters, as in RFC 2046")
    return boundary


def _fields(body: bytes, delimiter: bytes) -> dict[bytes, _Field]:
    """Finds the fields that decide about a request. Only the ends of files are searched for."""
    line = b"\r\n" + delimiter
    at = body.startswith(b"\r\n") * 2
    if not body.startswith(delimiter, at):
        raise _invalid("it does not begin with the boundary that the Content-Type has")
    at += len(delimiter)
    fields: dict[bytes, _Field] = {}
    for _ in range(_MOST_PARTS):
        if body.startswith(b"--", at):
            return fields
        if not body.startswith(b"\r\n", at):
            raise _invalid(f"the boundary at byte {at} is not at the end of a line")
        start = body.find(b"\r\n\r\n", at + 2, at + _MOST_HEADER_BYTES + 6)
        if start < 0:
            raise _invalid(f"a part has no header, or one of more than {_MOST_HEADER_BYTES:,} bytes")
        parameters = _parameters(body[at + 2 : start])
        start += 4
        end = body.find(line, start)
        if end < 0:
            raise _invalid("it ends before the last boundary")
        name = parameters[b"name"]
        if name in _FIELDS:
            if name in fields or len(parameters) > 1:
                raise _invalid(f"{name.decode()} must be one field of text", name)
            fields[name] = _field(body, start, end, name)
        at = end + len(line)
    raise _invalid(f"it has more than {_MOST_PARTS} parts")


def _parameters(header: bytes) -> dict[bytes, bytes]:
    """Returns the parameters of a part's Content-Disposition."""
    found: list[bytes] = []
    for line in header.split(b"\r\n"):
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _invalid(f"a part has the header line {line[:80]!r}")
        if match[1].lower() == b"content-disposition":
            found.append(match[2])
    # Parsers disagree about what ends a text with \" in it.
    match = _DISPOSITION.fullmatch(found[0]) if len(found) == 1 and b'\\"' not in found[0] else None
    parameters: dict[bytes, bytes] = {}
    for key, value in _EACH_PARAMETER.findall(match[1]) if match else ():
        name = key.lower()
        if name in parameters or name == b"name*":
            parameters.clear()
            break
        parameters[name] = value.strip(b'"')
    if b"name" not in parameters:
        shown = found[0][:80] if found else b""
        raise _invalid(
            f'each part must have one Content-Disposition such as form-data; name="file"; it is {shown!r}'
        )
    return parameters


def _field(body: bytes, start: int, end: int, name: bytes) -> _Field:
    try:
        text = body[start : min(end, start + _LONGEST_VALUE + 1)].decode()
    except UnicodeDecodeError:
        raise _invalid(f"{name.decode()} is not UTF-8", name) from None
    if end - start > _LONGEST_VALUE:
        raise _invalid(f"{name.decode()} has more than {_LONGEST_VALUE:,} bytes", name)
    return _Field(text, start, end)


def _invalid(problem: str, field: bytes = b"") -> InvalidRequest:
    return InvalidRequest(
        f"The request body is not a valid form: {problem}",
        param=field.decode() or None,
        code="invalid_form",
    )
