"""Names of places and made-up words, which the model must learn to copy letter by letter."""

import re
from random import Random

# Used only in the evaluation: name|region|country, as a geocoder returns them.
_HELD_OUT = """
San Francisco|California|United States;Lisbon|Lisbon|Portugal;Reykjavik|Capital Region|Iceland
Kuala Lumpur|Kuala Lumpur|Malaysia;Buenos Aires|Buenos Aires F.D.|Argentina;Melbourne|Victoria|Australia
Edinburgh|Scotland|United Kingdom;Nairobi|Nairobi County|Kenya;Bogotá|Bogota D.C.|Colombia
Stockholm|Stockholm|Sweden;Vancouver|British Columbia|Canada;Rio de Janeiro|Rio de Janeiro|Brazil
New Orleans|Louisiana|United States;Tel Aviv|Tel Aviv|Israel;Zürich|Zurich|Switzerland
Brussels|Brussels Capital|Belgium;Casablanca|Casablanca-Settat|Morocco;Jakarta|Jakarta|Indonesia
Osaka|Osaka|Japan;Philadelphia|Pennsylvania|United States;Glasgow|Scotland|United Kingdom
Marseille|Provence-Alpes-Côte d'Azur|France;Krakow|Lesser Poland|Poland;Antwerp|Flanders|Belgium
Salzburg|Salzburg|Austria;Tbilisi|Tbilisi|Georgia;Yerevan|Yerevan|Armenia
Montevideo|Montevideo|Uruguay;Guadalajara|Jalisco|Mexico;Minneapolis|Minnesota|United States
Albuquerque|New Mexico|United States;Hyderabad|Telangana|India;Shenzhen|Guangdong|China
Wellington|Wellington Region|New Zealand;Johannesburg|Gauteng|South Africa;Dubrovnik|Dubrovnik-Neretva|Croatia
Gothenburg|Västra Götaland|Sweden;Thessaloniki|Central Macedonia|Greece;Saint Petersburg|St.-Petersburg|Russia
Cape Town|Western Cape|South Africa;São Paulo|São Paulo|Brazil;Málaga|Andalusia|Spain
Bergen|Vestland|Norway;Quebec City|Quebec|Canada;Ho Chi Minh City|Ho Chi Minh|Vietnam
Las Vegas|Nevada|United States;Salt Lake City|Utah|United States;Bratislava|Bratislava Region|Slovakia
Ljubljana|Ljubljana|Slovenia;Sarajevo|Federation of B&H|Bosnia and Herzegovina;Skopje|Skopje|North Macedonia
Tirana|Tirana|Albania;Podgorica|Podgorica|Montenegro;Bucharest|București|Romania;Chisinau|Chișinău|Moldova
Ankara|Ankara|Türkiye;Beirut|Beirut|Lebanon;Amman|Amman|Jordan;Damascus|Dimashq|Syria;Muscat|Muscat|Oman
Kabul|Kabul|Afghanistan;Tashkent|Tashkent|Uzbekistan;Bishkek|Bishkek|Kyrgyzstan;Astana|Astana|Kazakhstan
Ulaanbaatar|Ulaanbaatar Hot|Mongolia;Pyongyang|Pyongyang|North Korea;Taipei|Taiwan|Taiwan
Vientiane|Vientiane|Laos;Phnom Penh|Phnom Penh|Cambodia;Yangon|Yangon|Myanmar;Thimphu|Thimphu|Bhutan
Addis Ababa|Addis Ababa|Ethiopia;Kampala|Central Region|Uganda;Kigali|Kigali|Rwanda;Lusaka|Lusaka|Zambia
Harare|Harare|Zimbabwe;Gaborone|South-East|Botswana;Windhoek|Khomas|Namibia;Luanda|Luanda|Angola
Kinshasa|Kinshasa|DR Congo;Libreville|Estuaire|Gabon;Abidjan|Abidjan|Ivory Coast;Bamako|Bamako|Mali
Algiers|Algiers|Algeria;Tripoli|Tripoli|Libya;Khartoum|Khartoum|Sudan;Antananarivo|Analamanga|Madagascar
Asunción|Asunción|Paraguay;La Paz|La Paz|Bolivia;Guayaquil|Guayas|Ecuador;Medellín|Antioquia|Colombia
Panama City|Panamá|Panama;Tegucigalpa|Francisco Morazán|Honduras;Managua|Managua|Nicaragua
Kingston|Kingston|Jamaica;Nassau|New Providence|Bahamas;Winnipeg|Manitoba|Canada;Calgary|Alberta|Canada
Adelaide|South Australia|Australia;Hobart|Tasmania|Australia
"""


def listed(text: str) -> list[str]:
    """Returns the items of a text that are separated by bars."""
    return text.split("|")


HELD_OUT_PLACES: list[tuple[str, str, str]] = [
    (name, region, country)
    for line in _HELD_OUT.split("\n")
    for entry in line.split(";")
    if entry
    for name, region, country in [entry.split("|")]
]
HELD_OUT_CITIES = frozenset(name for name, _, _ in HELD_OUT_PLACES)

