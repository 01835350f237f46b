"""Pulumi's ResourceProvider service over our handlers: wire values in, wire values out, errors as the engine reads them.

Handlers run in threads: a call that the engine gives up still finishes and writes its outcome down.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from trainyard import __version__, problems
from trainyard.errors import TrainyardError, UserError, outside
from trainyard.leases.world import Control, Interrupted, OperationWorld
from trainyard.provider import handler as handlers
from trainyard.provider.call import Call
from trainyard.provider.handler import CheckFailed, Partial, ResourceDiff, ResourceHandler
from trainyard.provider.values import Properties, from_wire, to_wire

T = TypeVar("T")
_KINDS = {
    "add": provider_pb2.PropertyDiff.ADD,
    "delete": provider_pb2.PropertyDiff.DELETE,
    "update": provider_pb2.PropertyDiff.UPDATE,
    "add-replace": provider_pb2.PropertyDiff.ADD_REPLACE,
    "delete-replace": provider_pb2.PropertyDiff.DELETE_REPLACE,
    "update-replace": provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


class RpcContext(Protocol):
    """What is used of grpc.aio's servicer context."""

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Send these with the reply."""

    async def abort(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, bytes], ...] = ()) -> NoReturn:
        """Answer with an error."""


@dataclass(slots=True)
class HandlerPool:
    """The handlers at work; ``idle`` is told whenever the last one ends."""

    idle: Callable[[], None]
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(64, thread_name_prefix="handler"))
    running: int = 0

    async def do(self, function: Callable[[], T]) -> T:
        """Run a handler in a thread; it counts as running until the thread ends, whatever becomes of the call."""
        loop = asyncio.get_running_loop()
        self.running += 1
        future = loop.run_in_executor(self.pool, function)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future[T]) -> None:
        self.running -= 1
        if not future.cancelled():
            future.exception()  # a call that was given up leaves nobody else to look at it
        if not self.running:
            self.idle()


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The service. ``world_for(urn)`` gives the outside for one call, with settings read at that moment."""

    def __init__(
        self,
        world_for: Callable[[str], OperationWorld],
        control: Control,
        work: HandlerPool,
        on_cancel: Callable[[], None],
        on_attach: Callable[[str], None],
    ) -> None:
        self._world_for = world_for
        self._control = control
        self._work = work
        self._on_cancel = on_cancel
        self._on_attach = on_attach

    async def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: RpcContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Say what this provider understands, and that a pending create can be asked for."""
        context.set_trailing_metadata((("adopts-pending", "1"),))
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    async def GetPluginInfo(self, request: Empty, context: RpcContext) -> plugin_pb2.PluginInfo:
        """Say the version."""
        return plugin_pb2.PluginInfo(version=__version__)

    async def Attach(self, request: plugin_pb2.PluginAttach, context: RpcContext) -> Empty:
        """Take the address of the engine that attaches."""
        self._on_attach(request.address)
        return Empty()

    async def GetSchema(self, request: provider_pb2.GetSchemaRequest, context: RpcContext) -> provider_pb2.GetSchemaResponse:
        """Return the schema."""
        from trainyard.provider.schema import schema

        return provider_pb2.GetSchemaResponse(schema=schema())

    async def CheckConfig(self, request: provider_pb2.CheckRequest, context: RpcContext) -> provider_pb2.CheckResponse:
        """Keep nothing but the version: the namespace also holds the stack's settings, which must not land in state."""
        kept = Struct()
        if "version" in request.news.fields:
            kept.fields["version"].CopyFrom(request.news.fields["version"])
        return provider_pb2.CheckResponse(inputs=kept)

    async def DiffConfig(self, request: provider_pb2.DiffRequest, context: RpcContext) -> provider_pb2.DiffResponse:
        """No change of settings ever replaces the provider."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    async def Configure(self, request: provider_pb2.ConfigureRequest, context: RpcContext) -> provider_pb2.ConfigureResponse:
        """Read nothing: keys and settings are read from the environment when they are needed."""
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def Check(self, request: provider_pb2.CheckRequest, context: RpcContext) -> provider_pb2.CheckResponse:
        """Check the inputs and add what Check makes."""

        def work(handler: ResourceHandler, call: Call) -> Properties:
            olds = from_wire(request.olds) if request.HasField("olds") and request.olds.fields else None
            return handlers.check(handler, call, olds, from_wire(request.news))

        try:
            inputs = await self._run(request.urn, False, context, work)
        except CheckFailed as error:
            failures = [provider_pb2.CheckFailure(property=item.property, reason=item.reason) for item in error.failures]
            return provider_pb2.CheckResponse(failures=failures)
        return provider_pb2.CheckResponse(inputs=to_wire(inputs))

    async def Diff(self, request: provider_pb2.DiffRequest, context: RpcContext) -> provider_pb2.DiffResponse:
        """Compare old and new inputs."""

        def work(handler: ResourceHandler, call: Call) -> ResourceDiff:
            return handlers.diff(handler, call, from_wire(request.olds), from_wire(request.old_inputs), from_wire(request.news))

        diff = await self._run(request.urn, False, context, work)
        changes = {key: kind for key, kind in diff.changes.items() if key not in request.ignoreChanges}
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changes else provider_pb2.DiffResponse.DIFF_NONE,
            replaces=[key for key, kind in changes.items() if kind.endswith("replace")],
            diffs=list(changes),
            deleteBeforeReplace=diff.delete_first,
            detailedDiff={key: provider_pb2.PropertyDiff(kind=_KINDS[kind], inputDiff=True) for key, kind in changes.items()},
            hasDetailedDiff=True,
        )

    async def Create(self, request: provider_pb2.CreateRequest, context: RpcContext) -> provider_pb2.CreateResponse:
        """Create, or say what would be known before it."""

        def work(handler: ResourceHandler, call: Call) -> tuple[str, Properties]:
            if call.preview:
                return "", {**handlers.unknown_outputs(handler), **handler.foresee(call, from_wire(request.properties))}
            return handler.create(call, from_wire(request.properties))

        id, outputs = await self._run(request.urn, request.preview, context, work, request.properties)
        return provider_pb2.CreateResponse(id=id, properties=_wire_outputs(request.urn, outputs))

    async def Read(self, request: provider_pb2.ReadRequest, context: RpcContext) -> provider_pb2.ReadResponse:
        """Read; where the outside gives no answer, keep what was known and say why."""

        def work(handler: ResourceHandler, call: Call) -> handlers.ReadResult:
            outputs, inputs = from_wire(request.properties), from_wire(request.inputs)
            if request.id and not inputs and not outputs:
                raise UserError(f"'{request.id}' cannot be imported: declare the resource, and up adopts what is there")
            try:
                return handler.read(call, request.id, outputs, inputs)
            except Interrupted:
                raise
            except TrainyardError as error:
                if not request.id or not outputs:
                    raise
                raise Partial(request.id, outputs, [str(error)]) from error

        result = await self._run(request.urn, False, context, work, request.inputs)
        if not result.id:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=result.id, properties=_wire_outputs(request.urn, result.properties), inputs=to_wire(result.inputs)
        )

    async def Update(self, request: provider_pb2.UpdateRequest, context: RpcContext) -> provider_pb2.UpdateResponse:
        """Update in place."""

        def work(handler: ResourceHandler, call: Call) -> Properties:
            return handler.update(call, request.id, from_wire(request.olds), from_wire(request.old_inputs), from_wire(request.news))

        outputs = await self._run(request.urn, request.preview, context, work, request.news)
        return provider_pb2.UpdateResponse(properties=_wire_outputs(request.urn, outputs))

    async def Delete(self, request: provider_pb2.DeleteRequest, context: RpcContext) -> Empty:
        """Delete."""

        def work(handler: ResourceHandler, call: Call) -> None:
            handler.delete(call, request.id, from_wire(request.properties), from_wire(request.old_inputs))

        await self._run(request.urn, False, context, work)
        return Empty()

    async def Cancel(self, request: Empty, context: RpcContext) -> Empty:
        """Stop waiting; the plugin exits when nothing runs any more."""
        self._control.cancel()
        self._on_cancel()
        return Empty()

    async def _run(
        self, urn: str, preview: bool, context: RpcContext, work: Callable[[ResourceHandler, Call], T], inputs: Struct | None = None
    ) -> T:
        def guarded() -> T:
            from trainyard.provider.registry import handler_for

            return work(handler_for(urn), Call(self._world_for(urn), urn, urn.rpartition("::")[2], preview))

        try:
            return await self._work.do(guarded)
        except CheckFailed as error:
            problems.note(error, urn)
            raise
        except Partial as error:
            # What lies behind it says more than that it exists all the same.
            problems.note(error.__cause__ if isinstance(error.__cause__, TrainyardError) else error, urn)
            await _abort_partial(context, urn, error, inputs)
        except TrainyardError as error:
            problems.note(error, urn)
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            known = outside(error)
            if known is not None:
                problems.note(known, urn)
                await context.abort(grpc.StatusCode.UNKNOWN, str(known))
            traceback.print_exc(file=sys.stderr)
            await context.abort(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")


def _wire_outputs(urn: str, outputs: Properties) -> Struct:
    from trainyard.provider.registry import handler_for

    return to_wire(handlers.sealed_outputs(handler_for(urn), outputs))


async def _abort_partial(context: RpcContext, urn: str, error: Partial, inputs: Struct | None) -> NoReturn:
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.id, properties=_wire_outputs(urn, error.properties), inputs=inputs or Struct(), reasons=list(error.reasons)
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=error.message)
    status.details.add().Pack(detail)
    await context.abort(grpc.StatusCode.UNKNOWN, error.message, (("grpc-status-details-bin", status.SerializeToString()),))
