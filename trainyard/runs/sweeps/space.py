"""What ``--sweep NAME=VALUES`` says: a variable of the recipe, or a ``{NAME}`` of the command, and the values that it is tried with.

Knows nothing of runs. Everything wrong is said here, with its place, before anything is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainyard.errors import UserError, together
from trainyard.nearest import suggest
from trainyard.reading import NUMERAL
from trainyard.recipes.contract import Recipe
from trainyard.recipes.variables import Variable, convert_text

_RANGE = re.compile(rf"(?P<low>{NUMERAL})\.\.(?P<high>{NUMERAL})(?P<more>(?::[a-z0-9]+)*)")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NUMBERS = ("int", "float")
_FORMS = (
    "Write values with a comma between them (8,16,32), or a range: 1e-5..1e-3:log:5 (five values), 1e-5..1e-3:log (for --sampler random)."
)


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The numbers between two: ``log`` tells that each power counts alike, ``whole`` that there are none between whole ones."""

    low: float
    high: float
    log: bool
    whole: bool

    def text_of(self, share: float) -> str:
        """Return the number so far (0 to 1) on the way from low to high, as ``--set`` takes it: six digits, never beyond the ends."""
        if self.log:
            number = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            number = self.low + share * (self.high - self.low)
        return self.text(number)

    def text(self, number: float) -> str:
        """Return a number as it is tried: rounded, and within the span."""
        rounded = round(number) if self.whole else float(f"{number:.6g}")
        within = min(max(rounded, self.low), self.high)
        if self.whole:
            return f"{int(within)}"
        text = f"{within:.6g}"
        return text if self.low <= float(text) <= self.high else repr(float(within))  # an end that was written with more digits

    @property
    def wholes(self) -> range:
        """Every whole number of it."""
        return range(int(self.low), int(self.high) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One thing that is varied. Its values are texts, as ``--set`` takes them."""

    name: str
    """The variable's own name, whichever alias was written; or the placeholder's."""
    label: str
    """What the person calls it."""
    is_variable: bool
    """It is set by ``--set``; else it only stands in the command."""
    source: str
    """The words that said it, for messages."""
    values: tuple[str, ...] = ()
    """What it is tried with; empty where ``span`` says it."""
    span: NumberRange | None = None

    @property
    def count(self) -> int | None:
        """How many values it has; None where there are no two with none between them."""
        if self.span is None:
            return len(self.values)
        return len(self.span.wholes) if self.span.whole else None

    def each(self) -> Iterator[str]:
        """Yield its values one by one; only of one that can be counted."""
        return iter(self.values) if self.span is None else (str(number) for number in self.span.wholes)


def read_dimensions(recipe: Recipe, texts: Sequence[str], *, others: Iterable[str], most: int) -> tuple[Dimension, ...]:
    """Return what is varied; raises UserError with all that is wrong in it at once.

    ``others`` are the texts of the same command in which ``{NAME}`` may stand: its words behind ``--``, its ``--set``. A range with
    more than ``most`` points is refused before they are made.
    """
    placeholders = {name for text in others for name in _PLACEHOLDER.findall(text)}
    taken = [text.partition("=")[0].strip() for text in others if "=" in text]
    dimensions: list[Dimension] = []
    wrong: list[UserError] = []
    for text in texts:
        try:
            dimension = _dimension(recipe, text, placeholders, most)
            _refuse_twice(recipe, dimension, dimensions, taken)
            dimensions.append(dimension)
        except UserError as error:
            wrong.append(error)
    if wrong:
        raise together(wrong, "things that are varied")
    return tuple(dimensions)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with the value of each ``{NAME}`` that is varied; other braces stay as they are."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def fillings(dimensions: Iterable[Dimension], parameters: Mapping[str, str]) -> dict[str, str]:
    """Return what stands for ``{NAME}``, whether it is called as the recipe does or by an alias."""
    return {name: parameters[dimension.name] for dimension in dimensions for name in (dimension.name, dimension.label)}


def _dimension(recipe: Recipe, text: str, placeholders: set[str], most: int) -> Dimension:
    name, equals, said = text.partition("=")
    name, said = name.strip(), said.strip()
    source = f"--sweep {text}"
    if not equals or not name or not said:
        raise UserError(f"{source}: write --sweep NAME=VALUES", hint=_FORMS)
    variable = recipe.variable(name)
    if variable is None and name not in placeholders:
        raise _unknown(recipe, name, source)
    numbers = variable is None or variable.kind in _NUMBERS
    whole = variable is not None and variable.kind == "int"
    if numbers and ".." in said:
        values, span = _range(said, source, whole=whole, most=most)
    else:
        values, span = _split(said, source), None
    return Dimension(
        name=name if variable is None else variable.name, label=name, is_variable=variable is not None, source=source,
        values=_checked(variable, name, values, span, source), span=span,
    )  # fmt: skip


def _unknown(recipe: Recipe, name: str, source: str) -> UserError:
    if name in recipe.elsewhere and not recipe.elsewhere[name].values:
        return UserError(f"{source}: {recipe.elsewhere[name].say}")
    hint = f"It knows: {', '.join(variable.name for variable in recipe.variables)}."
    if recipe.variable("command") is not None:
        shown = f"-- python train.py --{name.replace('_', '-')} {{{name}}}"
        hint = f"To vary an argument of your command, write it there in braces: {shown}\n{hint}"
    return UserError(f"{source}: recipe {recipe.name} has no variable '{name}'{suggest(name, recipe.names)}", hint=hint)


def _refuse_twice(recipe: Recipe, dimension: Dimension, before: Sequence[Dimension], taken: Sequence[str]) -> None:
    twin = next((one for one in before if one.name == dimension.name), None)
    if twin is not None:
        raise UserError(f"{dimension.source}: {dimension.name} is varied by {twin.source}, too", hint="Say all its values in one --sweep.")
    for name in taken if dimension.is_variable else ():
        variable = recipe.variable(name)
        if variable is not None and variable.name == dimension.name:
            raise UserError(
                f"{dimension.source}: --set {name}=... says one value of it, and --sweep several", hint="Leave one of them out."
            )


def _range(said: str, source: str, *, whole: bool, most: int) -> tuple[tuple[str, ...], NumberRange | None]:
    match = _RANGE.fullmatch(said)
    if match is None or "..." in said:  # 1e-5...1e-3 would end at .1e-3
        raise UserError(f"{source}: '{said}' is no range", hint=_FORMS)
    low, high = float(match["low"]), float(match["high"])
    scale, points = _scale_and_points(match["more"], source)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(f"{source}: a range needs two numbers that can be told")
    if low >= high:
        raise UserError(f"{source}: a range begins with its smaller end, and {low:g} is not below {high:g}")
    if scale == "log" and low <= 0:
        raise UserError(
            f"{source}: a logarithmic range begins above 0, not at {low:g}", hint=f"Begin it at {high / 1000:g}, or leave :log out."
        )
    if whole and not (low.is_integer() and high.is_integer()):
        raise UserError(f"{source}: its ends must be whole numbers, as it is one")
    span = NumberRange(low, high, scale == "log", whole)
    if points is None:
        return (), span
    if points < 2:
        raise UserError(f"{source}: a range has 2 values or more, not {points}")
    if points > most:
        raise UserError(f"{source}: {points:,} values of one range are more than {most:,} trials", hint=f"--max-trials {points} lets them.")
    return tuple(dict.fromkeys(span.text_of(number / (points - 1)) for number in range(points))), None


def _scale_and_points(more: str, source: str) -> tuple[str, int | None]:
    parts = more.split(":")[1:]
    points = int(parts.pop()) if parts and parts[-1].isdigit() else None
    scale = parts.pop() if parts else "lin"
    if parts or scale not in ("log", "lin"):
        raise UserError(f"{source}: behind a range there is :log or :lin, and how many values: 1e-5..1e-3:log:5")
    return scale, points


def _split(said: str, source: str) -> tuple[str, ...]:
    """Return values that stand with commas between them; a comma in brackets or quotes belongs to its value."""
    values, depth, quote, begin = [], 0, "", 0
    for at, char in enumerate(said):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])":
            depth -= 1
        elif char == "," and depth <= 0:
            values.append(said[begin:at])
            begin = at + 1
    values = [_unquoted(value.strip()) for value in (*values, said[begin:])]
    if not all(values):
        raise UserError(f"{source}: a value is empty", hint=_FORMS)
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: '{twice}' is there twice, and one trial of it tells as much")
    return tuple(values)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _checked(variable: Variable | None, name: str, values: tuple[str, ...], span: NumberRange | None, source: str) -> tuple[str, ...]:
    """Return values that the recipe allows; of a span both ends are looked at."""
    if variable is None:
        return values
    typed = []
    for value in values or ((span.text(span.low), span.text(span.high)) if span else ()):
        try:
            typed.append(convert_text(variable, value))
        except ValueError as error:
            hint = f"{variable.name}: {variable.help}" if variable.help else None
            raise UserError(f"{source}: {name} {error}", hint=hint) from None
    twice = next((value for value, item in zip(values, typed, strict=False) if typed.count(item) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: {twice} is there twice, and one trial of it tells as much")
    return values
