"""Sets one value in a YAML text and leaves everything else as it was written, comments included."""

from __future__ import annotations

from collections.abc import Mapping

import yaml


def with_value(text: str, section: str, name: str, value: str, *, comment: str) -> str:
    """Returns the text with `name` of a section set to a plain value, and a comment at the end of its line.

    Args:
        text: a mapping of sections, which are mappings.
        section: a section, or one below others that the text has, such as `models.small`.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    sections = _entries(root)
    *outer, section = section.split(".")
    for one in outer:
        sections = _entries(sections[one])
    if section not in sections:
        return _with_section(text, root, section, f"{name}: {value}", comment)
    node = sections[section]
    if not isinstance(node, yaml.MappingNode):
        # `gpu:` without anything
        line = text[text.rfind("\n", 0, node.start_mark.index) + 1 : node.start_mark.index]
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        entry = f"\n{indent}{name}: {value}  # {comment}"
        return _spliced(text, node.start_mark.index, node.end_mark.index, entry)
    entries = _entries(node)
    if name in entries:
        return _replaced(text, node, entries[name], value, comment)
    if node.flow_style:
        return _spliced(text, node.start_mark.index + 1, node.start_mark.index + 1, f"{name}: {value}, ")
    indent = " " * node.start_mark.column
    start = node.start_mark.index
    return _spliced(text, start, start, f"{name}: {value}  # {comment}\n{indent}")


def with_entries(text: str, section: str, name: str, entries: Mapping[str, str], *, key: str) -> str:
    """Returns the text with entries added to the mapping `name` of a section.

    Args:
        text: a mapping of sections, which are mappings. `name` is in it, as a mapping or as a scalar.
        entries: names and plain or flow values; those that the mapping has already are left as they are.
        key: what a scalar in place of the mapping is the value of.
    """
    outer = _entries(yaml.compose(text, Loader=yaml.SafeLoader))[section]
    node = _entries(outer)[name]
    if isinstance(node, yaml.ScalarNode):
        values = {key: node.value, **entries}
        if isinstance(outer, yaml.MappingNode) and outer.flow_style:
            return _spliced(text, node.start_mark.index, node.end_mark.index, f"{{{_flow(values)}}}")
        lines = _block(values, outer.start_mark.column + 2)
        line_end = _line_end(text, node.end_mark.index)
        comment = text[node.end_mark.index : line_end]
        return text[: node.start_mark.index].rstrip(" ") + comment + lines + text[line_end:]
    missing = {one: value for one, value in entries.items() if one not in _entries(node)}
    if not missing:
        return text
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        end = _last(node).end_mark.index
        return _spliced(text, end, end, f", {_flow(missing)}")
    end = _line_end(text, _last(node).end_mark.index)
    return _spliced(text, end, end, _block(missing, node.start_mark.column))


def _flow(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _block(values: Mapping[str, str], indent: int) -> str:
    return "".join(f"\n{' ' * indent}{name}: {value}" for name, value in values.items())


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _last(node: yaml.Node) -> yaml.Node:
    """The last value in a block; the end of the block itself is where the next one starts."""
    if isinstance(node, yaml.MappingNode) and node.value:
        last = node.value[-1][1]
    elif isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
    else:
        return node
    return last if getattr(last, "flow_style", False) else _last(last)


def _entries(node: yaml.Node | None) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value}


def _with_section(text: str, root: yaml.Node | None, section: str, entry: str, comment: str) -> str:
    if isinstance(root, yaml.MappingNode) and root.flow_style:
        start = root.start_mark.index + 1
        return _spliced(
            text, start, start, f"{section}: {{{entry}}}, " if root.value else f"{section}: {{{entry}}}"
        )
    separator = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{separator}{section}:\n  {entry}  # {comment}\n"


def _replaced(text: str, section: yaml.MappingNode, node: yaml.Node, value: str, comment: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if section.flow_style:
        return _spliced(text, start, end, value)
    line_end = text.find("\n", end)
    return _spliced(text, start, len(text) if line_end < 0 else line_end, f"{value}  # {comment}")


def _spliced(text: str, start: int, end: int, replacement: str) -> str:
    return text[:start] + replacement + text[end:]
