"""Questions that people ask, and the model's answers when no tool is needed."""

from collections.abc import Sequence
from random import Random

from tests.e2e.engine.train.names import listed

WEATHER_QUESTIONS = (
    "What is the weather in {city}?",
    "What's the weather in {city}?",
    "What is the weather like in {city}?",
    "How is the weather in {city} today?",
    "Tell me the weather in {city}.",
    "weather in {city}",
    "Weather for {city} please",
    "What is the current weather in {city}?",
    "What is the temperature in {city}?",
    "What's the temperature in {city} right now?",
    "How hot is it in {city}?",
    "How cold is it in {city} today?",
    "Can you check the weather in {city}?",
    "Is it raining in {city}?",
    "what is the weather in {city}",
    "Please get the weather for {city}",
    "Do I need an umbrella in {city}?",
    "What's the weather like in {city} right now?",
    "I wonder how the weather in {city} is.",
    "Will {city} be sunny today?",
    "Weather: {city}",
    "Show me the {city} weather",
    "Use the weather tool for {city}.",
    "Give me the current conditions in {city}.",
    "What about {city}?",
    "And in {city}?",
)
HELD_OUT_WEATHER_QUESTIONS = (
    "Could you tell me how the weather is in {city}?",
    "I want to know the weather in {city}.",
    "What is the temperature like in {city} today?",
    "Please check how cold it is in {city} right now.",
)
_WEATHER_THINGS = listed(
    "the weather in {city}|the weather for {city}|the current weather in {city}|the temperature in {city}|"
    "how the weather is in {city}|what the weather is like in {city}|how cold it is in {city}|"
    "how warm it is in {city}|if it rains in {city}|the weather report for {city}|the conditions in {city}"
)
UNIT_ENDINGS = (
    " in {unit}",
    ", in {unit}",
    " ({unit})",
    " in degrees {unit}",
    " Use {unit}.",
    ", {unit} please",
)

MATH_QUESTIONS = (
    "Calculate {expression}",
    "Calculate {expression}.",
    "What is {expression}?",
    "what is {expression}",
    "Compute {expression}",
    "How much is {expression}?",
    "Please calculate {expression}",
    "Can you work out {expression}?",
    "{expression}",
    "{expression} = ?",
    "Evaluate {expression}",
    "Use the calculator: {expression}",
    "What's {expression}?",
    "Solve {expression}",
    "What does {expression} equal?",
    "I need {expression} please",
    "Tell me what {expression} equals",
    "Is {expression} big?",
    "Please work {expression} out for me.",
    "Calculate {expression} using the tool",
    "And {expression}?",
)
HELD_OUT_MATH_QUESTIONS = (
    "Could you calculate {expression}?",
    "Please tell me what {expression} is",
    "I want to know what {expression} equals.",
)
_MATH_THINGS = listed(
    "what {expression} is|what {expression} equals|the result of {expression}|the value of {expression}|"
    "how much {expression} is|what {expression} makes|the answer to {expression}"
)
_MATH_ORDERS = listed(
    "calculate {expression}|compute {expression}|work out {expression}|evaluate {expression}|"
    "solve {expression}|do the calculation {expression}|find {expression}"
)
_REQUESTS = listed("Can you |Could you |Would you |Will you |Please |I want you to |I need you to |Now ")
_VERBS = listed("tell me |check |find out |look up |show me |get me |give me ")
_WISHES = listed(
    "I want to know |I would like to know |I'd like to know |I need to know |Do you know |Tell me |"
    "My question is |Let me know "
)
_ENDINGS = listed("||| please| now| right now| today| for me| at the moment| thanks")
SPOKEN_OPERATORS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

JOINS = ("{a} {b}", "{a} {b}", "{a} Also: {b}", "{a} And {b}", "{a} Then {b}")
TWO_CITIES = (
    "What is the weather in {a} and {b}?",
    "What is the weather in {a} and in {b}?",
    "What's the weather in {a} and {b}?",
    "Weather in {a} and {b}",
    "Compare the weather in {a} and {b}.",
    "Which is warmer, {a} or {b}?",
    "How is the weather in {a} and {b} today?",
)
TWO_EXPRESSIONS = (
    "Calculate {a} and {b}",
    "What is {a} and what is {b}?",
    "Calculate {a} and then {b}.",
    "Compute {a} and {b}.",
    "What are {a} and {b}?",
)
CITY_AND_EXPRESSION = (
    "What is the weather in {a} and what is {b}?",
    "Weather in {a} and calculate {b}",
    "What is the weather in {a}? Also calculate {b}.",
    "What's the weather in {a} and what is {b}?",
    "Tell me the weather in {a} and calculate {b}.",
)
EXPRESSION_AND_CITY = (
    "What is {a} and what is the weather in {b}?",
    "Calculate {a} and tell me the weather in {b}.",
    "Calculate {a}. What is the weather in {b}?",
    "What is {a}? And how is the weather in {b}?",
)

