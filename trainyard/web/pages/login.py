"""Log in with a link that the server has printed, or with a token of the API; log out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from trainyard.ledger.accounts import Proven
from trainyard.web.guard.principal import SESSION, Reader, TheSite, cookie_name, refuse_other_sites
from trainyard.web.pages.render import page
from trainyard.web.site import Site

router = APIRouter()


@router.get("/login", response_class=HTMLResponse)
def show_login(request: Request) -> Response:
    """Show the form; a link's token stands behind #, which no browser sends, and the page's script puts it in."""
    return page(request, "login.html", wrong=None)


@router.post("/login")
def log_in(request: Request, site: TheSite, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Begin a session in place of the browser's old one; a link is used up by it. No other site logs anybody in as somebody."""
    refuse_other_sites(request)
    who = _proven(site, token.strip())
    if who is None:
        return page(request, "login.html", wrong="This token is none, has expired, or was used before.", status=401)
    return logged_in(request, site, who)


def logged_in(request: Request, site: Site, who: Proven) -> Response:
    """Return the answer that begins a session; one that a program's token began ends with that."""
    now, old = site.now(), site.tokens.prove(request.cookies.get(cookie_name(site), ""), site.now(), "session")
    if old is not None:
        site.tokens.revoke(old.token.id, now)
    _, text = site.tokens.issue("session", who.account.name, "browser", tuple(who.scopes), now, now + SESSION, parent=who.root)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(cookie_name(site), text, httponly=True, samesite="lax", secure=site.secure, path="/")
    return answer


@router.post("/logout")
def log_out(site: TheSite, who: Reader) -> Response:
    """End the session, on the server, too."""
    site.tokens.revoke(who.token.id, site.now())
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie_name(site), httponly=True, samesite="lax", secure=site.secure, path="/")
    return answer


def _proven(site: Site, token: str) -> Proven | None:
    return site.tokens.take_link(token, site.now()) or site.tokens.prove(token, site.now(), "api")
