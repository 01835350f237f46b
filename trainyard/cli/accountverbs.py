"""The verbs about who may use a server: accounts, teams, tokens, links. Parsing only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb
from trainyard.clock import format_time
from trainyard.errors import UserError
from trainyard.phrasing import as_typed

_QUOTAS = help_of(
    "json",
    month_dollars="dollars that its runs may cost in 30 days; -1: no such quota",
    live_runs="runs that may be at work or queued at once; -1: no such quota",
)
_OF_AN_ACCOUNT = _QUOTAS | help_of(
    account="name of the account: runs that it starts are named after it",
    role="view, run, approve or admin: each may do what those before it may",
    team="team whose quotas it shares, too",
)


def _dollars(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise UserError(f"--month-dollars {text}: it is no number") from None


def _runs(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        raise UserError(f"--live-runs {text}: it is no whole number") from None


@task(positional=["account"], help=_OF_AN_ACCOUNT)
@verb
def account_add(
    c: Context, account: str, role: str = "run", team: str | None = None, month_dollars: str | None = None, live_runs: str | None = None,
    json: bool = False,
) -> int:  # fmt: skip
    """Make an account of a server."""
    from trainyard.runs.verbs.accounts import add_account

    added = add_account(
        context(as_json=json), account, role, team=team, month_dollars=_dollars(month_dollars), live_runs=_runs(live_runs)
    )  # fmt: skip
    return _show([added], as_json=json)


@task(positional=["account"], help={**_OF_AN_ACCOUNT, **help_of(disable="it may do nothing any more", enable="it may again")})
@verb
def account_change(
    c: Context, account: str, role: str | None = None, team: str | None = None, month_dollars: str | None = None,
    live_runs: str | None = None, disable: bool = False, enable: bool = False, json: bool = False,
) -> int:  # fmt: skip
    """Change an account: its role, team, quotas, whether it may do anything."""
    from trainyard.runs.verbs.accounts import change_account

    if disable and enable:
        raise UserError("--disable and --enable are each other's opposite", hint="Say one of the two.")
    changed = change_account(
        context(as_json=json), account, role=role, team=team, month_dollars=_dollars(month_dollars), live_runs=_runs(live_runs),
        disabled=True if disable else False if enable else None,
    )  # fmt: skip
    return _show([changed], as_json=json)


@task(help=help_of("json"))
@verb
def account_list(c: Context, json: bool = False) -> int:
    """List who may use a server of this ledger."""
    from trainyard.runs.verbs.accounts import accounts

    return _show(accounts(context(as_json=json)), as_json=json)


@task(positional=["team"], help={**_QUOTAS, **help_of(team="name of the team")})
@verb
def team_set(c: Context, team: str, month_dollars: str | None = None, live_runs: str | None = None, json: bool = False) -> int:
    """Make a team whose accounts share quotas, or give it others."""
    from trainyard.runs.verbs.accounts import set_team

    return _show(
        [set_team(context(as_json=json), team, month_dollars=_dollars(month_dollars), live_runs=_runs(live_runs))], as_json=json
    )  # fmt: skip


@task(help=help_of("json"))
@verb
def team_list(c: Context, json: bool = False) -> int:
    """List teams and their quotas."""
    from trainyard.runs.verbs.accounts import teams

    return _show(teams(context(as_json=json)), as_json=json)


@task(
    positional=["account"],
    help=help_of(
        "json",
        account="whose it is",
        name="what it is for",
        scopes="read, run, approve, admin, with commas between (default: all that its role has)",
        days="how long it lasts (default: 30)",
    ),
)
@verb
def token_create(
    c: Context, account: str, name: str = "api", scopes: str | None = None, days: str = "30", json: bool = False
) -> int:  # fmt: skip
    """Make a token of the REST API for an account; it is shown once."""
    from trainyard.runs.verbs.accounts import create_token

    try:
        length = float(days)
    except ValueError:
        raise UserError(f"--days {days}: it is no number") from None
    row, text = create_token(context(as_json=json), account, name, [word.strip() for word in scopes.split(",")] if scopes else [], length)
    if json:
        show_json({**asdict(row), "token": text})
    else:
        print(text)
    return 0


@task(positional=[], help=help_of("json", account="only this account's"))
@verb
def token_list(c: Context, account: str | None = None, json: bool = False) -> int:
    """List tokens: whose, what for, what they allow, until when; never their secret."""
    from trainyard.runs.verbs.accounts import tokens

    return _show(tokens(context(as_json=json), account), as_json=json)


@task(positional=["id"], help=help_of(id="as token.list has it: the part between the underscores"))
@verb
def token_revoke(c: Context, id: str) -> int:
    """Let a token prove nobody any more."""
    from trainyard.runs.verbs.accounts import revoke_token

    revoke_token(context(), id)
    return 0


def _show(rows: Iterable[Any], *, as_json: bool) -> int:
    """Print rows: as JSON, or each as a line of its fields that are said."""
    listed = [asdict(row) for row in rows]
    if as_json:
        show_json(listed)
        return 0
    for row in listed:
        print(as_typed("  ".join(_said(name, value) for name, value in row.items() if value not in (None, ()))))
    return 0


def _said(name: str, value: Any) -> str:
    if name in ("name", "id"):
        return str(value)
    if name in ("created", "expires", "used", "revoked", "disabled"):
        return f"{name} {format_time(value)}"
    return f"{name.replace('_', ' ')} {' '.join(value) if isinstance(value, (list, tuple)) else value}"
