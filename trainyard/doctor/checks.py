"""Check everything a run needs and say what to do about what is missing. Starts nothing, rents nothing, prints no secret."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

from trainyard.config import Places
from trainyard.doctor import machine, stackneeds
from trainyard.doctor.finding import Checker, Finding, Status
from trainyard.errors import TrainyardError, UserError

_SIGNS: Mapping[Status, str] = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def checks(places: Places, env: Mapping[str, str], stack: str | None = None) -> list[Finding]:
    """Look at this machine and, when a stack is named, at what that stack needs."""
    findings: list[Finding] = []
    for name, checker in machine.CHECKERS.items():
        findings += _guarded(name, checker, places, env)
    if stack is None:
        findings += _guarded("credentials", stackneeds.credentials, places, env)
        return findings
    for name, needs in stackneeds.CHECKERS.items():
        findings += _guarded(name, functools.partial(needs, stack=stack), places, env)
    return findings


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the checks as a person reads them, what to do below what is wrong, and a closing line."""
    all_checks = list(findings)
    width = max((len(check.name) for check in all_checks), default=0)
    for check in all_checks:
        yield f"{_SIGNS[check.status]}  {check.name:<{width}}  {check.text}"
        if check.remedy and check.status != "ok":
            yield f"      {'':<{width}}  -> {check.remedy}"
    wrong = sum(check.status == "fail" for check in all_checks)
    warned = sum(check.status == "warn" for check in all_checks)
    yield f"{len(all_checks)} checks: {wrong} failed, {warned} warnings"


def _guarded(name: str, checker: Checker, places: Places, env: Mapping[str, str]) -> list[Finding]:
    """A wrong setting fails its own check, and the others are still made."""
    try:
        return list(checker(places, env))
    except UserError as error:
        return [Finding(name, "fail", f"{error.where}: {error.message}" if error.where else error.message, error.hint)]
    except TrainyardError as error:
        return [Finding(name, "fail", error.message, error.hint)]
    except OSError as error:
        return [Finding(name, "fail", f"{error.filename or name}: {error.strerror or error}")]
