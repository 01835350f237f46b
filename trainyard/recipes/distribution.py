"""Packages of a pod's distribution (the variable ``apt``): refused before anything is rented where nobody may install them."""

from __future__ import annotations

import shutil
import subprocess

from trainyard.errors import UserError
from trainyard.recipes.summaries import Values


def refuse(values: Values, *, on_this_machine: bool, root: bool, stack: str) -> None:
    """Raise UserError where a run's pods can have no package installed, and these are not there.

    A pod of this machine sees this machine's programs and may not change them; ``root``: whether another pod's user may.
    """
    asked = values.get("apt")
    if not isinstance(asked, list) or not asked:
        return
    if not on_this_machine and not root:
        raise UserError(
            f"apt: jobs of stack {stack} are not root's, who alone installs packages",
            hint="Take a module or a container that has them (docs/clouds/slurm.md), and leave apt out.",
        )
    if not on_this_machine:
        return
    if shutil.which("dpkg-query") is None:
        raise UserError(f"apt: this machine has no dpkg, by which it could be told whether {', '.join(asked)} are there")
    if missing := [package for package in asked if not _is_there(package)]:
        raise UserError(
            f"apt: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not there, and a pod of this machine installs nothing on it",
            hint=f"Install it yourself: sudo apt-get install {' '.join(missing)}",
        )


def _is_there(package: str) -> bool:
    name, _, version = package.partition("=")
    argv = ["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}\n", name]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL).stdout.split()
    return said[:1] == ["installed"] and version in ("", said[-1])
