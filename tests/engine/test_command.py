"""The engine's own ``command`` resources: run, changed, replaced, deleted; and the state they leave is the official plugin's."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.engine.bench import Bench, cli_found, new_bench
from tests.engine.cases import Spec, pod

PROGRAM = """
import pulumi_command as command
made['c'] = command.local.Command('c', **{args})
pulumi.export('out', made['c'].stdout)
"""
REMOTE = """
import pulumi_command as command
link = command.remote.ConnectionArgs(host='127.0.0.1', port={port}, user='u', private_key={key!r}, host_key={host_key}, dial_error_limit=0)
made['r'] = command.remote.Command('r', connection=link, **{args})
pulumi.export('out', made['r'].stdout)
"""


def program(**args: Any) -> Spec:
    return [{"kind": "python", "name": "p", "code": PROGRAM.format(args=repr(args))}]


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


def outputs(bench: Bench) -> dict[str, Any]:
    values: dict[str, Any] = next(r for r in bench.normal()["resources"] if r["type"].startswith("command:"))["outputs"]
    return values


def ran(bench: Bench) -> list[str]:
    path = bench.root / "ran"
    lines = path.read_text().splitlines() if path.exists() else []
    if lines:  # an empty one is being written to
        path.unlink()
    return lines


def test_a_local_command_runs_changes_and_is_deleted(bench: Bench) -> None:
    args: dict[str, Any] = {
        "create": "read x; echo create $x $NAME >> ran; echo out-$x; echo err >&2",
        "update": "echo update was=$PULUMI_COMMAND_STDOUT >> ran; echo new",
        "delete": "echo delete >> ran",
        "stdin": "in\n",
        "environment": {"NAME": "n"},
        "triggers": [1],
    }
    assert bench.engine("up", spec=program(**args)).code == 0
    assert (ran(bench), outputs(bench)["stdout"], outputs(bench)["stderr"]) == (["create in n"], "out-in", "err")
    assert bench.engine("up").code == 0 and ran(bench) == []
    assert bench.engine("preview", spec=program(**{**args, "environment": {"NAME": "m"}})).code == 0 and ran(bench) == []
    assert bench.engine("up").code == 0
    assert (ran(bench), outputs(bench)["stdout"]) == (["update was=out-in"], "new")
    assert bench.engine("up", spec=program(**{**args, "triggers": [2]})).code == 0
    assert ran(bench) == ["delete", "create in n"]
    assert bench.engine("destroy").code == 0 and ran(bench) == ["delete"]


def test_a_local_command_that_fails_is_an_error_and_leaves_nothing(bench: Bench) -> None:
    ended = bench.engine("up", spec=program(create="echo about; echo why >&2; exit 3"))
    assert ended.code == 1 and "exit status 3" in ended.errors() and "why" in ended.errors()
    assert bench.names() == [] and not bench.latest().get("pending_operations")


def test_without_update_create_runs_again_and_without_delete_nothing_runs(bench: Bench) -> None:
    assert bench.engine("up", spec=program(create="echo one >> ran")).code == 0
    assert bench.engine("up", spec=program(create="echo two >> ran")).code == 0
    assert bench.engine("destroy").code == 0
    assert ran(bench) == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command.local.Command('c', create='true', asset_paths=['*'])", "'assetPaths' of command:local:Command"),
        ("command.remote.CopyToRemote('c', connection={'host': 'h'}, remote_path='/x', source=pulumi.FileAsset('spec.json'))",
         "command:remote:CopyToRemote"),
        ("command.remote.Command('c', connection=made['z'].ip.apply(lambda ip: {'host': ip, 'agentSocketPath': '/x'}), create='true')",
         "'connection.agentSocketPath' of urn:pulumi:dev::px::command:remote:Command::c"),
    ],
)  # fmt: skip
def test_what_needs_the_official_plugin_is_refused_by_name(bench: Bench, text: str, words: str) -> None:
    late = "apply" in text  # what only a resource gives is known when that resource exists
    ended = bench.engine("up", spec=[pod("z"), {"kind": "python", "name": "p", "code": f"import pulumi_command as command\n{text}"}])
    assert ended.code == 1 and f"{words} needs the official command plugin" in ended.errors(), ended.text
    assert late or "__main__.py:" in ended.errors()
    assert len(bench.things()) == late and not bench.latest().get("pending_operations")


def test_a_local_run_is_served(bench: Bench) -> None:
    code = "import pulumi_command as command\nprint(command.local.run(command='echo hello; echo $X', environment={'X': 'y'}).stdout)"
    ended = bench.engine("up", spec=[{"kind": "python", "name": "p", "code": code}])
    assert ended.code == 0 and "hello" in ended.text, ended.text


@dataclass
class Server:
    port: int
    key: str
    host_key: str
    seen: list[str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Yield an SSH server on loopback that runs commands with sh."""
    client, host = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "authorized").write_bytes(client.export_public_key())
    seen: list[str] = []

    async def handle(process: asyncssh.SSHServerProcess[bytes]) -> None:
        seen.append(process.command or "")
        given = await process.stdin.read()
        done = await asyncio.to_thread(subprocess.run, ["sh", "-c", process.command or "true"], input=given, capture_output=True)
        process.stdout.write(done.stdout)
        process.stderr.write(done.stderr)
        process.exit(done.returncode)

    async def serve(over: asyncio.Event) -> None:
        options: dict[str, Any] = {"server_host_keys": [host], "authorized_client_keys": str(tmp_path / "authorized")}
        async with asyncssh.listen("127.0.0.1", 0, process_factory=handle, encoding=None, **options) as listener:
            ports.put(listener.get_port())
            await over.wait()

    ports: queue.Queue[int] = queue.Queue()
    with asyncio.Runner() as runner:
        loop, over = runner.get_loop(), asyncio.Event()
        thread = threading.Thread(target=lambda: runner.run(serve(over)))
        thread.start()
        public = " ".join(host.export_public_key().decode().split()[:2])
        yield Server(ports.get(timeout=30), client.export_private_key().decode(), public, seen)
        loop.call_soon_threadsafe(over.set)
        thread.join()


