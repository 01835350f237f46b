"""pip: packages of Python, of the machine or of an environment of their own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

PIP = Schema(
    "pip",
    (
        Arg("name", "words"), Arg("version"), Arg("requirements", "path"), Arg("virtualenv", "path"), Arg("virtualenv_command"),
        Arg("virtualenv_python"), Arg("virtualenv_site_packages", "bool"),
        Arg("state", choices=("present", "absent", "latest", "forcereinstall")),
        Arg("extra_args"), Arg("editable", "bool"), Arg("executable", "path"), Arg("chdir", "path", empty=True),
        Arg("break_system_packages", "bool"),
    ),
    again="writes", does="packages of Python, of the machine or of an environment; by uv where the host has it",
)  # fmt: skip


def pip(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make packages of Python be as they shall be."""
    names = _requirements(args.get("name", []))
    version = args.get("version")
    if not names and "requirements" not in args and "virtualenv" not in args:
        raise UserError("'pip' needs 'name', 'requirements' or 'virtualenv'")
    if version is not None:
        if len(names) != 1:
            raise UserError("'pip': 'version' goes with one name")
        names = [f"{names[0]}=={version}"]
    return script(
        "pip",
        {
            "names": names, "state": args.get("state", "present"), "requirements": args.get("requirements"),
            "virtualenv": str(args.get("virtualenv", "")).rstrip("/"), "virtualenv_command": args.get("virtualenv_command"),
            "virtualenv_python": args.get("virtualenv_python"), "site_packages": "1" if args.get("virtualenv_site_packages") else "",
            "more": list(reversed(shlex.split(str(args.get("extra_args", ""))))), "editable": bool(args.get("editable")),
            "executable": args.get("executable"), "chdir": args.get("chdir"), "break_system": bool(args.get("break_system_packages")),
        },
    )  # fmt: skip


def _requirements(words: object) -> list[str]:
    """Return the packages; of ``torch>=2,<3`` the second half is no name of its own."""
    names: list[str] = []
    for word in words if isinstance(words, list) else []:
        if str(word)[0] in "<>=!~" and names:
            names[-1] += f",{word}"
        elif str(word).startswith("-"):
            raise UserError(f"'{word}' is no name of a package: what pip is told beside goes into 'extra_args'")
        else:
            names.append(str(word))
    return names
