"""Resources as the state file holds them, and the one place that writes the file while an operation runs.

Order in the file: new states as they were completed, then the old ones not yet replaced, in their old order.
So a resource's parent, provider and dependencies always stand before it, which the CLI checks.

The whole file is written before and after each provider call. So the text of a resource is kept until the
resource changes, and changes that come while the file is being written share the next write: a disk that takes
10 ms for a write would else hold up a stack of 200 resources for 4 s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainyard.engine import urn as urns
from trainyard.engine.backend import encode, manifest
from trainyard.engine.hook import RefusedError
from trainyard.engine.kinds import Properties
from trainyard.engine.secrets import Crypter
from trainyard.engine.values import Wire, from_state, to_state

_REFUSED_FIELDS = ("viewOf", "resourceHooks", "refreshBeforeUpdate", "replacementTrigger", "extensionRef", "snippetId", "envVarMappings")
_LISTS = {
    "dependencies": "dependencies",
    "initErrors": "init_errors",
    "additionalSecretOutputs": "additional_secret_outputs",
    "replaceWith": "replace_with",
    "stackTrace": "stack_trace",
    "ignoreChanges": "ignore_changes",
    "replaceOnChanges": "replace_on_changes",
    "hideDiff": "hide_diff",
}
_TEXTS = {
    "parent": "parent",
    "provider": "provider",
    "importID": "import_id",
    "deletedWith": "deleted_with",
    "created": "created",
    "modified": "modified",
    "sourcePosition": "source_position",
}
_FLAGS = {
    "protect": "protect",
    "taint": "taint",
    "external": "external",
    "pendingReplacement": "pending_replacement",
    "retainOnDelete": "retain_on_delete",
}


_set = object.__setattr__


@dataclass(slots=True, eq=False)
class Resource:
    """One resource of a stack: what was asked for, what there is, and how to treat it. Compared by identity.

    Values are replaced, never changed in place: ``text`` would not see it.
    """

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    delete: bool = False
    parent: str = ""
    protect: bool = False
    taint: bool = False
    external: bool = False
    dependencies: list[str] = field(default_factory=list)
    init_errors: list[str] = field(default_factory=list)
    provider: str = ""
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    pending_replacement: bool = False
    additional_secret_outputs: list[str] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    import_id: str = ""
    retain_on_delete: bool = False
    deleted_with: str = ""
    replace_with: list[str] = field(default_factory=list)
    created: str = ""
    modified: str = ""
    source_position: str = ""
    stack_trace: list[Any] = field(default_factory=list)
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    hide_diff: list[Any] = field(default_factory=list)
    _change: object = field(default=None, init=False, repr=False)  # another object after each change
    _text: tuple[object, bytes] | None = field(default=None, init=False, repr=False)

    def __setattr__(self, name: str, value: object) -> None:
        _set(self, name, value)
        _set(self, "_change", object())

    def text(self, crypter: Crypter) -> bytes:
        """Return the entry of the state file as JSON, put into words only when something changed."""
        change, kept = self._change, self._text
        if kept is None or kept[0] is not change:
            kept = (change, encode(dump_resource(self, crypter)))
            _set(self, "_text", kept)
        return kept[1]

    @property
    def name(self) -> str:
        """The logical name."""
        return urns.name_of(self.urn)

    @property
    def is_provider(self) -> bool:
        """Whether this is a provider resource."""
        return urns.is_provider(self.type)

    def needs(self) -> set[str]:
        """Return the URNs that must exist while this resource does."""
        result = {*self.dependencies, *self.replace_with}
        for deps in self.property_dependencies.values():
            result.update(deps)
        result.update(u for u in (self.parent, self.deleted_with) if u)
        if self.provider:
            result.add(urns.split_reference(self.provider)[0])
        return result


def parse_resource(data: Mapping[str, Any], crypter: Crypter | None, wire: Wire | None = None) -> Resource:
    """Return the resource of a state file's entry; refuses what this engine would not treat right."""
    urn = data["urn"]
    for key in _REFUSED_FIELDS:
        if data.get(key):
            raise RefusedError(f"{urn} has '{key}' in state, which the built-in engine does not know; use the Pulumi CLI for this stack")
    result = Resource(urn, data["type"], bool(data.get("custom")), data.get("id", ""), delete=bool(data.get("delete")))
    place = f"{urn}|{result.id}|{result.delete}"
    result.inputs = from_state(data.get("inputs") or {}, crypter, place + "|in", wire)
    result.outputs = from_state(data.get("outputs") or {}, crypter, place + "|out", wire)
    for key, name in _TEXTS.items():
        setattr(result, name, data.get(key) or "")
    for key, name in _FLAGS.items():
        setattr(result, name, bool(data.get(key)))
    for key, name in _LISTS.items():
        setattr(result, name, list(data.get(key) or []))
    result.property_dependencies = {key: list(deps or []) for key, deps in (data.get("propertyDependencies") or {}).items()}
    result.custom_timeouts = dict(data.get("customTimeouts") or {})
    return result


