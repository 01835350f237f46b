"""What a template knows of itself, beside the task's variables: where it lies, whose it is, where it goes."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

NAMES = frozenset({
    "ansible_managed", "template_host", "template_path", "template_fullpath", "template_uid", "template_destpath", "template_mtime",
    "template_run_date",
})  # fmt: skip


def known_in(path: Path, written: str, dest: str | None, variables: Mapping[str, object]) -> dict[str, object]:
    """Return the variables of a template that is there; an ``ansible_managed`` of the playbook's own counts."""
    status = path.stat()
    try:
        owner: str | int = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = status.st_uid
    return {
        "ansible_managed": "Ansible managed", **variables,
        "template_host": os.uname().nodename, "template_path": written, "template_fullpath": str(path.absolute()), "template_uid": owner,
        "template_destpath": dest, "template_mtime": datetime.fromtimestamp(status.st_mtime), "template_run_date": datetime.now(),
    }  # fmt: skip
