"""The real outside: settings read when a call comes in, clouds opened by name, messages to the engine's log."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from trainyard.leases.world import Control, OperationWorld, Severity

if TYPE_CHECKING:
    from trainyard.clouds.protocol import Cloud

_SEVERITIES = {
    "debug": engine_pb2.DEBUG,
    "info": engine_pb2.INFO,
    "warning": engine_pb2.WARNING,
    "error": engine_pb2.ERROR,
}


class Outside:
    """Makes the World of each call."""

    __slots__ = ("_control", "_log")

    def __init__(self, control: Control, engine: str | None) -> None:
        self._control = control
        self._log: engine_pb2_grpc.EngineStub | None = None
        if engine:
            self.attach(engine)

    def attach(self, engine: str) -> None:
        """Send messages to this engine from now on."""
        self._log = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine, options=[("grpc.enable_http_proxy", 0)]))

    def world_for(self, urn: str) -> OperationWorld:
        """Return the outside for one call; ``.env`` is in the environment from the first one on."""
        # Loaded here, not with the module: none of it is needed to answer an engine's first calls.
        from trainyard import network
        from trainyard.clouds import open_cloud
        from trainyard.config import find_root, load_env, places

        named = os.environ.get("TRAINYARD_PROVIDER_PROJECT")
        root = Path(named) if named else find_root()
        env = load_env(root)
        network.apply()
        where = places(root, env)

        def cloud(name: str) -> Cloud:
            return open_cloud(name, env, where)

        return OperationWorld(env, where, cloud, self._control, lambda message, severity: self._say(urn, message, severity))

    def _say(self, urn: str, message: str, severity: Severity) -> None:
        if self._log is None or self._control.orphaned.is_set():
            print(message, file=sys.stderr)
            return
        request = engine_pb2.LogRequest(severity=_SEVERITIES[severity], message=message, urn=urn)
        try:
            self._log.Log(request, timeout=5)
        except grpc.RpcError:
            print(message, file=sys.stderr)
