"""The actions that set up a machine: packages, code, what an address has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from trainyard.playbook.actions import network, packages, python, repositories
from trainyard.playbook.schema import Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

MACHINE: Mapping[str, tuple[Schema, Callable[[Mapping[str, object], Path, Variables], Step]]] = {
    "apt": (packages.APT, packages.apt),
    "package": (packages.PACKAGE, packages.package),
    "dnf": (packages.DNF, packages.dnf),
    "yum": (packages.YUM, packages.yum),
    "apk": (packages.APK, packages.apk),
    "git": (repositories.GIT, repositories.git),
    "get_url": (network.GET_URL, network.get_url),
    "uri": (network.URI, network.uri),
    "unarchive": (network.UNARCHIVE, network.unarchive),
    "pip": (python.PIP, python.pip),
}
