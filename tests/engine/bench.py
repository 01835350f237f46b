"""A stack for tests: project, toy plugin, cloud folder, state; run with the built-in engine or with the CLI.

The built-in engine runs in a process forked from one that has imported everything: a run takes 0.2 s instead
of 1.5 s, and a test may reach into the child (to kill it at a chosen point) without a hook in the product. It is
never forked from the tests' own process, where threads live: a lock that one of them holds would stay locked.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from trainyard.engine import cli
from trainyard.engine.backend import Backend
from trainyard.engine.codec import plain
from trainyard.engine.secrets import Crypter
from trainyard.engine.state import parse_resource

HERE = Path(__file__).parent
SALT = "v1:Ex50mTIAaVs=:v1:P17SO/lFaK2kLHjo:gr/VSicyJ1aS+JJK7CH51WjYl5O4Gw=="
Spec = list[dict[str, Any]]


@dataclass
class Ended:
    """How a run ended."""

    code: int
    text: str
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        return next((e for e in reversed(self.events) if e["event"] == "summary"), {})

    def errors(self) -> str:
        return "\n".join(e["message"] for e in self.events if e["event"] == "diagnostic" and e["severity"] == "error")


class Bench:
    """One project with one stack."""

    def __init__(self, root: Path, *, adopts: bool = True) -> None:
        self.root = root
        self._started: dict[int, multiprocessing.process.BaseProcess] = {}
        self.cloud, self.state, self.plugin = root / "cloud", root / "state", root / "plugin"
        for folder in (self.cloud, self.state, self.plugin, root / "home", root / "bin"):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "Pulumi.yaml").write_text("name: px\nruntime:\n  name: python\npackages:\n  toy: ./plugin\n")
        launcher = self.plugin / "pulumi-resource-toy"
        launcher.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "toy.py"} "$@"\n')
        launcher.chmod(0o755)
        shutil.copy(HERE / "interpreter.py", root / "__main__.py")
        self.settings("")
        self.backend = Backend(self.state)
        self.backend.create("px", "dev", SALT)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PULUMI")},
            "PULUMI_BACKEND_URL": f"file://{self.state}",
            "PULUMI_CONFIG_PASSPHRASE": "x",
            "PULUMI_HOME": str(root / "home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "TOY_CLOUD": str(self.cloud),
            "TOY_ADOPTS": "1" if adopts else "0",
        }

    def copy(self) -> Bench:
        """Return a bench of its own with what this one has: state, cloud, program, settings."""
        result = new_bench(adopts=self.env["TOY_ADOPTS"] == "1")
        shutil.copytree(self.root, result.root, symlinks=True, dirs_exist_ok=True)
        return result

    def settings(self, text: str) -> None:
        (self.root / "Pulumi.dev.yaml").write_text(text)

    def spec(self, spec: Spec) -> None:
        (self.root / "spec.json").write_text(json.dumps(spec))

    def faults(self, *faults: tuple[str, str, str] | tuple[str, str, str, int]) -> None:
        entries = [{"op": f[0], "name": f[1], "kind": f[2], "times": f[3] if len(f) > 3 else 1} for f in faults]
        (self.cloud / "faults.json").write_text(json.dumps(entries))

    def calls(self) -> list[str]:
        """Return the provider calls since the last time, and forget them."""
        path = self.cloud / "calls.log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("done ")]

    def things(self) -> list[str]:
        """Return the ids of what is in the cloud."""
        return sorted(p.stem for p in self.cloud.glob("*.json") if p.name != "faults.json")

    def latest(self) -> dict[str, Any]:
        return self.backend.load("px", "dev").get("latest") or {}

    def names(self) -> list[str]:
        """Return the names of the custom resources in state, providers left out."""
        rows = [r for r in self.latest().get("resources") or [] if r["custom"] and "pulumi:providers" not in r["type"]]
        return sorted(r["urn"].rpartition("::")[2] for r in rows)

    def engine(
        self, verb: str, *words: str, before: Callable[[], None] | None = None, spec: Spec | None = None, interrupt: str = ""
    ) -> Ended:
        """Run the built-in engine. A SIGINT comes at the provider call ``interrupt``.

        ``before`` is called in its process first: a function of a module, or a partial of one.
        """
        pid, read_end = self.start(verb, *words, before=before, spec=spec)
        with self._interrupting(pid, interrupt):
            return self.wait(pid, read_end)

    @contextmanager
    def _interrupting(self, pid: int, call: str) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            path = self.cloud / "calls.log"
            while not over.wait(0.01):
                if path.exists() and any(line.startswith(call) for line in path.read_text().splitlines()):
                    os.kill(pid, signal.SIGINT)
                    return

        thread = threading.Thread(target=watch)
        if call:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if call:
                thread.join()

    def start(self, verb: str, *words: str, before: Callable[[], None] | None = None, spec: Spec | None = None) -> tuple[int, int]:
        """Start the built-in engine and return its pid and the end of the pipe it writes to."""
        if spec is not None:
            self.spec(spec)
        arguments = [verb, "--stack", "dev", "--json", "-y", *words]
        read_end, write_end = os.pipe()
        process = _forks().Process(target=_become_engine, args=(DupFd(write_end), self.env, self.root, arguments, before), daemon=True)
        process.start()
        os.close(write_end)
        assert process.pid is not None
        self._started[process.pid] = process
        return process.pid, read_end

    def wait(self, pid: int, read_end: int) -> Ended:
        """Return how a started engine ended."""
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
        process = self._started.pop(pid)
        process.join()
        events = []
        for line in text.splitlines():
            if line.startswith('{"event"'):
                events.append(json.loads(line))
        assert process.exitcode is not None
        return Ended(process.exitcode, text, events)

    def cli(self, verb: str, *words: str, spec: Spec | None = None, interrupt: str = "") -> Ended:
        """Run the Pulumi CLI; a SIGINT comes at the provider call ``interrupt``."""
        if spec is not None:
            self.spec(spec)
        self.python_shim()
        env = {**self.env, "PATH": f"{self.root / 'bin'}:{self.env['PATH']}"}
        acts = verb in ("up", "destroy", "refresh") and "--preview-only" not in words
        command = ["pulumi", verb, "--non-interactive", "--stack", "dev", *(["-f", "-y"] if acts else []), *words]
        if verb in ("cancel",):
            command = ["pulumi", "cancel", "dev", "-y"]
        process = subprocess.Popen(
            command, cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        with self._interrupting(process.pid, interrupt):
            text, _ = process.communicate()
        return Ended(process.returncode, text)

    def python_shim(self) -> None:
        """Put a python3 in the bench that answers ``pip list``: the CLI asks for it, and a lean environment may have no pip."""
        shim = self.root / "bin" / "python3"
        if not shim.exists():
            text = f'#!/bin/sh\ncase "$*" in "-m pip list"*) echo "[]";; *) exec {sys.executable} "$@";; esac\n'
            shim.write_text(text)
            shim.chmod(0o755)
            (self.root / "bin" / "python").symlink_to(shim)

    def normal(self) -> dict[str, Any]:
        """Return the state without what differs from run to run: times, random parts, ciphertexts, order."""
        return normal_state(self.latest())


def cli_found() -> str | None:
    """Return the CLI's path when it and its language host are there."""
    found = shutil.which("pulumi")
    return found if found and shutil.which("pulumi-language-python") else None


