"""Serves ``command:local:Command`` and ``command:remote:Command`` where the official plugin is absent.

Same inputs and outputs as pulumi-command has, so a stack can go on with either. Local commands run under a
shell; remote ones over SSH through the hook, the host key pinned when it is given.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.engine import urn as urns
from trainyard.engine.codec import plain
from trainyard.engine.hook import HostAddress, HostKeyChanged, ReadableError, RefusedError, RemoteShell, Unreachable, hook
from trainyard.engine.kinds import UNKNOWN, Properties, SecretValue
from trainyard.engine.provider import Checked, DiffAnswer, ProviderError, ResourceOutcome
from trainyard.engine.refusals import LOCAL, NEEDS_PLUGIN, REFUSED_INPUTS, REMOTE
from trainyard.engine.spawn import PluginSource, Say
from trainyard.engine.values import changed_keys

if TYPE_CHECKING:
    pass

RUN = "command:local:run"
_REFUSED_CONNECTION = ("password", "privateKeyPassword", "agentSocketPath", "proxy")
_SECRET_CONNECTION = ("password", "privateKey", "privateKeyPassword")
_CONNECTION_DEFAULTS = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _CommandOutput:
    code: int
    stdout: str
    stderr: str


class CommandProvider:
    """Runs commands in this process."""

    adopts_pending = False

    def __init__(self, say: Say, source: PluginSource) -> None:
        self._say = say
        self._source = source
        self._cancelled = threading.Event()

    def check_config(self, urn: str, olds: Properties, news: Properties) -> Checked:
        """The provider has no settings."""
        return Checked(news)

    def diff_config(self, urn: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]) -> DiffAnswer:
        """The provider has no settings."""
        return DiffAnswer(False)

    def configure(self, urn: str, identity: str, inputs: Properties) -> None:
        """The provider has no settings."""

    def check(self, urn: str, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        """Fill in the connection's defaults; refuse what is not served here."""
        kind = urns.type_of(urn)
        if kind not in (LOCAL, REMOTE):
            raise RefusedError(f"{kind} {NEEDS_PLUGIN}")
        for name in REFUSED_INPUTS:
            if news.get(name):
                raise RefusedError(f"'{name}' of {urn} {NEEDS_PLUGIN}")
        if kind == LOCAL or news.get("connection") is None:
            return Checked(news, [("connection", "is required")] if kind == REMOTE else [])
        inputs = dict(news)
        inputs["connection"], failures = _checked_connection(urn, news["connection"])
        return Checked(inputs, failures)

    def diff(
        self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]
    ) -> DiffAnswer:
        """A change of triggers replaces, any other updates."""
        keys = [key for key in changed_keys(old_inputs, news) if key not in ignore]
        replaces = [key for key in keys if key == "triggers"]
        return DiffAnswer(bool(keys), replaces, keys, delete_before_replace=True)

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> ResourceOutcome:
        """Run ``create``."""
        if preview:
            return ResourceOutcome("", {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN})
        identity = urns.name_of(urn) + secrets.token_hex(4)
        return ResourceOutcome(identity, self._run(urn, "create", inputs, {}, timeout))

    def update(self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, inputs: Properties, timeout: float,
               ignore: list[str], preview: bool) -> ResourceOutcome:  # fmt: skip
        """Run ``update``, or ``create`` again where there is none."""
        if preview:
            return ResourceOutcome(identity, {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN})
        verb = "update" if inputs.get("update") is not None else "create"
        return ResourceOutcome(identity, self._run(urn, verb, inputs, old_outputs, timeout))

    def read(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> ResourceOutcome:
        """A command that ran has run."""
        return ResourceOutcome(identity, outputs, inputs)

    def delete(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> None:
        """Run ``delete`` when there is one."""
        self._run(urn, "delete", {**inputs, **{k: v for k, v in outputs.items() if k not in ("stdout", "stderr")}}, outputs, timeout)

    def invoke(self, token: str, arguments: Properties, preview: bool) -> tuple[Properties, list[tuple[str, str]]]:
        """Serve ``command.local.run``."""
        if token != RUN:
            raise RefusedError(f"the function {token} {NEEDS_PLUGIN}")
        clear = plain(arguments)
        for name in REFUSED_INPUTS:
            if clear.get(name):
                raise RefusedError(f"'{name}' of {token} {NEEDS_PLUGIN}")
        done = self._local(str(clear.get("command", "")), clear, {}, 0)
        self._check_done(str(clear.get("command", "")), done)
        return {**arguments, "stdout": done.stdout, "stderr": done.stderr}, []

    def cancel(self) -> None:
        """Stop trying to reach a host."""
        self._cancelled.set()

    def close(self) -> None:
        """Nothing is held."""

    def _run(self, urn: str, verb: str, inputs: Properties, before: Properties, timeout: float) -> Properties:
        """Run one of the commands and return the outputs; without that command the old ones stay."""
        clear = plain(inputs)
        command = clear.get(verb)
        old = {key: before[key] for key in ("stdout", "stderr") if key in before}
        if command is None:
            return {**inputs, **({"stdout": "", "stderr": ""} | old)}
        remote = urns.type_of(urn) == REMOTE
        done = self._remote(urn, command, clear, plain(old), timeout) if remote else self._local(command, clear, plain(old), timeout)
        self._show(urn, clear, done)
        self._check_done(command, done)
        return {**inputs, "stdout": done.stdout, "stderr": done.stderr}

    def _local(self, command: str, inputs: Mapping[str, Any], before: Mapping[str, str], timeout: float) -> _CommandOutput:
        words = [*(inputs.get("interpreter") or ["/bin/sh", "-c"]), command]
        env = {**self._source.env, **_environment(inputs, before)}
        folder = self._source.project.workdir / inputs["dir"] if inputs.get("dir") else self._source.project.workdir
        try:
            stdin = (inputs.get("stdin") or "").encode()
            done = subprocess.run(words, input=stdin, capture_output=True, cwd=folder, env=env, check=False, timeout=timeout or None)
        except OSError as error:
            raise ProviderError(f"the command could not be run: {error}") from None
        except subprocess.TimeoutExpired:
            raise ProviderError(f"the command did not end within {timeout:.0f} s") from None
        return _CommandOutput(done.returncode, _text(done.stdout), _text(done.stderr))

    def _remote(self, urn: str, command: str, inputs: Mapping[str, Any], before: Mapping[str, str], timeout: float) -> _CommandOutput:
        connection = inputs["connection"]
        if connection.get("privateKey"):
            with tempfile.NamedTemporaryFile("w", prefix="key-", suffix=".pem") as file:  # readable by us only
                file.write(connection["privateKey"].rstrip("\n") + "\n")
                file.flush()
                shell = self._dial(urn, connection, Path(file.name))
        else:
            shell = self._dial(urn, connection, None)
        try:
            stdin = (inputs.get("stdin") or "").encode()
            done = shell.run(command, _environment(inputs, before), stdin, timeout or None)
        except ReadableError as error:
            raise ProviderError(f"{connection['host']}: {error.message}") from None
        finally:
            shell.close()
        return _CommandOutput(done.code, _text(done.stdout), _text(done.stderr))

    def _dial(self, urn: str, connection: Mapping[str, Any], key_file: Path | None) -> RemoteShell:
        host, port = str(connection["host"]), int(connection.get("port") or 22)
        address = HostAddress(host, port, str(connection.get("user") or "root"), connection.get("hostKey"), key_file)
        limit, failed = int(connection.get("dialErrorLimit", 10)), 0
        while True:
            try:
                patience = float(connection.get("perDialTimeout") or 0) or 3600.0
                return hook().dial(address, patience, lambda key: self._warn_unpinned(urn, host, key))
            except HostKeyChanged as error:
                raise ProviderError(str(error)) from None
            except Unreachable as error:
                failed += 1
                if self._cancelled.is_set() or (limit >= 0 and failed > limit):
                    raise ProviderError(f"{address} could not be reached in {failed} attempts: {error.message}") from None
                self._say("info", f"{urn}: attempt {failed} to reach {address} failed, trying again")
                self._cancelled.wait(_RETRY_SECONDS)
            except ReadableError as error:
                raise ProviderError(str(error)) from None

    def _warn_unpinned(self, urn: str, host: str, key: str) -> None:
        self._say("warning", f"{urn}: the host key of {host} is not pinned (it shows {key[:60]}...)")

    def _show(self, urn: str, inputs: Mapping[str, Any], done: _CommandOutput) -> None:
        mode = inputs.get("logging") or "stdoutAndStderr"
        if mode in ("stdout", "stdoutAndStderr") and done.stdout:
            self._say("info", f"{urns.name_of(urn)}: {done.stdout}")
        if mode in ("stderr", "stdoutAndStderr") and done.stderr:
            self._say("info", f"{urns.name_of(urn)}: {done.stderr}")

    def _check_done(self, command: str, done: _CommandOutput) -> None:
        if done.code:
            said = "\n".join(part for part in (done.stdout, done.stderr) if part)
            raise ProviderError(f"exit status {done.code}: running {command!r}:\n{said}")


def _checked_connection(urn: str, connection: Any) -> tuple[Any, list[tuple[str, str]]]:
    """Return the connection with its defaults, secret as a whole and in its keys, and what is wrong with it."""
    inner = connection.value if isinstance(connection, SecretValue) else connection
    if not isinstance(inner, dict):  # unknown in a preview
        return SecretValue(inner), []
    for name in _REFUSED_CONNECTION:
        if inner.get(name):
            raise RefusedError(f"'connection.{name}' of {urn} {NEEDS_PLUGIN}")
    filled = {**_CONNECTION_DEFAULTS, **inner}
    for name in _SECRET_CONNECTION:
        if name in filled and not isinstance(filled[name], SecretValue):
            filled[name] = SecretValue(filled[name])
    return SecretValue(filled), [] if filled.get("host") is not None else [("connection.host", "is required")]


def _environment(inputs: Mapping[str, Any], before: Mapping[str, str]) -> dict[str, str]:
    result = {str(name): str(value) for name, value in (inputs.get("environment") or {}).items()}
    if inputs.get("addPreviousOutputInEnv") is not False:
        for name in ("stdout", "stderr"):
            if before.get(name):
                result[f"PULUMI_COMMAND_{name.upper()}"] = before[name]
    return result


def _text(data: bytes) -> str:
    return data.decode(errors="replace").removesuffix("\n")
