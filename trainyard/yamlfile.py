"""Read YAML as people mean it: YAML 1.2 scalars, no duplicate keys, and the place of every node.

PyYAML's defaults follow YAML 1.1 and bite in training files: ``lr: 1e-4`` is a string there, ``no`` is
False, ``12:30`` is 750, ``0644`` is 420 and a repeated key wins silently. Here numbers, booleans and null
are those of the YAML 1.2 core schema, all else stays text, and a repeated key is an error. Playbooks, whose words people bring from
Ansible, are read by the rules of YAML 1.1 where these say something that somebody may mean (``yes``, ``0644``, ``1e-4`` as a text, ``<<``),
dates stay text, and ``12:30`` is refused: as a number it is meant by nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import yaml

from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.textfile import read_text
from trainyard.yamlaliases import BoundedLoader
from trainyard.yamltags import Octal, Unsafe, Vaulted

MOST_DIGITS = 400
"""No number that is written has more: of thousands Python makes none."""
_T = TypeVar("_T")
Rules = Literal["1.2", "1.1"]
Scalar = str | int | float | bool | None
Node = Scalar | list["Node"] | dict[str, "Node"]


class Map(dict[str, Node]):
    """A mapping that knows where it and each of its keys and values stand."""

    __slots__ = ("key_marks", "mark", "source", "value_marks")

    def __init__(self) -> None:
        super().__init__()
        self.mark: tuple[int, int] = (1, 1)
        self.key_marks: dict[str, tuple[int, int]] = {}
        self.value_marks: dict[str, tuple[int, int]] = {}
        self.source: YamlSource | None = None

    def where(self, key: str | None = None, *, value: bool = False) -> Location | None:
        """Return the place of a key (or of its value), or of the mapping itself."""
        marks = self.value_marks if value else self.key_marks
        line, column = marks.get(key, self.mark) if key is not None else self.mark
        return self.source.at(line, column) if self.source else None


class Seq(list[Node]):
    """A list that knows where its items stand."""

    __slots__ = ("item_marks", "source")

    def __init__(self) -> None:
        super().__init__()
        self.item_marks: list[tuple[int, int]] = []
        self.source: YamlSource | None = None

    def where(self, index: int) -> Location | None:
        """Return the place of an item."""
        return self.source.at(*self.item_marks[index]) if self.source else None


class YamlSource:
    """The text a document was read from."""

    __slots__ = ("lines", "name")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.lines = text.splitlines()

    def at(self, line: int, column: int = 1) -> Location:
        """Return the location with its line of text."""
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else None
        return Location(self.name, line, column, text)


class _Loader(BoundedLoader):
    source: YamlSource


_Loader.yaml_implicit_resolvers = {}
# Of explicit tags those of the core schema: !!binary, !!timestamp, !!set and !!omap would give what no reader of ours knows.
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


class _OldLoader(_Loader):
    """Reads scalars by the rules of YAML 1.1, as Ansible does."""


_MERGE = "tag:yaml.org,2002:merge"
_OldLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag.rpartition(":")[2] in ("bool", "null", "int", "float", "merge")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_OLD_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


class _Dumper(yaml.SafeDumper):
    """Quotes a text that either rule book, YAML 1.1 or the one above, would read as something else (``1e5``)."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _unfit(loader: _Loader, node: yaml.Node) -> UserError:
    return UserError(f"this is no {node.tag.rpartition(':')[2]}, as its tag says", where=loader.source.at(*_mark(node)))


def _construct_map(loader: _Loader, node: yaml.Node) -> Map:
    if not isinstance(node, yaml.MappingNode):
        raise _unfit(loader, node)
    result = Map()
    result.source, result.mark = loader.source, _mark(node)
    for base in _bases(loader, node):
        for key in base:
            if key not in result:
                result[key], result.key_marks[key], result.value_marks[key] = base[key], base.key_marks[key], base.value_marks[key]
    inherited = set(result)
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            if isinstance(key, (list, dict)):
                where = loader.source.at(*_mark(key_node))
                braces = where.text is not None and "{{" in where.text
                raise UserError("a value that begins with {{ needs quotes" if braces else "a key must be a plain word", where=where)
            key = key_node.value
        if key in result and key not in inherited:
            first = result.key_marks[key][0]
            raise UserError(f"key '{key}' is given twice (first in line {first})", where=loader.source.at(*_mark(key_node)))
        result.key_marks[key] = _mark(key_node)
        result.value_marks[key] = _mark(value_node)
        result[key] = loader.construct_object(value_node, deep=True)
        inherited.discard(key)
    return result


def _bases(loader: _Loader, node: yaml.MappingNode) -> list[Map]:
    """Return the mappings that ``<<`` names, of which the first counts most."""
    bases: list[Map] = []
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            value: Node = loader.construct_object(value_node, deep=True)
            named = list(value) if isinstance(value, Seq) else [value]
            bases += [base for base in named if isinstance(base, Map)]
            if not all(isinstance(base, Map) for base in named):
                raise UserError("'<<' takes a mapping, or a list of mappings", where=loader.source.at(*_mark(value_node)))
    return bases


def _construct_seq(loader: _Loader, node: yaml.Node) -> Seq:
    if not isinstance(node, yaml.SequenceNode):
        raise _unfit(loader, node)
    result = Seq()
    result.source = loader.source
    for item in node.value:
        result.item_marks.append(_mark(item))
        result.append(loader.construct_object(item, deep=True))
    return result


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > MOST_DIGITS:
        raise too_long(len(node.value), loader.source.at(*_mark(node)))
    return int(node.value, 0) if node.value[:2] in ("0o", "0x") else int(node.value)


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    if node.value.lower() not in ("true", "false"):
        raise _unfit(loader, node)
    return bool(node.value.lower() == "true")


