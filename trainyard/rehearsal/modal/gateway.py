"""Modal's gRPC in front of the kit's server: each call goes there as JSON, and its answer comes back as protobuf.

So faults, limits, keys, books and the list of requests are the kit's. What HTTP cannot say in gRPC is said as a gRPC client
would read it of a proxy's answer.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream
from modal_proto import api_pb2

from trainyard.clouds.modal import grpcstatus
from trainyard.jsontext import parse_json
from trainyard.rehearsal.kit import Fleet
from trainyard.rehearsal.modal.routes import ROUTES, end_what_is_over

_SERVICE = "/modal.client.ModalClient/"
_OF_A_PROXY = {400: Status.INTERNAL, 401: Status.UNAUTHENTICATED, 403: Status.PERMISSION_DENIED, 404: Status.UNIMPLEMENTED,
               429: Status.UNAVAILABLE, 502: Status.UNAVAILABLE, 503: Status.UNAVAILABLE, 504: Status.UNAVAILABLE}  # fmt: skip
"""What a gRPC client makes of an answer that is none of gRPC."""
_ANSWER_SECONDS = 150.0


class Gateway:
    """The gRPC server, on a thread of its own."""

    def __init__(self, fleet: Fleet, behind: str, port: int) -> None:
        self._fleet = fleet
        self._behind = urlsplit(behind).netloc
        self._protocols: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rehearsal gRPC", daemon=True)
        self._thread.start()
        self._server, self.port = self._run(self._start(port))
        self.address = f"http://127.0.0.1:{self.port}"
        self._watch = asyncio.run_coroutine_threadsafe(self._keep_deadlines(), self._loop)

    def close(self) -> None:
        """Stop answering."""
        self._watch.cancel()
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _start(self, port: int) -> tuple[Server, int]:
        grpcstatus.settle()
        server = Server([_Calls(self)])
        plain = server._protocol_factory

        def protocol() -> Any:
            self._protocols.append(plain())
            return self._protocols[-1]

        server._protocol_factory = protocol  # it closes none of its connections by itself
        try:
            await server.start("127.0.0.1", port)
        except OSError:
            await server.start("127.0.0.1", 0)
        return server, server._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for protocol in self._protocols:
            protocol.connection.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _keep_deadlines(self) -> None:
        while True:
            await asyncio.to_thread(end_what_is_over, self._fleet)
            await asyncio.sleep(0.5)

    def passed_on(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        """Return status, type and body of the kit's answer."""
        wire = http.client.HTTPConnection(self._behind, timeout=_ANSWER_SECONDS)
        try:
            wire.request("POST", path, body, dict(headers))
            answer = wire.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        finally:
            wire.close()


class _Calls:
    """The calls that there are; any other is answered with UNIMPLEMENTED."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __mapping__(self) -> dict[str, Handler]:
        """Return them as grpclib wants them."""
        methods = api_pb2.DESCRIPTOR.services_by_name["ModalClient"].methods_by_name
        handlers = {}
        for name in (route.path.split("/")[1] for route in ROUTES):
            takes, gives = (getattr(api_pb2, kind.name) for kind in (methods[name].input_type, methods[name].output_type))
            handlers[_SERVICE + name] = Handler(self._call(name, gives), Cardinality.UNARY_UNARY, takes, gives)
        return handlers

    def _call(self, name: str, make: Any) -> Any:
        single = any(route.path == f"/{name}/*" for route in ROUTES)

        async def call(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            fields, metadata = MessageToDict(request, preserving_proto_field_name=True), stream.metadata or {}
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {metadata.get('x-modal-token-secret', '')}"}
            headers["X-Idempotency-Key"] = str(metadata.get("x-idempotency-key", ""))
            path = f"/{name}/{request.sandbox_id}" if single else f"/{name}/more" if fields.get("before_timestamp") else f"/{name}"
            try:
                answer = await asyncio.to_thread(self._gateway.passed_on, path, json.dumps(fields).encode(), headers)
            except (OSError, http.client.HTTPException):
                await stream.cancel()  # the connection was dropped behind: so it is here
                return
            await stream.send_message(_message(make(), *answer))

        return call


def _message(message: Any, status: int, kind: str, body: bytes) -> Any:
    """Return an answer as protobuf; raises GRPCError for what is none."""
    try:
        answer = parse_json(body)
    except ValueError:
        answer = None
    if status >= 300 or not isinstance(answer, dict):
        if isinstance(answer, dict) and answer.get("code") in Status.__members__:
            raise GRPCError(Status[answer["code"]], str(answer.get("detail", "")))
        unreadable = Status.INTERNAL if "json" in kind and status < 300 else Status.UNKNOWN
        raise GRPCError(_OF_A_PROXY.get(status, unreadable), f"unexpected answer with status {status}")
    if "errors" in answer or None in answer.values():
        raise GRPCError(Status.INTERNAL, "the answer cannot be written")  # protobuf has no null, and no error beside an answer
    try:
        return ParseDict(_on_the_wire(answer), message, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        raise GRPCError(Status.INTERNAL, f"the answer cannot be written: {error}") from None


def _on_the_wire(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with tags as the protocol writes them."""
    if isinstance(tags := answer.get("tags"), dict):
        answer = {**answer, "tags": [{"tag_name": name, "tag_value": value} for name, value in tags.items()]}
    if "sandboxes" in answer:
        answer = {**answer, "sandboxes": [_on_the_wire(row) for row in answer["sandboxes"]]}
    return answer
