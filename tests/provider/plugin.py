"""An engine's side of a plugin process: start it, call it, end it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from trainyard.provider.values import Properties, from_wire, to_wire

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "infra" / "provider" / "pulumi-resource-trainyard"


class Engine(engine_pb2_grpc.EngineServicer):
    """Takes the plugin's messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def Log(self, request: engine_pb2.LogRequest, context: object) -> Empty:
        self.messages.append(request.message)
        return Empty()


class Plugin:
    """One plugin process under test."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path) -> None:
        self.engine = Engine()
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        engine_pb2_grpc.add_EngineServicer_to_server(self.engine, self.server)
        address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()
        self.process = subprocess.Popen(
            [*command, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **env}, cwd=cwd, start_new_session=True
        )
        assert self.process.stdout is not None
        port = int(self.process.stdout.readline())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = provider_pb2_grpc.ResourceProviderStub(self.channel)

    def __enter__(self) -> Plugin:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.server.stop(None)

    def check(self, urn: str, inputs: Properties, olds: Properties | None = None) -> Properties:
        answer = self.stub.Check(provider_pb2.CheckRequest(urn=urn, news=to_wire(inputs), olds=to_wire(olds) if olds else None), timeout=20)
        assert not answer.failures, answer.failures
        return from_wire(answer.inputs)

    def create(self, urn: str, inputs: Properties, *, preview: bool = False) -> tuple[str, Properties]:
        answer = self.stub.Create(provider_pb2.CreateRequest(urn=urn, properties=to_wire(inputs), preview=preview), timeout=60)
        return answer.id, from_wire(answer.properties)

    def delete(self, urn: str, id: str, outputs: Properties, inputs: Properties) -> None:
        request = provider_pb2.DeleteRequest(urn=urn, id=id, properties=to_wire(outputs), old_inputs=to_wire(inputs))
        self.stub.Delete(request, timeout=60)

    def read(self, urn: str, id: str, outputs: Properties, inputs: Properties) -> Any:
        return self.stub.Read(provider_pb2.ReadRequest(urn=urn, id=id, properties=to_wire(outputs), inputs=to_wire(inputs)), timeout=60)

    def in_background(self, urn: str, inputs: Properties) -> list[object]:
        """Start a Create; its answer or error lands in the list returned."""
        result: list[object] = []

        def work() -> None:
            try:
                result.append(self.create(urn, inputs))
            except grpc.RpcError as error:
                result.append(error)

        threading.Thread(target=work, daemon=True).start()
        return result

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang_up(self) -> None:
        """End stdin, as the death of the engine does."""
        assert self.process.stdin is not None
        self.process.stdin.close()


@contextmanager
def real_plugin(tmp_path: Path, **env: str) -> Iterator[Plugin]:
    """Run the launcher as an engine does."""
    home = {
        "TRAINYARD_HOME": str(tmp_path / "home"),
        "TRAINYARD_LOCAL_ROOT": str(tmp_path / "out"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    with Plugin([str(LAUNCHER)], {**home, **env}, ROOT / "infra") as plugin:
        yield plugin


@contextmanager
def model_plugin(tmp_path: Path, **env: str) -> Iterator[Plugin]:
    """Run the plugin with the model cloud of ``tmp_path/cloud``."""
    home = {"TRAINYARD_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("plugin_with_model.py")), str(tmp_path / "cloud")]
    with Plugin(command, {**home, **env}, ROOT / "infra") as plugin:
        yield plugin


def urn(kind: str, name: str, stack: str = "dev") -> str:
    return f"urn:pulumi:{stack}::trainyard::trainyard:components:LeasedPod$trainyard:index:{kind}::{name}"


def init_failed(error: grpc.RpcError) -> provider_pb2.ErrorResourceInitFailed | None:
    """Return the detail of a partial failure, as an engine reads it."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            detail = provider_pb2.ErrorResourceInitFailed()
            status_pb2.Status.FromString(value).details[0].Unpack(detail)
            return detail
    return None
