"""Tool results, and the sentences in which the model reports them."""

import json
import re
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.e2e.engine.train import phrases
from tests.e2e.engine.train.names import made_up_word, training_city

SAMPLE_SOURCE = "sample data (climate average), not a forecast"
_DEGREES = {"celsius": "°C", "fahrenheit": "°F"}


@dataclass(frozen=True)
class Result:
    """The content of a tool message, and the sentence expected from the model."""

    content: str
    sentence: str


def compact(value: dict[str, Any]) -> str:
    """Formats JSON as our tools write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def weather_report(
    place: tuple[str, str, str], temperature: float, unit: str, rng: Random, sample: bool
) -> dict[str, Any]:
    """Builds what `get_current_weather` returns; `place` is the geocoder's name, region and country."""
    report: dict[str, Any] = {
        "location": ", ".join(dict.fromkeys(part for part in place if part)),
        "temperature": temperature,
        "unit": unit,
    }
    if sample:
        return report | {"conditions": phrases.AVERAGE, "source": SAMPLE_SOURCE}
    return report | {
        "conditions": draw_conditions(rng),
        "humidity_percent": rng.randint(0, 100),
        "wind_kmh": round(rng.uniform(0, 90), 1),
        "source": "open-meteo.com",
    }


def weather_sentence(city: str, report: dict[str, Any]) -> str:
    """Builds the model's sentence about a report; `city` names the place if the report does not."""
    place = str(report.get("location", city)).split(",")[0]
    degrees = _DEGREES.get(str(report.get("unit")), " degrees")
    sentence = f"The weather in {place} is {report['temperature']}{degrees}"
    if report.get("conditions"):
        sentence += f", {report['conditions']}"
    return f"{sentence} (sample data)." if report.get("source") == SAMPLE_SOURCE else f"{sentence}."


def draw_temperature(rng: Random) -> float:
    """Draws a temperature rounded as by the tools: to one decimal or none."""
    value = round(rng.uniform(-30, 48), 1) if rng.random() < 0.75 else round(rng.uniform(-20, 118), 1)
    return value if rng.random() < 0.85 else round(value)


def draw_conditions(rng: Random) -> str:
    if rng.random() < 0.75:
        return rng.choice(phrases.CONDITIONS)
    return " ".join(rng.choice(phrases.COMMON_WORDS) for _ in range(rng.randint(1, 4)))


def draw_weather(rng: Random, city: str, place: tuple[str, str, str]) -> Result:
    """Draws a training result for a question about `city`, which the geocoder found as `place`."""
    if rng.random() < 0.16:
        return weather_failure(city, draw_error(rng, phrases.WEATHER_ERRORS, city), rng.random() < 0.85)
    if rng.random() < 0.12:
        return _weather_text(rng, city)
    unit = rng.choice(("celsius", "celsius", "fahrenheit"))
    report = weather_report(place, draw_temperature(rng), unit, rng, sample=rng.random() < 0.3)
    if rng.random() < 0.15:
        report["conditions"] = draw_conditions(rng)
    if rng.random() < 0.1:
        return _other_report(rng, city, report)
    return Result(_spell(rng, report), weather_sentence(city, report))


def _other_report(rng: Random, city: str, report: dict[str, Any]) -> Result:
    kept = {key: report[key] for key in ("location", "unit", "conditions") if rng.random() < 0.6}
    kept["temperature"] = report["temperature"]
    return Result(_spell(rng, kept), weather_sentence(city, kept))


def _weather_text(rng: Random, city: str) -> Result:
    degrees = rng.choice((" celsius", "°C", "°F", " degrees", " C"))
    temperature, conditions = draw_temperature(rng), draw_conditions(rng)
    if rng.random() < 0.4:
        sentence = f"The weather in {city} is {temperature}{degrees} and {conditions}."
        return Result(sentence, sentence)
    text = rng.choice(
        (f"{temperature}{degrees}, {conditions}", f"{conditions} and {temperature} degrees", f"{temperature}")
    )
    text = text if rng.random() < 0.8 else draw_noise(rng, rng.randint(1, 5))
    return Result(text, f"The weather in {city}: {text}")


def weather_failure(city: str, error: str, as_json: bool = True) -> Result:
    content = compact({"error": error}) if as_json else f"Error: {error}"
    return Result(content, f"I could not get the weather in {city}: {gist(error)}.")


def math_sentence(expression: str, result: object) -> str:
    return f"The result of {expression} is {result}."


def draw_number(rng: Random) -> str:
    """Draws a JSON number: whole, with few decimals, with all digits of a quotient, tiny or huge."""
    kind = rng.random()
    if kind < 0.42:
        text = str(rng.randint(0, 10 ** rng.choice((1, 2, 2, 3, 4, 5, 6, 7, 9, 12))))
    elif kind < 0.62:
        text = repr(round(rng.uniform(0, 10 ** rng.choice((0, 1, 2, 3, 4))), rng.choice((1, 1, 2, 3, 6))))
    elif kind < 0.82:
        text = repr(rng.randint(1, 10 ** rng.randint(1, 6)) / rng.randint(2, 10 ** rng.randint(1, 4)))
    elif kind < 0.95:
        text = repr(rng.randint(1, 99999) * round(rng.uniform(0, 1000), rng.randint(1, 2)))
    else:
        text = repr(rng.uniform(1, 10) * 10.0 ** rng.choice((16, 20, 30, -7, -12)))
    return f"-{text}" if rng.random() < 0.12 else text


def draw_math(rng: Random, expression: str) -> Result:
    """Draws a training result for `expression`; its number is random, since the model only copies it."""
    kind = rng.random()
    if kind < 0.16:
        return math_failure(expression, draw_error(rng, phrases.MATH_ERRORS, ""), rng.random() < 0.85)
    if kind < 0.24:
        text = draw_noise(rng, rng.randint(1, 5))
        return Result(text, f"The result of {expression}: {text}")
    number = draw_number(rng)
    if kind < 0.34:
        return Result(number, math_sentence(expression, number))
    space = "" if rng.random() < 0.85 else " "
    value = number if rng.random() < 0.92 else f'"{number}"'
    return Result(f'{{"result":{space}{value}}}', math_sentence(expression, number))


def math_failure(expression: str, error: str, as_json: bool = True) -> Result:
    content = compact({"error": error}) if as_json else f"Error: {error}"
    return Result(content, f"I could not calculate {expression}: {gist(error)}.")


def gist(error: str) -> str:
    """Returns an error's main clause: the text up to a colon, a full stop or a relative clause."""
    return re.split(r"[.:] |, which ", error)[0].rstrip(".")


def draw_error(rng: Random, common: tuple[str, ...], city: str) -> str:
    kind = rng.random()
    if kind < 0.5:
        error = rng.choice(common).format(city=city, word=made_up_word(rng))
    else:
        error = draw_noise(rng, rng.randint(2, 8))
    explained = rng.choice((". ", ": ", ", which ")) + draw_noise(rng, rng.randint(2, 12))
    return error + explained if rng.random() < 0.4 else error


def draw_noise(rng: Random, length: int) -> str:
    """Draws words, half of them common, and numbers."""
    return " ".join(_noise_word(rng) for _ in range(length))


def _noise_word(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(phrases.COMMON_WORDS)
    if kind < 0.6:
        return f"'{training_city(rng)}'"
    return made_up_word(rng) if kind < 0.85 else str(rng.randint(0, 9999))


def _spell(rng: Random, report: dict[str, Any]) -> str:
    return compact(report) if rng.random() < 0.85 else json.dumps(report, ensure_ascii=False)
