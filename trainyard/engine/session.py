"""One operation from start to end: opens the stack, starts what takes time side by side, carries out, records, reports.

What is slow starts first and side by side: plugins as processes, the key in a thread, imports in this one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainyard.engine import history, locks
from trainyard.engine import urn as urns
from trainyard.engine.backend import Backend, salt_of
from trainyard.engine.events import Events
from trainyard.engine.hook import EngineError, ReadableError, RefusedError, UserError, kind_of
from trainyard.engine.operation import Kind, Operation
from trainyard.engine.program import ProgramFailed, ProgramRun, foreign_interpreter, import_sdk, leave, run_apart, run_here, sources_of
from trainyard.engine.project import Project, has_secrets, load_settings, load_stack_file, salt_in, settings_path
from trainyard.engine.providers import Plugins, Providers, version_of
from trainyard.engine.refusals import Guard, without_command_plugin
from trainyard.engine.secrets import Crypter, new_salt, passphrase
from trainyard.engine.spawn import PluginSource
from trainyard.engine.state import StackState
from trainyard.engine.streams import Streams
from trainyard.engine.values import Wire, display

_PROGRAM_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """What the caller wants."""

    kind: Kind
    stack: str
    project: Project
    config_file: Path | None
    env: Mapping[str, str]
    parallel: int
    machine: bool = False
    show_secrets: bool = False
    preview_only: bool = False
    streams: Streams = field(default_factory=Streams)

    @property
    def preview(self) -> bool:
        """Whether nothing may be changed: not the cloud, not the state."""
        return self.kind == "preview" or self.preview_only


def open_backend(project: Project, env: Mapping[str, str]) -> Backend:
    """Return the backend that the environment or the project names."""
    url = env.get("PULUMI_BACKEND_URL") or project.backend
    if not url:
        raise UserError("no backend: set PULUMI_BACKEND_URL to file:///path/to/state, or backend.url in Pulumi.yaml")
    return Backend(url)


class Session:
    """The parts of one operation while it runs."""

    def __init__(self, request: OperationRequest) -> None:
        self.request = request
        self.wire = Wire(request.project.workdir)
        out, err = request.streams.out, request.streams.err
        self.events = Events(out, errors=err, machine=request.machine, preview=request.preview, hide=self.wire.hide)
        self.backend = open_backend(request.project, request.env)
        self._began = time.time()
        self._ended = threading.Lock()
        self._program_over = threading.Event()
        self._asked_to_stop = threading.Event()
        self._held = ExitStack()
        self._reserved = socket.socket()
        self.operation: Operation | None = None
        self._plugins: Plugins | None = None
        self._server: Any = None
        self._monitor: Any = None
        self._engine: Any = None
        self._guard: Guard | None = None

    def run(self) -> int:
        """Carry the operation out and return the exit code."""
        kind, stack = self.request.kind, self.request.stack
        self.events.start(kind, stack)
        try:
            operation = self._open()
        except ReadableError as error:
            self.events.diagnostic("error", str(error), kind=kind_of(error))
            return self._close(error.exit_code if isinstance(error, (locks.Locked, UserError)) else 1)
        try:
            work = {"preview": self._program, "up": self._program, "refresh": self._refresh, "destroy": self._destroy}[kind]
            work(operation)
        except ReadableError as error:
            operation.fail(str(error), kind=kind_of(error))
        return self._finish(operation)

    def interrupt(self) -> None:
        """Stop after the running steps; before the operation is open: with its first."""
        self._asked_to_stop.set()
        self.events.diagnostic("warning", "stopping: running steps are awaited; once more ends at once and may leave them unrecorded")
        if self.operation is not None:
            self.operation.interrupt()
        if self._plugins is not None:
            self._plugins.cancel()

    def _open(self) -> Operation:
        request, project = self.request, self.request.project
        path = self.backend.checkpoint_path(project.name, request.stack)
        if not request.preview and path.exists():
            held = locks.hold_lock(self.backend.root, project.name, request.stack, lambda text: self.events.diagnostic("warning", text))
            self._held.enter_context(held)
        latest = self.backend.load(project.name, request.stack).get("latest") or {}
        document = load_stack_file(settings_path(project, request.stack, request.config_file))
        crypter, config_crypter = self._crypters(latest, document)
        source = PluginSource(project, request.env)
        address = self._reserve()
        self._plugins = Plugins(source, self.wire, address, lambda severity, text: self.events.diagnostic("info", text))
        self._prestart(latest)
        self._import()
        crypter.check()
        settings = load_settings(project, document, config_crypter if has_secrets(document) else None)
        for key in settings.secret_keys:
            self.wire.remember(settings.values[key])
        save = None if request.preview else lambda deployment: self.backend.save(project.name, request.stack, deployment)
        state = StackState(latest, crypter, self.wire, save)
        operation = Operation(
            request.kind, request.stack, project, settings, state, self.events, self.wire, source, address, request.parallel,
            preview=request.preview,
        )  # fmt: skip
        operation.providers = Providers(operation, self._plugins)
        self._serve(operation, address)
        self.operation = operation
        if self._asked_to_stop.is_set():
            operation.interrupt()
        return operation

    def _crypters(self, latest: Mapping[str, Any], document: Any) -> tuple[Crypter, Crypter]:
        """Return the keys of the state and of the settings (mostly one and the same), derived in the background."""
        secret = passphrase(self.request.env)
        own = salt_of({"latest": latest})
        own_salt = salt_in(document)
        salt = own or own_salt or new_salt(secret)
        crypter = Crypter(secret, salt, background=True)
        return crypter, crypter if own_salt in (None, salt) else Crypter(secret, str(own_salt), background=True)

    def _reserve(self) -> str:
        """Hold a port for the server, so that plugins can be told of it before gRPC is imported."""
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{self._reserved.getsockname()[1]}"

    def _prestart(self, latest: Mapping[str, Any]) -> None:
        assert self._plugins is not None
        if self.request.preview and self.request.kind == "destroy":
            return  # no provider is asked
        providers = [r for r in latest.get("resources") or [] if urns.is_provider(r["type"])]
        for resource in providers:
            self._plugins.prestart(urns.package_of(resource["type"]), version_of(resource.get("inputs") or {}))
        if not providers and self.request.kind in ("up", "preview"):
            for package in self.request.project.plugins:
                self._plugins.prestart(package, "")

    def _import(self) -> None:
        from trainyard.engine import stubs

        if self.request.kind in ("up", "preview") and foreign_interpreter(self.request.project) is None:
            self._guard = import_sdk(self.request.project)
        else:
            stubs.protocol_only()
        # gRPC and what speaks it: a tenth of a second that passes while the key is derived.
        from trainyard.engine import monitor, plugin, server  # noqa: F401

    def _serve(self, operation: Operation, address: str) -> None:
        from trainyard.engine.monitor import EngineService, Monitor
        from trainyard.engine.server import serve

        self._monitor = Monitor(operation)
        self._engine = EngineService(self.events.diagnostic)
        self._server = serve(self._monitor, self._engine, address, operation.parallel)

    def _program(self, operation: Operation) -> None:
        from trainyard.engine.adopt import settle_pending
        from trainyard.engine.deletes import delete_unseen
        from trainyard.engine.foresee import late_refusal

        refusal = late_refusal(sources_of(operation.project))
        if refusal is not None:
            raise refusal
        if not settle_pending(operation):
            raise EngineError("nothing was created: first it must be known what the interrupted run left")
        if self._guard is not None and self._plugins is not None:
            self._guard.unserved = without_command_plugin if self._plugins.lacks_command() else self._guard.unserved
            self._guard.on_refusal = lambda error: operation.fail(f"{error}{_made_so_far(operation)}", kind="refused")
        threading.Thread(target=self._watch, args=(operation,), daemon=True).start()
        try:
            self._run_program(operation)
        except (ProgramFailed, RefusedError) as error:
            reported = not str(error) or operation.interrupted or (isinstance(error, RefusedError) and operation.failed)
            operation.failed = True
            operation.stopping.set()
            if not reported:
                self.events.diagnostic("error", str(error), kind=kind_of(error))
        finally:
            self._program_over.set()
        with operation.idle:  # a program that ended itself has left its requests behind
            operation.idle.wait_for(lambda: operation.running == 0)
        with self._ended:  # the watcher may have taken over the end
            self._monitor.finish()
            if not operation.failed and not operation.interrupted:
                delete_unseen(operation)

    def _run_program(self, operation: Operation) -> None:
        from trainyard.engine.direct import Direct

        request = self.request
        assert self._plugins is not None
        run = ProgramRun(request.project, request.stack, operation.settings, operation.engine_address, Direct(self._monitor),
                  Direct(self._engine), request.parallel, operation.preview, self._plugins.lacks_command())  # fmt: skip
        python = foreign_interpreter(request.project)
        if python is None:
            run_here(run)
        else:
            run_apart(run, python, lambda line: self.events.diagnostic("info", line))

    def _watch(self, operation: Operation) -> None:
        """End the operation without the program when it does not end by itself after a failure."""
        operation.stopping.wait()
        with operation.idle:
            operation.idle.wait_for(lambda: operation.running == 0)
        if self._program_over.wait(_PROGRAM_GRACE) or not self._ended.acquire(blocking=False):
            return
        self.events.diagnostic("warning", f"the program did not end within {_PROGRAM_GRACE:.0f} s and is left behind")
        self._monitor.finish()
        code = self._finish(operation)
        self.request.streams.give_back()
        leave(code)

    def _refresh(self, operation: Operation) -> None:
        from trainyard.engine.adopt import settle_pending
        from trainyard.engine.refresh import refresh_all

        settled = settle_pending(operation)
        if not (refresh_all(operation) and settled):
            operation.failed = True

    def _destroy(self, operation: Operation) -> None:
        from trainyard.engine.adopt import give_up_unknown, settle_pending
        from trainyard.engine.deletes import delete_everything

        settled = settle_pending(operation)
        if delete_everything(operation) and settled:
            give_up_unknown(operation)
        else:
            operation.failed = True

    def _finish(self, operation: Operation) -> int:
        """Write the last state, stop what runs, report."""
        self._record(operation)
        bad = operation.failed or operation.interrupted
        if operation.kind in ("up", "preview", "refresh") and not bad:
            values = stack_outputs(operation.state, self.request.show_secrets)
            self.events.outputs(values if self.request.show_secrets else self.events.hidden(values))
        if bad and operation.kind in ("up", "destroy") and not operation.preview:
            self.events.remaining(remaining(operation.state))
        return self._close(1 if bad else 0, "interrupted" if operation.interrupted else "")

    def _record(self, operation: Operation) -> None:
        """Write the last state and the history; a history that cannot be written is no failure of the operation."""
        try:
            operation.state.write()
        except EngineError as error:
            operation.fail(str(error), kind=kind_of(error))
        if operation.preview:
            return
        try:
            history.add(self.backend, operation.project.name, operation.stack, operation.kind, self._began,
                        not operation.failed, self.events.changes)  # fmt: skip
        except OSError as error:
            self.events.diagnostic("warning", f"the history of the stack could not be written: {error.strerror}")

    def _close(self, code: int, result: str = "") -> int:
        if self._plugins is not None:
            self._plugins.close()
        if self._server is not None:
            self._server.stop(0)
        self._reserved.close()
        self._held.close()
        self.events.summary(self.request.kind, result or ("failed" if code else "succeeded"), code)
        return code


def _made_so_far(operation: Operation) -> str:
    """Say what a refusal that came late has left."""
    creates = [r for r in operation.state.news if r.custom and not r.is_provider and r.urn not in operation.olds]
    if not creates or operation.preview:
        return ""
    noun = "1 resource of this run exists" if len(creates) == 1 else f"{len(creates)} resources of this run exist"
    return f"\n{noun} already and in the state: destroy removes them, and so does an up without them."


def stack_outputs(state: StackState, show_secrets: bool) -> dict[str, Any]:
    """Return the outputs of the stack as they may be shown."""
    for resource in state.current():
        if resource.type == urns.STACK_TYPE:
            return {key: display(value, secrets=show_secrets) for key, value in sorted(resource.outputs.items())}
    return {}


def remaining(state: StackState) -> list[dict[str, Any]]:
    """Return what is still there: resources of providers, not components."""
    result = [
        {"urn": r.urn, "type": r.type, "name": r.name, "id": r.id, "outputs": display(r.outputs)}
        for r in state.current()
        if r.custom and not r.is_provider and not r.external and not r.pending_replacement
    ]
    result += [{"urn": r.urn, "type": r.type, "name": r.name, "id": "", "outputs": display(r.inputs)} for r, _ in state.unsettled()]
    return result
