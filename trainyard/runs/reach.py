"""A shell on a run's pod, and a tunnel to one of its ports, with the key and the pinned host key of the run."""

from __future__ import annotations

import subprocess

from trainyard.errors import UserError
from trainyard.runs.context import Context
from trainyard.runs.key import private_key
from trainyard.runs.record import Record, RunFolder


def ssh_command(context: Context, record: Record, folder: RunFolder, *, extra: tuple[str, ...] = ()) -> list[str]:
    """Return the ssh command line for a run's pod; raises UserError when the pod is not up or is gone."""
    if record.reached("ended") or not record.pod.get("host"):
        raise UserError(f"run {record.id} has no pod now (it is: {record.phase})")
    key = private_key(context, record)
    known = folder.path / "known_hosts"
    host, port = record.pod["host"], record.pod["port"]
    known.write_text(f"[{host}]:{int(port)} {record.pod['host_key']}\n")
    options = [
        "-i", str(key), "-p", str(int(port)), "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
        "-o", "IdentitiesOnly=yes", "-o", "ServerAliveInterval=15", "-o", "GlobalKnownHostsFile=/dev/null",
    ]  # fmt: skip
    return ["ssh", *options, *extra, f"{record.pod.get('user') or 'root'}@{host}"]


def shell(context: Context, record: Record, folder: RunFolder, command: str | None) -> int:
    """Open a shell (or run a command) on the pod and return its exit code."""
    line = ssh_command(context, record, folder)
    return subprocess.run([*line, command] if command else line, check=False).returncode


def tunnel(context: Context, record: Record, folder: RunFolder, port: int, local_port: int | None = None) -> int:
    """Forward a local port to the pod's until Ctrl-C."""
    here = local_port or port
    line = ssh_command(context, record, folder, extra=("-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{here}:127.0.0.1:{port}"))
    context.ui.say(f"http://127.0.0.1:{here} is port {port} of the pod; Ctrl-C ends the tunnel")
    try:
        return subprocess.run(line, check=False).returncode
    except KeyboardInterrupt:
        return 0
