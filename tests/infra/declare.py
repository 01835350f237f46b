"""Run the program against Pulumi's mocks and print what it declares: ``python declare.py STACK CONFIG-JSON``.

A process of its own for each run: the SDK keeps its state in globals and in the thread's event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pulumi
from pulumi.runtime import mocks, set_all_config
from pulumi.runtime.stack import run_pulumi_func

OUTPUTS: dict[str, dict[str, object]] = {
    "trainyard:index:Lease": {"lease_id": "1" * 10, "stop": "S", "end": "E"},
    "trainyard:index:Pod": {
        "pod_id": "p1",
        "name": "ty",
        "host_key": "ssh-ed25519 HOST",
        "workspace": "/workspace",
        "first_commands": "start",
    },
    "trainyard:index:Endpoint": {"host": "h", "port": 22, "user": "root", "workspace": "/w s", "host_key": "ssh-ed25519 SHOWN"},
    "trainyard:index:SshKey": {"public_key": "PUBLIC", "private_key": "PRIVATE", "host_key_seed": "5a" * 32, "key_file": "/k"},
    "trainyard:index:Bucket": {"name": "b", "store": "local", "endpoint": "http://x", "region": "r"},
    "trainyard:index:BucketLifecycle": {"rules": []},
}


class Recorder(mocks.Mocks):
    """Answers every registration with its inputs and some outputs."""

    def __init__(self) -> None:
        self.made: list[dict[str, object]] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, object]]:
        self.made.append({"type": args.typ, "name": args.name, "inputs": args.inputs})
        fence = {"fence_id": args.inputs.get("fence_id", "f" * 10)} if args.typ.endswith(":Lease") else {}
        return f"{args.name}-id", {**args.inputs, **OUTPUTS.get(args.typ, {}), **fence}

    def call(self, args: mocks.MockCallArgs) -> NoReturn:
        raise AssertionError(f"the program calls {args.token}")


def main(stack: str, config: dict[str, str], declare: Callable[[], Any]) -> None:
    """Declare everything and print it with the exported names."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    exported: list[str] = []
    recorder = Recorder()
    mocks.set_mocks(recorder, project="trainyard", stack=stack)
    set_all_config({f"trainyard:{key}": value for key, value in config.items()}, ["trainyard:host_key_seed", "trainyard:registry"])
    pulumi.export = lambda name, value: exported.append(name)
    try:
        loop.run_until_complete(run_pulumi_func(declare))
        result: dict[str, object] = {"made": recorder.made, "exported": exported}
    except pulumi.RunError as error:
        result = {"made": recorder.made, "error": str(error)}
    print(json.dumps(result, default=str), flush=True)
    os._exit(0)


if __name__ == "__main__":
    program = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "infra", "__main__.py")
    main(sys.argv[1], json.loads(sys.argv[2]), lambda: runpy.run_path(program, run_name="__main__") and None)