TRAIN_CITIES = listed(
    "London|Paris|Berlin|Madrid|Rome|Vienna|Prague|Budapest|Warsaw|Athens|Dublin|Oslo|Helsinki|Copenhagen|"
    "Amsterdam|Moscow|Istanbul|Cairo|Lagos|Accra|Dakar|Tunis|Mumbai|Delhi|Chennai|Kolkata|Beijing|Shanghai|"
    "Tokyo|Kyoto|Seoul|Busan|Bangkok|Hanoi|Manila|Singapore|Sydney|Perth|Brisbane|Auckland|New York|"
    "Los Angeles|Chicago|Houston|Phoenix|San Diego|Dallas|Austin|Boston|Seattle|Denver|Miami|Atlanta|Detroit|"
    "Toronto|Montreal|Ottawa|Mexico City|Havana|Lima|Quito|Santiago|Caracas|San Jose|Santa Fe|Boston, MA|"
    "Austin, TX|Paris, France|Rome, Italy|Lyon|Nice|Milan|Turin|Naples|Munich|Hamburg|Cologne|Geneva|Porto|"
    "Seville|Valencia|Riga|Vilnius|Tallinn|Minsk|Kyiv|Sofia|Zagreb|Belgrade|Doha|Dubai|Riyadh|Tehran|Baghdad|"
    "Karachi|Lahore|Dhaka|Colombo|Kathmandu|Port Louis|El Paso|Fort Worth|St. Louis|Köln|Århus|Córdoba"
)
COUNTRIES = listed(
    "United States|United Kingdom|France|Germany|Spain|Italy|Japan|China|India|Brazil|Canada|Australia|"
    "Norway|Sweden|Egypt|Nigeria|Kenya|Mexico|Chile|Peru|Poland|Greece|Ireland|Austria|South Korea|Thailand|"
    "Vietnam"
)

_ONSETS = listed(
    "b|c|d|f|g|h|j|k|l|m|n|p|r|s|t|v|w|x|z|br|ch|cl|cr|dr|fl|fr|gr|kh|kr|ll|pr|sch|sh|st|str|th|tr|zh"
)
_VOWELS = listed("a|e|i|o|u|y|ai|au|ea|ei|ia|ie|oo|ou|ué|ã|ö|ü|á|é|ó")
_ENDINGS = listed("||n|s|r|l|m|t|burg|ton|ville|ford|stad|grad|polis|port")
_PREFIXES = ["San ", "New ", "Los ", "Saint ", "Port ", "El ", "Rio de ", "La ", "Cape "]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def spelled_words() -> set[str]:
    """Returns the capitalised words of all names here, and the parts of made-up ones."""
    held_out = [part for place in HELD_OUT_PLACES for part in place]
    words = re.findall(r"[^\W\d_]+", " ".join([*held_out, *TRAIN_CITIES, *COUNTRIES, *_PREFIXES]))
    return {word for word in words if word[0].isupper()} | {*_ONSETS, *_VOWELS, *_ENDINGS}


def made_up_word(rng: Random) -> str:
    """Draws a lower-case word that looks like a name, or occasionally random letters."""
    if rng.random() < 0.12:
        return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 8)))
    count = rng.choice([1, 2, 2, 2, 3, 3, 4])
    syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)]
    if rng.random() < 0.2:  # Antananarivo, Ulaanbaatar: repetitions are hardest to copy
        syllables.insert(rng.randrange(count), rng.choice(syllables))
    word = "".join(syllables) + rng.choice(_ENDINGS)
    if rng.random() < 0.2:
        position = rng.randrange(len(word))
        word = word[:position] + word[position] + word[position:]
    return word


def _made_up_name(rng: Random) -> str:
    joint = " " if rng.random() < 0.93 else "-"
    name = joint.join(made_up_word(rng).capitalize() for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3])))
    if rng.random() < 0.1:
        name = rng.choice(_PREFIXES) + name
    return name


def training_city(rng: Random) -> str:
    """Draws a place that a user may name: one in five is real, the rest are made up; none is held out."""
    while True:
        city = rng.choice(TRAIN_CITIES) if rng.random() < 0.2 else _made_up_name(rng)
        if "," not in city and rng.random() < 0.12:
            city += rng.choice([", CA", ", TX", ", UK", f", {made_up_word(rng).capitalize()}", " City"])
        if city.split(",")[0] not in HELD_OUT_CITIES:
            return city


def training_place(rng: Random) -> tuple[str, str, str]:
    """Draws a geocoder's name, region and country; the region may be empty, as for some real places."""
    name = training_city(rng).split(",")[0]
    region = rng.choice([made_up_word(rng).capitalize(), _made_up_name(rng), name, ""])
    country = rng.choice(COUNTRIES) if rng.random() < 0.5 else made_up_word(rng).capitalize()
    return name, region, country
