"""cron, apt_repository, sysctl, mount, modprobe, hostname, timezone: what a machine is set to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

_TIMES = ("minute", "hour", "day", "month", "weekday")
_SPECIAL = ("reboot", "yearly", "annually", "monthly", "weekly", "daily", "hourly")
CRON = Schema(
    "cron",
    (
        Arg("name", required=True), Arg("job", aliases=("value",)), Arg("state", choices=("present", "absent")), Arg("minute"), Arg("hour"),
        Arg("day", aliases=("dom",)), Arg("month"), Arg("weekday", aliases=("dow",)), Arg("special_time", choices=_SPECIAL), Arg("user"),
        Arg("cron_file"), Arg("env", "bool"), Arg("disabled", "bool"), Arg("backup", "bool"),
    ),
    again="writes",
    does="a job (or a variable) of a crontab, known by its name",
)  # fmt: skip
APT_REPOSITORY = Schema(
    "apt_repository",
    (
        Arg("repo", required=True), Arg("state", choices=("present", "absent")), Arg("filename"), Arg("mode", "mode"),
        Arg("update_cache", "bool", aliases=("update-cache",)),
    ),
    again="writes",
    does="a line among the sources of apt; one that cannot be read is taken back",
)  # fmt: skip
SYSCTL = Schema(
    "sysctl",
    (
        Arg("name", required=True, aliases=("key",)), Arg("value", aliases=("val",)), Arg("state", choices=("present", "absent")),
        Arg("sysctl_file", "path"), Arg("sysctl_set", "bool"), Arg("reload", "bool"), Arg("ignoreerrors", "bool"),
    ),
    again="writes",
    does="a setting of the kernel, in a file and in the running kernel",
)  # fmt: skip
MOUNT = Schema(
    "mount",
    (
        Arg("path", "path", required=True, aliases=("name",)), Arg("src"), Arg("fstype"), Arg("opts"), Arg("dump"), Arg("passno"),
        Arg("state", required=True, choices=("present", "mounted", "unmounted", "absent", "absent_from_fstab", "remounted", "ephemeral")),
        Arg("fstab", "path"),
    ),
    again="writes",
    does="a line of fstab, and what it names mounted or not",
)  # fmt: skip
MODPROBE = Schema(
    "modprobe",
    (
        Arg("name", required=True), Arg("params"), Arg("state", choices=("present", "absent")),
        Arg("persistent", choices=("disabled", "present", "absent")),
    ),
    again="writes",
    does="a module of the kernel: loaded or not",
)  # fmt: skip
HOSTNAME = Schema("hostname", (Arg("name", required=True),), again="writes", does="the machine's name")
TIMEZONE = Schema("timezone", (Arg("name", required=True),), again="writes", does="the machine's time zone")


def cron(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a job be in a crontab, or not."""
    name, job, absent = str(args["name"]), str(args.get("job") or ""), args.get("state") == "absent"
    if not job and not absent:
        raise UserError("'cron' needs 'job'")
    if "\n" in job + name:
        raise UserError("'name' and 'job' of 'cron' are one line each: put what is longer into a script")
    if args.get("cron_file") and not (args.get("user") or absent):
        raise UserError("'cron': a 'cron_file' needs the 'user' that its job runs as")
    return script(
        "cron",
        {
            "name": name, "user": args.get("user"), "file": args.get("cron_file"), "state": args.get("state", "present"),
            "env": bool(args.get("env")), "line": f'{name}="{job}"' if args.get("env") else _cron_line(args, job),
            "backup": bool(args.get("backup")),
        },
        hidden=("line",),
    )  # fmt: skip