def new_bench(*, adopts: bool = True) -> Bench:
    """Return a bench in a short folder of its own."""
    return Bench(Path(tempfile.mkdtemp(prefix="ty-")), adopts=adopts)


def misplaced(latest: dict[str, Any]) -> list[str]:
    """Return what is wrong with the order of a deployment: what a resource needs must stand before it."""
    seen: set[str] = set()
    wrong = []
    for resource in latest.get("resources") or []:
        needs = {*resource.get("dependencies", []), *(d for deps in (resource.get("propertyDependencies") or {}).values() for d in deps)}
        needs |= {resource[key] for key in ("parent", "deletedWith") if resource.get(key)}
        needs |= {resource["provider"].rpartition("::")[0]} if resource.get("provider") else set()
        if not resource.get("delete") and not needs <= seen:
            wrong.append(f"{resource['urn']} stands before {sorted(needs - seen)}")
        seen.add(resource["urn"])
    return wrong


def normal_state(latest: dict[str, Any]) -> dict[str, Any]:
    """See Bench.normal()."""
    crypter = Crypter("x", latest["secrets_providers"]["state"]["salt"])
    resources = [_normal_resource(r, crypter) for r in latest.get("resources") or []]
    operations = [{"type": o["type"], "resource": _normal_resource(o["resource"], crypter)} for o in latest.get("pending_operations") or []]
    return {
        "resources": sorted(resources, key=lambda r: (r["urn"], str(r.get("delete")), str(r.get("pendingReplacement")))),
        "pending_operations": sorted(operations, key=lambda o: o["resource"]["urn"]),
    }


def _normal_resource(entry: dict[str, Any], crypter: Crypter) -> dict[str, Any]:
    resource = parse_resource(entry, crypter)
    dropped = ("created", "modified", "stackTrace", "sourcePosition", "inputs", "outputs")
    result = {key: value for key, value in entry.items() if key not in dropped}
    result["inputs"], result["outputs"] = _marked(resource.inputs), _marked(resource.outputs)
    for key in ("dependencies", "additionalSecretOutputs"):
        if key in result:
            result[key] = sorted(result[key])
    # Empty lists are left out: the CLI's refresh drops them, its next up brings them back.
    deps = {key: sorted(urns) for key, urns in (result.pop("propertyDependencies", None) or {}).items() if urns}
    if deps:
        result["propertyDependencies"] = deps
    masked: dict[str, Any] = json.loads(mask(json.dumps(result)))
    return masked


def _marked(value: Any) -> Any:
    """Return the value with its secrets in clear but marked."""
    from trainyard.engine.kinds import SecretValue

    if isinstance(value, SecretValue):
        return {"secret": _marked(value.value)}
    if isinstance(value, dict):
        return {key: _marked(item) for key, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else plain(value)


def mask(text: str) -> str:
    """Mask uuids and the random part of names."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    return re.sub(r"-[0-9a-f]{8}\b", "-RANDOM", text)


@cache
def _forks() -> multiprocessing.context.ForkServerContext:
    """Return how to start a process from one that has imported everything and has no other thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.warm"])
    with contextlib.chdir(HERE.parents[1]):
        forkserver.ensure_running()
    return context


def _become_engine(write_end: Any, env: dict[str, str], root: Path, arguments: Sequence[str], before: Callable[[], None] | None) -> None:
    try:
        os.setsid()
        os.dup2(descriptor := write_end.detach(), 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        from tests.engine import warm

        assert warm.ALONE, "there were threads where this was forked"
        os.environ.clear()
        os.environ.update(env)
        os.chdir(root)
        if before is not None:
            before()
        cli.main(list(arguments))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(70)
