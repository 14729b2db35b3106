from __future__ import annotations

import pytest

from orchestrator.tools.climate import CITIES, find_city
from orchestrator.tools.places import fold


def test_table_is_plausible() -> None:
    assert len(CITIES) >= 40
    assert len({fold(city.name) for city in CITIES}) == len(CITIES)
    assert [city.name for city in CITIES] == sorted((city.name for city in CITIES), key=fold)
    for city in CITIES:
        assert -20 < city.mean_celsius < 35
        assert len(city.country_code) == 2
        assert city.country_code.isupper()


@pytest.mark.parametrize(
    ("name", "qualifiers", "found"),
    [
        ("Tokyo", [], "Tokyo"),
        ("ZURICH", [], "Zürich"),
        ("zürich", ["Switzerland"], "Zürich"),
        ("reykjavik", ["is"], "Reykjavík"),
        ("New York City", ["NY"], "New York"),
        ("Washington", ["D.C."], "Washington"),
        ("Washington DC", [], "Washington"),
        ("Delhi", ["India"], "New Delhi"),
        ("Amsterdam", ["Netherlands"], "Amsterdam"),
        ("Istanbul", ["Turkey"], "Istanbul"),
    ],
)
def test_cities_are_found_in_any_spelling(name: str, qualifiers: list[str], found: str) -> None:
    city = find_city(name, qualifiers)
    assert city is not None
    assert city.name == found


@pytest.mark.parametrize(("name", "qualifiers"), [("Atlantis", []), ("Paris", ["TX"]), ("", [])])
def test_other_places_are_not_found(name: str, qualifiers: list[str]) -> None:
    assert find_city(name, qualifiers) is None