def _cron_line(args: Mapping[str, object], job: str) -> str:
    times = [str(args.get(name, "*")) for name in _TIMES]
    special = args.get("special_time")
    if special and any(name in args for name in _TIMES):
        raise UserError("'cron': 'special_time' stands for all of minute, hour, day, month and weekday")
    if any(not re.fullmatch(r"[0-9A-Za-z*/,~-]+", time) for time in times):
        raise UserError(f"'cron': the times are such as 0, */5, 1-5, mon, not {' '.join(times)}")
    when = f"@{special}" if special else " ".join(times)
    owner = f" {args['user']}" if args.get("cron_file") and args.get("user") else ""
    return f"{'#' if args.get('disabled') else ''}{when}{owner} {job}"


def apt_repository(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a line be among the sources of apt, or not."""
    repo, mode = str(args["repo"]).strip(), args.get("mode")
    if not re.match(r"deb(-src)?\s", repo) or "\n" in repo:
        raise UserError(
            f"'repo' of 'apt_repository' is a line such as 'deb [signed-by=/etc/apt/keyrings/x.asc] https://... stable main', not '{repo}'"
        )
    name = args.get("filename") or _file_name(repo)
    if "/" in str(name):
        raise UserError(f"'filename' of 'apt_repository' is a name below sources.list.d, not '{name}'")
    values = {"repo": repo, "file": str(name).removesuffix(".list"), "state": args.get("state", "present")}
    return script("apt_repository", {**values, "mode": mode or "0644", "update": bool(args.get("update_cache", True))})


def _file_name(repo: str) -> str:
    """Return the name that others give to the file of such a line: its address in words."""
    plain = re.sub(r"\w+://", "", re.sub(r"\[[^\]]+\]", "", repo))
    address = next(part for part in [*plain.split(), "unnamed"] if part not in ("deb", "deb-src"))
    return "_".join(re.sub("[^a-zA-Z0-9]", " ", address.rpartition("@")[2]).split())


def sysctl(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a setting of the kernel be as it shall be."""
    state, name = args.get("state", "present"), str(args["name"])
    if state == "present" and "value" not in args:
        raise UserError("'sysctl' needs 'value'")
    if not re.fullmatch(r"[A-Za-z0-9_./*-]+", name):
        raise UserError(f"'{name}' is no name of a setting of the kernel")
    flags = {
        "set_now": bool(args.get("sysctl_set")),
        "reload": bool(args.get("reload", True)),
        "ignore": "1" if args.get("ignoreerrors") else "",
    }
    return script(
        "sysctl",
        {
            "name": name,
            "value": str(args.get("value", "")).strip(),
            "state": state,
            "file": args.get("sysctl_file", "/etc/sysctl.conf"),
            **flags,
        },
    )


def mount(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a line of fstab be there, and its mount."""
    state = str(args["state"])
    if state in ("present", "mounted", "ephemeral") and not ("src" in args and "fstype" in args):
        raise UserError(f"'mount' with 'state: {state}' needs 'src' and 'fstype'")
    texts = {name: str(args.get(name, default)) for name, default in (("src", ""), ("fstype", ""), ("dump", 0), ("passno", 0))}
    opts = str(args.get("opts") or ("" if state == "remounted" else "defaults"))
    if any(re.search(r"\s", text) for text in (texts["fstype"], opts, texts["dump"], texts["passno"])):
        raise UserError("'fstype', 'opts', 'dump' and 'passno' of 'mount' have no blanks")
    path = str(args["path"]).rstrip("/") or "/"
    return script("mount", {"path": path, "state": state, "opts": opts, "fstab": args.get("fstab", "/etc/fstab"), **texts})


def modprobe(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a module be in the kernel, or not."""
    name = str(args["name"])
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"'{name}' is no name of a module of the kernel")
    values = {"params": args.get("params"), "state": args.get("state", "present"), "persistent": args.get("persistent", "disabled")}
    return script("modprobe", {"name": name, **values})


def hostname(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Give the machine its name."""
    name = str(args["name"])
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", name):
        raise UserError(f"'{name}' is no name of a machine")
    return script("hostname", {"name": name})


def timezone(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Give the machine its time zone."""
    name = str(args["name"])
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        raise UserError(f"'{name}' is no time zone such as Europe/Berlin")
    return script("timezone", {"name": name})
