"""Reduces words to stems, to find what a request and a tool's description have in common."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ENDINGS = (
    "ations", "ation", "ators", "ator", "ating", "ated", "ates", "ate",
    "ings", "ing", "ers", "er", "ed", "es", "e", "s",
)  # fmt: skip

_STOP_WORDS_TEXT = """
    a an the and or of for to in on at by from with as is are was were be been do does did can could
    will would should may might must have has had i you he she it we they me my your our their its this
    that these those what which who whom whose when where why how there here please tell show give get
    fetch run call use used using return returned current currently given name named value one two any
    all some each many much more such e g eg if not no only also then than about into out up down over
    like want need know let s t re ll
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())

_HINTS = {
    "how many": "count number rows records",
    "temperature": "weather",
    "forecast": "weather",
    "rain": "weather",
    "raining": "weather",
    "sunny": "weather",
    "warm": "weather temperature",
    "cold": "weather temperature",
    "hot": "weather temperature",
    "top": "limit",
    "first": "limit",
}


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Strips a word's ending, so that `calculate` matches `calculation` and `city` matches `cities`."""
    word = word.lower()
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=2048)
def stems(text: str) -> frozenset[str]:
    """Returns the stems of the meaningful words in a text or an identifier."""
    words = (word.lower() for word in _WORD.findall(_CAMEL.sub(" ", text)))
    return frozenset(stem(word) for word in words if word not in STOP_WORDS)


def request_stems(text: str) -> frozenset[str]:
    """Returns the stems of a request, plus those of words it implies (`how many` asks for a count)."""
    lowered = text.lower()
    implied = [hint for phrase, hint in _HINTS.items() if re.search(rf"\b{phrase}\b", lowered)]
    return stems(text) | stems(" ".join(implied))
