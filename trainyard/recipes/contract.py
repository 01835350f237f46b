"""The recipe as a contract: what ``templates/<recipe>/recipe.yaml`` declares, read strictly.

Everything here is data about a recipe; values of a run are the matter of values.py. A text that begins with
``=`` is an expression over the variables (expressions.py) wherever this page says ``Lazy``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from trainyard.errors import Location, UserError
from trainyard.fields import Fields
from trainyard.nearest import suggest
from trainyard.recipes.summaries import Value
from trainyard.recipes.variables import KINDS, Kind, Variable, convert
from trainyard.shipped import layers
from trainyard.yamlfile import Map, Node, load_map

TEMPLATES = "templates"
Lazy = Value | list[str]
DataMode = Literal["rows", "files", "none"]
RowForm = Literal["answer", "summary", "pictures"]
"""What rows teach: answers of an assistant, in all forms of forms.py, or summaries of texts (articles.py). Files: images with captions."""
# What templates are told beside the variables (bundle.py).
RESERVED = frozenset(
    "recipe program program_line shown locks beside env exit_codes stopped artefacts data fetch imports values version size".split()  # noqa: SIM905
) | {"with_code", "packages", "install", "python_wanted"}
POD_MODULES = ("rows.py", "forms.py", "preferences.py", "articles.py", "basemodel.py", "images.py", "rouge.py")
"""What the controller and the programs of recipes judge data and bases with alike."""
OF_ROWS: Mapping[RowForm, tuple[str, ...]] = {
    "answer": ("rows.py", "forms.py", "preferences.py", "basemodel.py"),
    "summary": ("rows.py", "articles.py", "basemodel.py"),
    "pictures": ("images.py",),
}
"""Those that a recipe of such data has in its bundle."""
ARTEFACT_KINDS = ("model", "adapter", "tokenizer", "report", "log", "metrics")


@dataclass(frozen=True, slots=True)
class OutputPattern:
    """Files a run leaves, by pattern under OUTPUT_DIR; an expression may give a list of them."""

    pattern: str
    kind: str


@dataclass(frozen=True, slots=True)
class SuccessRule:
    """When a training counts as done: its exit code and files that must be there; ``stopped``: saved on request."""

    exit_codes: tuple[int, ...]
    stopped: tuple[int, ...]
    artefacts: Lazy


@dataclass(frozen=True, slots=True)
class CheckpointProgress:
    """Where a checkpoint tells how far it is: a JSON file in it, and its field for each variable that ends a training."""

    file: str
    fields: Mapping[str, str]
    """Variable to field; the first variable whose value is above 0 is what ends the training."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A combination of values that is refused before anything is created."""

    when: str
    variable: str
    message: str
    where: Location | None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A key of another tool's file: what each value sets here (``*``: any value); other values are refused with ``say``."""

    name: str
    values: Mapping[str, Mapping[str, Node]]
    say: str


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A text of the log that a person can do something about."""

    pattern: re.Pattern[str]
    remedy: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe as declared."""

    name: str
    folder: Path
    common: tuple[Path, ...]
    """Folders with what all recipes share, e.g. run.sh.j2; the first that has a file gives it."""
    summary: str
    command: str
    data: DataMode
    form: RowForm
    sample: str | None
    variables: tuple[Variable, ...]
    needs: Mapping[str, Lazy]
    outputs: tuple[OutputPattern, ...]
    excludes: tuple[str, ...]
    checkpoints: str | None
    checkpoint_mark: str | None
    checkpoint_progress: CheckpointProgress | None
    verdict: SuccessRule
    env: Mapping[str, str]
    refusals: tuple[Conflict, ...]
    elsewhere: Mapping[str, Elsewhere]
    known_failures: tuple[KnownFailure, ...]
    locks: Mapping[str, Path]
    imports: tuple[str, ...]
    files: tuple[str, ...]
    modules: tuple[str, ...]
    """Modules of POD_MODULES that its bundle has."""

    def variable(self, name: str) -> Variable | None:
        """Return a variable by its name or one of its aliases."""
        for variable in self.variables:
            if name == variable.name or name in variable.aliases:
                return variable
        return None

    def shared(self, name: str) -> Path:
        """Return a file that all recipes share."""
        return next((folder / name for folder in self.common if (folder / name).is_file()), self.common[-1] / name)

    @property
    def names(self) -> list[str]:
        """All names a user may write, aliases included."""
        return [name for variable in self.variables for name in (variable.name, *variable.aliases)]