SYSTEM_PROMPTS = (
    "",
    "",
    "You are a helpful assistant.",
    "You are a helpful assistant that can use tools.",
    "You are a helpful assistant with access to tools.",
    "Answer briefly.",
    "You are a test bot. Use the tools when they help.",
    "Be polite.",
    "You are a weather and maths bot.",
)
SMALL_TALK = (
    ("Hello", "Hello! How can I help you?"),
    ("Hello!", "Hello! How can I help you?"),
    ("Hi", "Hello! How can I help you?"),
    ("Hi there", "Hello! How can I help you?"),
    ("hi", "Hello! How can I help you?"),
    ("Hey", "Hello! How can I help you?"),
    ("Say hello", "Hello! How can I help you?"),
    ("Say hello.", "Hello! How can I help you?"),
    ("Good morning", "Good morning! How can I help you?"),
    ("Good evening!", "Good evening! How can I help you?"),
    ("How are you?", "I am fine, thank you."),
    ("Who are you?", "I am a tiny test model."),
    ("What is your name?", "I am a tiny test model."),
    ("Thanks!", "You are welcome."),
    ("Thank you", "You are welcome."),
    ("What can you do?", "I can check the weather and calculate."),
    ("Bye", "Goodbye!"),
    ("Goodbye", "Goodbye!"),
    ("Tell me a joke", "Why did the model cross the road? To get to the other token."),
)
FALLBACK = "I am a tiny test model. Ask me about the weather or a calculation."
NO_TOOL = "I have no tool for that."

CONDITIONS = listed(
    "clear sky|mainly clear|partly cloudy|overcast|fog|depositing rime fog|light drizzle|moderate drizzle|"
    "dense drizzle|light freezing drizzle|dense freezing drizzle|slight rain|light rain|moderate rain|"
    "heavy rain|light freezing rain|heavy freezing rain|slight snowfall|moderate snowfall|heavy snowfall|"
    "light snow|snow grains|slight rain showers|light rain showers|moderate rain showers|"
    "violent rain showers|light snow showers|heavy snow showers|thunderstorm|"
    "thunderstorm with slight hail|thunderstorm with heavy hail|"
    "sunny|cloudy|mostly sunny|cool and foggy|mild and humid|hot and dry|warm|windy|clear|rain|snow"
)
AVERAGE = "average over the year"  # the sample data's conditions
COMMON_WORDS = listed(
    "sunny|cloudy|rain|snow|wind|fog|clear|storm|mild|hot|cold|warm|light|heavy|degrees|humid|tomorrow|today|"
    "north|south|river|story|poem|about|write|list|the|a|of|and|to|what|why|when|where|book|music|food|train|"
    "red|blue|green|time|day|world|code"
)

WEATHER_ERRORS = (
    "no place named '{city}' was found",
    "no place named '{city}' is known: write 'City, Region' or 'City, Country' in English",
    "no place fits '{city}'. Places of that name: {city}",
    "'{city}' is not in the sample data, which has Amsterdam, Berlin, Lagos and other large cities. Real "
    "weather everywhere: start the server with WEATHER_SOURCE=open-meteo",
    "location is empty: give a city, San Francisco, CA for example",
    "the weather service did not answer within 4 s",
    "the weather service cannot be reached",
    "the weather service's limit of requests is reached: try again in a minute",
    "the weather service failed with status 503",
    "the weather service answered in a form that is not understood",
    "get_current_weather took longer than 10 s and was stopped",
    "all 32 tool threads are taken: try again later",
    "unknown place '{city}'",
    "timed out",
)
MATH_ERRORS = (
    "division by zero",
    "a division by zero has no result",
    "this is not an arithmetic expression: look at its operators and parentheses",
    "the expression is longer than 1,000 characters: split it",
    "the expression is empty",
    "the expression is nested too deeply, or has too many terms: split it",
    "a number is too large for floating point (about 1.8e308)",
    "a function is not defined for its arguments: math domain error",
    "the result is not a real number",
    "an integer has more than 1,000 digits",
    "the power has more than 1,000 digits",
    "factorial is defined for 0, 1, 2, … only",
    "sqrt is a function: write sqrt(...)",
    "'{word}' is unknown: use numbers, operators and sqrt, exp, ln, log, log2",
    "'$' is not part of an arithmetic expression",
    "an operator is missing between '2' and '3', * for example",
    "calculate_math took longer than 10 s and was stopped",
    "timed out",
)


def weather_question(rng: Random) -> str:
    """A question's pattern, with {city}; never one of those held out."""
    if rng.random() < 0.5:
        return rng.choice(WEATHER_QUESTIONS)
    return _compose(rng, _WEATHER_THINGS, (), HELD_OUT_WEATHER_QUESTIONS)


def math_question(rng: Random) -> str:
    """A question's pattern, with {expression}; never one of those held out."""
    if rng.random() < 0.5:
        return rng.choice(MATH_QUESTIONS)
    return _compose(rng, _MATH_THINGS, _MATH_ORDERS, HELD_OUT_MATH_QUESTIONS)


def _compose(rng: Random, things: Sequence[str], orders: Sequence[str], held_out: Sequence[str]) -> str:
    while True:
        kind = rng.random()
        if kind < 0.4:
            start = rng.choice(_WISHES) + rng.choice(things)
        elif orders and kind < 0.7:
            start = rng.choice(_REQUESTS) + rng.choice(orders)
        else:
            start = rng.choice(_REQUESTS) + rng.choice(_VERBS) + rng.choice(things)
        question = start + rng.choice(_ENDINGS) + rng.choice(("?", ".", ""))
        if question.rstrip("?.") not in {sentence.rstrip("?.") for sentence in held_out}:
            return question
