"""What the built-in engine does not do, by name. Nothing here is half done: it is refused before anything is created.

Checked twice: where the program writes it (with its line, before any request is sent) and where a request
arrives (a program in a process of its own, or a resource made late, in an ``apply``).
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from trainyard.engine.hook import Location, RefusedError, hook

REFUSED_OPTIONS = {
    "transforms": "transforms",
    "state_migrations": "state migrations",
    "import_": "import of existing resources",
    "hooks": "resource hooks",
    "replacement_trigger": "replacement_trigger",
    "env_var_mappings": "env_var_mappings",
}
REFUSED_FUNCTIONS = {
    "register_stack_transform": "stack transforms",
    "register_resource_transform": "stack transforms",
    "register_invoke_transform": "invoke transforms",
    "call": "calls of resource methods",
    "call_single": "calls of resource methods",
    "exists_resource": "questions whether a resource exists",
}
REFUSED_CLASSES = {
    "AssetArchive": "archives",
    "FileArchive": "archives",
    "RemoteArchive": "archives",
    "RemoteAsset": "remote assets",
    "StackReference": "StackReference",
    "ResourceHook": "resource hooks",
    "ErrorHook": "error hooks",
}
REFUSED_FIELDS = {
    "transforms": "transforms",
    "state_migrations": "state migrations",
    "importId": "import of existing resources",
    "remote": "remote components",
    "packageRef": "parameterized packages",
    "envVarMappings": "env_var_mappings",
    "pluginChecksums": "checksums of plugins",
    "snippetId": "snippets",
    "hooks": "resource hooks",
    "replacement_trigger": "replacement_trigger",
}
"""Fields of a program's requests; all others are served (a test walks the protocol)."""


def refused(what: str, where: Location | None = None) -> RefusedError:
    """Return the error for a feature."""
    return RefusedError(f"{what}: not supported by the built-in engine", where=where, hint=hook().advice)


def refused_type(kind: str) -> str | None:
    """Return the name of the feature a resource type stands for when it is refused."""
    if kind.startswith("pulumi-python:dynamic"):
        return "dynamic providers"
    if kind == "pulumi:pulumi:StackReference":
        return "StackReference"
    if kind.startswith("pulumi:") and not kind.startswith("pulumi:providers:") and kind != "pulumi:pulumi:Stack":
        return f"the built-in resource {kind}"
    return None


def check_request(request: Any) -> None:
    """Refuse what a request for a resource asks for beyond the support list."""
    name = refused_type(request.type)
    if name:
        raise refused(name, position(request))
    check_fields(request)


def check_fields(request: Any) -> None:
    """Refuse a request of the program by a field that is not served."""
    for field, value in request.ListFields():
        what = REFUSED_FIELDS.get(field.name)
        if what and _says_something(value):
            raise refused(what, position(request))


def _says_something(value: Any) -> bool:
    """Whether a field that is there asks for anything: the SDK also sends an empty binding, and a null."""
    if not hasattr(value, "ListFields"):
        return bool(value)
    return value.WhichOneof("kind") not in (None, "null_value") if value.DESCRIPTOR.name == "Value" else bool(value.ListFields())


def position(request: Any) -> Location | None:
    """Return the source line that a request names."""
    if not request.HasField("sourcePosition") or not request.sourcePosition.uri:
        return None
    path = request.sourcePosition.uri.removeprefix("file://")
    line = request.sourcePosition.line
    return Location(path, line, 1, linecache.getline(path, line) or None)


LOCAL, REMOTE = "command:local:Command", "command:remote:Command"
REFUSED_INPUTS = ("assetPaths", "archivePaths")
NEEDS_PLUGIN = "needs the official command plugin: put pulumi-resource-command into the plugin cache or on PATH"


def without_command_plugin(kind: str, props: object) -> str:
    """Return why a resource that the program builds cannot be served without that plugin, an empty text when nothing speaks against it.

    Not all can be seen so early: a connection is a secret output even when it is known.
    """
    if not kind.startswith("command:"):
        return ""
    if kind not in (LOCAL, REMOTE):
        return f"{kind} {NEEDS_PLUGIN}"
    for name in REFUSED_INPUTS:
        if _part(props, name):
            return f"'{name}' of {kind} {NEEDS_PLUGIN}"
    return ""


def _part(arguments: object, name: str) -> object:
    """Return one of the arguments (a dict, or an object of the SDK); None when it is absent or not known yet."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    fields = arguments if isinstance(arguments, Mapping) else getattr(arguments, "__dict__", {})
    return fields.get(snake, fields.get(name))


class Guard:
    """Lets the SDK refuse while the program builds its resources: before the first request is sent.

    Wraps functions and constructors of the imported ``pulumi``; the program is not changed. ``on_refusal`` is
    called at once: the SDK sends what was built before an exception all the same. ``unserved`` says what of a
    resource (type, properties) no provider here can serve.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.on_refusal: Callable[[RefusedError], None] = lambda error: None
        self.unserved: Callable[[str, object], str] = lambda kind, props: ""

    def install(self) -> None:
        """Wrap what is refused."""
        import pulumi

        self._guard_resources(pulumi)
        for name, what in REFUSED_FUNCTIONS.items():
            for module in (pulumi, pulumi.runtime):
                if hasattr(module, name):
                    setattr(module, name, self._refusing(what))
        for name, what in REFUSED_CLASSES.items():
            kind = getattr(pulumi, name, None)
            if kind is not None:
                kind.__init__ = self._refusing(what)
        dynamic = pulumi.dynamic.__dict__.get("Resource")  # a look inside would load the module
        if dynamic is not None:
            dynamic.__init__ = self._refusing("dynamic providers")

    def _guard_resources(self, pulumi: Any) -> None:
        original = pulumi.Resource.__init__
        guard = self

        def checked(
            self: Any, t: str, name: str, custom: bool, props: Any = None, opts: Any = None, remote: bool = False, *args: Any, **kwargs: Any
        ) -> None:
            what = refused_type(t) if t else None
            if remote:
                what = "remote components"
            for option, feature in REFUSED_OPTIONS.items():
                if _is_asked(getattr(opts, option, None)):
                    what = feature
            if what:
                raise guard._refuse(refused(what, program_line(guard._root)))
            lacking = guard.unserved(t, props) if t else ""
            if lacking:
                raise guard._refuse(RefusedError(lacking, where=program_line(guard._root)))
            original(self, t, name, custom, props, opts, remote, *args, **kwargs)

        pulumi.Resource.__init__ = checked

    def _refusing(self, what: str) -> Callable[..., None]:
        def refuse(*args: Any, **kwargs: Any) -> None:
            raise self._refuse(refused(what, program_line(self._root)))

        return refuse

    def _refuse(self, error: RefusedError) -> RefusedError:
        self.on_refusal(error)
        return error


def program_line(root: Path) -> Location | None:
    """Return the innermost line of the running call that belongs to the project."""
    frame: FrameType | None = sys._getframe(1)
    own = str(Path(__file__).parent)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(str(root)) and "site-packages" not in name and not name.startswith(own):
            return Location(name, frame.f_lineno, 1, linecache.getline(name, frame.f_lineno) or None)
        frame = frame.f_back
    return None


def _is_asked(value: object) -> bool:
    # The SDK leaves an empty hook binding on options that are used for a second resource.
    return bool(value) and (type(value).__name__ != "ResourceHookBinding" or any(vars(value).values()))
