"""Imports point down only: every import statement of the project is parsed and held against the layers of the design."""

from __future__ import annotations

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.pod import podprogram
from trainyard.recipes import contract

ROOT = Path(__file__).resolve().parent.parent

# From top to bottom; a module may import from lower lines and from its own package.
# `setup` is two things: what runs before any package is installed is just above the ground, and what needs the
# packages (the command line's half) is on the level of tasks.py.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("tasks", "__main__", "cli"),
    ("web",),
    ("api",),
    ("doctor",),
    ("setup.tools", "setup.pulumicli"),
    ("runs.after",),
    ("runs.gitops",),
    ("runs.sweeps",),
    ("runs.queue",),
    ("runs.verbs",),
    ("runs.life",),
    ("runs.planning",),
    ("runs.notices", "runs.trackers"),
    ("runs.records", "runs.context"),
    ("runs.ui", "runs.signals", "runs.events"),
    ("ledger",),
    ("stacks",),
    ("engine",),
    ("program",),
    ("provider",),
    ("engine.codec", "engine.kinds", "engine.stubs"),  # Pulumi's values and protocol: providers in Python have them of the engine
    ("leases",),
    ("rehearsal",),
    ("playbook", "recipes"),
    ("storage",),
    ("remote",),
    ("clouds",),
    ("pod",),
    ("setup",),
    ("settings",),
    (
        "batches",
        "clock",
        "config",
        "envfile",
        "reading",
        "network",
        "filelock",
        "fields",
        "files",
        "tars",
        "nearest",
        "jsontext",
        "sizes",
        "openssh",
        "sshlogin",
        "processes",
        "retries",
        "faults",
        "templating",
        "yamlfile",
        "yamltags",
        "yamlaliases",
        "textfile",
        "shipped",
        "shellscript",
        "pythontext",
        "phrasing",
        "secret",
        "problems",
        "errors",
    ),
)
BEFORE_PACKAGES = {"__init__", "bootstrap", "console", "packages", "pipsettings", "release", "s3server"}
GROUND_BEFORE_PACKAGES = {"errors", "filelock", "files", "phrasing", "secret", "shipped"}
ON_PODS = {
    "trainyard/pod/entry.py",
    "trainyard/pod/watchdog.py",
    *("trainyard/recipes/" + name for name in contract.POD_MODULES),
}
# The S3 server's program; the way to uv with pip's settings, for recipes' environments.
MAY_IMPORT_SETUP = {"trainyard/cli/setupverbs.py", "trainyard/storage/local.py", "trainyard/recipes/venvs.py"}
MAY_IMPORT_PULUMI = ("trainyard/engine/", "trainyard/provider/", "trainyard/stacks/cli.py", "trainyard/program/")


