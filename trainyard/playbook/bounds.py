"""What an expression may take: so many steps, items, letters and digits that none is meant to need more, and it always ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.compiler import Frame
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import generate_lorem_ipsum

MOST_STEPS = 4_000_000
"""Items of loops and calls (four steps each) of one expression, with all variables that it reads: some seconds."""
MOST_ITEMS = 1_000_000
"""Of a list."""
MOST_LETTERS = 100_000_000
"""Of a text."""
MOST_BITS = 1329
"""A whole number of 400 digits; of thousands of digits Python makes no text."""
_CALL = 4
_WIDTHS = ("center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes")
"""Methods of texts and numbers that take how long something becomes."""
_SIZED = (
    "batch", "center", "comment", "indent", "round", "slice", "to_json", "to_nice_json", "to_nice_yaml", "to_yaml", "tojson", "truncate",
    "wordwrap",
)  # fmt: skip
"""Filters that do so."""
_TOO_MANY = f"a list of more than {MOST_ITEMS} items is none that is meant"
_WIDE = re.compile(r"\d{7,}")


class _StepCount(threading.local):
    left = MOST_STEPS
    counting = False


_steps = _StepCount()


@contextmanager
def counted() -> Iterator[None]:
    """Let what is evaluated in here take so many steps, all that it reads included."""
    if _steps.counting:
        yield
        return
    _steps.counting, _steps.left = True, MOST_STEPS
    try:
        yield
    finally:
        _steps.counting = False


def step(steps: int = 1) -> None:
    """Count some steps. Raises ValueError when there were too many."""
    if _steps.counting:
        _steps.left -= steps
        if _steps.left < 0:
            raise ValueError(f"it does not end within {MOST_STEPS} steps: too many items in its loops, or calls")


def listed(items: Iterable[Any]) -> list[Any]:
    """Return the items as a list. Raises ValueError when there are too many."""
    result: list[Any] = []
    for item in items:
        if len(result) >= MOST_ITEMS:
            raise ValueError(_TOO_MANY)
        result.append(item)
    return result


def joined(parts: Iterable[Any]) -> str:
    """Return texts as one. Raises ValueError when it would be too long."""
    texts = [str(part) for part in parts]
    _check_text(sum(map(len, texts)))
    return "".join(texts)


def numbers(*bounds: int) -> range:
    """Return a range. Raises ValueError when it has too many numbers."""
    result = range(*bounds)
    if not -MOST_ITEMS <= (result.stop - result.start) // result.step <= MOST_ITEMS:
        raise ValueError(_TOO_MANY)
    return result


def check_filter(name: str, args: Sequence[Any], named: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Raise ValueError where a filter would make too much of what it gets."""
    step(_CALL)
    if name in _SIZED:
        _check_widths([*args[1:], *named.values()])
    texts = [arg for arg in args if isinstance(arg, str)]
    if name in ("replace", "regex_replace") and len(texts) >= 3:
        _check_replaced(name, *texts[:3])
    elif name == "indent" and len(texts) == 2:
        _check_text(len(texts[0]) + texts[0].count("\n") * len(texts[1]))
    elif name == "join" and args and isinstance(args[0], (list, tuple)):
        _check_joined(texts[0] if texts else "", args[0])
    elif name == "format" and texts:
        _check_format(texts[0], args[1:])


class BoundedEnvironment(SandboxedEnvironment):
    """An environment whose operators, loops and calls make no more than that, and that leads to nothing of Python's own."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.globals.update(range=numbers, lipsum=_lipsum)

    @staticmethod
    def each(items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items of a loop, each a step."""
        for item in items:
            step()
            yield item

    @staticmethod
    def joined(parts: Iterable[Any]) -> str:
        """Return values as one text."""
        return joined(parts)

    def is_safe_callable(self, obj: Any) -> bool:
        """Tell whether something may be called; what is undefined may, and is undefined again."""
        return isinstance(obj, Undefined) or super().is_safe_callable(obj)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator that may make much of little."""
        if isinstance(left, int) and isinstance(right, int):
            _check_number(operator, left, right)
        elif operator == "*":
            _check_repeated(*((left, right) if isinstance(right, int) else (right, left)))
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _check_size(left, len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            _check_format(left, right if isinstance(right, tuple) else (right,))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call something."""
        step(_CALL)
        owner, name = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, (str, bytes, int)) and name in _WIDTHS:
            _check_widths(args)
        elif isinstance(owner, str) and name == "join" and args:
            _check_joined(owner, args[0])
        elif isinstance(owner, str) and name in ("replace", "format"):
            check_filter(name, (owner, *args))
        return super().call(__context, __obj, *args, **kwargs)


class BoundedGenerator(NativeCodeGenerator):
    """Has loops count their items, and refuses numbers that are none."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        """Write a loop."""
        each = nodes.EnvironmentAttribute("each", lineno=node.lineno, environment=self.environment)
        node.iter = nodes.Call(each, [node.iter], [], None, None, lineno=node.lineno, environment=self.environment)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Write what is joined by ``~``."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        """Write a constant."""
        if isinstance(node.value, float) and node.value in (float("inf"), float("-inf")):
            self.fail("a number is larger than any that can be counted with", node.lineno)
        super().visit_Const(node, frame)


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    _check_text(n * max * 10)
    return generate_lorem_ipsum(n, html, min, max)


def _check_number(operator: str, left: int, right: int) -> None:
    bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
    if bits > 2 * MOST_BITS and left not in (-1, 0, 1):
        raise ValueError("a whole number of more than 400 digits is none that is meant")


def _check_repeated(what: Any, times: Any) -> None:
    if isinstance(what, Sized) and isinstance(times, int):
        _check_size(what, len(what) * times)


def _check_size(kind: Any, size: int) -> None:
    if isinstance(kind, (str, bytes)):
        _check_text(size)
    elif size > MOST_ITEMS:
        raise ValueError(_TOO_MANY)


def _check_text(letters: int) -> None:
    if letters > MOST_LETTERS:
        raise ValueError(f"a text of more than {MOST_LETTERS} letters is none that is meant")


def _check_widths(args: Iterable[Any]) -> None:
    if any(isinstance(arg, int) and abs(arg) > MOST_ITEMS for arg in args):
        raise ValueError(f"no width, size or number of digits is above {MOST_ITEMS}")


def _check_replaced(name: str, text: str, old: str, new: str) -> None:
    if (len(text) + 1) * len(new) > MOST_LETTERS:
        _check_text(len(text) + len(new) * (text.count(old) if name == "replace" else sum(1 for _ in re.finditer(old, text))))


def _check_joined(between: str, parts: Any) -> None:
    if isinstance(parts, Sized) and isinstance(parts, Iterable):
        _check_text(len(between) * len(parts) + sum(len(part) for part in parts if isinstance(part, str)))


def _check_format(text: str, values: Sequence[Any]) -> None:
    """Refuse widths that stand in a format, or come by ``*`` or a field inside of a field."""
    if _WIDE.search(text):
        raise ValueError(f"no width of a format is above {MOST_ITEMS}")
    if "*" in text or re.search(r"\{[^}]*\{", text):
        _check_widths(values)
