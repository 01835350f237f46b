"""A provider plugin for tests: the cloud is a folder, faults are switched on by a file.

``$TOY_CLOUD/<id>.json`` is one thing in the cloud; ``calls.log`` has one line a call; ``faults.json`` holds
``[{"op": "create", "name": "a", "kind": "error", "times": 1}]``. Kinds: error, init, die-before, die-after,
hang, hang-after, slow, slower, slow-error, no-id, unknown, gone, garbage; for check and diff: hang, die-before, garbage.
Start it as ``python toy.py ENGINE_ADDRESS``.

Type ``toy:index:Pod``: Check makes ``cloudName``; a change of ``gpu`` replaces (delete first), one of ``zone``
replaces (create first), all else updates.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def _protocol_only() -> None:
    spec = importlib.util.find_spec("pulumi")
    assert spec is not None and spec.submodule_search_locations
    base = spec.submodule_search_locations[0]
    for name, path in (("pulumi", base), ("pulumi.runtime", os.path.join(base, "runtime"))):
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as a good plugin: one stopped while it loads has nothing to say
    os.environ["GRPC_VERBOSITY"] = "NONE"
    _protocol_only()

import grpc  # noqa: E402
from google.protobuf import empty_pb2, json_format, struct_pb2  # noqa: E402
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2  # noqa: E402

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def cloud() -> Path:
    return Path(os.environ["TOY_CLOUD"])


def plain(struct: Any) -> dict[str, Any]:
    values: dict[str, Any] = json_format.MessageToDict(struct)
    return values


def struct(values: dict[str, Any]) -> Any:
    result = struct_pb2.Struct()
    result.update(values)
    return result


def clear(value: Any) -> Any:
    if isinstance(value, dict):
        return clear(value["value"]) if value.get(SIGNATURE) == SECRET else {k: clear(v) for k, v in value.items()}
    return [clear(v) for v in value] if isinstance(value, list) else value


class Toy(provider_pb2_grpc.ResourceProviderServicer):
    def __init__(self) -> None:
        self.region = ""
        self.lock = threading.Lock()

    def Handshake(self, request: Any, context: Any) -> Any:
        if os.environ.get("TOY_ADOPTS", "1") == "1":
            context.set_trailing_metadata((("adopts-pending", "1"),))
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=False)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="0.1.0")

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema=json.dumps({"name": "toy", "version": "0.1.0"}))

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        old, new = plain(request.old_inputs or request.olds), plain(request.news)
        if old.get("region") != new.get("region"):
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_SOME, replaces=["region"], diffs=["region"])
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        self.region = plain(request.args).get("region", "")
        return provider_pb2.ConfigureResponse(acceptSecrets=True, acceptResources=True, supportsPreview=True)

    def Check(self, request: Any, context: Any) -> Any:
        if self.stumble("check", request):
            return b"this is no CheckResponse"
        olds, news = plain(request.olds), plain(request.news)
        if news.get("label") == "bad":
            return provider_pb2.CheckResponse(failures=[provider_pb2.CheckFailure(property="label", reason="this label is not allowed")])
        name = request.urn.rpartition("::")[2]
        if "cloudName" not in news:
            seed = request.randomSeed.hex()[:8]
            news["cloudName"] = olds.get("cloudName") or f"{name}-{seed}"
        return provider_pb2.CheckResponse(inputs=struct(news))

    def Diff(self, request: Any, context: Any) -> Any:
        self.stumble("diff", request)
        old, new = clear(plain(request.old_inputs)), clear(plain(request.news))
        if new.get("vague"):  # a provider that leaves the comparison to the engine
            return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_UNKNOWN)
        changed = sorted(k for k in {*old, *new} if k != "cloudName" and old.get(k) != new.get(k) and k not in request.ignoreChanges)
        if old.get("cloudName") != new.get("cloudName"):
            changed.append("cloudName")
        replaces = [k for k in changed if k in ("gpu", "zone", "cloudName")]
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            replaces=replaces, diffs=changed, deleteBeforeReplace="gpu" in changed,
        )  # fmt: skip

    def Create(self, request: Any, context: Any) -> Any:
        if request.preview:
            return provider_pb2.CreateResponse(properties=self.outputs(plain(request.properties), preview=True))
        return self.act("create", request, context, self.do_create)

    def Update(self, request: Any, context: Any) -> Any:
        if request.preview:
            return provider_pb2.UpdateResponse(properties=self.outputs(plain(request.news)))
        return self.act("update", request, context, self.do_update)

    def Delete(self, request: Any, context: Any) -> Any:
        return self.act("delete", request, context, self.do_delete)

    def Read(self, request: Any, context: Any) -> Any:
        return self.act("read", request, context, self.do_read)

    def Invoke(self, request: Any, context: Any) -> Any:
        arguments = plain(request.args)
        if arguments.get("crash"):
            context.abort(grpc.StatusCode.UNKNOWN, "the cloud does not answer")
        if arguments.get("fail"):
            return provider_pb2.InvokeResponse(failures=[provider_pb2.CheckFailure(property="fail", reason="asked for")])
        result = struct({"region": self.region, "said": arguments.get("say", "")})
        return provider_pb2.InvokeResponse(**{"return": result})

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def do_create(self, request: Any, fault: str) -> Any:
        inputs = plain(request.properties)
        identity = inputs["cloudName"]
        if "leak" in inputs:
            print(f"toy says {clear(inputs['leak'])}", file=sys.stderr, flush=True)
        self.write(identity, {"inputs": clear(inputs), "region": self.region})
        if fault == "garbage":
            return b"this is no CreateResponse"
        if fault == "no-id":
            return provider_pb2.CreateResponse()
        outputs = self.outputs(inputs)
        if fault == "unknown":
            outputs["ip"] = UNKNOWN
        return provider_pb2.CreateResponse(id=identity, properties=outputs)

    def do_update(self, request: Any, fault: str) -> Any:
        inputs = plain(request.news)
        self.write(request.id, {"inputs": clear(inputs), "region": self.region})
        return provider_pb2.UpdateResponse(properties=self.outputs(inputs))

    def do_delete(self, request: Any, fault: str) -> Any:
        (cloud() / f"{request.id}.json").unlink(missing_ok=True)
        return empty_pb2.Empty()

    def do_read(self, request: Any, fault: str) -> Any:
        inputs = plain(request.inputs) or plain(request.properties)
        identity = request.id or inputs.get("cloudName", "")
        path = cloud() / f"{identity}.json"
        if fault == "gone" or not path.exists():
            return provider_pb2.ReadResponse()
        live = json.loads(path.read_text())["inputs"]
        kept = {key: inputs[key] if clear(inputs.get(key)) == value else value for key, value in live.items()}
        return provider_pb2.ReadResponse(id=identity, properties=self.outputs(kept), inputs=struct(kept))

    def act(self, op: str, request: Any, context: Any, work: Any) -> Any:
        name = request.urn.rpartition("::")[2]
        fault = self.fault(op, name)
        self.log(f"{op} {name} {getattr(request, 'id', '')}".rstrip())
        if fault == "die-before":
            os._exit(3)
        if fault == "hang":
            time.sleep(600)
        if fault in ("slow", "slow-error"):
            time.sleep(1.5)
        if fault == "slower":
            time.sleep(5)
        if fault in ("error", "slow-error"):
            context.abort(grpc.StatusCode.UNKNOWN, f"{op} of {name} refused")
        answer = work(request, fault)
        if fault == "die-after":
            os._exit(3)
        if fault == "hang-after":
            time.sleep(600)
        if fault == "init":
            self.init_failed(context, op, request, answer)
        self.log(f"done {op} {name}")
        return answer

    def stumble(self, op: str, request: Any) -> bool:
        """Carry out the faults of a call that changes nothing; say whether the answer must be garbage."""
        fault = self.fault(op, request.urn.rpartition("::")[2])
        if fault:
            self.log(f"{op} {fault}")
        if fault == "die-before":
            os._exit(3)
        if fault == "hang":
            time.sleep(600)
        return fault == "garbage"

    def init_failed(self, context: Any, op: str, request: Any, answer: Any) -> None:
        identity = getattr(answer, "id", "") or request.id
        detail = provider_pb2.ErrorResourceInitFailed(id=identity, properties=answer.properties, reasons=[f"{op} never came up"])
        if op == "read":
            detail.inputs.CopyFrom(request.inputs)
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message="init failed")
        status.details.add().Pack(detail)
        context.abort_with_status(_Status(status))

    def outputs(self, inputs: dict[str, Any], preview: bool = False) -> Any:
        extra: dict[str, Any] = {"ip": UNKNOWN if preview else "1.2.3.4"}
        if not preview:
            extra["password"] = {SIGNATURE: SECRET, "value": f"pw-{inputs['cloudName']}"}
        return struct({**inputs, **extra})

    def write(self, identity: str, value: dict[str, Any]) -> None:
        (cloud() / f"{identity}.json").write_text(json.dumps(value))

    def fault(self, op: str, name: str) -> str:
        with self.lock:
            path = cloud() / "faults.json"
            faults = json.loads(path.read_text()) if path.exists() else []
            for fault in faults:
                if fault["op"] == op and fault["name"] in (name, "*") and fault.get("times", 1) != 0:
                    fault["times"] = fault.get("times", 1) - 1
                    path.write_text(json.dumps(faults))
                    return str(fault["kind"])
            return ""

    def log(self, line: str) -> None:
        with self.lock, open(cloud() / "calls.log", "a") as file:
            file.write(line + "\n")


class _Status(grpc.Status):  # type: ignore[misc]
    def __init__(self, status: Any) -> None:
        self.code = grpc.StatusCode.UNKNOWN
        self.details = "init failed"
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(32))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Toy(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