def sources() -> dict[str, str]:
    files = [ROOT / "tasks.py", *(ROOT / "trainyard").rglob("*.py"), *(ROOT / "infra").rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


@functools.cache
def imports(text: str) -> tuple[tuple[int, str], ...]:
    """Return (line, dotted name) of every import, also inside functions; `from a.b import c` is a.b.c."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide where they point"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return tuple(found)


def level(dotted: str) -> int | None:
    """Line of the layers that a name below `trainyard.` belongs to; the longest match counts."""
    parts = dotted.split(".")
    for length in (2, 1):
        name = ".".join(parts[:length])
        for number, layer in enumerate(LAYERS):
            if name in layer:
                return number
    return None


def upward(files: dict[str, str]) -> list[str]:
    """Return every import that points up, or at a layer that is not in the list."""
    found = []
    for path, text in files.items():
        if path.startswith("infra/"):
            continue
        own = path.removesuffix(".py").removeprefix("trainyard/").replace("/", ".").removesuffix(".__init__")
        if own in ("__init__", "runs"):
            continue
        here = level(own)
        if here is None:
            found.append(f"{path}: belongs to no layer")
            continue
        for line, name in imports(text):
            head, _, below = name.partition(".")
            if head != "trainyard" or not below or below.startswith("__"):
                continue
            there = level(below)
            if there is None:
                found.append(f"{path}:{line}: {name} belongs to no layer")
            elif there < here or (there == here and below.split(".")[0] != own.split(".")[0] and "." in own):
                found.append(f"{path}:{line}: {name} points up or aside")
    return found


def test_imports_point_down_only() -> None:
    assert upward(sources()) == []


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("trainyard/clouds/local.py", "from trainyard.runs.verbs import train", "points up"),
        ("trainyard/clouds/local.py", "def f():\n    import trainyard.stacks.cli", "points up"),
        ("trainyard/storage/x.py", "from trainyard.doctor import checks", "points up"),
        ("trainyard/setup/console.py", "from trainyard.stacks.installed import find", "points up"),
        ("trainyard/runs/records/x.py", "from trainyard.runs.life import drive", "points up"),
        ("trainyard/newthing/x.py", "import os", "belongs to no layer"),
        ("trainyard/runs/life/x.py", "from trainyard.newthing import y", "belongs to no layer"),
    ],
)
def test_an_import_that_points_up_is_found(path: str, text: str, said: str) -> None:
    (found,) = upward({path: text})

    assert said in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("trainyard/runs/life/x.py", "from trainyard.clouds import open_cloud"),
        ("trainyard/clouds/local/x.py", "from trainyard.clouds.protocol import Cloud"),
        ("trainyard/doctor/checks.py", "from trainyard.doctor import machine"),
        ("trainyard/setup/tools.py", "from trainyard.setup import s3server"),
        ("trainyard/storage/local.py", "from trainyard.setup import s3server"),
        ("tasks.py", "from trainyard import __version__"),
    ],
)
def test_an_import_that_points_down_is_allowed(path: str, text: str) -> None:
    assert upward({path: text}) == []


def test_only_engine_provider_and_the_cli_driver_import_pulumi() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        for line, name in imports(text)
        if name.split(".")[0] in ("pulumi", "pulumi_command") and not path.startswith(MAY_IMPORT_PULUMI)
    ]

    assert found == []


def test_the_provider_is_reached_over_its_protocol_and_imported_by_programs_only() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        if not path.startswith(("trainyard/provider/", "trainyard/program/"))
        for line, name in imports(text)
        if name.startswith("trainyard.provider")
    ]

    assert found == []


def test_the_engine_takes_nothing_of_the_rest_but_through_its_hook() -> None:
    found = {
        path
        for path, text in sources().items()
        for _, name in imports(text)
        if path.startswith("trainyard/engine/") and name.startswith("trainyard") and not name.startswith("trainyard.engine.")
    }

    assert found == {"trainyard/engine/hook.py", "trainyard/engine/document.py"}


def test_leases_can_be_tried_without_pulumi_engine_or_provider() -> None:
    files = [*(ROOT / "tests/leases").glob("*.py"), *(ROOT / "trainyard/leases").glob("*.py")]
    apart = ("pulumi", "trainyard.engine", "trainyard.provider", "trainyard.stacks", "trainyard.program", "tests.provider")
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files
        for line, name in imports(path.read_text(encoding="utf-8"))
        if name.startswith(apart)
    ]

    assert files and found == []


def test_the_program_imports_pulumi_the_typed_resources_and_the_table_of_settings_only() -> None:
    allowed = {
        "trainyard/program/": (
            "pulumi",
            "pulumi_command",
            "trainyard.provider.resources",
            "trainyard.provider.typed",
            "trainyard.settings.table",
            "trainyard.settings.ofcloud",
            "trainyard.settings.setting",
            "trainyard.settings.flaws",
            "trainyard.reading",
            "trainyard.nearest",
            "trainyard.errors",
            "trainyard.program",
        ),
        "infra/": ("trainyard.program",),
    }
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        for folder, names in allowed.items()
        if path.startswith(folder)
        for line, name in imports(text)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(names)
    ]

    assert found == []
    assert any(path.startswith("trainyard/program/") for path in sources())


def test_the_program_is_imported_by_the_program_only() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        if not path.startswith(("infra/", "trainyard/program/"))
        for line, name in imports(text)
        if name.startswith("trainyard.program")
    ]

    assert found == []


def test_rehearsal_is_imported_by_the_verbs_and_tests_only() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        if not path.startswith(("trainyard/cli/", "trainyard/rehearsal/"))
        for line, name in imports(text)
        if name.startswith("trainyard.rehearsal")
    ]

    assert found == []


def test_setup_is_imported_by_those_who_need_it_and_by_nobody_else() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        if path not in MAY_IMPORT_SETUP and not path.startswith(("trainyard/setup/", "trainyard/doctor/"))
        for line, name in imports(text)
        if name.startswith("trainyard.setup")
    ]

    assert found == []


def test_what_runs_on_a_pod_needs_nothing_but_the_standard_library() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        if path in ON_PODS
        for line, name in imports(text)
        if name.split(".")[0] not in sys.stdlib_module_names
    ]

    assert found == []


def test_a_program_for_a_pod_needs_nothing_but_the_standard_library_and_its_parts_before() -> None:
    found = []
    for modules in podprogram._MODULES.values():
        for number, module in enumerate(modules):
            known = {*sys.stdlib_module_names, *(f"trainyard.pod.{name}" for name in modules[:number])}
            path = f"trainyard/pod/{module}.py"
            for line, name in imports(sources()[path]):
                if name.split(".")[0] not in known and name.rpartition(".")[0] not in known:
                    found.append(f"{path}:{line}: {name}")

    assert found == []


def test_what_runs_before_the_packages_are_installed_needs_nothing_but_the_standard_library() -> None:
    allowed = {*(f"trainyard.{name}" for name in GROUND_BEFORE_PACKAGES), *(f"trainyard.setup.{name}" for name in BEFORE_PACKAGES)}
    found = []
    for path in (
        *(f"trainyard/setup/{name}.py" for name in sorted(BEFORE_PACKAGES)),
        *(f"trainyard/{name}.py" for name in sorted(GROUND_BEFORE_PACKAGES)),
    ):
        for line, imported in imports((ROOT / path).read_text(encoding="utf-8")):
            module, _, last = imported.rpartition(".")
            ours = module in allowed or imported in allowed or (module == "trainyard.setup" and last in BEFORE_PACKAGES)
            if imported.split(".")[0] not in sys.stdlib_module_names and not ours:
                found.append(f"{path}:{line}: {imported}")

    assert found == []
    package = ast.parse((ROOT / "trainyard/__init__.py").read_text(encoding="utf-8"))
    assert [node for node in package.body if isinstance(node, ast.Import | ast.ImportFrom)] == [], "the API's names are loaded when used"


def test_no_module_needs_itself_to_be_loaded() -> None:
    """Imports at the top of modules make no circle; those inside functions and for types alone may point anywhere below."""
    needs: dict[str, set[str]] = {}
    for path, text in sources().items():
        own = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        tree = ast.parse(text)
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        needs[own] = {name for node in top for _, name in imports(ast.unparse(node)) if name.startswith("trainyard")}
    graph = {own: {name if name in needs else name.rpartition(".")[0] for name in names} - {own} for own, names in needs.items()}

    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("trainyard.runs.verbs.train", ["botocore", "grpc", "paramiko", "pulumi", "httpx", "asyncio"]),
        ("trainyard.engine.session", ["asyncio", "ssl", "botocore", "paramiko"]),
        ("trainyard.settings.reader", ["trainyard.storage.client", "jinja2", "httpx", "ssl"]),
        ("trainyard.storage.download", ["botocore", "urllib3"]),
        ("trainyard.playbook.__main__", ["fabric", "paramiko", "cryptography", "invoke", "asyncio", "ssl", "botocore", "pulumi", "httpx"]),
    ],
)
def test_what_a_user_waits_for_at_the_start_loads_nothing_heavy(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
