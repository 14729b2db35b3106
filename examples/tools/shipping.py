"""Example tools for a web shop's shipping desk, as a starting point for your own.

Start the server with PYTHONPATH=examples/tools TOOL_MODULES=shipping and ask: "What does it cost to send
a 3 kg box of 40 x 30 x 25 cm to Japan, and where is parcel RR473124829GB?" The model calls both functions
in one turn, and the server runs them in parallel.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field

Centimetres = Annotated[float, Field(gt=0, le=150)]

# Replace these three with your own systems: a price list, a database, a carrier's API.
_ZONES = {"DE": "domestic", "FR": "europe", "ES": "europe", "GB": "europe", "US": "world", "JP": "world"}
_EUR = {
    "domestic": (4.5, 0.6),
    "europe": (9.0, 1.4),
    "world": (18.0, 4.2),
}  # first half kilogram, each further half kilogram
_PARCELS = {
    "RR473124829GB": ("in transit", "left the sorting centre in Frankfurt"),
    "CP123456785DE": ("delivered", "handed to a neighbour"),
}


def quote_shipping(
    *,
    weight_kg: Annotated[float, Field(gt=0, le=30)],
    length_cm: Centimetres,
    width_cm: Centimetres,
    height_cm: Centimetres,
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")],
    speed: Literal["standard", "express"] = "standard",
) -> dict[str, float | str]:
    """Work out what it costs to send a parcel.

    Args:
        weight_kg: Weight on the scales.
        length_cm: Longest side.
        width_cm: Second side.
        height_cm: Third side.
        country: Destination as a two-letter ISO country code, JP for Japan.
        speed: Express costs 80 % more.
    """
    if country not in _ZONES:
        raise ValueError(f"we do not ship to {country}; we ship to {', '.join(_ZONES)}")
    # IATA: 5,000 cm³ of air freight is charged as one kilogram.
    volumetric_kg = length_cm * width_cm * height_cm / 5_000
    halves = math.ceil(max(weight_kg, volumetric_kg) / 0.5)
    first, further = _EUR[_ZONES[country]]
    price = (first + further * (halves - 1)) * (1.8 if speed == "express" else 1)
    return {"price_eur": round(price, 2), "charged_kg": halves / 2, "zone": _ZONES[country], "speed": speed}


async def track_parcel(tracking_number: str) -> dict[str, str]:
    """Find out where a parcel is.

    Args:
        tracking_number: Two letters, nine digits, two letters, for example RR473124829GB
    """
    number = tracking_number.replace(" ", "").upper()
    if not _is_s10(number):
        raise ValueError(f"{tracking_number!r} is not a tracking number: a character is wrong or missing")
    if number not in _PARCELS:  # with a real API, await its response here
        raise ValueError(f"no parcel has the number {number}")
    status, event = _PARCELS[number]
    return {"tracking_number": number, "status": status, "last_event": event}


def _is_s10(number: str) -> bool:
    """Checks format and check digit: standard S10 of the Universal Postal Union."""
    if not re.fullmatch(r"[A-Z]{2}[0-9]{9}[A-Z]{2}", number):
        return False
    weighted = sum(
        int(digit) * weight for digit, weight in zip(number[2:10], (8, 6, 4, 2, 3, 5, 9, 7), strict=True)
    )
    check = {10: 0, 11: 5}.get(11 - weighted % 11, 11 - weighted % 11)
    return int(number[10]) == check