def recipe_names(root: Path) -> list[str]:
    """Return the recipes that can be named in a repository: its own and Trainyard's (folders of templates/ with a recipe.yaml)."""
    return sorted({name for folder in layers(root, TEMPLATES) for name in _names_in(folder)})


def load_recipe(root: Path, name: str) -> Recipe:
    """Read a recipe by name, the repository's before Trainyard's. Raises UserError for an unknown name and every flaw in it."""
    known = recipe_names(root)
    if name not in known:
        raise UserError(f"there is no recipe '{name}'{suggest(name, known)}", hint=_recipes_said(root))
    return _load(layers(root, TEMPLATES), name)


def recipes_that_know(recipe: Recipe, names: Iterable[str]) -> list[str]:
    """Return the recipes beside this one that have a variable for each name."""
    folders, names = [common.parent for common in recipe.common], list(names)
    fitting = []
    for name in sorted({name for folder in folders for name in _names_in(folder)} - {recipe.name}):
        with contextlib.suppress(UserError):  # a recipe with a flaw is no advice
            other = _load(folders, name)
            fitting += [name] if all(other.variable(each) for each in names) else []
    return fitting


def _load(folders: Sequence[Path], name: str) -> Recipe:
    folder = next(each for each in folders if name in _names_in(each)) / name
    top = Fields(load_map(folder / "recipe.yaml", name=f"templates/{name}/recipe.yaml"), "recipe.yaml")
    recipe = _recipe(top, name, folder, tuple(each / "common" for each in folders))
    top.done()
    return recipe


def _names_in(templates: Path) -> list[str]:
    return sorted(path.parent.name for path in templates.glob("*/recipe.yaml"))


def _recipes_said(root: Path) -> str:
    own, *ours = (", ".join(_names_in(folder)) or "none" for folder in layers(root, TEMPLATES))
    return f"Recipes here: {own}." + "".join(f" Trainyard's: {names}." for names in ours)


def _recipe(top: Fields, name: str, folder: Path, common: tuple[Path, ...]) -> Recipe:
    variables = tuple(_variable(key, fields) for key, fields in top.maps("variables"))
    names = [each for variable in variables for each in (variable.name, *variable.aliases)]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice:
        raise top.error("variables", f"'{twice}' names two variables")
    return Recipe(
        name=name,
        folder=folder,
        common=common,
        summary=top.text("summary"),
        command=top.text("command"),
        data=_data_mode(top),
        form=_row_form(top),
        sample=top.text("sample", "") or None,
        variables=variables,
        needs=dict(top.map("needs").rest()),
        outputs=tuple(_output(fields) for fields in top.items("outputs")),
        excludes=tuple(top.words("excludes")),
        checkpoints=top.text("checkpoints", "") or None,
        checkpoint_mark=top.text("checkpoint_mark", "") or None,
        checkpoint_progress=_checkpoint_progress(top, names),
        verdict=_verdict(top.map("verdict")),
        env={key: str(value) for key, value in top.map("env").rest()},
        refusals=tuple(_refusal(fields, names) for fields in top.items("refuse")),
        elsewhere={key: _elsewhere(key, fields, names) for several, fields in top.maps("elsewhere") for key in several.split(", ")},
        known_failures=tuple(_failure(fields) for fields in top.items("failures")),
        locks=_locks(top, folder),
        imports=tuple(top.words("imports")),
        files=_files(top, folder),
        modules=_modules(top, _data_mode(top), _row_form(top)),
    )


def _variable(name: str, fields: Fields) -> Variable:
    if name in RESERVED or not name.isidentifier():
        raise fields.error("", f"a variable cannot be called '{name}'" + (": the name is taken" if name in RESERVED else ""))
    kind = fields.text("type")
    if kind not in KINDS:
        raise fields.error("type", f"unknown type '{kind}'{suggest(kind, KINDS)}: use {', '.join(KINDS)}")
    node = fields.value("default")
    variable = Variable(
        name=name,
        kind=cast(Kind, kind),
        required=fields.flag("required"),
        optional=fields.flag("optional"),
        choices=tuple(fields.scalars("choices")),
        minimum=fields.number("min"),
        maximum=fields.number("max"),
        above=fields.number("above"),
        aliases=tuple(fields.words("alias")),
        help=fields.text("help"),
        resume=fields.flag("resume"),
    )
    default: Value = None
    if isinstance(node, str) and node.startswith("="):
        default = node
    elif not variable.required and not (node is None and variable.optional):
        try:
            default = convert(variable, node)
        except ValueError as error:
            raise fields.error("default", f"the default of {name} {error}") from None
    fields.done()
    return replace(variable, default=default)


