"""Write ``resources.py``, the typed classes for programs, from the shapes that the handlers declare.

``python -m trainyard.provider.generate``; a test says when it has to be run. The text is made as ruff formats it, so
that editors, type checkers and people read plain classes.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.provider.handler import ResourceHandler
from trainyard.provider.model import properties
from trainyard.provider.registry import HANDLERS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

TARGET = Path(__file__).with_name("resources.py")
_HEAD = '''"""The resources as a Python program declares them: typed arguments in, outputs out.

Made by ``python -m trainyard.provider.generate`` from the inputs and outputs of the provider's handlers. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from trainyard.provider.typed import TypedResource
'''
_SIMPLE = {str: "str", int: "int", float: "float", bool: "bool"}


def text() -> str:
    """Return what ``resources.py`` should be."""
    arguments, classes = [_arguments(handler) for handler in HANDLERS], [_class(handler) for handler in HANDLERS]
    return "\n\n".join([_HEAD, *arguments, *classes])


def _arguments(handler: ResourceHandler) -> str:
    hints = typing.get_type_hints(handler.inputs)
    lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {_name(handler)}Args:", f'    """{_doc(handler.inputs)}"""', ""]
    for item in properties(handler.inputs):
        kind = _plain(hints[item.name]) if item.plain else f"pulumi.Input[{_input(hints[item.name])}]"
        lines += [f"    {item.name}: {kind}" + ("" if item.required else " | None = None"), f'    """{item.doc}"""']
    return "\n".join(lines) + "\n"


def _class(handler: ResourceHandler) -> str:
    hints = typing.get_type_hints(handler.outputs)
    name = _name(handler)
    lines = [f"class {name}(TypedResource[{name}Args]):", f'    """{handler.doc}"""', ""]
    lines += [] if handler.kept else ["    kept = False", ""]
    for item in properties(handler.outputs):
        hint = hints[item.name]
        none = " | None" if _optional(hint) else ""
        lines += [f"    {item.name}: pulumi.Output[{_plain(hint)}{none}]", f'    """{item.doc}"""']
    return "\n".join(lines) + "\n"


def _name(handler: ResourceHandler) -> str:
    return handler.token.rpartition(":")[2]


def _doc(shape: type[DataclassInstance]) -> str:
    return (shape.__doc__ or "").partition("\n")[0]


def _optional(hint: object) -> bool:
    return isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)


def _input(hint: object) -> str:
    """Return a type whose parts may be outputs of other resources, too."""
    return _spelled(hint, "pulumi.Input[{}]")


def _plain(hint: object) -> str:
    return _spelled(hint, "{}")


def _spelled(hint: object, part: str) -> str:
    if _optional(hint):
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        inner = part.format(_SIMPLE[parts[0]]) if parts[0] in _SIMPLE else "Mapping[str, object]"
        return f"Sequence[{inner}]"
    if origin is Mapping:
        return f"Mapping[str, {part.format(_SIMPLE[parts[1]])}]"
    return _SIMPLE[typing.cast("type", hint)]


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
