"""Finds the names of places in a text."""

from __future__ import annotations

import re

from .words import STOP_WORDS, stem, stems

_PREPOSITIONS = (("in", "at", "near", "around"), ("for",), ("of",), ("to", "from"))
_DIRECTIONS = {
    "from": stems("from origin source start departure depart"),
    "to": stems("to destination target end arrival arrive"),
}
_END = re.compile(
    r"[?!;:\n()\"]"
    r"|(?<!\b[A-Z][a-z])(?<!\b[A-Z])(?<!\b[A-Z][a-z]{2})\.(?=\s|$)|\.$"
    r"|,?\s+(?:right\s+now|now|today|tonight|tomorrow|currently|please|this|these|next|like|using|with|as|at|on|"
    r"by|in|from|to|is|are|will|would|when|if|then|than|compared|what|how|whose|where|that|which)\b"
    r"|,?\s+(?:and|or|but)\s+(?:what|how|is|are|then|also|tell|give|show|calculate|compute|convert|the\s+\w+\s+of)\b"
)
_LEADING = re.compile(r"^(?:the\s+)?(?:(?:city|town|village|state|region|country|area)\s+of\s+)?")
_CONNECTORS_TEXT = """
    de da do dos das del della di du la le las los les el al of the upon sur am an der den van von bei
    im y e st and or & vs
"""
_CONNECTORS = frozenset(_CONNECTORS_TEXT.split())
_LIST = re.compile(r"\s*,?\s+(?:and|or|&|vs\.?)\s+(?:in\s+)?")
_NAME_RUN = re.compile(r"[^\W\d_][\w'\u2019.-]*(?:\s+[^\W\d_][\w'\u2019.-]*)*")


def places(text: str, property_name: str = "", vocabulary: frozenset[str] = frozenset()) -> list[str]:
    """Finds the places that a text names, in order.

    Args:
        text: What the user wrote.
        property_name: The property that the place is for: `origin` takes the place after `from`,
            `destination` the one after `to`.
        vocabulary: Stems of words that are not places here, such as the words of a tool's name.
    """
    for preposition, meaning in _DIRECTIONS.items():
        if stems(property_name) & meaning or property_name.lower().startswith(preposition + "_"):
            return _after((preposition,), text, vocabulary)[:1]
    for prepositions in _PREPOSITIONS:
        if found := _after(prepositions, text, vocabulary):
            return found
    return _capitalised(text, vocabulary)


def _after(prepositions: tuple[str, ...], text: str, vocabulary: frozenset[str]) -> list[str]:
    words = "|".join(f"{word}|{word.capitalize()}" for word in prepositions)
    found: dict[str, None] = {}
    for match in re.finditer(rf"(?<!\w)(?:{words})\s+", text):
        clause = text[match.end() :]
        end = _END.search(clause)
        for name in _split(_name(clause[: end.start()] if end else clause)):
            if not _is_other(name, vocabulary):
                found[name] = None
    return list(found)


def _name(clause: str) -> str:
    """Strips the article; if the clause starts with a capital, cuts it at the first word that does not."""
    clause = _LEADING.sub("", clause.strip()).rstrip(",. ")
    words = clause.split()
    if not words or words[0][0].islower():
        return clause
    length = next(
        (i for i, word in enumerate(words) if word[0].islower() and word.strip(",") not in _CONNECTORS),
        len(words),
    )
    while length and words[length - 1] in _CONNECTORS:
        length -= 1
    return clause if length == len(words) else " ".join(words[:length]).rstrip(",")


def _split(names: str) -> list[str]:
    """Splits a list of places: `Paris, Oslo and Rome` is three places, `Paris, France` is one."""
    parts = [part for part in _LIST.split(names) if part.strip()]
    if len(parts) > 1:
        parts = [piece for part in parts for piece in part.split(",")]
    return [part.strip(" ,") for part in parts if part.strip(" ,")]


def _is_other(name: str, vocabulary: frozenset[str]) -> bool:
    words = re.findall(r"\w+", name)
    if not words or name[0].isdigit():
        return True
    return not name[0].isupper() and all(
        word.lower() in STOP_WORDS or stem(word) in vocabulary or word.isdigit() for word in words
    )


def _capitalised(text: str, vocabulary: frozenset[str]) -> list[str]:
    """Finds names without a preposition: `Oslo weather?`, `weather Oslo`."""
    found = []
    for run in _NAME_RUN.findall(text):
        names: list[str] = []
        for word in run.split():
            bare = word.strip("?.!,'\u2019")
            plain = bare.removesuffix("'s").removesuffix("\u2019s")
            if plain[:1].isupper() and plain.lower() not in STOP_WORDS and stem(plain) not in vocabulary:
                names.append(plain)
            elif names:
                break
        if names:
            found.append(" ".join(names))
    return found