def _data_mode(top: Fields) -> DataMode:
    mode = top.text("data")
    if mode not in ("rows", "files", "none"):
        raise top.error("data", f"'{mode}' must be rows, files or none")
    return mode  # type: ignore[return-value]


def _row_form(top: Fields) -> RowForm:
    form = top.text("form", "answer")
    if form not in OF_ROWS:
        raise top.error("form", f"'{form}' must be {' or '.join(OF_ROWS)}")
    if form == "pictures" and _data_mode(top) != "files":
        raise top.error("form", "pictures are files: say data: files")
    return form  # type: ignore[return-value]


def _output(fields: Fields) -> OutputPattern:
    kind = fields.text("kind")
    if kind not in ARTEFACT_KINDS:
        raise fields.error("kind", f"unknown kind '{kind}'{suggest(kind, ARTEFACT_KINDS)}: use {', '.join(ARTEFACT_KINDS)}")
    output = OutputPattern(fields.text("pattern"), kind)
    fields.done()
    return output


def _checkpoint_progress(top: Fields, names: list[str]) -> CheckpointProgress | None:
    if top.value("checkpoint_progress") is None:
        return None
    fields = top.map("checkpoint_progress")
    ends = {variable: str(field) for variable, field in fields.map("fields").rest()}
    if unknown := next((name for name in ends if name not in names), None):
        raise fields.error("fields", f"'{unknown}' is no variable of this recipe{suggest(unknown, names)}")
    progress = CheckpointProgress(fields.text("file"), ends)
    fields.done()
    return progress


def _verdict(fields: Fields) -> SuccessRule:
    node = fields.value("artefacts")
    artefacts: Lazy = node if isinstance(node, str) and node.startswith("=") else fields.words("artefacts")
    verdict = SuccessRule(tuple(fields.integers("exit_codes", [0])), tuple(fields.integers("stopped", [])), artefacts)
    fields.done()
    return verdict


def _refusal(fields: Fields, names: list[str]) -> Conflict:
    variable = fields.text("variable")
    if variable not in names:
        raise fields.error("variable", f"'{variable}' is no variable of this recipe{suggest(variable, names)}")
    refusal = Conflict(fields.text("when"), variable, fields.text("message"), fields.where("when"))
    fields.done()
    return refusal


def _elsewhere(name: str, fields: Fields, names: list[str]) -> Elsewhere:
    if name in names:
        raise fields.error("", f"'{name}' is a variable of this recipe")
    say = fields.text("say", "")
    values: dict[str, Mapping[str, Node]] = {}
    for value, sets in fields.mapping("values").items():
        if not isinstance(sets, Map) or any(key not in names for key in sets):
            raise fields.error("values", f"'{value}' must say which variables it sets")
        values[value] = sets
    fields.done()
    return Elsewhere(name, values, say)


def _failure(fields: Fields) -> KnownFailure:
    failure = KnownFailure(fields.regex("pattern"), fields.text("remedy"))
    fields.done()
    return failure


def _locks(top: Fields, folder: Path) -> dict[str, Path]:
    locks: dict[str, Path] = {}
    node: Map = top.mapping("locks")
    for key, value in node.items():
        path = folder / str(value)
        if key not in ("cpu", "gpu") or not path.is_file():
            raise UserError(f"locks: '{key}: {value}' must be cpu or gpu and an existing file", where=node.where(key))
        locks[key] = path
    return locks


def _modules(top: Fields, data: DataMode, form: RowForm) -> tuple[str, ...]:
    names = [*(OF_ROWS[form] if (data == "files") == (form == "pictures") and data != "none" else ()), *top.words("modules")]
    if wrong := next((name for name in names if name not in POD_MODULES), None):
        raise top.error("modules", f"'{wrong}' is no module that a bundle can have{suggest(wrong, POD_MODULES)}: {', '.join(POD_MODULES)}")
    return tuple(names)


def _files(top: Fields, folder: Path) -> tuple[str, ...]:
    names = top.words("files")
    missing = next((name for name in names if not (folder / name).is_file()), None)
    if missing:
        raise top.error("files", f"there is no file '{missing}' beside this recipe.yaml")
    return tuple(names)