def _construct_str(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")  # JSON writes a letter beyond U+FFFF as a pair
    except UnicodeDecodeError:
        raise UserError("half a surrogate pair stands for no letter", where=loader.source.at(*_mark(node))) from None


_Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:str", _construct_str)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:seq", _construct_seq)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value.replace(".inf", "inf").replace(".nan", "nan")))


def _old_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    if node.value.lower() not in _OLD_WORDS:
        raise _unfit(loader, node)
    return _OLD_WORDS[node.value.lower()]


def _old_number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    digits = node.value.lstrip("+-")
    if ":" in digits:
        raise UserError(
            f"'{node.value}' is a number to base 60 by Ansible's rules: put it into quotes", where=loader.source.at(*_mark(node))
        )
    if len(digits) > MOST_DIGITS:
        raise too_long(len(digits), loader.source.at(*_mark(node)))
    if node.tag.endswith(":float"):
        return float(yaml.SafeLoader.construct_yaml_float(loader, node))
    if re.fullmatch(r"0[0-7_]+", node.value):
        return Octal(node.value)
    return int(yaml.SafeLoader.construct_yaml_int(loader, node))


_OldLoader.add_constructor("tag:yaml.org,2002:bool", _old_bool)
_OldLoader.add_constructor("tag:yaml.org,2002:int", _old_number)
_OldLoader.add_constructor("tag:yaml.org,2002:float", _old_number)
_OldLoader.add_constructor("!unsafe", lambda loader, node: Unsafe(loader.construct_scalar(node)))  # type: ignore[arg-type]
_OldLoader.add_constructor("!vault", lambda loader, node: Vaulted(loader.construct_scalar(node)))  # type: ignore[arg-type]


def too_long(digits: int, where: Location) -> UserError:
    """Return what is said of a number that is too long to be one."""
    return UserError(f"a number of {digits:,} digits: none that is meant has more than {MOST_DIGITS}", where=where)


def parse(text: str, name: str, *, rules: Rules = "1.2") -> Node:
    """Parse one YAML document; ``name`` is what error messages call it.

    Raises UserError with file:line:col for bad syntax, a duplicate key or a second document.
    """
    return _read(text, name, rules, lambda loader: loader.get_single_data())  # type: ignore[no-any-return]


def parse_all(text: str, name: str, *, rules: Rules = "1.2") -> list[Node]:
    """Parse all documents of a text; see parse()."""

    def documents(loader: _Loader) -> list[Node]:
        nodes = []
        while loader.check_data():  # type: ignore[no-untyped-call]
            nodes.append(loader.get_data())
        return nodes

    return _read(text, name, rules, documents)


def _read(text: str, name: str, rules: Rules, take: Callable[[_Loader], _T]) -> _T:
    source = YamlSource(name, text)
    loader: _Loader | None = None
    try:
        loader = (_Loader if rules == "1.2" else _OldLoader)(text)
        loader.source = source
        return take(loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = source.at(mark.line + 1, mark.column + 1) if mark else Location(name, 1)
        raise UserError(f"not valid YAML: {error.problem or error.context}", where=where, hint=_advice(error, text)) from None
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: an explicit tag that does not fit its text.
        raise UserError(f"not valid YAML: {str(error).splitlines()[0]}", where=Location(name, 1)) from None
    except RecursionError:
        raise UserError("nested too deeply to be read", where=Location(name, 1)) from None
    finally:
        if loader is not None:
            loader.dispose()


def _advice(error: yaml.MarkedYAMLError, text: str) -> str | None:
    """Say where what is not closed begins, which may be far above the place where it is missed."""
    begun, missed = error.context_mark, error.problem_mark
    if begun and missed and begun.line < missed.line and text[begun.index : begun.index + 1] in ("'", '"', "[", "{"):
        return f"{text[begun.index]} in line {begun.line + 1}, column {begun.column + 1}, is not closed."
    return "A value with ': ' in it needs quotes." if missed and text[missed.index : missed.index + 2] == ": " else None


def load(path: Path, *, name: str | None = None) -> Node:
    """Read a YAML file; see parse()."""
    shown = name or str(path)
    try:
        text = read_text(path, shown)
    except FileNotFoundError:
        raise UserError(f"{shown}: there is no such file") from None
    return parse(text, shown)


def load_map(path: Path, *, name: str | None = None) -> Map:
    """Read a YAML file whose top level is a mapping (an empty file is an empty mapping)."""
    return as_map(load(path, name=name), name or str(path))


def parse_map(text: str, name: str) -> Map:
    """Parse a document whose top level is a mapping; see parse() and load_map()."""
    return as_map(parse(text, name), name)


def as_map(node: Node, name: str) -> Map:
    """Return a document whose top level is a mapping; raises UserError for any other."""
    if node is None:
        return Map()
    if not isinstance(node, Map):
        raise UserError("expected 'key: value' lines at the top level", where=Location(name, 1))
    return node


def reject_unknown(mapping: Map, known: Iterable[str], what: str) -> None:
    """Raise UserError at the first key that is not known, with the nearest known one."""
    names = list(known)
    for key in mapping:
        if key not in names:
            raise UserError(f"unknown {what} '{key}'{suggest(key, names)}", where=mapping.where(key))


def dump(value: Mapping[str, object] | list[object]) -> str:
    """Return the value as YAML in the order given."""
    return yaml.dump(_plain(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
