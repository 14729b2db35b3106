"""The example module, used as the documentation describes for modules of users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tools.toolbox import Toolbox, load_tools

EXAMPLES = Path(__file__).parents[4] / "examples" / "tools"


@pytest.fixture
async def toolbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Toolbox]:
    monkeypatch.syspath_prepend(EXAMPLES)
    toolbox = Toolbox(load_tools(["shipping"]))
    yield toolbox
    await toolbox.aclose()


async def call(toolbox: Toolbox, name: str, **arguments: Any) -> Any:
    result = await toolbox.call(name, json.dumps(arguments), request_id="r1")
    return json.loads(result.content)


BOX = {"weight_kg": 3, "length_cm": 40, "width_cm": 30, "height_cm": 25, "country": "JP"}


async def test_both_tools_run_concurrently(toolbox: Toolbox) -> None:
    quote, parcel = await asyncio.gather(
        call(toolbox, "quote_shipping", **BOX),
        call(toolbox, "track_parcel", tracking_number="rr 473124829 gb"),
    )
    # 40 * 30 * 25 / 5000 = 6 kg: 18.00 + 11 * 4.20
    assert quote == {"price_eur": 64.2, "charged_kg": 6.0, "zone": "world", "speed": "standard"}
    assert parcel == {
        "tracking_number": "RR473124829GB",
        "status": "in transit",
        "last_event": "left the sorting centre in Frankfurt",
    }


async def test_heavy_small_box_is_charged_by_weight(toolbox: Toolbox) -> None:
    small = BOX | {"length_cm": 10, "width_cm": 10, "height_cm": 10, "country": "DE", "speed": "express"}
    assert await call(toolbox, "quote_shipping", **small) == {
        "price_eur": 13.5,
        "charged_kg": 3.0,
        "zone": "domestic",
        "speed": "express",
    }


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("quote_shipping", BOX | {"country": "ZZ"}, "ValueError: we do not ship to ZZ; we ship to DE, FR"),
        ("quote_shipping", BOX | {"weight_kg": 31}, "'weight_kg': Input should be less than or equal to 30"),
        ("quote_shipping", BOX | {"country": "Japan"}, "'country': String should match pattern"),
        ("track_parcel", {"tracking_number": "RR473124828GB"}, "is not a tracking number"),
        ("track_parcel", {"tracking_number": "hello"}, "is not a tracking number"),
        (
            "track_parcel",
            {"tracking_number": "RA123456785FI"},
            "ValueError: no parcel has the number RA123456785FI",
        ),
    ],
)
async def test_mistakes_are_explained(
    toolbox: Toolbox, name: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in (await call(toolbox, name, **arguments))["error"]


def test_schema_describes_units_and_limits(toolbox: Toolbox) -> None:
    quote, track = (spec["function"] for spec in toolbox.specs())
    assert (quote["name"], track["name"]) == ("quote_shipping", "track_parcel")
    assert quote["parameters"]["properties"]["weight_kg"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 30,
        "description": "Weight on the scales.",
    }
    assert quote["parameters"]["required"] == list(BOX)
