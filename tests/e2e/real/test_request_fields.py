"""The recorded request fields are those of the installed vLLM."""

from __future__ import annotations

import json

from tests.e2e.engine.request_fields import RECORDED, fields_of

from .conftest import PYTHON


def test_recorded_request_fields_are_current() -> None:
    assert fields_of(PYTHON) == json.loads(RECORDED.read_text())
