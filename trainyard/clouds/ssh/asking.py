"""One question to one machine: the agent is sent along, and only its framed answer counts."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from trainyard import openssh
from trainyard.clouds.ssh.packed import loader, packed
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, Unreachable
from trainyard.jsontext import parse_json
from trainyard.settings.hosts import OwnHost

TIMEOUT = 45.0
"""Seconds for an answer; an end waits for every program of a pod, a create for its SSH server."""
LONG = 90.0
_ANSWER = re.compile(rb"\n\x1e([^\x1e\n]*)\x1e\n")


def ask(host: OwnHost, verb: str, details: Mapping[str, object] | None = None, *, timeout: float = TIMEOUT) -> Any:
    """Return what a machine answers. Raises NoCapacity or CloudRefused on its definite word, CloudUnknown otherwise."""
    version, archive = packed()
    described = {"gpus": host.gpus, "gpu": host.gpu, "gpu_count": host.gpu_count}
    request = json.dumps({"verb": verb, "host": described, "with": details}).encode()
    head = {"version": version, "size": len(archive), "request": len(request), "folder": host.folder}
    stdin = loader() + json.dumps(head).encode() + b"\n" + archive + request
    # Double quotes alone: any login shell takes them.
    command = f'exec {host.python or "python3"} -I -c "import sys;exec(sys.stdin.buffer.read({len(loader())}))"'
    try:
        answer = openssh.run(host.login, command, stdin, timeout)
    except Unreachable as error:
        raise CloudUnknown(error.message) from None
    answers = _ANSWER.findall(answer.out)
    if not answers:
        raise _no_answer(host, answer)
    said = parse_json(answers[-1])
    if not isinstance(said, dict):
        raise CloudUnknown(f"{host.name}: what it answers is not to be understood")
    if "error" in said:
        raise _error(host, said)
    return said.get("value")


def _no_answer(host: OwnHost, answer: openssh.SshAnswer) -> CloudError:
    if answer.code == openssh.NO_SSH:
        check = " ".join(("ssh", *_short(host)))
        hint = f"It must work without a question: {check}\nIs its host key new? Compare it with the machine's own, then answer yes."
        # Also when the link broke after the agent had begun.
        return CloudUnknown(f"{host.name} cannot be reached: {answer.said or 'ssh says nothing'}", hint=hint)
    if answer.code == 127:
        hint = f"Install Python 3.10 or newer there, or name it: {{name: {host.name}, python: /opt/conda/bin/python3}}"
        return CloudRefused(f"{host.name}: there is no '{host.python or 'python3'}'", hint=hint)
    return CloudUnknown(f"{host.name}: no answer (exit code {answer.code}): {answer.said or 'it said nothing'}")


def _short(host: OwnHost) -> list[str]:
    login = host.login
    where = f"{login.user}@{login.address or login.name}" if login.user else login.address or login.name
    words = (("-F", login.config), ("-J", login.jump), ("-p", login.port), ("-i", login.key_file))
    return [*(f"{flag} {value}" for flag, value in words if value), where]


def _error(host: OwnHost, said: Mapping[str, Any]) -> CloudError:
    message, hint = f"{host.name}: {said.get('message')}", said.get("hint")
    kinds: Mapping[str, type[CloudError]] = {"capacity": NoCapacity, "refused": CloudRefused, "unfit": CloudRefused}
    return kinds.get(str(said["error"]), CloudUnknown)(message, hint=str(hint) if hint else None)


def plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as the plain JSON that is sent."""
    return dataclasses.asdict(value)
