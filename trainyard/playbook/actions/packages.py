"""apt, dnf, yum, apk and package: one program, whichever manager the machine has; what is there is asked of its own records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

_STATES = {"installed": "present", "removed": "absent", "build-dep": "build-dep", "fixed": "fixed"}
_UPGRADES = {"yes": "all", "safe": "all", "true": "all", "full": "full", "dist": "full", "no": "", "false": ""}
_NAME = Arg("name", "words", aliases=("pkg", "package"))
_UPDATE = Arg("update_cache", "bool", aliases=("update-cache",))
_LOCK = Arg("lock_timeout", "int")
_STATE = ("present", "installed", "latest", "absent", "removed")
APT = Schema(
    "apt",
    (
        _NAME, Arg("state", choices=(*_STATE, "build-dep", "fixed")), _UPDATE, Arg("cache_valid_time", "int"),
        Arg("upgrade", "any"), Arg("deb", "path"), Arg("purge", "bool"),
        Arg("autoremove", "bool"), Arg("autoclean", "bool"), Arg("clean", "bool"),
        Arg("install_recommends", "bool", aliases=("install-recommends",)),
        Arg("default_release", aliases=("default-release",)), Arg("force", "bool"),
        Arg("allow_downgrade", "bool", aliases=("allow-downgrades",)),
        Arg("allow_unauthenticated", "bool", aliases=("allow-unauthenticated",)), Arg("only_upgrade", "bool"), Arg("dpkg_options"), _LOCK,
        Arg("force_apt_get", "bool"),
    ),
    again="writes", does="packages of Debian and Ubuntu: there, newest or gone; waits for another apt that is at it",
)  # fmt: skip
_RPM = (
    _NAME, Arg("state", choices=_STATE), Arg("update_cache", "bool", aliases=("expire-cache",)), Arg("enablerepo", "words"),
    Arg("disablerepo", "words"), Arg("disable_gpg_check", "bool"), Arg("allow_downgrade", "bool"), Arg("install_weak_deps", "bool"),
    Arg("autoremove", "bool"), _LOCK,
)  # fmt: skip
DNF = Schema("dnf", _RPM, again="writes", does="the same for Fedora, RHEL and their like")
YUM = Schema("yum", _RPM, again="writes", does="the same as dnf, by yum")
APK = Schema(
    "apk",
    (_NAME, Arg("state", choices=_STATE), Arg("update_cache", "bool"), Arg("upgrade", "bool"), Arg("repository")),
    again="writes",
    does="the same for Alpine",
)
PACKAGE = Schema(
    "package",
    (_NAME, Arg("state", choices=_STATE), Arg("use", choices=("auto", "apt", "dnf", "yum", "apk")), Arg("update_cache", "bool")),
    again="writes",
    does="the same by whichever manager the machine has",
)


def apt(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make packages be as they shall be, by apt-get."""
    upgrade = str(args.get("upgrade", "no")).lower()
    if upgrade not in _UPGRADES:
        raise UserError(f"'upgrade' of 'apt' must be one of yes, safe, full, dist, no, not '{upgrade}'")
    return _packages(
        "apt-get", args, upgrade=_UPGRADES[upgrade],
        clean="clean" if args.get("clean") else "autoclean" if args.get("autoclean") else "",
        options=str(args.get("dpkg_options", "force-confdef,force-confold")).split(","),
    )  # fmt: skip


def dnf(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make packages be as they shall be, by dnf."""
    return _packages("dnf", args)


def yum(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make packages be as they shall be, by yum."""
    return _packages("yum", args)


def apk(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make packages be as they shall be, by apk."""
    return _packages("apk", args, upgrade="all" if args.get("upgrade") else "")


def package(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make packages be as they shall be, by the manager that is there."""
    use = str(args.get("use", "auto"))
    return _packages({"auto": "", "apt": "apt-get"}.get(use, use), args)


def _packages(use: str, args: Mapping[str, object], **more: object) -> Step:
    names = args.get("name", [])
    odd = next((name for name in names if str(name).startswith("-")), None) if isinstance(names, list) else None
    if odd is not None:
        raise UserError(f"'{odd}' is no name of a package")
    state = str(args.get("state", "present"))
    recommends = args.get("install_recommends", args.get("install_weak_deps"))
    valid = args.get("cache_valid_time", 0)
    return script(
        "packages",
        {
            "use": use, "names": names, "state": _STATES.get(state, state), "deb": args.get("deb"), "repository": args.get("repository"),
            "update": bool(args.get("update_cache")) or bool(valid), "valid_for": valid, "lock_timeout": args.get("lock_timeout", 60),
            "recommends": "" if recommends is None else int(bool(recommends)), "release": args.get("default_release"),
            "unsigned": bool(args.get("allow_unauthenticated") or args.get("disable_gpg_check")), "force": bool(args.get("force")),
            "downgrade": bool(args.get("allow_downgrade")), "purge": bool(args.get("purge")), "autoremove": bool(args.get("autoremove")),
            "only_upgrade": bool(args.get("only_upgrade")), "enablerepo": args.get("enablerepo"), "disablerepo": args.get("disablerepo"),
            "upgrade": "", "clean": "", "options": ["force-confdef", "force-confold"], **more,
        },
    )  # fmt: skip
