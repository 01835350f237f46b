"""The server's process: where it listens, who may reach it there, and the link that it prints."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from trainyard.errors import UserError
from trainyard.ledger.accounts import LOCAL, SCOPES, ServerAccount
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs.accounts import LINK
from trainyard.runs.verbs.unit import unit_of
from trainyard.settings.user import user_name
from trainyard.web.application import create_application
from trainyard.web.guard.hosts import is_loopback
from trainyard.web.guard.requestlog import set_up_logging
from trainyard.web.schedule.keeper import ScheduleKeeper
from trainyard.web.site import Site

_GRACE = 3
"""Seconds that open requests get when the server ends; streams are taken up again by who follows them."""
_SERVICE = (
    "TimeoutStopSec=30", "LimitNOFILE=65536", "UMask=0077", "NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
)  # fmt: skip
"""How it runs as a unit: many pages are open at once, and nothing gets rights of others. More would take pods their namespaces."""
_SWITCH = 0.0005
"""Seconds for which a page that is being made may keep the event loop, and so everybody else, waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where it listens. ``behind_proxy``: the address of the proxy whose word on TLS and on who asks counts."""

    host: str = "127.0.0.1"
    port: int = 8420
    certificate: Path | None = None
    key: Path | None = None
    behind_proxy: str | None = None
    schedule: bool = True
    """It does its part of what is done by schedule."""
    link: bool = True
    """It prints what logs an admin in."""


def serve(context: CommandContext, options: ServerOptions, say: Callable[[str], None]) -> None:
    """Serve until a signal; raises UserError where it must not, or cannot, listen as it is asked to."""
    secure = _check(options)
    site = Site(context, secure=secure)
    listening = _bound(options.host, options.port)
    try:
        port = listening.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"{'https' if options.certificate else 'http'}://{host}:{port}"
        admin = _first_admin(site)
        link = _link_of(site, admin) if options.link else ""
        say(f"{url}/login#{link}" if link else url)
        logs_in = f"The link logs an admin in, once, within {LINK / 60:.0f} minutes." if link else "Who logs in: invoke serve.link"
        say(f"{logs_in}\nCtrl-C ends the server, no run.")
        set_up_logging()
        sys.setswitchinterval(_SWITCH)
        app = create_application(site, ScheduleKeeper(site) if options.schedule else None)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE,
            proxy_headers=options.behind_proxy is not None, forwarded_allow_ips=options.behind_proxy,
            ssl_certfile=options.certificate, ssl_keyfile=options.key, lifespan="on", ws_per_message_deflate=False,
        )  # fmt: skip
        uvicorn.Server(config).run([listening])
    finally:
        listening.close()


def serve_unit(context: CommandContext, options: ServerOptions) -> str:
    """Return a systemd unit that serves so; raises UserError for what it would refuse."""
    _check(options)
    said = {
        "host": options.host, "port": options.port, "certificate": options.certificate and options.certificate.resolve(),
        "certificate-key": options.key and options.key.resolve(), "behind-proxy": options.behind_proxy,
    }  # fmt: skip
    words = ["serve", *(f"--{name}={value}" for name, value in said.items() if value is not None), "--no-link"]
    words += [] if options.schedule else ["--no-schedule"]
    return unit_of(context.places.root, context.env, "serve", "the server of {}", words, _SERVICE)


def _first_admin(site: Site) -> str:
    """Return the account of whoever has started the server: they may do here what they may at their command line, all of it."""
    name = user_name(site.context.env)
    account = site.accounts.get(name)
    if account is None:
        site.accounts.put(ServerAccount(name=name, role="admin", origin=LOCAL, created=site.now()))
    elif account.role != "admin" or account.disabled is not None:
        raise UserError(
            f"account '{name}' is no admin of this ledger any more", hint="Start the server as one who is: TRAINYARD_USER=NAME invoke serve"
        )
    return name


def _link_of(site: Site, admin: str) -> str:
    return site.tokens.issue("link", admin, "printed at start", SCOPES, site.now(), site.now() + LINK)[1]


def _check(options: ServerOptions) -> bool:
    """Tell whether browsers come by TLS; raises UserError where tokens would go over a network as clear text."""
    if (options.certificate is None) != (options.key is None):
        raise UserError("--certificate and --certificate-key belong together")
    if options.certificate and options.key:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(options.certificate, options.key)
        except (OSError, ssl.SSLError) as error:
            raise UserError(f"{options.certificate} with {options.key}: {error}") from None
        return True
    if options.behind_proxy is not None:
        return True
    if not is_loopback(options.host):
        raise UserError(
            f"--host {options.host}: without TLS tokens would go over the network as clear text",
            hint="Give --certificate FILE --certificate-key FILE, or --behind-proxy ADDRESS of a proxy that ends TLS.",
        )
    return False


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)  # who follows the link at once waits, and is not refused
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror or error}", hint="Another port: invoke serve --port 8421") from None
    return listening
