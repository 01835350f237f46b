"""What is done on a machine of the user's, by the user: its pods are the local cloud's, kept below one folder.

Sent with the modules that it needs (packed.py). It answers in plain JSON, and
every answer is this machine's own word: what it does not list is not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from trainyard.clock import format_time, parse_time
from trainyard.clouds.local.cloud import LocalCloud
from trainyard.clouds.local.hardware import GpuDevice
from trainyard.clouds.protocol import Offer, PodInfo, PodSpec
from trainyard.errors import CloudRefused, NoCapacity, TrainyardError

SKEW = 120.0
"""Seconds that this machine's clock may differ from the controller's: leases are kept by it."""


class AgentCloud(LocalCloud):
    """The local cloud of a machine whose GPUs its owner may have named, or set apart."""

    def __init__(self, root: str, asked: dict[str, Any]) -> None:
        super().__init__(Path(root))
        self.asked = asked

    def gpus(self) -> list[GpuDevice]:
        """Return the GPUs that may be leased: what nvidia-smi shows, else what the owner says that there are."""
        have = super().gpus()
        if not have and self.asked.get("gpu"):
            have = [GpuDevice(index, self.asked["gpu"], 0.0) for index in range(self.asked["gpu_count"])]
        allowed = self.asked.get("gpus")
        return [gpu for gpu in have if allowed is None or gpu.index in allowed]


def act(root: str, request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked and return the answer: ``{"value": ...}``, or an error's kind and words."""
    machine = AgentCloud(root, request["host"])
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/usr/local/sbin"
    try:
        return {"value": _VERBS[request["verb"]](machine, request.get("with") or {}), "now": time.time()}
    except NoCapacity as error:
        return {"error": "capacity", "message": error.message}
    except CloudRefused as error:
        return {"error": "refused", "message": error.message, "hint": error.hint}
    except TrainyardError as error:
        return {"error": "unknown", "message": error.message}
    except OSError as error:
        return {"error": "unknown", "message": f"{error.filename or 'the system'}: {error.strerror or error}"}


def _look(machine: AgentCloud, _: dict[str, Any]) -> object:
    return [{**dataclasses.asdict(gpu), "holder": machine.holder(gpu)} for gpu in machine.gpus()]


def _create(machine: AgentCloud, asked: dict[str, Any]) -> object:
    ahead = time.time() - asked["now"]
    if abs(ahead) > SKEW:
        way = "ahead of" if ahead > 0 else "behind"
        raise CloudRefused(
            f"its clock is {abs(ahead):.0f} s {way} this controller's, and it keeps the lease",
            hint="Set it there: timedatectl set-ntp true",
        )
    if _kills_at_logout():
        raise CloudRefused(
            "its systemd ends all of a user's programs when the user logs out (KillUserProcesses=yes)",
            hint="Set KillUserProcesses=no in /etc/systemd/logind.conf there; a lease outlives the login that made it.",
        )
    times = {key: parse_time(asked["spec"][key]) for key in ("stop", "end")}
    lists = {key: tuple(asked["spec"][key]) for key in ("boot", "ports")}
    volume = asked["spec"]["volume"]
    spec = PodSpec(**{**asked["spec"], **times, **lists, "volume": os.path.expanduser(volume) if volume else None})
    return _pod(machine.create(spec, Offer(**asked["offer"])))


def _list(machine: AgentCloud, _: dict[str, Any]) -> object:
    return [_pod(pod) for pod in machine.list()]


def _get(machine: AgentCloud, asked: dict[str, Any]) -> object:
    pod = machine.get(asked["pod"])
    return None if pod is None else _pod(pod)


def _end(machine: AgentCloud, asked: dict[str, Any]) -> None:
    machine.terminate(asked["pod"])


def _change(machine: AgentCloud, asked: dict[str, Any]) -> None:
    machine.change_markers(asked["pod"], parse_time(asked["stop"]), parse_time(asked["end"]))


def _pod(pod: PodInfo) -> dict[str, Any]:
    times = {key: format_time(getattr(pod, key)) for key in ("created", "stop", "end")}
    return {**dataclasses.asdict(pod), **times}


def _kills_at_logout() -> bool:
    words = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([*words, "KillUserProcesses"], capture_output=True, text=True, timeout=5, check=False)
        return done.stdout.strip() == "b true" and os.getuid() != 0
    return False


_VERBS = {"look": _look, "create": _create, "list": _list, "get": _get, "end": _end, "change": _change}
