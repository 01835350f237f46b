"""Requests of the SDK as goals."""

from __future__ import annotations

import os
import re
from typing import Any

from trainyard.engine.goal import Alias, Goal
from trainyard.engine.hook import EngineError
from trainyard.engine.operation import Operation
from trainyard.engine.paths import parse, text_of

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def goal_of(request: Any, op: Operation) -> Goal:
    """Return the goal of a RegisterResource request."""
    inputs = op.wire.read(request.object)
    goal = Goal(request.type, request.name, request.custom, request.parent, inputs)
    goal.dependencies = sorted(set(request.dependencies))
    goal.property_dependencies = {key: sorted(set(deps.urns)) for key, deps in request.propertyDependencies.items()}
    if not request.propertyDependencies:
        goal.property_dependencies = {key: list(goal.dependencies) for key in inputs}
    for key in inputs:
        goal.property_dependencies.setdefault(key, [])
    goal.provider = request.provider
    goal.protect = request.protect if request.HasField("protect") else None
    goal.retain_on_delete = request.retainOnDelete if request.HasField("retainOnDelete") else None
    goal.deleted_with = request.deletedWith
    goal.replace_with = list(request.replace_with)
    if request.deleteBeforeReplaceDefined or request.deleteBeforeReplace:
        goal.delete_before_replace = request.deleteBeforeReplace
    goal.ignore_changes = list(request.ignoreChanges)
    goal.replace_on_changes = list(request.replaceOnChanges)
    goal.hide_diff = [text_of(path) for path in map(parse, request.hideDiffs) if path is not None]
    goal.additional_secret_outputs = list(request.additionalSecretOutputs)
    goal.aliases = [Alias(urn=urn) for urn in request.aliasURNs] + [_alias(item) for item in request.aliases]
    goal.custom_timeouts = _timeouts(request)
    _place(goal, request, op)
    if goal.type.startswith("pulumi:providers:"):
        _provider_version(goal, request)
    return goal


def read_goal_of(request: Any, op: Operation) -> Goal:
    """Return the goal of a ReadResource request."""
    goal = Goal(request.type, request.name, True, request.parent, op.wire.read(request.properties))
    goal.dependencies = sorted(set(request.dependencies))
    goal.provider = request.provider
    goal.additional_secret_outputs = list(request.additionalSecretOutputs)
    _place(goal, request, op)
    return goal


def seconds(text: str) -> float:
    """Return a Go duration (``1h30m``, ``2.5s``) in seconds."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise EngineError(f"'{text}' is no duration: write it as 90s, 5m or 1h30m")
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return int(total) if total == int(total) else total


def _timeouts(request: Any) -> dict[str, float]:
    if not request.HasField("customTimeouts"):
        return {}
    durations = {name: getattr(request.customTimeouts, name) for name in ("create", "update", "delete", "read")}
    return {name: seconds(text) for name, text in durations.items() if text}


def _alias(alias: Any) -> Alias:
    if alias.WhichOneof("alias") == "urn":
        return Alias(urn=alias.urn)
    spec = alias.spec
    return Alias("", spec.name, spec.type, spec.stack, spec.project, spec.parentUrn, spec.noParent)


def _place(goal: Goal, request: Any, op: Operation) -> None:
    root = str(op.project.root)
    if request.HasField("sourcePosition"):
        goal.source_position = _position(request.sourcePosition, root)
    if request.HasField("stackTrace"):
        goal.stack_trace = [_frame(_position(frame.pc, root)) for frame in request.stackTrace.frames]


def _frame(position: str) -> dict[str, str]:
    return {"sourcePosition": position} if position else {}


def _position(position: Any, root: str) -> str:
    if not position.uri.startswith("file://") or position.line < 0:
        return ""
    relative = os.path.relpath(position.uri[len("file://") :], root)
    column = f",{position.column}" if position.column else ""
    return f"project:///{relative}#{position.line}{column}"


def _provider_version(goal: Goal, request: Any) -> None:
    """Write the plugin's version into a provider resource's inputs, where the CLI keeps it."""
    if request.version:
        goal.inputs.setdefault("__internal", {})
        goal.inputs["version"] = request.version
    if request.pluginDownloadURL:
        goal.inputs["__internal"] = {**goal.inputs.get("__internal", {}), "pluginDownloadURL": request.pluginDownloadURL}
