"""user, group, authorized_key, known_hosts: who may use a machine, and whom it knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

_KEY = re.compile(r"(?:(?P<options>.*?)\s+)?(?P<key>(?:ssh-|ecdsa-|sk-)[a-z0-9@.-]+\s+AAAA[0-9A-Za-z+/=]+)(?:\s+(?P<comment>.*))?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_DAY = 24 * 3600
USER = Schema(
    "user",
    (
        Arg("name", required=True, aliases=("user",)), Arg("state", choices=("present", "absent")), Arg("uid", "int"), Arg("group"),
        Arg("groups", "words"), Arg("append", "bool"), Arg("shell"), Arg("home", "path"),
        Arg("create_home", "bool", aliases=("createhome",)),
        Arg("move_home", "bool"), Arg("system", "bool"), Arg("remove", "bool"), Arg("force", "bool"), Arg("comment"), Arg("password"),
        Arg("update_password", choices=("always", "on_create")), Arg("password_lock", "bool"), Arg("non_unique", "bool"),
        Arg("skeleton", "path"),
        Arg("expires", "any"), Arg("generate_ssh_key", "bool"), Arg("ssh_key_type"), Arg("ssh_key_bits", "int"), Arg("ssh_key_file"),
        Arg("ssh_key_comment"),
    ),
    again="writes",
    does="an account: there as it shall be, or gone; 'password' is its hash",
)  # fmt: skip
GROUP = Schema(
    "group",
    (
        Arg("name", required=True),
        Arg("state", choices=("present", "absent")),
        Arg("gid", "int"),
        Arg("system", "bool"),
        Arg("non_unique", "bool"),
    ),
    again="writes",
    does="a group: there with its number, or gone",
)
AUTHORIZED_KEY = Schema(
    "authorized_key",
    (
        Arg("user", required=True), Arg("key", required=True), Arg("state", choices=("present", "absent")), Arg("exclusive", "bool"),
        Arg("key_options"), Arg("comment"), Arg("path", "path"), Arg("manage_dir", "bool"),
    ),
    again="writes",
    does="keys that may log in as a user: these too, only these, or not these",
)  # fmt: skip
KNOWN_HOSTS = Schema(
    "known_hosts",
    (
        Arg("name", required=True, aliases=("host",)), Arg("key"), Arg("path", "path"), Arg("state", choices=("present", "absent")),
        Arg("hash_host", "bool"),
    ),
    again="writes",
    does="the key by which a host of ssh is known",
)  # fmt: skip


def user(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make an account be as it shall be."""
    password, expires, lock = str(args.get("password") or ""), args.get("expires"), args.get("password_lock")
    if password and not re.fullmatch(r"[^\s:]+", password):
        raise UserError("'password' of 'user' is a hash, such as the filter password_hash makes")
    if password and len(password) < 13 and password not in ("*", "!", "!!", "*LK*", "x"):
        raise UserError("'password' of 'user' is a hash, not the password: \"{{ secret | password_hash('sha512') }}\"")
    flags = {
        "append": False,
        "create_home": True,
        "move_home": False,
        "system": False,
        "remove": False,
        "force": False,
        "non_unique": False,
    }
    return script(
        "user",
        {
            **{name: bool(args.get(name, default)) for name, default in flags.items()}, "name": _name(args["name"]),
            "groups": ",".join(cast(list[str], args.get("groups", []))), "has_groups": args.get("groups") is not None,
            **{name: args.get(name) for name in ("uid", "group", "shell", "home", "comment", "skeleton")}, "has_comment": "comment" in args,
            "state": args.get("state", "present"), "update_password": args.get("update_password", "always"),
            "lock": "" if lock is None else bool(lock), "expires": "" if expires is None else _day(expires),
            "key": bool(args.get("generate_ssh_key")), "key_type": args.get("ssh_key_type", "rsa"), "key_bits": args.get("ssh_key_bits"),
            "key_file": args.get("ssh_key_file"), "key_comment": args.get("ssh_key_comment"),
        },
        stdin=f"{password}\n".encode(),
    )  # fmt: skip


def group(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a group be as it shall be."""
    flags = {name: bool(args.get(name)) for name in ("system", "non_unique")}
    return script("group", {"name": _name(args["name"]), "state": args.get("state", "present"), "gid": args.get("gid"), **flags})


def authorized_key(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make keys be among those that may log in, or not."""
    lines = [_login_key(line.strip(), args) for line in str(args["key"]).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise UserError("'key' of 'authorized_key' is empty")
    return script(
        "authorized_key",
        {
            "user": _name(args["user"]), "path": args.get("path"), "state": args.get("state", "present"),
            "exclusive": bool(args.get("exclusive")), "manage_dir": bool(args.get("manage_dir", True)),
        },
        stdin="".join(f"{line}\n" for line in lines).encode(),
    )  # fmt: skip


def known_hosts(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a host's key be known, or not."""
    name, state, line = str(args["name"]), args.get("state", "present"), str(args.get("key") or "").strip()
    if state == "present" and not line:
        raise UserError("'known_hosts' needs 'key': a line such as ssh-keyscan prints")
    if line and (len(line.split()) < 3 or "\n" in line):
        raise UserError("'key' of 'known_hosts' is one line: HOST KIND KEY")
    if name.startswith("-") or (line and not line.startswith("@") and not _names(line.split()[0], name)):
        raise UserError(f"'key' of 'known_hosts' is not for '{name}': its line begins with '{line.split(' ', 1)[0]}'")
    path = args.get("path")
    return script(
        "known_hosts",
        {"name": name.lower(), "path": path, "state": state, "hashed": bool(args.get("hash_host"))},
        stdin=f"{line}\n".encode(),
    )


def _names(first: str, name: str) -> bool:
    """Tell whether the first word of a line may stand for the host."""
    return (
        first.startswith("|1|") or name.lower() in [one.strip().lower() for one in first.split(",")] or any(sign in first for sign in "*?")
    )


def _login_key(line: str, args: Mapping[str, object]) -> str:
    if "://" in line and not _KEY.fullmatch(line):
        raise UserError(f"'key' of 'authorized_key' is the key itself, not an address: \"{{{{ lookup('file', 'id.pub') }}}}\", not {line}")
    match = _KEY.fullmatch(line)
    if match is None:
        raise UserError(f"'key' of 'authorized_key' is no public key: {line[:60]}")
    options = args.get("key_options", match["options"])
    comment = args.get("comment", match["comment"])
    return " ".join(str(part) for part in (options, " ".join(match["key"].split()), comment) if part)


def _name(value: object) -> str:
    if not _NAME.fullmatch(str(value)):
        raise UserError(f"'{value}' is no name of an account")
    return str(value)


def _day(value: object) -> str:
    """Return the day of a moment in seconds as accounts know it; a negative one means never."""
    try:
        seconds = float(str(value))
    except ValueError:
        raise UserError(f"'expires' of 'user' is a moment in seconds since 1970, not '{value}'") from None
    return "-1" if seconds < 0 else str(int(seconds // _DAY))
