from __future__ import annotations

import pytest

from orchestrator.tools.places import Place, choose, fold, split_location

PARIS = Place("Paris", "Île-de-France", "France", "FR")
PARIS_TEXAS = Place("Paris", "Texas", "United States", "US")
WASHINGTON = Place("Washington", "District of Columbia", "United States", "US")
WILMINGTON = Place("Wilmington", "Delaware", "United States", "US")
BERLIN = Place("Berlin", "State of Berlin", "Germany", "DE")
LONDON = Place("London", "England", "United Kingdom", "GB")
LONDON_ONTARIO = Place("London", "Ontario", "Canada", "CA")
LONDON_CALIFORNIA = Place("London", "California", "United States", "US")
GEORGIA = Place("Tbilisi", "Georgia", "Georgia", "GE")
SINGAPORE = Place("Singapore", "", "Singapore", "SG")
SAO_PAULO = Place("São Paulo", "São Paulo", "Brazil", "BR")


@pytest.mark.parametrize(
    ("location", "name", "qualifiers"),
    [
        ("San Francisco, CA", "San Francisco", ["CA"]),
        ("  New   York ,, USA ", "New York", ["USA"]),
        ("Oslo", "Oslo", []),
        (" , France", "", ["France"]),
        ("", "", []),
    ],
)
def test_location_is_split_into_name_and_qualifiers(location: str, name: str, qualifiers: list[str]) -> None:
    assert split_location(location) == (name, qualifiers)


@pytest.mark.parametrize(
    ("places", "qualifiers", "chosen"),
    [
        ([PARIS, PARIS_TEXAS], [], PARIS),
        ([PARIS, PARIS_TEXAS], ["TX"], PARIS_TEXAS),
        ([PARIS, PARIS_TEXAS], ["tx", "usa"], PARIS_TEXAS),
        ([PARIS, PARIS_TEXAS], ["Texas", "U.S.A."], PARIS_TEXAS),
        ([PARIS, PARIS_TEXAS], ["ile-de-france"], PARIS),
        ([PARIS, PARIS_TEXAS], ["FR"], PARIS),
        ([PARIS, PARIS_TEXAS], ["Ohio"], None),
        ([PARIS, PARIS_TEXAS], ["France", "TX"], None),
        ([WASHINGTON], ["D.C."], WASHINGTON),
        ([WILMINGTON], ["DE"], WILMINGTON),
        ([GEORGIA], ["GA"], None),
        ([BERLIN], ["DE"], BERLIN),
        ([LONDON, LONDON_ONTARIO], ["UK"], LONDON),
        ([LONDON, LONDON_ONTARIO, LONDON_CALIFORNIA], ["CA"], LONDON_ONTARIO),
        ([LONDON, LONDON_ONTARIO, LONDON_CALIFORNIA], ["CA", "US"], LONDON_CALIFORNIA),
        ([SAO_PAULO], ["SAO PAULO", "brazil"], SAO_PAULO),
        ([], [], None),
    ],
)
def test_first_place_that_matches_all_qualifiers_is_chosen(
    places: list[Place], qualifiers: list[str], chosen: Place | None
) -> None:
    assert choose(places, qualifiers) is chosen


def test_labels_do_not_repeat_parts() -> None:
    assert PARIS_TEXAS.label() == "Paris, Texas, United States"
    assert SINGAPORE.label() == "Singapore"
    assert SAO_PAULO.label() == "São Paulo, Brazil"


def test_folding_removes_case_accents_and_full_stops() -> None:
    assert fold(" ZÜRICH ") == fold("Zu\u0308rich") == "zurich"
    assert fold("D.C.") == "dc"
