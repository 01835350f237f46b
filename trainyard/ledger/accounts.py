"""Who may use a server of this ledger, and what proves it: accounts, teams and tokens, of whose secrets only hashes are kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from trainyard.ledger import tables
from trainyard.ledger.database import Database, insert_into

Scope = Literal["read", "run", "approve", "admin"]
Role = Literal["view", "run", "approve", "admin"]
TokenKind = Literal["api", "link", "session", "worker"]
"""api: a program's; link: a browser logs in with it once; session: of a browser that has; worker: of a machine that takes runs."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
ROLES: Mapping[Role, tuple[Scope, ...]] = {"view": SCOPES[:1], "run": SCOPES[:2], "approve": SCOPES[:3], "admin": SCOPES}
"""What each role may do; a token of an account may have less."""
LOCAL = "local"
"""Origin of an account that an admin has made."""
_PREFIX = "ty"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccount:
    """One person or program. Times are epoch seconds, quotas dollars in 30 days and runs that live at once."""

    name: str
    role: Role
    team: str | None = None
    origin: str = LOCAL
    created: float
    disabled: float | None = None
    """Since when it may do nothing."""
    month_dollars: float | None = None
    live_runs: int | None = None

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What it may do at most."""
        return () if self.disabled is not None else ROLES[self.role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Accounts that share quotas, which are as those of an account."""

    name: str
    created: float
    month_dollars: float | None = None
    live_runs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token as the ledger knows it: without its secret."""

    id: str
    kind: TokenKind
    account: str
    name: str
    scopes: tuple[Scope, ...]
    created: float
    expires: float
    used: float | None = None
    revoked: float | None = None
    parent: str | None = None
    """The token that it was got with, and ends with."""


@dataclass(frozen=True, slots=True)
class Proven:
    """An account, and what the token that proved it allows: never more than the account's role does now."""

    account: ServerAccount
    token: TokenRow

    @property
    def scopes(self) -> frozenset[Scope]:
        """What may be done with it."""
        return frozenset(self.account.scopes) & frozenset(self.token.scopes)

    @property
    def root(self) -> str | None:
        """The token of a program that all which is got here ends with; None in a person's own session."""
        return self.token.id if self.token.kind in ("api", "worker") else self.token.parent


class AccountRows:
    """Accounts and teams of a ledger. Raises Busy, DiskFull or UserError when the ledger cannot be used."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, account: ServerAccount) -> None:
        """Write an account as it is from now on."""
        _put(self.database, tables.accounts, asdict(account))

    def get(self, name: str) -> ServerAccount | None:
        """Return an account by its name."""
        with self.database.reading() as connection:
            row = connection.execute(sa.select(tables.accounts).where(tables.accounts.c.name == name)).first()
        return ServerAccount(**row._mapping) if row else None

    def all(self) -> list[ServerAccount]:
        """Return all accounts by name."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(tables.accounts).order_by(tables.accounts.c.name)).all()
        return [ServerAccount(**row._mapping) for row in rows]

    def put_team(self, team: Team) -> None:
        """Write a team as it is from now on."""
        _put(self.database, tables.teams, asdict(team))

    def teams(self) -> list[Team]:
        """Return all teams by name."""
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(tables.teams).order_by(tables.teams.c.name)).all()
        return [Team(**row._mapping) for row in rows]


class TokenRows:
    """Tokens of a ledger. Raises what AccountRows does."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def issue(
        self, kind: TokenKind, account: str, name: str, scopes: Collection[Scope], now: float, expires: float, *,
        parent: str | None = None,
    ) -> tuple[TokenRow, str]:  # fmt: skip
        """Make a token and return its row and its text: nobody can be shown that again."""
        row = TokenRow(
            id=secrets.token_hex(6), kind=kind, account=account, name=name, scopes=tuple(s for s in SCOPES if s in scopes),
            created=now, expires=expires, parent=parent,
        )  # fmt: skip
        secret = secrets.token_urlsafe(32)
        with self.database.writing() as connection:
            values = {**asdict(row), "scopes": " ".join(row.scopes), "hash": _digest(secret)}
            connection.execute(sa.insert(tables.tokens).values(values))
        return row, f"{_PREFIX}_{row.id}_{secret}"

    def prove(self, text: str, now: float, *kinds: TokenKind) -> Proven | None:
        """Return whom a token's text proves; None for one that is of none of these kinds, expired or revoked, or whose account is off."""
        prefix, _, rest = text.partition("_")
        token_id, _, secret = rest.partition("_")
        if prefix != _PREFIX or not secret:
            return None
        at, accounts = tables.tokens.c, tables.accounts
        query = sa.select(tables.tokens).where(at.id == token_id)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
            account = connection.execute(sa.select(accounts).where(accounts.c.name == row.account)).first() if row else None
        if row is None or account is None or not hmac.compare_digest(row.hash, _digest(secret)):
            return None
        if row.kind not in kinds or account.disabled is not None or not self._holds(row, now):
            return None
        return Proven(ServerAccount(**account._mapping), _token(row))

    def _holds(self, row: sa.Row[Any], now: float) -> bool:
        """Tell whether a token, and each that it was got with, has neither expired nor been revoked."""
        above: sa.Row[Any] | None = row
        while above is not None and above.expires > now and above.revoked is None:
            if above.parent is None:
                return True
            with self.database.reading() as connection:
                above = connection.execute(sa.select(tables.tokens).where(tables.tokens.c.id == above.parent)).first()
        return False

    def take_link(self, text: str, now: float) -> Proven | None:
        """Return whom a link proves, and let it prove nobody again: of two who use it at once, one does."""
        proven = self.prove(text, now, "link")
        if proven is None or not self.revoke(proven.token.id, now):
            return None
        return proven

    def revoke(self, token_id: str, now: float, account: str | None = None) -> bool:
        """Let a token (of one account) prove nobody any more; tell whether it did until now."""
        at = tables.tokens.c
        asked = [at.id == token_id, at.revoked.is_(None), *([] if account is None else [at.account == account])]
        with self.database.writing() as connection:
            return connection.execute(sa.update(tables.tokens).where(*asked).values(revoked=now)).rowcount == 1

    def touch(self, token_id: str, now: float) -> None:
        """Write down that a token was used."""
        with self.database.writing() as connection:
            connection.execute(sa.update(tables.tokens).where(tables.tokens.c.id == token_id).values(used=now))

    def extend(self, token_id: str, expires: float) -> None:
        """Let a session that is in use go on."""
        with self.database.writing() as connection:
            connection.execute(sa.update(tables.tokens).where(tables.tokens.c.id == token_id).values(expires=expires))

    def of(self, account: str | None = None) -> list[TokenRow]:
        """Return the tokens of programs and workers, of an account or of all, newest first."""
        at = tables.tokens.c
        asked = [at.kind.in_(("api", "worker")), *([] if account is None else [at.account == account])]
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(tables.tokens).where(*asked).order_by(at.created.desc(), at.id)).all()
        return [_token(row) for row in rows]

    def sweep(self, before: float) -> None:
        """Forget tokens that have proven nobody since a moment."""
        at = tables.tokens.c
        with self.database.writing() as connection:
            connection.execute(sa.delete(tables.tokens).where((at.expires < before) | (at.revoked < before)))


def _token(row: sa.Row[Any]) -> TokenRow:
    values = dict(row._mapping)
    del values["hash"]
    return TokenRow(**{**values, "scopes": tuple(values["scopes"].split())})


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _put(database: Database, table: sa.Table, values: Mapping[str, Any]) -> None:
    with database.writing() as connection:
        insert = insert_into(table, connection.dialect.name).values(**values)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=dict(values)))