def dump_resource(resource: Resource, crypter: Crypter) -> dict[str, Any]:
    """Return the entry of the state file, fields in the CLI's order, empty ones left out."""
    r = resource
    place = f"{r.urn}|{r.id}|{r.delete}"
    entry: dict[str, Any] = {
        "urn": r.urn,
        "custom": r.custom,
        "delete": r.delete,
        "id": r.id,
        "type": r.type,
        "inputs": to_state(r.inputs, crypter, place + "|in"),
        "outputs": to_state(r.outputs, crypter, place + "|out"),
        "parent": r.parent,
        "protect": r.protect,
        "taint": r.taint,
        "external": r.external,
        "dependencies": r.dependencies,
        "initErrors": r.init_errors,
        "provider": r.provider,
        "propertyDependencies": {key: r.property_dependencies[key] for key in sorted(r.property_dependencies)},
        "pendingReplacement": r.pending_replacement,
        "additionalSecretOutputs": r.additional_secret_outputs,
        "customTimeouts": r.custom_timeouts,
        "importID": r.import_id,
        "retainOnDelete": r.retain_on_delete,
        "deletedWith": r.deleted_with,
        "replaceWith": r.replace_with,
        "created": r.created,
        "modified": r.modified,
        "sourcePosition": r.source_position,
        "stackTrace": r.stack_trace,
        "ignoreChanges": r.ignore_changes,
        "hideDiff": r.hide_diff,
        "replaceOnChanges": r.replace_on_changes,
    }
    return {key: value for key, value in entry.items() if value or key == "custom"}


