"""The actions that set up a machine: packages, code, what an address has, services, accounts, settings, facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from trainyard.playbook.actions import accounts, facts, network, packages, python, repositories, services, system
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
    "service": (services.SERVICE, services.service),
    "systemd": (services.SYSTEMD, services.systemd),
    "systemd_service": (services.SYSTEMD_SERVICE, services.systemd),
    "user": (accounts.USER, accounts.user),
    "group": (accounts.GROUP, accounts.group),
    "authorized_key": (accounts.AUTHORIZED_KEY, accounts.authorized_key),
    "known_hosts": (accounts.KNOWN_HOSTS, accounts.known_hosts),
    "cron": (system.CRON, system.cron),
    "apt_repository": (system.APT_REPOSITORY, system.apt_repository),
    "sysctl": (system.SYSCTL, system.sysctl),
    "mount": (system.MOUNT, system.mount),
    "modprobe": (system.MODPROBE, system.modprobe),
    "hostname": (system.HOSTNAME, system.hostname),
    "timezone": (system.TIMEZONE, system.timezone),
    "setup": (facts.SETUP, facts.setup),
    "gather_facts": (facts.SETUP, facts.setup),
    "package_facts": (facts.PACKAGE_FACTS, facts.package_facts),
    "getent": (facts.GETENT, facts.getent),
}
