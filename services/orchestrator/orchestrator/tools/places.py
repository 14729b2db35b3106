"""Chooses the place that a person means by "Springfield, IL" or "Paris, France"."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Place:
    """A town. `region` is the first level below the country, and `country_code` is ISO 3166-1 alpha-2."""

    name: str
    region: str
    country: str
    country_code: str

    def label(self) -> str:
        """Returns `San Francisco, California, United States`, without repeated parts as in Singapore."""
        return ", ".join(dict.fromkeys(part for part in (self.name, self.region, self.country) if part))


@dataclass(frozen=True, slots=True)
class Located(Place):
    """A town with its coordinates in degrees."""

    latitude: float
    longitude: float


P = TypeVar("P", bound=Place)


def split_location(location: str) -> tuple[str, list[str]]:
    """Splits a location into the town's name and what follows it: region, country or state code."""
    name, *rest = [" ".join(part.split()) for part in location.split(",")]
    return name, [part for part in rest if part]


def choose(places: Sequence[P], qualifiers: Sequence[str]) -> P | None:
    """Returns the first place that matches all qualifiers, ignoring case and accents, or None."""
    return next((p for p in places if all(_fits(p, qualifier) for qualifier in qualifiers)), None)


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """Removes case, accents and full stops: `São Paulo` and `D.C.` become `sao paulo` and `dc`."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c) and c != ".").strip()


def _fits(place: Place, qualifier: str) -> bool:
    wanted = fold(qualifier)
    if wanted in {fold(place.region), fold(place.country), fold(place.country_code)}:
        return True
    if place.country_code == _COUNTRY_NAMES.get(wanted):
        return True
    return place.country_code == "US" and _US_STATES.get(wanted) == fold(place.region)


# Common names that differ from those in GeoNames, the source of most geocoders.
_COUNTRY_NAMES = {
    "usa": "US",
    "united states of america": "US",
    "america": "US",
    "uk": "GB",
    "great britain": "GB",
    "britain": "GB",
    "england": "GB",
    "uae": "AE",
    "holland": "NL",
    "netherlands": "NL",
    "the netherlands": "NL",
    "czech republic": "CZ",
    "turkey": "TR",
    "south korea": "KR",
    "korea": "KR",
}

# USPS Publication 28, appendix B
_US_STATES = {
    "al": "alabama",
    "ak": "alaska",
    "az": "arizona",
    "ar": "arkansas",
    "ca": "california",
    "co": "colorado",
    "ct": "connecticut",
    "de": "delaware",
    "dc": "district of columbia",
    "fl": "florida",
    "ga": "georgia",
    "hi": "hawaii",
    "id": "idaho",
    "il": "illinois",
    "in": "indiana",
    "ia": "iowa",
    "ks": "kansas",
    "ky": "kentucky",
    "la": "louisiana",
    "me": "maine",
    "md": "maryland",
    "ma": "massachusetts",
    "mi": "michigan",
    "mn": "minnesota",
    "ms": "mississippi",
    "mo": "missouri",
    "mt": "montana",
    "ne": "nebraska",
    "nv": "nevada",
    "nh": "new hampshire",
    "nj": "new jersey",
    "nm": "new mexico",
    "ny": "new york",
    "nc": "north carolina",
    "nd": "north dakota",
    "oh": "ohio",
    "ok": "oklahoma",
    "or": "oregon",
    "pa": "pennsylvania",
    "ri": "rhode island",
    "sc": "south carolina",
    "sd": "south dakota",
    "tn": "tennessee",
    "tx": "texas",
    "ut": "utah",
    "vt": "vermont",
    "va": "virginia",
    "wa": "washington",
    "wv": "west virginia",
    "wi": "wisconsin",
    "wy": "wyoming",
}
