"""Accounts, teams and tokens over HTTP: one's own tokens for everybody, the rest for admins. Each change is in the audit log."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, Field

from trainyard.config import ACCOUNT
from trainyard.ledger.accounts import Role, Scope, ServerAccount, Team, TokenRow
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs import accounts
from trainyard.web.guard.principal import Admin, Reader, TheSite
from trainyard.web.rest.commands import CommandBody
from trainyard.web.site import Site

router = APIRouter(tags=["people"])
AccountName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Dollars = Annotated[float, Field(ge=-1, lt=1e9)]
Count = Annotated[int, Field(ge=-1, lt=1_000_000)]


class AddAccount(CommandBody):
    """An account that is to be."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    role: Role = "run"
    team: str | None = None
    month_dollars: Dollars | None = None
    live_runs: Count | None = None


class ChangeAccount(CommandBody):
    """What is to be different; a team "" and a quota of -1 mean none."""

    role: Role | None = None
    team: str | None = None
    month_dollars: Dollars | None = None
    live_runs: Count | None = None
    disabled: bool | None = None


class SetTeam(CommandBody):
    """Quotas of a team; -1 means none."""

    month_dollars: Dollars | None = None
    live_runs: Count | None = None


class AskToken(CommandBody):
    """A token that is to be."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")] = "api"
    scopes: tuple[Scope, ...] = ()
    """None: all that its account's role has."""
    days: Annotated[float, Field(gt=0, le=accounts.LONGEST)] = 30.0


class NewToken(BaseModel):
    """A token that was made; its text is shown here only."""

    row: TokenRow
    token: str


class AccountList(BaseModel):
    """Accounts and teams by name."""

    accounts: list[ServerAccount]
    teams: list[Team]


class TokenList(BaseModel):
    """Tokens of programs and workers, newest first."""

    tokens: list[TokenRow]


def as_account(site: Site, name: str) -> CommandContext:
    """Return the surroundings of a verb in which the audit log names an account."""
    return replace(site.context, env={**site.context.env, ACCOUNT: name})


@router.get("/me")
def me(who: Reader) -> ServerAccount:
    """Return the account that asks."""
    return who.account


@router.get("/accounts")
def list_accounts(site: TheSite, _who: Admin) -> AccountList:
    """List who may use this server."""
    return AccountList(accounts=accounts.accounts(site.context), teams=accounts.teams(site.context))


@router.post("/accounts", status_code=201)
def add_account(site: TheSite, who: Admin, asked: AddAccount) -> ServerAccount:
    """Make an account."""
    said = asked.model_dump(exclude={"name", "role"})
    return accounts.add_account(as_account(site, who.account.name), asked.name, asked.role, **said)


@router.patch("/accounts/{name}")
def change_account(site: TheSite, who: Admin, name: AccountName, asked: ChangeAccount) -> ServerAccount:
    """Change an account: its role, team, quotas, whether it may do anything."""
    if site.accounts.get(name) is None:
        raise HTTPException(404, f"there is no account '{name}'")
    return accounts.change_account(as_account(site, who.account.name), name, **asked.model_dump())


@router.put("/teams/{name}")
def set_team(site: TheSite, who: Admin, name: AccountName, asked: SetTeam) -> Team:
    """Make a team whose accounts share quotas, or give it others."""
    return accounts.set_team(as_account(site, who.account.name), name, **asked.model_dump())


@router.get("/tokens")
def list_tokens(site: TheSite, who: Reader) -> TokenList:
    """List one's own tokens; an admin sees all."""
    return TokenList(tokens=site.tokens.of(None if "admin" in who.scopes else who.account.name))


@router.post("/tokens", status_code=201)
def create_token(site: TheSite, who: Reader, asked: AskToken) -> NewToken:
    """Make a token of one's own, which may do no more than the one that asks, and ends with it when a program asks."""
    beyond = sorted(set(asked.scopes) - who.scopes)
    if beyond:
        raise HTTPException(403, f"what asks has no scope '{beyond[0]}' itself")
    scopes = asked.scopes or sorted(who.scopes)
    row, text = accounts.create_token(as_account(site, who.account.name), who.account.name, asked.name, scopes, asked.days, parent=who.root)
    return NewToken(row=row, token=text)


@router.delete("/tokens/{id}", status_code=204)
def revoke_token(site: TheSite, who: Reader, id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")]) -> None:
    """Let a token prove nobody any more: one's own, for an admin any."""
    mine = None if "admin" in who.scopes else who.account.name
    if not any(row.id == id and row.revoked is None for row in site.tokens.of(mine)):
        raise HTTPException(404, f"there is no token '{id}'")
    accounts.revoke_token(as_account(site, who.account.name), id, mine)
