"""Finds the values in a text that a JSON schema asks for, by general rules. No tool name is built in."""

from __future__ import annotations

import re
from typing import Any, cast

from .arithmetic import expressions
from .places import places
from .words import STOP_WORDS, stem, stems

Schema = dict[str, Any]

_DEEPEST = 3
"""The deepest level of nested objects that is filled, since a schema may refer to itself."""
_KINDS = {
    "expression": "expression formula equation arithmetic",
    "place": "location city place town country destination origin departure arrival",
    "email": "email mail",
    "url": "url uri link website",
    "date": "date day",
}
_KIND_STEMS = {kind: stems(words) for kind, words in _KINDS.items()}
_PATTERNS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"https?://[^\s\"'<>]+[^\s\"'<>.,;:!?)]"),
    "date": re.compile(r"\b\d{4}-\d\d-\d\d\b|\b(?:today|tomorrow|yesterday)\b", re.IGNORECASE),
}
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
_WHERE = re.compile(
    r"\b(?:where|whose|with)\s+(?:the\s+)?(\w+)\s+(?:is\s+|are\s+)?"
    r"(>=|<=|!=|=|>|<|at least|at most|above|over|below|under|not|greater than|less than|equal to)?\s*"
    r"(\"[^\"]+\"|'[^']+'|[\w.@-]*\w)"
)
_OPERATORS = {
    "=": ("=", "==", "eq", "equals", "is"),
    "!=": ("!=", "<>", "ne", "neq", "not"),
    ">": (">", "gt", "greater", "above"),
    "<": ("<", "lt", "less", "below"),
    ">=": (">=", "gte", "ge"),
    "<=": ("<=", "lte", "le"),
}
_OPERATOR_WORDS = {
    "above": ">", "over": ">", "greater than": ">", "below": "<", "under": "<", "less than": "<",
    "at least": ">=", "at most": "<=", "not": "!=", "equal to": "=",
}  # fmt: skip
_CODE_NAME = re.compile(r"(?:^|_)(?:number|no|id|code|key|reference)$", re.IGNORECASE)
_CODE = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_-]{4,}\b")
_HOW_MANY = re.compile(r"\bhow many\b", re.IGNORECASE)
_FREE_TEXT = re.compile(r"\b(?:for|about|says?|saying|that)\s+(.+?)[?.!]*$|:\s*(.+)$", re.DOTALL)


def resolve(schema: Any, root: Schema) -> Schema:
    """Resolves `$ref`, and replaces `anyOf`, `oneOf` or `allOf` with its first schema that is not null."""
    for _ in range(8):
        if not isinstance(schema, dict):
            return {}
        if isinstance(schema.get("$ref"), str):
            target: Any = root
            for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
                target = target.get(part, {}) if isinstance(target, dict) else {}
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
            continue
        branches = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if not isinstance(branches, list) or not branches:
            break
        real = [b for b in branches if isinstance(b, dict) and b.get("type") != "null"]
        rest = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "allOf")}
        schema = {**rest, **(real[0] if real else {})}
    return {**schema, "$defs": root["$defs"]} if "$defs" in root else cast(Schema, schema)


