"""The text that may stand behind an action instead of its arguments: ``copy: src=a dest=b``, ``command: ls chdir=/x``."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

from trainyard.playbook.schema import Schema
from trainyard.yamlfile import Map, Node

RAW = ("shell", "command", "script", "raw")
"""Actions of which a text is a command line: only words with a name of their own arguments are taken out of it."""
_NAMED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)=")
_JINJA = {"{{": "}}", "{%": "%}", "{#": "#}"}


def arguments(task: Map, key: str, schema: Schema, args: Map | None, defaults: Map | None) -> Node:
    """Return what stands behind an action as one mapping, with ``args:`` of the task and what module_defaults add to it."""
    value, mark = task[key], task.value_marks[key]
    node = Map()
    node.source, node.mark = task.source, mark
    if isinstance(value, Map):
        node = value
    elif isinstance(value, str):
        named, rest = named_words(value, _names(schema))
        if rest and (schema.free is None or not (named or args or defaults)):
            return value
        for name, text in {**named, **({schema.free: rest} if schema.free and rest else {})}.items():
            put(node, name, text, mark)
    elif value is not None:
        if schema.free is None or not (args or defaults):
            return value
        put(node, schema.free, value, mark)
    for more, same_file in ((args, True), (defaults, False)):
        for name, value in (more or {}).items():
            if more is not None and not {name, *_other_names(schema, name)} & set(node):
                node = put(copied(node), name, value, more.value_marks[name] if same_file else mark)
    return node


def _names(schema: Schema) -> Container[str] | None:
    """Return which words of a text are arguments: all that look like it, where a text is nothing else."""
    if schema.open_ or schema.free is None:
        return None
    own = {name for arg in schema.args for name in (arg.name, *arg.aliases)}
    return own - {schema.free, "argv"} if schema.action in RAW else own


def _other_names(schema: Schema, name: str) -> set[str]:
    return next(({arg.name, *arg.aliases} for arg in schema.args if name == arg.name or name in arg.aliases), set())


def copied(node: Map) -> Map:
    """Return a copy of a mapping that knows the same places."""
    copy = Map()
    copy.update(node)
    copy.mark, copy.source = node.mark, node.source
    copy.key_marks, copy.value_marks = dict(node.key_marks), dict(node.value_marks)
    return copy


def put(node: Map, name: str, value: Node, mark: tuple[int, int]) -> Map:
    """Add a value to a mapping, with its place; return the mapping."""
    node[name] = value
    node.key_marks[name] = node.value_marks[name] = mark
    return node


def named_words(text: str, names: Container[str] | None) -> tuple[dict[str, str], str]:
    """Return the ``name=value`` words of a text whose name is one of these (None: any), and the text without them.

    Quotes and Jinja hold a word together. A text whose quotes or braces never end has no such words.
    """
    named: dict[str, str] = {}
    rest: list[str] = []
    pieces = list(_words(text))
    if any(word is None for word in pieces):
        return {}, text
    for word in pieces:
        assert word is not None
        match = _NAMED.match(word)
        if match and (names is None or match[1] in names):
            named[match[1]] = _bare(word[match.end() :].strip())
        else:
            rest.append(word)
    return named, "".join(rest).strip() if named else text


def _words(text: str) -> Iterator[str | None]:
    """Yield the words, each with the space before it; None at the end of a text in which something is left open."""
    start, at, quote = 0, 0, ""
    closing: list[str] = []
    while at < len(text):
        pair = text[at : at + 2]
        if closing and pair == closing[-1]:
            closing.pop()
            at += 2
            continue
        if not quote and pair in _JINJA:
            closing.append(_JINJA[pair])
            at += 2
            continue
        letter = text[at]
        if not closing and letter in "\"'" and not _escaped(text, at):
            quote = "" if letter == quote else quote or letter
        elif not closing and not quote and letter.isspace() and text[start:at].strip():
            yield text[start:at]
            start = at
        at += 1
    yield text[start:]
    if quote or closing:
        yield None


def _escaped(text: str, at: int) -> bool:
    return at > 0 and text[at - 1] == "\\"


def _bare(value: str) -> str:
    """Return a value without the quotes around it."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" and not _escaped(value, len(value) - 1):
        return value[1:-1]
    return value
