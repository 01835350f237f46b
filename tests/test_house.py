"""House rules that a parser can keep: every setting is read, every setting that is told exists, and nothing lives for tests alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests import sources
from tests.sources import ROOT, trees
from trainyard.settings.clouds import BUILT_IN
from trainyard.settings.table import RUN_SETTINGS, SETTINGS
from trainyard.settings.variables import GROUPS, NO_EFFECT

TABLE = "trainyard/settings/"


# Who reads which setting


MAKERS = {"settings_of", "partly", "partly_at", "settings", "environment_settings", "from_environment", "raised"}
"""What returns a StackSettings, alone or as the first of a pair; ``reader.load`` besides."""


def is_settings(node: ast.expr, names: set[str]) -> bool:
    """Tell whether an expression is a StackSettings, as far as names and annotations say."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute):
        return node.attr == "settings"
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Attribute):
        return called.attr in MAKERS or (called.attr == "load" and isinstance(called.value, ast.Name) and called.value.id == "reader")
    return isinstance(called, ast.Name) and called.id in MAKERS


def settings_names(inside: tuple[ast.AST, ...]) -> set[str]:
    """Return the names that hold a StackSettings in a function."""
    names = {
        arg.arg
        for arg in inside
        if isinstance(arg, ast.arg) and arg.annotation is not None and ast.unparse(arg.annotation) == "StackSettings"
    }
    for node in inside:
        if isinstance(node, ast.Assign) and is_settings(node.value, names):
            parts = (target.elts[0] if isinstance(target, ast.Tuple) else target for target in node.targets)
            names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


def readings() -> Iterator[tuple[str, str]]:
    """Yield (room, setting) for each attribute of a StackSettings that is read outside the table."""
    table = trees()[f"{TABLE}table.py"]
    properties = {
        node.name: {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)} & set(SETTINGS)
        for node in ast.walk(table)
        if isinstance(node, ast.FunctionDef) and any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
    }
    for path, tree in trees().items():
        if not path.startswith("trainyard/") or path.startswith(TABLE) or "settings" not in (ROOT / path).read_text(encoding="utf-8"):
            continue
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)] + [node for _, node in sources.methods(tree)]
        for function in functions:
            inside = tuple(ast.walk(function))
            names = settings_names(inside)
            for node in inside:
                if isinstance(node, ast.Attribute) and is_settings(node.value, names):
                    for name in properties.get(node.attr, {node.attr} & set(SETTINGS)):
                        yield path.split("/")[1].removesuffix(".py"), name
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "options_of":
                    for name in (name for cloud in BUILT_IN for name in cloud.options):
                        yield path.split("/")[1].removesuffix(".py"), name


def test_every_setting_is_read_by_the_rooms_that_the_table_names() -> None:
    found: dict[str, set[str]] = {name: set() for name in SETTINGS}
    for room, name in readings():
        found[name].add(room)

    assert {name: tuple(sorted(rooms)) for name, rooms in found.items()} == {
        name: tuple(sorted(each.readers)) for name, each in SETTINGS.items()
    }
    assert [name for name, each in SETTINGS.items() if not each.readers] == []


# What is told of settings


def told(text: str) -> set[str]:
    """Return the settings that a text names; ``trainyard:index:Pod`` is a resource's type."""
    return set(re.findall(r"\btrainyard:([a-z_]+)\b(?!:)", text))


