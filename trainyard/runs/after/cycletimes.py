"""What lets a machine say a cycle again by itself: a line for cron, two units for systemd. Nothing is installed by it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from trainyard.runs.after.cyclebook import CycleRequest

_CRON = "17 3 * * *"
_CALENDAR = "*-*-* 03:17:00"


def words_of(request: CycleRequest) -> list[str]:
    """Return the options of a request, as a person types them."""
    options: list[tuple[str, object]] = [
        *(("--data", one) for one in request.data), ("--stack", request.stack), ("--name", request.name), ("--config", request.config),
        *(("--data-set", one) for one in request.data_sets), *(("--set", one) for one in request.sets), ("--hours", request.hours),
        ("--budget", request.budget), ("--since", "last" if request.since_last else None),
        ("--init-from", "last" if request.init_from_last else None), ("--gguf", request.gguf), ("--ollama", request.ollama),
        ("--prompts", request.prompts),
        ("--against", request.against if request.prompts else None), ("--hub", request.hub),
    ]  # fmt: skip
    words = [
        word
        for option, value in options
        if value is not None
        for word in (option, f"{value:g}" if isinstance(value, float) else str(value))
    ]
    return [*words, *(["--merge"] if request.merge else []), "--yes"]


def lines_of(request: CycleRequest, root: Path) -> Sequence[str]:
    """Return the lines for this repository: for ``crontab -e``, and as two files of systemd's user units."""
    command = shlex.join([sys.executable, "-m", "trainyard", "cycle", *words_of(request)])
    log, unit = f".trainyard/cycles/{request.name}/cron.log", f"trainyard-{request.name}"
    cron = f"{_CRON} cd {shlex.quote(str(root))} && {command} >> {log} 2>&1".replace("%", "\\%")
    return [
        "# cron, in UTC or the machine's own time (crontab -e):", cron, "",
        f"# systemd: ~/.config/systemd/user/{unit}.service",
        "[Service]", "Type=oneshot", f"WorkingDirectory={root}", f"ExecStart={command.replace('%', '%%').replace('$', '$$')}",
        "# a round that another process is at work on is no failure", "SuccessExitStatus=8", "",
        f"# systemd: ~/.config/systemd/user/{unit}.timer; then: systemctl --user enable --now {unit}.timer",
        "[Timer]", f"OnCalendar={_CALENDAR}", "Persistent=true", "[Install]", "WantedBy=timers.target",
        "", f"# git as the trigger, of the training alone, from rows in a bucket: runs/{request.name}.yaml; then: invoke gitops.sync",
        f"stack: {request.stack}", "data: s3://BUCKET/rows/", f'schedule: "{_CRON}"', "since: last", "init_from: last",
    ]  # fmt: skip


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
