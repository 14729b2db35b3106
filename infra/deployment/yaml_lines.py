"""YAML with the line of every value, so that errors can point to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""The path of a value in the document: keys and list indices from the root."""


_MOST_VALUES = 100_000


class YamlError(Exception):
    """A file is not valid YAML. The message names the file and the line."""


@dataclass(frozen=True, slots=True)
class YamlSource:
    """The content of a file, and the line (from 1) of every value by its place."""

    path: Path
    data: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Returns the line of a value, or of the nearest enclosing section; 0 if there is none."""
        around = (place[:end] for end in range(len(place), 0, -1))
        return next((self.lines[one] for one in around if one in self.lines), 0)

    def where(self, place: Place) -> str:
        """Returns `file:line` of a value."""
        line = self.line(place)
        return f"{self.path}:{line}" if line else str(self.path)


def read_yaml(path: Path) -> YamlSource:
    """Reads one document of plain YAML.

    Raises:
        YamlError: The file is missing, not UTF-8 or not YAML, or contains a duplicate key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise YamlError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    lines: dict[Place, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        data = None if node is None else _construct(node, loader, path, (), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        # PyYAML's constructors raise anything for a tag such as `!!timestamp x`.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise YamlError(f"{path}: not valid YAML: {reason}") from None
    return YamlSource(path, data, lines)


def _construct(
    node: yaml.Node, loader: yaml.SafeLoader, path: Path, place: Place, lines: dict[Place, int]
) -> Any:
    # Plain lists and mappings are handled here; the loader constructs all other tags, such as sets.
    if len(lines) > _MOST_VALUES:
        raise YamlError(f"{path}: more than {_MOST_VALUES:,} values; aliases (*) of aliases multiply them")
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        items = []
        for index, item in enumerate(node.value):
            lines[*place, index] = item.start_mark.line + 1
            items.append(_construct(item, loader, path, (*place, index), lines))
        return items
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(f"{path}:{line}: a key must be a single word")
            name = key_node.value
            if name in mapping:
                raise YamlError(
                    f"{path}:{line}: {name!r} is set twice, first on line {lines[*place, name]}; keep one"
                )
            lines[*place, name] = line
            mapping[name] = _construct(value_node, loader, path, (*place, name), lines)
        return mapping
    return loader.construct_object(node, deep=True)