def texts() -> Iterator[tuple[str, str]]:
    """Yield (where, text) of all that a person may read: strings of the code, pages, comments of settings, recipes and playbooks."""
    for path in trees():
        strings = (node for node in sources.nodes(path) if isinstance(node, ast.Constant) and isinstance(node.value, str))
        yield from ((f"{path}:{node.lineno}", str(node.value)) for node in strings)
    for pattern in ("*.md", "docs/**/*.md", "docker/*.md", "Pulumi*.yaml", "templates/**/*.yaml", "playbooks/*.yml", ".github/**/*.yml"):
        paths = (path for path in ROOT.glob(pattern) if path.name != "CHANGELOG.md")  # it may name what is gone
        yield from ((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths)


def test_every_setting_that_a_message_a_page_or_a_comment_names_exists() -> None:
    unknown = {(where, name) for where, text in texts() for name in told(text) if name not in SETTINGS and name not in RUN_SETTINGS}

    assert unknown == set()
    assert told("set trainyard:gpus, not trainyard:index:Pod") == {"gpus"}, "one that does not exist would be seen"


# Environment variables


OF_CLOUDS = {name.partition("_")[0] for cloud in BUILT_IN for name in (*cloud.keys, *cloud.key_aliases, *cloud.more)}
OURS = re.compile(rf"\b(?:{'|'.join(sorted({'R2', 'AWS', *OF_CLOUDS}))})_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)")
NOT_OURS = {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE"}
"""What other programs are told."""


def variables() -> Iterator[tuple[str, str]]:
    """Yield (where, name) of each environment variable with a name like ours that code, a page or a script spells."""
    for where, text in texts():
        if not where.startswith(TABLE):
            yield from ((where, name) for name in OURS.findall(text))
    for pattern in (
        "bootstrap",
        "docker/*.sh",
        "docker/Dockerfile",
        "docker/*_config",
        "docker/*/*",
        "infra/provider/*",
        "trainyard/**/*.sh",
        "templates/**/*.j2",
    ):
        for path in ROOT.glob(pattern):
            yield from ((path.relative_to(ROOT).as_posix(), name) for name in OURS.findall(path.read_text(encoding="utf-8")))


def test_every_environment_variable_is_in_the_table_and_used_somewhere() -> None:
    known = {name for group in GROUPS for name in group.names()}
    found = set(variables())

    assert {(where, name) for where, name in found if name not in known | set(NO_EFFECT) | NOT_OURS} == set()
    assert {name for name in known if OURS.fullmatch(name)} - {name for _, name in found} == set()


# Names that only tests call


KEPT = {
    "trainyard.api.follower.RunFollower.missed": "of the Python API (docs/python.md)",
    "trainyard.pod.alone.commit_alone": "the pod's watchdog calls it, in a module that a plan has brought",
    "trainyard.pod.container.main": "a container's first program becomes it (pod/entry.py)",
    "trainyard.recipes.rows.hub_files": "the programs of recipes lora and dataset call it, on the pod",
    "trainyard.recipes.rouge.lead": "the program of recipe summarizer calls it, on the pod",
    "trainyard.recipes.rouge.mean": "the same",
    "trainyard.setup.bootstrap.main": "./bootstrap calls it",
    "trainyard.storage.carrier.main": "a process that fetches is a line of Python that calls it (storage/carriers.py)",
    "trainyard.clouds.local.supervisor.main": "a pod's first process is a line of Python that calls it (clouds/local/launch.py)",
    "trainyard.clouds.local.supervisor.probe": "the same, where it is asked whether namespaces are allowed",
}
"""Public names without a reader in the product, each with its reason."""
MIGRATIONS = "trainyard/ledger/migrations/versions/"
"""Alembic reads its files by their names, and finds in each what it has to be called."""
BY_NAME = {"trainyard.rehearsal.runpod.graphql._Root": "graphql-core calls a resolver by its field's name"}
"""Classes whose methods are found by their names."""


def _is_route(node: ast.AST) -> bool:
    """Tell whether FastAPI calls a function: it is a path's."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
    return any(ast.unparse(each).startswith("router.") for each in decorators)


def unread() -> Iterator[str]:
    """Yield the public functions, classes, constants and methods that nothing in the product refers to."""
    for path, tree in trees().items():
        if not path.startswith("trainyard/") or path.startswith(MIGRATIONS):
            continue
        module = sources.module_of(path)
        for name, node in sources.definitions(tree):
            if not name.startswith("_") and (module, name) not in sources.referred() and not _is_route(node):
                yield f"{module}.{name}"
        for owner, node in sources.methods(tree):
            if node.name.startswith("_") or sources.foreign(owner) or f"{module}.{owner.name}" in BY_NAME:
                continue
            places = sources.attributes().get(node.name, ())
            if all(where == path and node.lineno <= line <= (node.end_lineno or 0) for where, line in places):
                yield f"{module}.{owner.name}.{node.name}"


def test_no_public_name_lives_for_tests_alone() -> None:
    assert sorted(set(unread()) - set(KEPT)) == []
    assert sorted(set(KEPT) - set(unread())) == [], "these have readers, or are gone: take them out of the list"


@pytest.mark.parametrize(("text", "names"), [("x = 1\ndef f(): pass\nclass C: pass\n", ["x", "f", "C"]), ("a, b = 1, 2\n", ["a", "b"])])
def test_what_a_module_defines_is_seen(text: str, names: list[str]) -> None:
    assert [name for name, _ in sources.definitions(ast.parse(text))] == names


# Names


PARTICIPLES = {"found", "given", "told", "made", "wanted"}
"""They say that something was done, not what it is."""


def test_a_class_name_occurs_once() -> None:
    homes: dict[str, list[str]] = {}
    for path, tree in trees().items():
        if path.startswith("trainyard/"):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name, []).append(path)

    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


LINES = {"file": 350, "function": 40}
WHOLE = {"trainyard/pod/watchdog.py"}
"""Lies on a pod as one file, which has to need nothing beside it."""


def test_no_file_and_no_function_is_longer_than_can_be_read_at_once() -> None:
    long = []
    for path, tree in trees().items():
        length = (ROOT / path).read_text(encoding="utf-8").count("\n")
        if length > LINES["file"] and path not in WHOLE:
            long.append(f"{path}: {length} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{path}:{node.lineno}: {node.name}: {size} lines"] if size > LINES["function"] else []

    assert long == []


def test_no_participle_is_the_name_of_a_thing() -> None:
    unnamed = []
    for path, tree in trees().items():
        if not path.startswith("trainyard/"):
            continue
        flags = {node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "bool"}
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = [node.name.lstrip("_").lower()]
            elif isinstance(node, ast.arg):
                names = [node.arg]
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in flags:
                names = [node.id]
            unnamed += [f"{path}:{node.lineno}: {name}" for name in names if name in PARTICIPLES]  # type: ignore[attr-defined]

    assert unnamed == []
