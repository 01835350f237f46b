"""Accounts, teams and tokens as an admin changes them: at the command line, which whoever has the ledger may do, or over a server."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from trainyard.errors import UserError
from trainyard.ledger.accounts import LOCAL, ROLES, SCOPES, AccountRows, Role, Scope, ServerAccount, Team, TokenRow, TokenRows
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import record_act

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
LONGEST = 366.0
"""Days that a token may last."""
LINK = 15 * 60.0
"""Seconds in which a link logs somebody in, once."""
_DAY = 86_400.0


def add_account(
    context: CommandContext, name: str, role: str, *, team: str | None = None, month_dollars: float | None = None,
    live_runs: int | None = None, origin: str = LOCAL,
) -> ServerAccount:  # fmt: skip
    """Make an account; raises UserError for a name that is taken or could be no user's of a run, and for what no role is."""
    rows = _rows(context)
    if not NAME.fullmatch(name):
        raise UserError(f"{name}: an account's name has small letters, digits and hyphens: runs are named after it")
    if rows.get(name) is not None:
        raise UserError(f"there is an account '{name}' already", hint=f"Change it: invoke account.change {name} --role ROLE")
    account = ServerAccount(
        name=name, role=_role(role), team=_team(rows, team), origin=origin, created=time.time(), month_dollars=_quota(month_dollars),
        live_runs=_count(live_runs),
    )  # fmt: skip
    record_act(context, "add account", name, must=True, role=role, team=team, month_dollars=month_dollars, live_runs=live_runs)
    rows.put(account)
    return account


def change_account(
    context: CommandContext, name: str, *, role: str | None = None, team: str | None = None, month_dollars: float | None = None,
    live_runs: int | None = None, disabled: bool | None = None,
) -> ServerAccount:  # fmt: skip
    """Change what is said of an account, None: as it is; a team "" and a quota of -1 mean none. The last admin stays one."""
    rows = _rows(context)
    before = account_of(context, name)
    after = replace(
        before,
        role=before.role if role is None else _role(role),
        team=before.team if team is None else _team(rows, team),
        month_dollars=before.month_dollars if month_dollars is None else _quota(month_dollars),
        live_runs=before.live_runs if live_runs is None else _count(live_runs),
        disabled=before.disabled if disabled is None else (before.disabled or time.time()) if disabled else None,
    )
    if "admin" in before.scopes and "admin" not in after.scopes:
        others = [each for each in rows.all() if each.name != name and "admin" in each.scopes]
        if not others:
            raise UserError(f"'{name}' is the only admin: nobody could change anything after that", hint="Make another one first.")
    said = {"role": role, "team": team, "month_dollars": month_dollars, "live_runs": live_runs, "disabled": disabled}
    record_act(context, "change account", name, must=True, **{key: value for key, value in said.items() if value is not None})
    rows.put(after)
    return after


def account_of(context: CommandContext, name: str) -> ServerAccount:
    """Return an account; raises UserError for one that is not there."""
    account = _rows(context).get(name)
    if account is None:
        raise UserError(f"there is no account '{name}'", hint="See those that there are: invoke account.list")
    return account


def accounts(context: CommandContext) -> list[ServerAccount]:
    """Return all accounts by name."""
    return _rows(context).all()


def set_team(context: CommandContext, name: str, *, month_dollars: float | None = None, live_runs: int | None = None) -> Team:
    """Make a team, or give it other quotas; -1 means none."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name}: a team's name has small letters, digits and hyphens")
    rows = _rows(context)
    before = next((team for team in rows.teams() if team.name == name), Team(name=name, created=time.time()))
    team = replace(
        before,
        month_dollars=before.month_dollars if month_dollars is None else _quota(month_dollars),
        live_runs=before.live_runs if live_runs is None else _count(live_runs),
    )
    record_act(context, "set team", name, must=True, month_dollars=month_dollars, live_runs=live_runs)
    rows.put_team(team)
    return team


def teams(context: CommandContext) -> list[Team]:
    """Return all teams by name."""
    return _rows(context).teams()


def create_token(
    context: CommandContext, account: str, name: str, scopes: Sequence[str], days: float, *, parent: str | None = None
) -> tuple[TokenRow, str]:  # fmt: skip
    """Return a new token of an account and its text, which nobody can be shown again; it ends with its parent.

    Raises UserError for a scope that its role has not, and for days that are none.
    """
    owner = account_of(context, account)
    asked = scopes or owner.scopes
    for scope in asked:
        if scope not in SCOPES:
            raise UserError(f"'{scope}' is no scope", hint=f"Scopes: {', '.join(SCOPES)}.")
        if scope not in owner.scopes:
            raise UserError(f"'{account}' has role '{owner.role}', which has no scope '{scope}'")
    if not 0 < days <= LONGEST:
        raise UserError(f"a token lasts more than 0 and at most {LONGEST:.0f} days, not {days:g}")
    now = time.time()
    record_act(context, "create token", account, must=True, name=name, scopes=list(asked), days=days)
    return _tokens(context).issue("api", account, name, cast(Sequence[Scope], asked), now, now + days * _DAY, parent=parent)


def create_link(context: CommandContext, account: str) -> str:
    """Return the token of a link that logs an account in, once, within LINK seconds."""
    owner, now = account_of(context, account), time.time()
    if owner.disabled is not None:
        raise UserError(f"account '{account}' is disabled", hint=f"Let it in again: invoke account.change {account} --enable")
    record_act(context, "create link", account)
    return _tokens(context).issue("link", account, "link", owner.scopes, now, now + LINK)[1]


def tokens(context: CommandContext, account: str | None) -> list[TokenRow]:
    """Return the tokens of programs and workers, of an account or of all, newest first."""
    return _tokens(context).of(account)


def revoke_token(context: CommandContext, token_id: str, account: str | None = None) -> None:
    """Let a token (of one account) prove nobody any more; raises UserError for one that is not there or proves nobody."""
    if not _tokens(context).revoke(token_id, time.time(), account):
        raise UserError(f"there is no token '{token_id}' that could be revoked", hint="See those that there are: invoke token.list")
    record_act(context, "revoke token", token_id)


def _rows(context: CommandContext) -> AccountRows:
    return AccountRows(context.ledger().database)


def _tokens(context: CommandContext) -> TokenRows:
    return TokenRows(context.ledger().database)


def _role(text: str) -> Role:
    if text not in ROLES:
        raise UserError(f"'{text}' is no role", hint=f"Roles: {', '.join(ROLES)}.")
    return cast(Role, text)


def _team(rows: AccountRows, name: str | None) -> str | None:
    if name and name not in {team.name for team in rows.teams()}:
        raise UserError(f"there is no team '{name}'", hint=f"Make it: invoke team.set {name}")
    return name or None


def _quota(dollars: float | None) -> float | None:
    if dollars is not None and not (dollars == -1 or 0 <= dollars < 1e9):
        raise UserError(f"a quota is dollars from 0 on, or -1 for none, not {dollars:g}")
    return None if dollars == -1 else dollars


def _count(runs: int | None) -> int | None:
    if runs is not None and not -1 <= runs < 1_000_000:
        raise UserError(f"a quota of runs is a whole number from 0 on, or -1 for none, not {runs}")
    return None if runs == -1 else runs
