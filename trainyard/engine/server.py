"""The gRPC server that program and plugins talk to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from pulumi.runtime.proto import engine_pb2_grpc, resource_pb2_grpc

from trainyard.engine.hook import EngineError

_MAX_BYTES = 400 * 1024 * 1024


def serve(monitor: Any, engine: Any, address: str, parallel: int) -> Any:
    """Serve both services on the reserved port. Each registration holds a thread while it is carried out."""
    server = grpc.server(
        ThreadPoolExecutor(4 * parallel + 16, thread_name_prefix="rpc"),
        options=[
            ("grpc.max_send_message_length", _MAX_BYTES),
            ("grpc.max_receive_message_length", _MAX_BYTES),
            ("grpc.so_reuseport", 1),
        ],
    )
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    if not server.add_insecure_port(address):
        raise EngineError(f"the engine cannot serve on {address}")
    server.start()
    return server
