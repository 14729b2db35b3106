"""Sets one value in a YAML text and leaves everything else as it was written, comments included."""

from __future__ import annotations

import yaml


def with_value(text: str, section: str, name: str, value: str, *, comment: str) -> str:
    """Returns the text with `name` of a section set to a plain value, and a comment at the end of its line.

    Args:
        text: a mapping of sections, which are mappings.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    sections = _entries(root)
    if section not in sections:
        return _with_section(text, root, section, f"{name}: {value}", comment)
    node = sections[section]
    if not isinstance(node, yaml.MappingNode):
        # `gpu:` without anything
        return _spliced(text, node.start_mark.index, node.end_mark.index, f"\n  {name}: {value}  # {comment}")
    entries = _entries(node)
    if name in entries:
        return _replaced(text, node, entries[name], value, comment)
    if node.flow_style:
        return _spliced(text, node.start_mark.index + 1, node.start_mark.index + 1, f"{name}: {value}, ")
    indent = " " * node.start_mark.column
    start = node.start_mark.index
    return _spliced(text, start, start, f"{name}: {value}  # {comment}\n{indent}")


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
