"""What the plugin needs to know of one resource type, and the comparison that all types share.

A handler is data: the shapes of inputs and outputs plus six functions. It knows nothing of gRPC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainyard.errors import CloudError, UserError
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.values import UNKNOWN, Properties, SecretValue, Tree, UnknownValue

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = Literal["add", "delete", "update", "add-replace", "delete-replace", "update-replace"]


class CheckFailed(UserError):
    """Inputs that cannot be right, each with its property."""

    def __init__(self, failures: Sequence[model.CheckFailure]) -> None:
        super().__init__("; ".join(item.reason for item in failures))
        self.failures = tuple(failures)


class Partial(CloudError):
    """It exists under an id, but something went wrong: the engine must keep it on record."""

    def __init__(self, id: str, properties: Properties, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.id = id
        self.properties = properties
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True)
class ResourceDiff:
    """What changed; a resource with an empty ``changes`` stays as it is."""

    changes: Mapping[str, Kind] = field(default_factory=dict)
    delete_first: bool = False


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What Read found; ``id`` empty: positively gone."""

    id: str
    properties: Properties
    inputs: Properties


@dataclass(frozen=True, slots=True)
class ResourceHandler:
    """One resource type. ``inputs`` and ``outputs`` are dataclasses declared with model.prop()."""

    token: str
    doc: str
    inputs: type[DataclassInstance]
    outputs: type[DataclassInstance]
    create: Callable[[Call, Properties], tuple[str, Properties]]
    read: Callable[[Call, str, Properties, Properties], ReadResult]
    """(id, last outputs, last inputs)"""
    update: Callable[[Call, str, Properties, Properties, Properties], Properties]
    """(id, old outputs, old inputs, new inputs)"""
    delete: Callable[[Call, str, Properties, Properties], None]
    """(id, outputs, inputs)"""
    kept: bool = True
    """Whether ``protect`` and ``retain_on_delete`` may keep it after destroy."""
    foresee: Callable[[Call, Properties], Properties] = lambda call, inputs: {}
    """(inputs) -> outputs that are known before a create; a preview shows them and says what the create would say"""
    check: Callable[[Call, Properties | None, Properties], Properties] = lambda call, olds, news: news
    """(old inputs, new inputs) -> inputs to keep; called after the types were checked"""
    diff: Callable[[Call, Properties, Properties, Properties, ResourceDiff], ResourceDiff] = lambda call, outs, olds, news, plain: plain
    """(old outputs, old inputs, new inputs, plain difference) -> difference"""


def check(handler: ResourceHandler, call: Call, olds: Properties | None, news: Properties) -> Properties:
    """Return the inputs to keep. Raises CheckFailed."""
    failures = model.problems(handler.inputs, news) or model.out_of_range(handler.inputs, news)
    if failures:
        raise CheckFailed(failures)
    return handler.check(call, olds, _sealed(handler, news))


def diff(handler: ResourceHandler, call: Call, outputs: Properties, olds: Properties, news: Properties) -> ResourceDiff:
    """Return what changed between old and new inputs."""
    return handler.diff(call, outputs, olds, news, plain_difference(handler, olds, news))


def plain_difference(handler: ResourceHandler, olds: Properties, news: Properties) -> ResourceDiff:
    """Compare the inputs property by property, defaults filled in."""
    before, after = model.normal(handler.inputs, olds), model.normal(handler.inputs, news)
    changes: dict[str, Kind] = {}
    for item in model.properties(handler.inputs):
        old, new = before[item.name], after[item.name]
        if not item.ignored and (isinstance(new, UnknownValue) or old != new):
            changes[item.name] = _kind(old, new, item.replaces)
    return ResourceDiff(changes)


def unknown_outputs(handler: ResourceHandler) -> Properties:
    """Return the outputs of a resource that does not exist yet."""
    return {item.name: UNKNOWN for item in model.properties(handler.outputs)}


def sealed_outputs(handler: ResourceHandler, outputs: Properties) -> Properties:
    """Return the outputs with the secret ones marked."""
    secret = {item.name for item in model.properties(handler.outputs) if item.secret}
    return {key: _seal(value) if key in secret else value for key, value in outputs.items()}


def _sealed(handler: ResourceHandler, news: Properties) -> Properties:
    secret = {item.name for item in model.properties(handler.inputs) if item.secret}
    return {key: _seal(value) if key in secret else value for key, value in news.items() if value is not None}


def _seal(value: Tree) -> Tree:
    return value if value is None or isinstance(value, (SecretValue, UnknownValue)) else SecretValue(value)


def _kind(old: Tree, new: Tree, replaces: bool) -> Kind:
    if old is None:
        return "add-replace" if replaces else "add"
    if new is None:
        return "delete-replace" if replaces else "delete"
    return "update-replace" if replaces else "update"
