"""What a crash interrupted: creates are found and taken over or proven never to have happened, deletes are looked at.

For a create only a provider that says so in its Handshake is asked, by Read with an empty id and the inputs that
were recorded before the call. An error leaves the operation as it is.
"""

from __future__ import annotations

from trainyard.engine import urn as urns
from trainyard.engine.hook import EngineError, exact_time
from trainyard.engine.operation import Operation
from trainyard.engine.provider import ResourceOutcome
from trainyard.engine.providers import default_inputs, default_version, settings_of
from trainyard.engine.state import Resource


def settle_pending(op: Operation) -> bool:
    """Adopt or drop each pending create; False when one could not be settled. A preview only names them."""
    settled = True
    if op.preview:
        _warn_of_pending(op)
        return settled
    for item in list(op.state.left_over):
        resource = item[0]
        if item[1] == "deleting":
            _look_at_deleted(op, resource)
            op.state.left_over.remove(item)
            continue
        if not resource.custom or resource.is_provider:
            op.state.left_over.remove(item)  # a component or a provider is nothing but its entry; the CLI records its create, too
            op.state.write()
            continue
        try:
            outcome = _look(op, resource)
        except EngineError as error:
            op.events.diagnostic("error", f"an earlier run was interrupted while creating it, and it cannot be found out "
                                          f"whether it exists: {error}", resource.urn)  # fmt: skip
            settled = False
            continue
        if outcome is None:
            continue
        op.state.left_over.remove(item)
        if outcome.id:
            _adopt(op, resource, outcome)
        else:
            op.events.diagnostic("info", "an earlier run was interrupted before it existed: nothing to take over", resource.urn)
        op.state.write()
    return settled


def give_up_unknown(op: Operation) -> None:
    """End the creates of which nobody can say more, once all else is destroyed: a stack must not be held by what nobody can look for."""
    if op.preview or not op.state.left_over:
        return
    for resource, _ in op.state.left_over:
        if id(op.olds.get(resource.deleted_with)) in op.seen.deleted_states:
            continue  # it would have gone with that one
        text = "given up: whether it was ever created is not known, and nobody can be asked. Look for it where its provider makes things"
        op.events.diagnostic("warning", text, resource.urn)
    op.state.left_over.clear()
    op.state.write()


def _warn_of_pending(op: Operation) -> None:
    for resource, _ in op.state.unsettled():
        text = "an earlier run was interrupted while creating it; the next up or destroy looks for it first"
        op.events.diagnostic("warning", text, resource.urn)


def _look_at_deleted(op: Operation, resource: Resource) -> None:
    """Take a resource out of state whose delete was done when the run was interrupted; a destroy just deletes it again."""
    old = next((o for o in op.state.olds if o.urn == resource.urn and o.id == resource.id and not o.pending_replacement), None)
    if op.kind == "destroy" or old is None or not old.custom or old.is_provider:
        return
    try:
        outcome = op.providers.get(old.provider, old.urn).read(old.urn, old.id, old.inputs, old.outputs, old.custom_timeouts.get("read", 0))
    except EngineError as error:
        op.events.diagnostic("warning", f"an earlier run was interrupted while deleting it; it cannot be read: {error}", old.urn)
        return
    if not outcome.id:
        op.events.diagnostic("info", "an earlier run was interrupted while deleting it: it is gone", old.urn)
        op.state.forget_old([old])
        if op.olds.get(old.urn) is old:
            del op.olds[old.urn]
        op.state.write()


def _look(op: Operation, resource: Resource) -> ResourceOutcome | None:
    """Return what the provider found; None when it cannot be asked."""
    provider = op.providers.get(resource.provider, resource.urn)
    if not provider.adopts_pending:
        if op.kind == "destroy" and resource.deleted_with:
            return None  # it goes with that one
        op.events.diagnostic(
            "warning",
            "an earlier run was interrupted while creating it, and its provider cannot look for it: it may exist without being in state",
            resource.urn,
        )
        return None
    return provider.read(resource.urn, "", resource.inputs, {}, resource.custom_timeouts.get("read", 0))


def _adopt(op: Operation, resource: Resource, outcome: ResourceOutcome) -> None:
    with op.step("adopt", resource):
        resource.id, resource.outputs, resource.init_errors = outcome.id, outcome.outputs, outcome.reasons
        resource.inputs = outcome.inputs or resource.inputs
        resource.created = resource.modified = exact_time()
        sealed = {key: op.wire.seal(resource.outputs[key]) for key in resource.additional_secret_outputs if key in resource.outputs}
        resource.outputs = {**resource.outputs, **sealed}
        _bring_provider(op, resource)
        _cut_missing(op, resource)
        twin = op.olds.get(resource.urn)
        if twin is not None and twin.id == resource.id:
            return
        if twin is None or twin.pending_replacement:
            op.state.insert_old(resource, twin)
            op.olds[resource.urn] = resource
        else:
            resource.delete = True  # the old one still serves; this half of a replacement is deleted with the next steps
            op.state.insert_old(resource, None)


def _bring_provider(op: Operation, resource: Resource) -> None:
    """Put the provider of an adopted resource back into state when a destroy has removed it."""
    urn, identity = urns.split_reference(resource.provider)
    if any(old.urn == urn and old.id == identity for old in op.state.olds):
        return
    version = default_version(urns.name_of(urn))
    inputs = default_inputs(op.settings.of_package(urns.package_of(urns.type_of(urn))), version)
    provider = Resource(urn, urns.type_of(urn), True, identity, inputs, settings_of(inputs), created=exact_time(), modified=exact_time())
    op.state.insert_old(provider, None)
    op.olds.setdefault(urn, provider)


def _cut_missing(op: Operation, resource: Resource) -> None:
    """Drop references to what is no more in state: the file must hold together."""
    present = {old.urn for old in op.state.olds}
    resource.dependencies = [u for u in resource.dependencies if u in present]
    resource.property_dependencies = {k: [u for u in deps if u in present] for k, deps in resource.property_dependencies.items()}
    resource.replace_with = [u for u in resource.replace_with if u in present]
    resource.parent = resource.parent if resource.parent in present else ""
    resource.deleted_with = resource.deleted_with if resource.deleted_with in present else ""