def properties(schema: Any) -> dict[str, Schema]:
    """Returns the resolved properties of an object's schema."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return {}
    return {name: resolve(value, schema) for name, value in schema["properties"].items()}


def required(schema: Any) -> list[str]:
    names = schema.get("required") if isinstance(schema, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), None)
    return kind if isinstance(kind, str) else ("object" if "properties" in schema else "string")


def kind_of(name: str, schema: Schema) -> str | None:
    """Returns the purpose of a string property: an expression, place, email, url or date, or nothing special.

    Decided by its name, then its format, then the start of its description.
    """
    if schema.get("format") in ("date", "date-time", "email", "uri"):
        return {"date-time": "date", "uri": "url"}.get(schema["format"], schema["format"])
    first_sentence = str(schema.get("description") or "").split(".")[0]
    for words in (stems(name), stems(first_sentence)):
        for kind, stemmed in _KIND_STEMS.items():
            if words & stemmed:
                return kind
    return None


def values_of(name: str, schema: Schema, text: str, vocabulary: frozenset[str], depth: int = 0) -> list[Any]:
    """Finds all values that a text gives for a property, best first. Several values mean several calls."""
    if "const" in schema:
        return [schema["const"]]
    if isinstance(schema.get("enum"), list):
        return _mentioned(schema["enum"], text)
    kind = type_of(schema)
    if kind in ("integer", "number"):
        return list(_numbers(name, schema, text))
    if kind == "boolean":
        return list(_boolean(name, text))
    if kind in ("array", "object"):
        nested: Any = (
            _items(name, schema, text, vocabulary)
            if kind == "array"
            else _object(schema, text, vocabulary, depth + 1)
        )
        return [nested] if nested else []
    return list(_strings(name, schema, text, vocabulary))


def _mentioned(choices: list[Any], text: str) -> list[Any]:
    lowered, words = text.lower(), stems(text)
    found = []
    for choice in choices:
        label = str(choice).lower().replace("_", " ")
        if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", lowered):
            found.append((lowered.find(label), choice))
        elif (own := stems(str(choice))) and own <= words:
            found.append((len(lowered), choice))
    return [choice for _, choice in sorted(found, key=lambda pair: pair[0])]


def _numbers(name: str, schema: Schema, text: str) -> list[int | float]:
    """Finds numbers after a word of the property's name (`limit 5`), then numbers before one (`5 rows`)."""
    own = stems(name) | (frozenset({"top", "first"}) if stems(name) & {"limit", "count"} else frozenset())
    before, after = [], []
    for match in _NUMBER.finditer(text):
        value = _typed(match.group(), schema)
        if own & {stem(word) for word in re.findall(r"\w+", text[: match.start()])[-2:]}:
            before.append(value)
        elif own & {stem(word) for word in re.findall(r"\w+", text[match.end() :])[:1]}:
            after.append(value)
    return before + after


def _typed(number: str, schema: Schema) -> int | float:
    value = float(number)
    return int(value) if type_of(schema) == "integer" or value.is_integer() else value


def _boolean(name: str, text: str) -> list[bool]:
    words = re.findall(r"\w+", text.lower())
    for position, word in enumerate(words):
        if stem(word) in stems(name):
            return [
                not {"no", "not", "without", "don", "disable"} & set(words[max(0, position - 2) : position])
            ]
    return []


def _items(name: str, schema: Schema, text: str, vocabulary: frozenset[str]) -> list[Any]:
    item = resolve(schema.get("items") or {}, schema)
    kind = type_of(item)
    if kind == "object":
        return _conditions(item, text)
    if kind in ("integer", "number"):
        return [_typed(number, item) for number in _NUMBER.findall(text)]
    if isinstance(item.get("enum"), list):
        return _mentioned(item["enum"], text)
    described = {**item, "description": schema.get("description")}
    return _string_items(name, described, text, vocabulary) if kind == "string" else []


def _string_items(name: str, item: Schema, text: str, vocabulary: frozenset[str]) -> list[str]:
    if special := kind_of(name, item):
        return _special(special, name, text, vocabulary)
    if _HOW_MANY.search(text) and "count(*)" in str(item.get("description")):
        return ["count(*)"]
    return _quoted(text) or _after_name(name, text)


