"""setup, package_facts and getent: what a machine is and has, in the names that people know; by sh, in one question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

from trainyard.playbook.actions.answers import fields, script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Outcome, Step
from trainyard.playbook.values import Variables
from trainyard.remote.protocol import CommandResult

SETUP = Schema(
    "setup",
    (Arg("filter", "words"), Arg("gather_subset", "words")),
    again="reads",
    does="what the machine is: ansible_facts, and each as ansible_NAME",
)
PACKAGE_FACTS = Schema("package_facts", (Arg("manager", "words"),), again="reads", does="what packages there are: ansible_facts.packages")
GETENT = Schema(
    "getent",
    (Arg("database", required=True), Arg("key"), Arg("split"), Arg("fail_key", "bool")),
    again="reads",
    does="an entry of passwd, group, hosts ...: getent_DATABASE, also in ansible_facts",
)
_NAMES = {
    "debian": "Debian", "ubuntu": "Ubuntu", "linuxmint": "Linux Mint", "pop": "Pop!_OS", "kali": "Kali", "raspbian": "Debian",
    "fedora": "Fedora", "rhel": "RedHat", "centos": "CentOS", "rocky": "Rocky", "almalinux": "AlmaLinux", "ol": "OracleLinux",
    "amzn": "Amazon", "alpine": "Alpine", "arch": "Archlinux", "opensuse-leap": "openSUSE Leap", "sles": "SLES",
}  # fmt: skip
_FAMILIES = {"debian": "Debian", "ubuntu": "Debian", "rhel": "RedHat", "fedora": "RedHat", "suse": "Suse", "arch": "Archlinux"}
_AS_THEY_ARE = (
    "distribution_version", "distribution_release", "system", "kernel", "kernel_version", "machine", "nodename", "fqdn", "user_id",
    "user_uid", "user_gid", "user_dir", "user_shell", "memtotal_mb", "memfree_mb", "swaptotal_mb", "processor_vcpus", "processor_nproc",
    "processor_count", "processor_cores", "uptime_seconds", "service_mgr", "pkg_mgr",
)  # fmt: skip
_GPU = ("index", "name", "uuid", "memory_mb", "driver")
_ADDRESS = {"address": "address", "gateway": "gateway", "interface": "interface", "alias": "interface"}


def setup(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Ask what the machine is."""
    patterns = [str(pattern).removeprefix("ansible_") for pattern in cast(list[object], args.get("filter", ["*"]))]

    def chosen(done: CommandResult) -> Outcome:
        facts = _facts(fields(done))
        return _known({name: value for name, value in facts.items() if any(fnmatchcase(name, pattern) for pattern in patterns)})

    return script("setup", {}, read=chosen, decides=True)


def package_facts(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Ask which packages there are."""
    return script("package_facts", {}, read=_packages, decides=True)


def getent(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Ask for an entry, or for all."""
    database = str(args["database"])
    values = {"database": database, "key": args.get("key"), "fail_key": bool(args.get("fail_key", True))}
    split = args.get("split") or (":" if database in ("passwd", "shadow", "group", "gshadow") else None)
    return script("getent", values, read=lambda done: _entries(fields(done), database, cast(str | None, split)), decides=True)


def keep(facts: dict[str, object], more: object) -> None:
    """Add what a task says of its host; in ansible_facts the facts of several tasks stand side by side."""
    if isinstance(more, Mapping):
        before, now = facts.get("ansible_facts"), more.get("ansible_facts")
        facts.update(more)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            facts["ansible_facts"] = {**before, **now}


_OWN_NAMES = ("trainyard_gpus", "packages", "getent_")
"""Facts that are variables without ``ansible_`` before them."""


def _known(facts: Mapping[str, object]) -> Outcome:
    injected = {name if name.startswith(_OWN_NAMES) else f"ansible_{name}": value for name, value in facts.items()}
    return {"changed": False, "ansible_facts": dict(facts), "system_facts": {**injected, "ansible_facts": dict(facts)}}


def _facts(said: Outcome) -> dict[str, object]:
    facts = {name: said[name] for name in _AS_THEY_ARE if said.get(name) not in (None, "")}
    identity, like = str(said.get("os_id", "")), str(said.get("os_like", "")).split()
    distribution = _NAMES.get(identity, str(said.get("os_name", "")))
    nodename, fqdn = str(said.get("nodename", "")), str(said.get("fqdn", ""))
    version, machine = str(said.get("distribution_version", "")), str(said.get("machine", ""))
    family = next((_FAMILIES[name] for name in (identity, *like) if name in _FAMILIES), distribution)
    facts |= {
        "distribution": distribution, "os_family": family, "distribution_major_version": version.partition(".")[0],
        "architecture": machine, "hostname": nodename.partition(".")[0], "domain": fqdn.partition(".")[2],
        "default_ipv4": {name: said[key] for name, key in _ADDRESS.items() if key in said},
        "all_ipv4_addresses": said.get("addresses", []), "all_ipv6_addresses": said.get("more_addresses", []), "date_time": _moment(said),
        "env": dict(line.split("=", 1) for line in cast(list[str], said.get("env", [])) if "=" in line),
        "lsb": {"id": distribution, "release": version, "codename": str(said.get("distribution_release", ""))},
        "trainyard_gpus": [_gpu(line) for line in cast(list[str], said.get("gpus", []))],
    }  # fmt: skip
    if "container" in said:
        facts["virtualization_type"] = said["container"]
    cores = cast(int, said.get("processor_cores", 1)) * cast(int, said.get("processor_count", 1))
    facts["processor_threads_per_core"] = max(1, cast(int, said.get("processor_vcpus", 1)) // max(1, cores))
    return facts


def _moment(said: Outcome) -> dict[str, str]:
    day, clock, number, weekday, zone, offset = [*str(said.get("clock", "")).split(), *[""] * 6][:6]
    year, month, number_of_day = [*day.split("-"), "", "", ""][:3]
    hour, minute, second = [*clock.split(":"), "", "", ""][:3]
    return {
        "date": day, "time": clock, "year": year, "month": month, "day": number_of_day, "hour": hour, "minute": minute, "second": second,
        "epoch": str(said.get("epoch", "")), "iso8601": str(said.get("utc", "")), "weekday": weekday, "weekday_number": number,
        "tz": zone, "tz_offset": offset,
    }  # fmt: skip


def _gpu(line: str) -> dict[str, object]:
    parts = [part.strip() for part in line.split(",")]
    return {name: int(part) if re.fullmatch("[0-9]+", part) and name != "driver" else part for name, part in zip(_GPU, parts, strict=False)}


def _packages(done: CommandResult) -> Outcome:
    packages: dict[str, list[dict[str, str]]] = {}
    said = fields(done)
    for line in cast(list[str], said.get("packages", [])):
        name, version, arch = [*line.split("\t"), "", ""][:3]
        packages.setdefault(name, []).append({"name": name, "version": version, "arch": arch, "source": str(said.get("manager", ""))})
    return _known({"packages": packages})


def _entries(said: Outcome, database: str, split: str | None) -> Outcome:
    entries: dict[str, list[str] | None] = {}
    for line in cast(list[str], said.get("entries", [])):
        name, *rest = line.split(split)
        entries[name] = rest
    for name in cast(list[str], said.get("missing", [])):
        entries[name] = None
    return _known({f"getent_{database}": entries})
