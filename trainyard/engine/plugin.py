"""Calls to a provider plugin over gRPC, typed, with the plugin named in every error."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto import provider_pb2_grpc

from trainyard.engine import urn as urns
from trainyard.engine.answers import InitFailed, difference, init_failed
from trainyard.engine.assets import assets_in, restore_assets
from trainyard.engine.codec import has_unknown, plain, write_struct
from trainyard.engine.kinds import Properties
from trainyard.engine.provider import Checked, DiffAnswer, ProviderError, ResourceOutcome
from trainyard.engine.slow import SLOW
from trainyard.engine.spawn import Process, Say
from trainyard.engine.values import Wire, carry_secrets

ADOPTS_PENDING = "adopts-pending"
_MAX_BYTES = 400 * 1024 * 1024
_QUICK_SECONDS = 300.0  # a check or a diff that takes longer hangs
_GREET_SECONDS = 60.0
_LOOK_SECONDS = 0.5  # between two looks whether a plugin that does not answer yet still lives
_CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", _MAX_BYTES),
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.enable_http_proxy", 0),
]
_GARBLED = {grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}  # not the provider's own words
_MAYBE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(slots=True)
class _Accepts:
    secrets: bool = False
    resources: bool = False
    preview: bool = False
    pending: bool = False
    handshake: bool = False


class Plugin:
    """One provider plugin, started and greeted; configured by configure()."""

    def __init__(
        self, package: str, address: str, process: Process | None, wire: Wire, engine_address: str, say: Say, stop: threading.Event
    ) -> None:
        self.package = package
        self._stop = stop  # set when the user wants to end
        self._process = process
        self._wire = wire
        self._say = say
        self._known = False  # whether it is configured; in a preview its settings may be unknown
        self._channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        self._accepts = _Accepts()
        # Calls that change nothing go by a channel of their own, so that a stop can end them all and no other.
        self._quick_channel = grpc.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._quick_stub = provider_pb2_grpc.ResourceProviderStub(self._quick_channel)
        self._greet(engine_address)

    @property
    def adopts_pending(self) -> bool:
        """Whether its Handshake announced Read with an empty id."""
        return self._accepts.pending

    def check_config(self, urn: str, olds: Properties, news: Properties) -> Checked:
        """Check the provider's own settings; it gets them in clear, as from the CLI."""
        request = pb.CheckRequest(urn=urn, name=urns.name_of(urn), type=urns.type_of(urn))
        request.olds.CopyFrom(write_struct(olds, secrets=False, references=False))
        request.news.CopyFrom(write_struct(news, secrets=False, references=False))
        try:
            response = self._quick("CheckConfig", urn, request)
        except _Unimplemented:
            return Checked(news)
        inputs = self._wire.read(response.inputs)
        carry_secrets(inputs, news)
        return Checked(inputs, [(f.property, f.reason) for f in response.failures])

    def diff_config(self, urn: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]) -> DiffAnswer:
        """Compare the provider's own settings."""
        request = pb.DiffRequest(urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), ignoreChanges=ignore)
        for target, value in ((request.old_inputs, old_inputs), (request.olds, old_outputs), (request.news, news)):
            target.CopyFrom(write_struct(value, secrets=False, references=False))
        try:
            return difference(self._quick("DiffConfig", urn, request))
        except _Unimplemented:
            return DiffAnswer(None)

    def configure(self, urn: str, identity: str, inputs: Properties) -> None:
        """Give the provider its settings; with unknown ones (in a preview) it is left alone."""
        inputs = {key: value for key, value in inputs.items()}
        if any(has_unknown(value) for key, value in inputs.items() if key != "version"):
            return
        prefix = f"{self.package}:config:"
        clear = {key: plain(value) for key, value in inputs.items() if key != "version"}
        request = pb.ConfigureRequest(
            urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), id=identity, acceptSecrets=True, acceptResources=True,
            sends_old_inputs=True, sends_old_inputs_to_delete=True,
            variables={prefix + key: value if isinstance(value, str) else json.dumps(value) for key, value in clear.items()},
        )  # fmt: skip
        request.args.CopyFrom(write_struct(inputs))
        response = self._quick("Configure", urn, request)
        if not self._accepts.handshake:
            self._accepts = _Accepts(response.acceptSecrets, response.acceptResources, response.supportsPreview)
        self._known = True

    def check(self, urn: str, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        """Check inputs and fill in defaults."""
        if not self._known:
            return Checked(news)
        request = pb.CheckRequest(urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), randomSeed=seed)
        request.olds.CopyFrom(self._struct(olds or {}))
        request.news.CopyFrom(self._struct(news))
        response = self._quick("Check", urn, request)
        return Checked(self._answer(response.inputs, news), [(f.property, f.reason) for f in response.failures])

    def diff(
        self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]
    ) -> DiffAnswer:
        """Compare what there is with what is wanted; contents of assets stay here, their hashes go."""
        if not self._known:
            return DiffAnswer(True, unavailable=True)
        request = pb.DiffRequest(id=identity, urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), ignoreChanges=ignore)
        for target, value in ((request.old_inputs, old_inputs), (request.olds, old_outputs), (request.news, news)):
            target.CopyFrom(self._struct(value, contents=False))
        return difference(self._quick("Diff", urn, request))

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> ResourceOutcome:
        """Create a resource."""
        if preview and not self._known:
            return ResourceOutcome("", {})
        if preview and not self._accepts.preview:
            return ResourceOutcome("", inputs)
        request = pb.CreateRequest(urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), timeout=timeout, preview=preview)
        request.properties.CopyFrom(self._struct(inputs))
        outcome = self._outcome("Create", urn, request, inputs, preview)
        if not outcome.id and not preview:
            raise ProviderError(f"the plugin of package '{self.package}' returned no id from Create of {urn}", maybe=True)
        return outcome

    def update(self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, inputs: Properties, timeout: float,
               ignore: list[str], preview: bool) -> ResourceOutcome:  # fmt: skip
        """Change a resource."""
        if preview and not self._known:
            return ResourceOutcome(identity, {})
        if preview and not self._accepts.preview:
            return ResourceOutcome(identity, inputs)
        request = pb.UpdateRequest(
            id=identity, urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), timeout=timeout, ignoreChanges=ignore, preview=preview
        )  # fmt: skip
        request.old_inputs.CopyFrom(self._struct(old_inputs, contents=False))
        request.olds.CopyFrom(self._struct(old_outputs, contents=False))
        request.news.CopyFrom(self._struct(inputs))
        return self._outcome("Update", urn, request, inputs, preview, identity)

    def read(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> ResourceOutcome:
        """Return what there is."""
        request = pb.ReadRequest(id=identity, urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), timeout=timeout)
        request.properties.CopyFrom(self._struct(outputs, contents=False))
        request.inputs.CopyFrom(self._struct(inputs, contents=False))
        return self._outcome("Read", urn, request, {**inputs, **outputs}, False)

    def delete(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> None:
        """Delete a resource."""
        request = pb.DeleteRequest(id=identity, urn=urn, name=urns.name_of(urn), type=urns.type_of(urn), timeout=timeout)
        request.properties.CopyFrom(self._struct(outputs, contents=False))
        request.old_inputs.CopyFrom(self._struct(inputs, contents=False))
        self._slow("Delete", urn, request)

    def invoke(self, token: str, arguments: Properties, preview: bool) -> tuple[Properties, list[tuple[str, str]]]:
        """Call a function of the package."""
        if not self._known:
            return {}, []
        request = pb.InvokeRequest(tok=token, args=self._struct(arguments), preview=preview)
        response = self._slow("Invoke", token, request)
        result = self._wire.read(getattr(response, "return"))
        return result, [(f.property, f.reason) for f in response.failures]

    def cancel(self) -> None:
        """Ask the plugin to end soon (it may not know how), and wait no more for calls that change nothing."""
        self._quick_channel.close()
        try:
            self._call("Cancel", "", _empty(), 5.0)
        except (_Unimplemented, ProviderError):
            return

    def close(self) -> None:
        """Close the connection and stop the process."""
        self._quick_channel.close()
        self._channel.close()
        if self._process is not None:
            self._process.stop()

    def _greet(self, engine_address: str) -> None:
        request = pb.ProviderHandshakeRequest(engine_address=engine_address, configure_with_urn=True, invoke_with_preview=True)
        with self._named("Handshake", ""):
            call = self._stub.Handshake.future(request, timeout=_GREET_SECONDS, wait_for_ready=True)
            try:
                response = self._first_answer(call)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    return
                raise
        announced = dict(call.trailing_metadata() or ()).get(ADOPTS_PENDING)
        self._accepts = _Accepts(response.accept_secrets, response.accept_resources, True, announced == "1", True)

    def _first_answer(self, call: Any) -> Any:
        """Wait for the answer to Handshake: a plugin that died after it printed its port would be waited for in vain."""
        while True:
            try:
                return call.result(timeout=_LOOK_SECONDS)
            except grpc.FutureTimeoutError:
                if self._process is not None and self._process.exit_code is not None:
                    call.cancel()
                    code = self._process.exit_code
                    raise ProviderError(f"the plugin of package '{self.package}' died during Handshake (exit code {code})") from None
                if self._stop.is_set():
                    call.cancel()
                    raise ProviderError(
                        f"the plugin of package '{self.package}' had not answered Handshake yet when the stop came"
                    ) from None

    def _struct(self, value: Properties, *, contents: bool = True) -> Any:
        return write_struct(value, secrets=self._accepts.secrets, references=self._accepts.resources, contents=contents)

    def _answer(self, struct: Any, inputs: Properties) -> Properties:
        result: Properties = restore_assets(self._wire.read(struct), assets_in(inputs))
        if not self._accepts.secrets:
            carry_secrets(result, inputs)
        return result

    def _outcome(self, verb: str, urn: str, request: Any, news: Properties, preview: bool, identity: str = "") -> ResourceOutcome:
        try:
            response = self._slow(verb, urn, request)
        except InitFailed as failed:
            detail = failed.detail
            ins = self._answer(detail.inputs, news) if detail.HasField("inputs") else None
            return ResourceOutcome(
                detail.id or identity, self._answer(detail.properties, news), ins, list(detail.reasons) or ["no reason given"]
            )
        outputs = self._answer(response.properties, news)
        if has_unknown(outputs) and not preview:
            raise ProviderError(f"the plugin of package '{self.package}' returned unknown values from {verb} of {urn}", maybe=True)
        inputs = self._answer(response.inputs, news) if verb == "Read" and response.HasField("inputs") else None
        return ResourceOutcome(identity or getattr(response, "id", ""), outputs, inputs)

    def _quick(self, verb: str, urn: str, request: Any) -> Any:
        """Make a call that changes nothing in the cloud: it has a limit, and a Ctrl-C ends it."""
        with self._named(verb, urn), self._watched(verb, urn):
            try:
                return getattr(self._quick_stub, verb)(request, timeout=_QUICK_SECONDS)
            except (grpc.RpcError, ValueError):  # a closed channel gives either
                if self._stop.is_set():
                    raise ProviderError(f"{verb} of {urn} was not answered yet when the stop came") from None
                raise

    def _slow(self, verb: str, urn: str, request: Any) -> Any:
        with self._watched(verb, urn):
            return self._call(verb, urn, request, None)

    def _watched(self, verb: str, urn: str) -> AbstractContextManager[None]:
        return SLOW.watched(
            lambda seconds: self._say("info", f"{verb} of {urn}: the plugin of package '{self.package}' works since {seconds:.0f} s")
        )

    def _call(self, verb: str, urn: str, request: Any, timeout: float | None) -> Any:
        with self._named(verb, urn):
            return getattr(self._stub, verb)(request, timeout=timeout)

    @contextmanager
    def _named(self, verb: str, urn: str) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            code = error.code()
            if code == grpc.StatusCode.UNIMPLEMENTED and verb in ("CheckConfig", "DiffConfig", "Cancel"):
                raise _Unimplemented() from None
            detail = init_failed(error)
            if detail is not None:
                raise InitFailed(detail) from None
            raise ProviderError(self._describe(verb, urn, error), maybe=code in _MAYBE) from None
        except ValueError as error:  # gRPC says this of a channel that was closed
            raise ProviderError(f"{verb} of {urn}: {error}", maybe=True) from None

    def _describe(self, verb: str, urn: str, error: Any) -> str:
        code, target = error.code(), f" of {urn}" if urn else ""
        exit_code = self._exit_code() if code == grpc.StatusCode.UNAVAILABLE else None
        if exit_code is not None:
            return f"the plugin of package '{self.package}' died during {verb}{target} (exit code {exit_code})"
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            limit = _GREET_SECONDS if verb == "Handshake" else _QUICK_SECONDS
            return f"the plugin of package '{self.package}' did not answer {verb}{target} within {limit:.0f} s"
        said = self._wire.hide(error.details() or f"{verb} failed with {code.name}")
        return f"the plugin of package '{self.package}' failed in {verb}{target}: {said}" if code in _GARBLED else said

    def _exit_code(self) -> int | None:
        deadline = time.monotonic() + 1.0  # the connection breaks a moment before the process is gone
        while self._process is not None and time.monotonic() < deadline:
            if self._process.exit_code is not None:
                return self._process.exit_code
            time.sleep(0.02)
        return None


class _Unimplemented(Exception):
    pass


def _empty() -> Any:
    from google.protobuf import empty_pb2

    return empty_pb2.Empty()