def _object(schema: Schema, text: str, vocabulary: frozenset[str], depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        return {}
    inner = properties(schema)
    if not inner:
        return {column: _scalar(value) for column, _, value in _WHERE.findall(text)}
    found = {name: values_of(name, part, text, vocabulary, depth) for name, part in inner.items()}
    if any(not found[name] for name in required(schema) if name in found):
        return {}
    return {name: values[0] for name, values in found.items() if values}


def _conditions(item: Schema, text: str) -> list[dict[str, Any]]:
    """Turns `where price > 5` into objects of column, operator and value, under the schema's names."""
    inner = properties(item)
    column = next((n for n in inner if stems(n) & stems("column field key attribute property")), None)
    value = next((n for n in inner if n.lower() in ("value", "values", "operand", "equals")), None)
    operator = next((n for n in inner if n.lower() in ("op", "operator", "comparison", "comparator")), None)
    if column is None or value is None:
        return []
    found = []
    for name, sign, operand in _WHERE.findall(text):
        condition: dict[str, Any] = {column: name}
        if operator:
            condition[operator] = _operator(_OPERATOR_WORDS.get(sign, sign or "="), inner[operator])
        found.append(condition | {value: _scalar(operand)})
    return found


def _operator(sign: str, schema: Schema) -> str:
    allowed = schema.get("enum") or [sign]
    return next((str(one) for one in allowed if str(one).lower() in _OPERATORS[sign]), str(allowed[0]))


def _scalar(text: str) -> Any:
    bare = text.strip("\"'")
    if bare == text and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return {"true": True, "false": False}.get(bare.lower(), bare) if bare == text else bare


def _strings(name: str, schema: Schema, text: str, vocabulary: frozenset[str]) -> list[str]:
    if kind := kind_of(name, schema):
        return _special(kind, name, text, vocabulary)
    if quoted := _quoted(text):
        return quoted[:1]
    if after := _after_name(name, text):
        return after
    if re.fullmatch(r"(?:\w*_)?name", name, re.IGNORECASE):
        return re.findall(r"\b(?:named|called|for)\s+([A-Z][\w'-]*)", text)[:1]
    if _CODE_NAME.search(name) and (codes := _CODE.findall(text)):
        return codes[:1]
    return _described_words(str(schema.get("description") or ""), text)[:1]


def _quoted(text: str) -> list[str]:
    return [next(filter(None, groups)) for groups in _QUOTED.findall(text)]


def _after_name(name: str, text: str) -> list[str]:
    """Finds the word that follows a property's name: `subject: hello`, `ordered by price`."""
    named = r"\W+".join(rf"{re.escape(word)}\w*" for word in re.findall(r"[^\W_]+", name))
    after = re.search(rf"\b{named}\W+(?:(?:is|to|of|as|named|called)\W+)?([\w.@-]*\w)", text, re.IGNORECASE)
    return [after.group(1)] if after and after.group(1).lower() not in STOP_WORDS else []


def _described_words(description: str, text: str) -> list[str]:
    """Finds the words of a description that the text mentions."""
    asked = stems(text)
    words = re.findall(r"[^\W\d]\w*", description)
    return [word for word in words if stems(word) and stem(word) in asked]


def _special(kind: str, name: str, text: str, vocabulary: frozenset[str]) -> list[str]:
    if kind == "expression":
        return expressions(text)
    if kind == "place":
        return places(text, name, vocabulary)
    return list(dict.fromkeys(match.group() for match in _PATTERNS[kind].finditer(text)))


def free_text(text: str) -> str:
    """Returns the subject of a request, for a string that nothing else fits: the text after `about`."""
    match = _FREE_TEXT.search(text)
    return (match.group(1) or match.group(2)).strip() if match else text.strip()


def filler(schema: Schema, text: str, depth: int = 0) -> Any:
    """Returns a value of the right type for a required property that the text does not mention."""
    if "default" in schema:
        return schema["default"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = type_of(schema)
    if kind in ("integer", "number"):
        numbers = _NUMBER.findall(text)
        return _typed(numbers[0], schema) if numbers else schema.get("minimum", 0)
    if kind == "object":
        inner = properties(schema) if depth < _DEEPEST else {}
        return {n: filler(p, text, depth + 1) for n, p in inner.items() if n in required(schema)}
    return {"boolean": False, "array": [], "null": None}.get(kind, free_text(text))