def remote(server: Server, host_key: str | None, **args: Any) -> Spec:
    code = REMOTE.format(port=server.port, key=server.key, host_key=repr(host_key), args=repr(args))
    return [{"kind": "python", "name": "p", "code": code}]


def test_a_remote_command_runs_behind_its_pinned_host_key(bench: Bench, server: Server) -> None:
    args = {"create": "read x; echo got $x $NAME", "delete": "true", "stdin": "in\n", "environment": {"NAME": "it's"}}
    ended = bench.engine("up", spec=remote(server, server.host_key, **args))
    assert ended.code == 0, ended.text
    assert outputs(bench)["stdout"] == "got in it's"
    key = server.key.splitlines()[1]
    assert all(key not in path.read_text() for path in bench.state.rglob("*") if path.is_file())
    assert key not in ended.text
    assert bench.engine("up").code == 0
    assert bench.engine("destroy").code == 0 and server.seen[-1].endswith("true'")


def test_a_remote_command_sends_nothing_to_a_host_with_another_key(bench: Bench, server: Server) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    ended = bench.engine("up", spec=remote(server, other, create="echo hello"))
    assert ended.code == 1 and server.seen == []
    assert "key" in ended.errors()


def test_a_remote_command_without_a_pinned_key_says_so(bench: Bench, server: Server) -> None:
    ended = bench.engine("up", spec=remote(server, None, create="echo hello"))
    assert ended.code == 0 and "is not pinned" in ended.text, ended.text


def comparable(bench: Bench) -> list[dict[str, Any]]:
    """Return the resources without their random ids and the mark of the library that the official plugin is made with."""
    rows = [{**r, "id": "..."} if r["type"].startswith("command:") else r for r in bench.normal()["resources"]]
    for row in rows:
        for part in (row["inputs"], row["outputs"]):
            part.pop("__pulumi-go-provider-version", None)
    return rows


@pytest.mark.cli
@pytest.mark.skipif(not (cli_found() and shutil.which("pulumi-resource-command")), reason="no CLI with its command plugin: NOT compared")
@pytest.mark.parametrize("local", [True, False], ids=["local", "remote"])
def test_the_official_plugin_goes_on_with_our_commands_and_we_with_its(bench: Bench, server: Server, local: bool) -> None:
    args: dict[str, Any] = {"create": "read x; echo got $x", "update": "echo new", "stdin": "in\n", "triggers": [1, "a"]}
    spec = program(**args) if local else remote(server, server.host_key, **args)
    changed = program(**{**args, "stdin": "x\n"}) if local else remote(server, server.host_key, **{**args, "stdin": "x\n"})
    replaced = program(**{**args, "triggers": [2]}) if local else remote(server, server.host_key, **{**args, "triggers": [2]})
    cache = bench.root / "home/plugins/resource-command-v1.2.1"
    other = new_bench()
    shutil.copytree(str(Path(str(shutil.which("pulumi-resource-command"))).parent), cache)
    shutil.copytree(cache, other.root / "home/plugins/resource-command-v1.2.1")
    away = cache.with_name("away")
    for step in (spec, spec, changed, replaced):
        cache.rename(away)
        ours = bench.engine("up", spec=step)
        assert ours.code == 0, ours.text
        away.rename(cache)
        theirs = other.cli("up", spec=step)
        assert theirs.code == 0, theirs.text
        same = bench.cli("preview", "--expect-no-changes", spec=step)
        assert same.code == 0, same.text
        assert comparable(bench) == comparable(other)
    cache.rename(away)
    shutil.rmtree(other.root / "home/plugins")
    for each in (bench, other):
        ended = each.engine("destroy")
        assert ended.code == 0 and not each.latest().get("resources"), ended.text
    shutil.rmtree(other.root)


@pytest.mark.parametrize("killed", [False, True], ids=["Ctrl-C twice", "kill -9"])
def test_a_command_that_was_cut_short_never_keeps_its_stack_from_its_end(bench: Bench, killed: bool) -> None:
    args = {"create": "echo begun >> ran; sleep 1.5"}
    pid, stream = bench.start("up", spec=[*program(**args), pod("a")])
    while not ran(bench):
        time.sleep(0.01)
    if killed:
        os.kill(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGINT)
        time.sleep(0.02)
        os.kill(pid, signal.SIGINT)
    bench.wait(pid, stream)
    assert "creating" in [item["type"] for item in bench.latest()["pending_operations"]]

    ended = bench.engine("destroy")

    assert ended.code == 0, ended.text
    assert "given up: whether it was ever created is not known" in ended.text
    bench.backend.remove("px", "dev")  # nothing holds it any more


def test_a_command_that_was_cut_short_runs_again_with_the_next_up_and_is_settled_by_it(bench: Bench) -> None:
    pid, stream = bench.start("up", spec=program(create="echo begun >> ran; sleep 1.5"))
    while not ran(bench):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    bench.wait(pid, stream)

    ended = bench.engine("up", spec=program(create="echo again >> ran"))

    assert ended.code == 0 and "may exist without being in state" in ended.text, ended.text
    assert not bench.latest().get("pending_operations") and bench.engine("destroy").code == 0
