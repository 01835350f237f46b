"""The way out of this machine: proxies and certificates as the environment names them, and loopback past all of them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from trainyard.errors import UserError

if TYPE_CHECKING:
    import ssl

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXIES = tuple(
    name for scheme in ("http", "https", "all", "no", "grpc", "no_grpc") for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
)
"""Variables that name proxies, and hosts that need none."""


def proxy_for(url: str, env: Mapping[str, str]) -> str | None:
    """Return the proxy through which an address is asked, None for none; raises UserError, without its address, for one of no use."""
    parts, direct = urlsplit(url), [host.strip("[]").lstrip(".").lower() for host in direct_hosts(env)]
    host = parts.hostname or ""
    if any(host == name or host.endswith(f".{name}") or name == "*" for name in direct):
        return None
    names = [name for scheme in (parts.scheme, "all") for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")]
    return next((_checked(name, env[name].strip()) for name in names if env.get(name)), None)


def direct_hosts(env: Mapping[str, str]) -> list[str]:
    """Return the hosts that are reached without a proxy, this machine first; ``*`` means all."""
    named = f"{env.get('no_proxy', '')},{env.get('NO_PROXY', '')}".split(",")
    return list(dict.fromkeys([*LOOPBACK, *(host.strip() for host in named if host.strip())]))


def loopback_direct(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep every client, gRPC's and Go's too, from asking a proxy for this machine; {} where none is set."""
    if not any(env.get(name) for name in PROXIES if not name.lower().startswith("no_")):
        return {}
    hosts = ",".join(direct_hosts(env))
    names = ["no_proxy", "NO_PROXY"] + [name for name in ("no_grpc_proxy",) if env.get(name)]
    return dict.fromkeys(names, hosts)


def apply(to: MutableMapping[str, str] = os.environ) -> None:
    """See to it that libraries reach this machine without a proxy."""
    to.update(loopback_direct(to))


def trust(env: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the certificates that SSL_CERT_FILE names, None when it is not set; raises UserError when it holds none."""
    import ssl  # a twentieth of a second that most commands need not pay

    path = env.get("SSL_CERT_FILE")
    if not path:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        why = "holds no certificates" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise UserError(f"SSL_CERT_FILE: {path} {why}", hint="Correct the variable, or unset it.") from None


def web_address(name: str, value: str) -> SplitResult:
    """Return the parts of an http(s) address; raises UserError, which shows no password, for what is none or holds one."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and value.isascii() and value.isprintable() and parts.port != 0
    except ValueError:
        good = False
    if not good:
        shown = re.sub(r"(?<=//)[^/]*@", "***@", value)
        raise UserError(f"{name}: {shown!r} is no http address: it looks like https://host")
    if parts.username is not None:
        raise UserError(f"{name}: leave out the name and the password before '@'", hint="Keys are given by their own variables.")
    return parts


def _checked(name: str, value: str) -> str:
    address = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(address)
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or not address.isascii() or not address.isprintable() or " " in address:
        # The address is not shown: it may hold a password.
        raise UserError(f"{name}: what it holds is no address of a proxy", hint="It looks like http://host:port.")
    if parts.scheme not in ("http", "https"):
        hint = "Name an http:// proxy by HTTPS_PROXY, or unset it (`env -u`) for this command."
        raise UserError(f"{name}: a proxy of kind '{parts.scheme}' is not supported", hint=hint)
    return address


def free_port() -> int:
    """Return a TCP port of loopback that nobody has now."""
    with socket.socket() as free:
        free.bind((LOOPBACK[0], 0))
        return int(free.getsockname()[1])
