"""service, systemd and systemd_service: what runs beside, and begins with the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

_STATE = Arg("state", choices=("started", "stopped", "restarted", "reloaded"))
SERVICE = Schema(
    "service",
    (
        Arg("name", required=True),
        _STATE,
        Arg("enabled", "bool"),
        Arg("sleep", "number"),
        Arg("use", choices=("auto", "systemd", "sysvinit")),
    ),
    again="writes",
    does="a service: running or not, beginning with the machine or not; by systemd where that runs, else by /etc/init.d",
)
_UNIT = (
    Arg("name", aliases=("service", "unit")), _STATE, Arg("enabled", "bool"), Arg("masked", "bool"), Arg("force", "bool"),
    Arg("daemon_reload", "bool", aliases=("daemon-reload",)), Arg("daemon_reexec", "bool", aliases=("daemon-reexec",)),
    Arg("scope", choices=("system", "user", "global")), Arg("no_block", "bool"),
)  # fmt: skip
SYSTEMD = Schema("systemd", _UNIT, again="writes", does="the same with what only systemd has")
SYSTEMD_SERVICE = Schema("systemd_service", _UNIT, again="writes", does="another name of systemd")


def service(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a service be as it shall be."""
    if "state" not in args and "enabled" not in args:
        raise UserError("'service' needs 'state' or 'enabled'")
    return _service(args)


def systemd(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a unit of systemd be as it shall be."""
    if "name" not in args and any(name in args for name in ("state", "enabled", "masked")):
        raise UserError("'systemd' needs 'name' beside 'state', 'enabled' and 'masked'")
    if args.get("scope") == "global" and "state" in args:
        raise UserError("'state' is of one running systemd, 'scope: global' of the files of all users: leave one out")
    return _service(args, only=True)


def _service(args: Mapping[str, object], *, only: bool = False) -> Step:
    name = str(args.get("name", ""))
    if name and not re.fullmatch(r"[A-Za-z0-9_@:.\\-]+", name):
        raise UserError(f"'{name}' is no name of a service")
    scope = str(args.get("scope", "system"))
    flags = {key: args.get(key) for key in ("enabled", "masked")}
    return script(
        "services",
        {
            "name": name, "state": args.get("state"), **{key: "" if value is None else bool(value) for key, value in flags.items()},
            "reload": bool(args.get("daemon_reload")), "reexec": bool(args.get("daemon_reexec")), "force": bool(args.get("force")),
            "scope": "" if scope == "system" else f"--{scope}", "no_block": "--no-block" if args.get("no_block") else "",
            "pause": args.get("sleep"), "only": only or args.get("use") == "systemd", "scripts": args.get("use") == "sysvinit",
        },
    )  # fmt: skip