class StackState:
    """The resources of a stack during one operation. Every change is in the file before the method returns."""

    def __init__(self, deployment: Mapping[str, Any], crypter: Crypter, wire: Wire, save: Callable[[bytes], None] | None) -> None:
        self._crypter = crypter
        self._save = save
        self._provider = dict(deployment.get("secrets_providers") or {}) or {"type": "passphrase", "state": {"salt": crypter.salt}}
        self._metadata = deployment.get("metadata") or {}
        self._lock = threading.RLock()
        self.olds = [parse_resource(item, crypter, wire) for item in deployment.get("resources") or []]
        self.news: list[Resource] = []
        self.left_over = [
            (parse_resource(item["resource"], crypter, wire), str(item.get("type", "")))
            for item in deployment.get("pending_operations") or []
            if item.get("type") in ("creating", "deleting")  # what was being updated is still a resource: it is compared again
        ]
        self.renamed: dict[str, str] = {}
        self._recorded: set[str] = set()
        self._pending: list[tuple[Resource, str]] = []
        self._done: set[int] = set()
        self._turn = threading.Condition()
        self._wanted = self._written = 0
        self._writing = False

    def begin(self, resource: Resource, kind: str) -> None:
        """Record that a provider call on the resource is about to start."""
        item = (resource, kind)
        with self._lock:
            self._pending.append(item)
        try:
            self.write()
        except BaseException:
            with self._lock:  # the call will not be made
                self._pending.remove(item)
            raise

    def end(self, resource: Resource, *, new: Resource | None = None, gone: Iterable[Resource] = (), keep: bool = False) -> None:
        """Record the outcome of a call: a new state, old states that are no more; ``keep`` leaves the operation pending."""
        with self._lock:
            if not keep:
                self._pending = [item for item in self._pending if item[0] is not resource]
            self._apply(new, gone)
        self.write()

    def record(self, new: Resource | None = None, gone: Iterable[Resource] = (), *, write: bool = True) -> None:
        """Record a change that needed no provider call."""
        with self._lock:
            self._apply(new, gone)
        if write:
            self.write()

    def insert_old(self, resource: Resource, twin: Resource | None) -> None:
        """Put an adopted resource among the old ones: in the place of its twin (which goes), else at the end."""
        with self._lock:
            if twin is None:
                self.olds.append(resource)
            else:
                self.olds[self.olds.index(twin)] = resource

    def forget_old(self, gone: list[Resource]) -> None:
        """Drop old resources that were found gone, and what refers to them."""
        with self._lock:
            missing = {old.urn for old in gone} - {old.urn for old in self.olds if old not in gone}
            self.olds = [old for old in self.olds if old not in gone]
            for old in self.olds:
                old.dependencies = [u for u in old.dependencies if u not in missing]
                old.property_dependencies = {k: [u for u in deps if u not in missing] for k, deps in old.property_dependencies.items()}
                old.replace_with = [u for u in old.replace_with if u not in missing]
                old.parent = "" if old.parent in missing else old.parent
                old.deleted_with = "" if old.deleted_with in missing else old.deleted_with

    def host(self, resource: Resource) -> Resource | None:
        """Return what an old state is deleted with. Of several of that name it is the last before it in the file."""
        with self._lock:
            earlier = self.olds[: self.olds.index(resource)]
        return next((old for old in reversed(earlier) if old.urn == resource.deleted_with), None)

    def current(self) -> list[Resource]:
        """Return the resources as they would be written now."""
        with self._lock:
            names = self._names()
            rest = [_renamed(old, names) for old in self.olds if id(old) not in self._done]
            return [new for new in self.news if id(new) not in self._done] + rest

    def unsettled(self) -> list[tuple[Resource, str]]:
        """Return the operations of which it is not known how they ended."""
        with self._lock:
            return [item for item in (*self.left_over, *self._pending) if item[1] == "creating"]

    def write(self) -> None:
        """Return when all that was changed before this call is on disk (nothing is written in a preview)."""
        if self._save is None:
            return
        with self._turn:
            self._wanted += 1
            mine = self._wanted
            self._turn.wait_for(lambda: not self._writing or self._written >= mine)
            if self._written >= mine:
                return  # another thread's write has taken it along
            self._writing, covered = True, self._wanted
        try:
            self._save(self.encoded())
        except BaseException:
            covered = 0  # who waits tries it himself, and hears why it cannot be done
            raise
        finally:
            with self._turn:
                self._writing, self._written = False, max(self._written, covered)
                self._turn.notify_all()

    def encoded(self) -> bytes:
        """Return the deployment as it would be written now, as JSON."""
        with self._lock:
            operations = [*(item for item in self.left_over if item[1] == "creating"), *self._pending]
            parts = [b'"manifest":', encode(manifest()), b',"secrets_providers":', encode(self._provider)]
            resources = [resource.text(self._crypter) for resource in self.current()]
            if resources:
                parts += [b',"resources":[', b",".join(resources), b"]"]
            if operations:
                names = self._names()
                entries = (
                    b'{"resource":' + _renamed(r, names).text(self._crypter) + b',"type":' + encode(kind) + b"}" for r, kind in operations
                )
                parts += [b',"pending_operations":[', b",".join(entries), b"]"]
            return b"{" + b"".join(parts) + b',"metadata":' + encode(self._metadata) + b"}"

    def _apply(self, new: Resource | None, gone: Iterable[Resource]) -> None:
        self._done.update(id(old) for old in gone)
        if new is not None:
            self.left_over = [item for item in self.left_over if item[0].urn != new.urn]  # what nobody could look for has a successor
            self.news.append(new)
            self._recorded.add(new.urn)

    def _names(self) -> dict[str, str]:
        """Return the renames made so far, and those of children whose parent has moved: old URN -> new URN.

        A rename counts from when the resource stands under its new name: a step that fails before leaves the old one.
        """
        names = {before: after for before, after in self.renamed.items() if after in self._recorded}
        rest = [old for old in self.olds if id(old) not in self._done] if names else []
        taken = self._recorded.union(old.urn for old in rest)
        for old in rest:
            moved = urns.below(names[old.parent], old.urn) if old.parent in names else old.urn
            if old.urn not in names and moved not in taken:  # the next run would not know it by its old name
                names[old.urn] = moved
        return names


def _renamed(old: Resource, names: dict[str, str]) -> Resource:
    """Return an old state whose name and references are the new ones."""
    if not {old.urn, *old.needs()} & names.keys():
        return old
    provider, identity = urns.split_reference(old.provider) if old.provider else ("", "")
    return replace(
        old,
        urn=names.get(old.urn, old.urn),  # also of what was replaced: what needs it must not take its successor for it
        parent=names.get(old.parent, old.parent),
        dependencies=[names.get(u, u) for u in old.dependencies],
        property_dependencies={k: [names.get(u, u) for u in deps] for k, deps in old.property_dependencies.items()},
        deleted_with=names.get(old.deleted_with, old.deleted_with),
        replace_with=[names.get(u, u) for u in old.replace_with],
        provider=urns.reference(names.get(provider, provider), identity) if provider else "",
    )
