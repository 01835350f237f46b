"""Delete resources: dependents first, side by side where the graph allows, and on after a failure.

What a resource needs stays as long as that resource could not be deleted; all else goes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal

from trainyard.engine.events import Op
from trainyard.engine.hook import EngineError, kind_of
from trainyard.engine.operation import Operation
from trainyard.engine.provider import ProviderError
from trainyard.engine.state import Resource

Fate = Literal["delete", "delete-replaced", "forget"]


@dataclass(slots=True, eq=False)
class _Node:
    resource: Resource
    fate: Fate
    waits_for: set[int] = field(default_factory=set)  # indices of nodes that must be gone before
    blocked: bool = False


def delete_unseen(op: Operation) -> bool:
    """Delete what the program asked for no more, and what was replaced; False when something could not be deleted."""
    condemned: list[tuple[Resource, Fate]] = []
    for resource in op.state.olds:
        gone = id(resource) in op.seen.deleted_states
        if resource.delete and not gone:
            condemned.append((resource, "delete-replaced"))
        elif not resource.delete and not op.is_operated(resource.urn):
            condemned.append((resource, "forget" if gone or resource.pending_replacement else "delete"))
    return _delete_all(op, condemned)


def delete_everything(op: Operation) -> bool:
    """Delete all resources of the stack; False when something could not be deleted."""
    return _delete_all(op, [(r, "forget" if r.pending_replacement else "delete") for r in op.state.olds])


def delete_one(op: Operation, resource: Resource, *, pending_replacement: bool = False, kind: Op = "delete-replaced") -> None:
    """Delete one resource; with ``pending_replacement`` it stays in state until its successor exists."""
    with op.step(kind, resource):
        if kind == "delete" and resource.protect:
            raise EngineError("it is protected: take 'protect' off and run up first")
        if op.preview:
            return
        call = _delete_call(op, resource)
        if call is not None:
            op.state.begin(resource, "deleting")
            try:
                call()
            except ProviderError as error:
                op.state.end(resource, keep=error.maybe)  # it stays in state; where it may be gone, the next run looks
                raise
            except BaseException:
                op.state.end(resource)  # it stays in state, so the next run deletes it again
                raise
        resource.pending_replacement = pending_replacement
        gone = [] if pending_replacement else [resource]
        op.state.end(resource, gone=gone)


def _delete_call(op: Operation, resource: Resource) -> Callable[[], None] | None:
    """Return the provider's delete, None for what the provider has nothing to do with."""
    r = resource
    if not r.custom or r.external or r.retain_on_delete or r.is_provider or r.pending_replacement:
        return None
    if r.deleted_with and id(op.state.host(r)) in op.seen.deleted_states:
        return None  # it goes with that one
    provider = op.providers.get(r.provider, r.urn)
    return lambda: provider.delete(r.urn, r.id, r.inputs, r.outputs, r.custom_timeouts.get("delete", 0))


def _delete_all(op: Operation, condemned: list[tuple[Resource, Fate]]) -> bool:
    nodes = [_Node(resource, fate) for resource, fate in condemned]
    _link(nodes)
    _spare_protected(op, nodes)
    op.seen.deleted_states.update(id(node.resource) for node in nodes if not node.blocked)
    waiting = {index for index, node in enumerate(nodes) if not node.blocked}
    running: dict[Future[None], int] = {}
    failed = any(node.blocked for node in nodes)
    with ThreadPoolExecutor(op.parallel, thread_name_prefix="delete") as pool:
        while waiting or running:
            for index in sorted(waiting, reverse=True):
                if not nodes[index].waits_for and not op.interrupted:
                    waiting.discard(index)
                    running[pool.submit(_end, op, nodes[index])] = index
            if not running:
                break  # interrupted, or the rest waits for what could not be deleted
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                index = running.pop(future)
                if _succeeded(op, nodes[index], future):
                    for node in nodes:
                        node.waits_for.discard(index)
                else:
                    failed = True
    return not failed and not waiting


def _end(op: Operation, node: _Node) -> None:
    if node.fate == "forget":
        op.state.record(None, [node.resource])
    else:
        delete_one(op, node.resource, kind=node.fate)


def _succeeded(op: Operation, node: _Node, future: Future[None]) -> bool:
    error = future.exception()
    if error is None:
        return True
    if not isinstance(error, EngineError):
        raise error
    maybe = " (it may have been deleted all the same)" if isinstance(error, ProviderError) and error.maybe else ""
    op.failed = True
    op.events.diagnostic("error", f"could not be deleted: {error}{maybe}", node.resource.urn, kind=kind_of(error))
    return False


def _link(nodes: list[_Node]) -> None:
    """Let each node wait for the nodes that need it. Only what stands later in the file can need it."""
    by_urn: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for urn in node.resource.needs():
            for needed in by_urn.get(urn, []):
                nodes[needed].waits_for.add(index)
        by_urn.setdefault(node.resource.urn, []).append(index)


def _spare_protected(op: Operation, nodes: list[_Node]) -> None:
    """Block protected resources and all that they need."""
    for index in range(len(nodes) - 1, -1, -1):
        node = nodes[index]
        if node.resource.protect and node.fate == "delete":
            node.blocked = True
            op.failed = True
            op.events.diagnostic("error", "it is protected and stays: take 'protect' off and run up first", node.resource.urn)
        elif any(nodes[later].blocked for later in node.waits_for):
            node.blocked = True
