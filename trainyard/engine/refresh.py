"""Bring the state in line with what there is: read every resource, drop what is gone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from trainyard.engine.hook import EngineError, exact_time
from trainyard.engine.operation import Operation, Stopped
from trainyard.engine.provider import ResourceOutcome
from trainyard.engine.state import Resource
from trainyard.engine.values import changed_keys, equal


def refresh_all(op: Operation) -> bool:
    """Read all resources side by side; False when one could not be read (it stays as it is)."""
    readable = [r for r in op.state.olds if r.custom and not r.is_provider and not r.pending_replacement and r.provider]
    with ThreadPoolExecutor(op.parallel, thread_name_prefix="refresh") as pool:
        results = list(pool.map(lambda r: _refresh_or_report(op, r), readable))
    gone = [resource for resource, result in zip(readable, results, strict=True) if result == "gone"]
    op.state.forget_old(gone)
    op.state.write()
    return "failed" not in results


def _refresh_or_report(op: Operation, resource: Resource) -> str:
    try:
        return _refresh_one(op, resource)
    except Stopped:
        return "failed"
    except EngineError as error:
        op.failed = True
        op.events.diagnostic("error", f"could not be read: {error}", resource.urn)
        return "failed"


def _refresh_one(op: Operation, resource: Resource) -> str:
    op.check_running()
    provider = op.providers.get(resource.provider, resource.urn)
    outcome = provider.read(resource.urn, resource.id, resource.inputs, resource.outputs, resource.custom_timeouts.get("read", 0))
    if not outcome.id:
        with op.step("delete", resource):
            return "gone"
    inputs = resource.inputs if outcome.inputs is None else outcome.inputs
    keys = changed_keys(resource.outputs, outcome.outputs)
    if not keys and equal(inputs, resource.inputs) and not outcome.reasons and outcome.id == resource.id:
        op.events.step("same", resource.urn, "done", parent=resource.parent)
        resource.init_errors = []
        return "same"
    with op.step("refresh", resource, keys):
        _take(op, resource, outcome)
    return "changed"


def _take(op: Operation, resource: Resource, outcome: ResourceOutcome) -> None:
    inputs = resource.inputs if outcome.inputs is None else outcome.inputs
    outputs = {key: op.wire.seal(value) if key in resource.additional_secret_outputs else value for key, value in outcome.outputs.items()}
    if not (equal(inputs, resource.inputs) and equal(outputs, resource.outputs)):
        resource.modified = exact_time()
    resource.id, resource.inputs, resource.outputs, resource.init_errors = outcome.id, inputs, outputs, outcome.reasons
    if outcome.reasons:
        op.events.diagnostic("warning", f"it is not as it should be: {'; '.join(outcome.reasons)}", resource.urn)
    op.state.write()
