"""Who asks, and what that allows: a token of the API, or the session of a browser, which no other site may act in."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from trainyard.ledger.accounts import Proven, Scope
from trainyard.web.guard.cookies import PLAIN, SECURE
from trainyard.web.site import Site

SESSION = 12 * 3600.0
"""Seconds for which a browser stays logged in without being used."""
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
_SAFE = ("GET", "HEAD", "OPTIONS")
_USED = 60.0
"""So exactly is written down when a token was used last."""


class NotLoggedIn(HTTPException):
    """Nobody has proven who asks."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, headers={"WWW-Authenticate": 'Bearer realm="trainyard"'})


def site_of(request: Request) -> Site:
    """Return the site that a request came to."""
    site: Site = request.app.state.site
    return site


def cookie_name(site: Site) -> str:
    """Return the name of the session's cookie."""
    return SECURE if site.secure else PLAIN


def csrf_of(request: Request) -> str:
    """Return what forms of a session's pages have to send back; "" without a session."""
    text = request.cookies.get(cookie_name(site_of(request)))
    return hashlib.sha256(f"csrf {text}".encode()).hexdigest() if text else ""


async def proven(request: Request) -> Proven:
    """Return who asks; raises NotLoggedIn, and 403 for a change that another site asks for in a browser's session."""
    site, now = site_of(request), site_of(request).now()
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    bearer = scheme.lower() == "bearer" and bool(text)
    text = text.strip() if bearer else request.cookies.get(cookie_name(site), "")
    if not text:
        raise NotLoggedIn("log in, or send a token: Authorization: Bearer ...")
    who = await _proven(site, text, bearer=bearer, now=now)
    if who is None:
        raise NotLoggedIn("this token is none, has expired, or was revoked")
    if not bearer and request.method not in _SAFE:
        await _refuse_strange_forms(request)
    request.state.account, request.state.who = who.account.name, who
    return who


async def _proven(site: Site, text: str, *, bearer: bool, now: float) -> Proven | None:
    from starlette.concurrency import run_in_threadpool

    def look() -> Proven | None:
        who = site.tokens.prove(text, now, "api", "worker") if bearer else site.tokens.prove(text, now, "session")
        if who is not None and now - (who.token.used or 0.0) > _USED:
            site.tokens.touch(who.token.id, now)
            if not bearer:
                site.tokens.extend(who.token.id, now + SESSION)
        return who

    return await run_in_threadpool(look)


def refuse_other_sites(request: Request) -> None:
    """Raise 403 for what a browser says a page of another site sends."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "this came from another site")


async def _refuse_strange_forms(request: Request) -> None:
    """Raise 403 for what a page of another site sends: it has no secret of ours, and browsers say where it stands."""
    said = request.headers.get(CSRF_HEADER)
    if said is None and request.headers.get("content-type", "").startswith(("application/x-www-form-urlencoded", "multipart/")):
        said = str((await request.form()).get(CSRF_FIELD, ""))
    refuse_other_sites(request)
    if not hmac.compare_digest((said or "").encode(), csrf_of(request).encode()):
        raise HTTPException(403, "the page is older than your session: load it again")


class Needs:
    """A dependency of a route: whoever asks must be proven, and allowed to do what a scope is for."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, who: Annotated[Proven, Depends(proven)]) -> Proven:
        """Return who asks; raises 403 where that does not allow it."""
        if self.scope not in who.scopes:
            raise HTTPException(403, f"this needs the scope '{self.scope}'; you have: {', '.join(sorted(who.scopes)) or 'none'}")
        return who


Reader = Annotated[Proven, Depends(Needs("read"))]
Runner = Annotated[Proven, Depends(Needs("run"))]
Admin = Annotated[Proven, Depends(Needs("admin"))]
TheSite = Annotated[Site, Depends(site_of)]
