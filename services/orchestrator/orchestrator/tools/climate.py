"""Annual mean temperatures of cities, from which the weather tool answers without a network."""

from __future__ import annotations

from dataclasses import dataclass

from .places import Place, choose, fold


@dataclass(frozen=True, slots=True)
class CityClimate(Place):
    """A city with its annual mean temperature in °C (a climate average, not weather)."""

    mean_celsius: float


def find_city(name: str, qualifiers: list[str]) -> CityClimate | None:
    """Returns the city of that name, ignoring case and accents, if it matches the qualifiers."""
    name = fold(name)
    wanted = _OTHER_NAMES.get(name, name)
    return choose(_BY_NAME.get(wanted, ()), qualifiers)


_OTHER_NAMES = {
    "new york city": "new york",
    "nyc": "new york",
    "washington dc": "washington",
    "delhi": "new delhi",
}

# Source: column "Year" of https://en.wikipedia.org/wiki/List_of_cities_by_average_temperature, which
# cites the climate normals that the national weather services publish.
CITIES = (
    CityClimate("Amsterdam", "North Holland", "The Netherlands", "NL", 10.2),
    CityClimate("Athens", "Attica", "Greece", "GR", 19.2),
    CityClimate("Auckland", "Auckland", "New Zealand", "NZ", 15.2),
    CityClimate("Austin", "Texas", "United States", "US", 20.7),
    CityClimate("Bangkok", "Bangkok", "Thailand", "TH", 28.6),
    CityClimate("Barcelona", "Catalonia", "Spain", "ES", 18.2),
    CityClimate("Beijing", "Beijing", "China", "CN", 12.9),
    CityClimate("Berlin", "State of Berlin", "Germany", "DE", 10.3),
    CityClimate("Boston", "Massachusetts", "United States", "US", 10.9),
    CityClimate("Brussels", "Brussels Capital", "Belgium", "BE", 10.5),
    CityClimate("Cairo", "Cairo Governorate", "Egypt", "EG", 21.4),
    CityClimate("Cape Town", "Western Cape", "South Africa", "ZA", 16.2),
    CityClimate("Chicago", "Illinois", "United States", "US", 9.8),
    CityClimate("Copenhagen", "Capital Region", "Denmark", "DK", 9.1),
    CityClimate("Denver", "Colorado", "United States", "US", 10.4),
    CityClimate("Dubai", "Dubai", "United Arab Emirates", "AE", 26.9),
    CityClimate("Dublin", "Leinster", "Ireland", "IE", 9.8),
    CityClimate("Hong Kong", "", "Hong Kong", "HK", 23.3),
    CityClimate("Honolulu", "Hawaii", "United States", "US", 25.4),
    CityClimate("Istanbul", "Istanbul", "Türkiye", "TR", 13.9),
    CityClimate("Jakarta", "Jakarta", "Indonesia", "ID", 26.7),
    CityClimate("Johannesburg", "Gauteng", "South Africa", "ZA", 15.5),
    CityClimate("Lagos", "Lagos", "Nigeria", "NG", 26.8),
    CityClimate("Lisbon", "Lisbon District", "Portugal", "PT", 17.5),
    CityClimate("London", "England", "United Kingdom", "GB", 11.3),
    CityClimate("Los Angeles", "California", "United States", "US", 18.6),
    CityClimate("Madrid", "Madrid", "Spain", "ES", 15.0),
    CityClimate("Melbourne", "Victoria", "Australia", "AU", 15.1),
    CityClimate("Mexico City", "Mexico City", "Mexico", "MX", 17.5),
    CityClimate("Miami", "Florida", "United States", "US", 24.9),
    CityClimate("Moscow", "Moscow", "Russia", "RU", 5.8),
    CityClimate("Mumbai", "Maharashtra", "India", "IN", 27.1),
    CityClimate("Nairobi", "Nairobi County", "Kenya", "KE", 17.8),
    CityClimate("New Delhi", "Delhi", "India", "IN", 25.0),
    CityClimate("New York", "New York", "United States", "US", 12.9),
    CityClimate("Oslo", "Oslo", "Norway", "NO", 5.7),
    CityClimate("Paris", "Île-de-France", "France", "FR", 12.3),
    CityClimate("Reykjavík", "Capital Region", "Iceland", "IS", 4.3),
    CityClimate("Rome", "Lazio", "Italy", "IT", 15.2),
    CityClimate("San Francisco", "California", "United States", "US", 14.6),
    CityClimate("Seattle", "Washington", "United States", "US", 11.3),
    CityClimate("Seoul", "Seoul", "South Korea", "KR", 12.5),
    CityClimate("Shanghai", "Shanghai", "China", "CN", 16.7),
    CityClimate("Singapore", "", "Singapore", "SG", 27.0),
    CityClimate("Stockholm", "Stockholm", "Sweden", "SE", 6.6),
    CityClimate("Sydney", "New South Wales", "Australia", "AU", 17.7),
    CityClimate("Tokyo", "Tokyo", "Japan", "JP", 15.4),
    CityClimate("Toronto", "Ontario", "Canada", "CA", 9.4),
    CityClimate("Vancouver", "British Columbia", "Canada", "CA", 10.4),
    CityClimate("Vienna", "Vienna", "Austria", "AT", 10.4),
    CityClimate("Washington", "District of Columbia", "United States", "US", 14.6),
    CityClimate("Zürich", "Zurich", "Switzerland", "CH", 9.3),
)

_BY_NAME = {fold(city.name): (city,) for city in CITIES}
