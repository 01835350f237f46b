"""The transport to a machine of the user's own: its sshd, as ssh_config, known_hosts and ssh-agent lead there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabric
import paramiko

from trainyard.errors import HostKeyChanged, HostKeyUnknown, KeyRefused, Unreachable, UserError
from trainyard.openssh import Link, link_through
from trainyard.remote.channel import LOST
from trainyard.remote.keyring import OwnKeys
from trainyard.remote.keys import fingerprint
from trainyard.remote.knownhosts import KnownKeys, known_keys, take_down
from trainyard.remote.ssh import SILENCE, SshTransport, new_transport
from trainyard.remote.sshconfig import SshRoute
from trainyard.sshlogin import SshLogin

Say = Callable[[str], object]


def connect_own(route: SshRoute, say: Say) -> SshTransport:
    """Log in and return the transport. ``say`` is told what a person should know of a host key.

    Raises HostKeyChanged, HostKeyUnknown, KeyRefused, Unreachable, or UserError for what the user has to mend.
    """
    known = known_keys(route.shown_in_known_hosts, route.known)
    keys = OwnKeys(route)
    link = _link(route)
    try:
        connection = fabric.Connection(
            route.host, user=route.user, port=route.port, config=fabric.Config(lazy=True), connect_timeout=round(route.timeout),
            connect_kwargs={
                "auth_strategy": keys, "banner_timeout": route.timeout, "auth_timeout": route.timeout,
                "transport_factory": functools.partial(_transport, known=known),
                **({"sock": link.socket} if link else {}),
            },
        )  # fmt: skip
        connection.client.set_missing_host_key_policy(_KnownHosts(route, known, say))
        try:
            connection.open()
        except BaseException as error:
            connection.client.close()
            translated = _why(error, route, keys, link)
            if translated is None:
                raise
            raise translated from None
        return SshTransport(connection, str(route), SILENCE, link)
    except BaseException:
        if link is not None:
            link.close()
        raise


def _link(route: SshRoute) -> Link | None:
    if route.jump:
        *before, last = route.jump.split(",")
        user, _, host = last.removeprefix("ssh://").rpartition("@")
        name, colon, port = host.rpartition(":") if host.count(":") == 1 or "]:" in host else (host, "", "")
        hop = SshLogin(
            name=name.strip("[]"), user=user or None, port=int(port) if colon else None, jump=",".join(before) or None, config=route.config
        )
        return link_through(hop, route.host, route.port)
    return Link(["/bin/sh", "-c", f"exec {route.proxy}"]) if route.proxy else None


def _transport(sock: Any, *, known: KnownKeys, **options: Any) -> paramiko.Transport:
    transport = new_transport(sock, silence=SILENCE, **options)
    security = transport.get_security_options()
    # A machine shows one of its keys: one of a type that is known of it can be told from another machine's.
    types = {key.split()[0] for key in known.keys}
    types |= {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in types else set()
    security.key_types = sorted(security.key_types, key=lambda name: name not in types)
    return transport


class _KnownHosts(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Asked by paramiko about every key that a machine shows."""

    def __init__(self, route: SshRoute, known: KnownKeys, say: Say) -> None:
        self._route, self._known, self._say = route, known, say

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
        route, known = self._route, self._known
        public = f"{key.get_name()} {key.get_base64()}"
        shown, print_ = route.shown_in_known_hosts, fingerprint(public)
        first = route.known[0] if route.known else Path("~/.ssh/known_hosts")
        if public in known.revoked:
            raise HostKeyChanged(f"{route}: shows the host key {print_}, which known_hosts call revoked")
        if public in known.keys:
            return
        if known.keys:
            hint = f"If it was set up anew, forget the old key: ssh-keygen -R '{shown}' -f {first}"
            raise HostKeyChanged(f"{route}: shows the host key {print_}, which is not the one that known_hosts tell", hint=hint)
        if not route.accept_new:
            by = " by itself (only by an authority's signature, which is not checked here)" if known.authorities else ""
            line = f"echo '{shown} {public}' >>{first}"
            hint = f"Compare it with the machine's own (ssh-keygen -lf FILE.pub there); then: {line}"
            raise HostKeyUnknown(f"{route}: shows the host key {print_}, which known_hosts do not tell{by}. {hint}")
        if str(first) != "/dev/null":
            take_down(shown, public, first, hashed=route.hashed)
            self._say(f"{route}: its new host key {print_} is written down in {first}")


def _why(error: BaseException, route: SshRoute, keys: OwnKeys, link: Link | None) -> Exception | None:
    """Return the error as ours, None for what is not about the connection."""
    if isinstance(error, paramiko.AuthenticationException):
        shown = ", ".join(keys.tried)
        hint = f"A key is put there by: ssh-copy-id {route.name}. Passwords are not asked for."
        if not shown:
            return KeyRefused(f"{route}: there is no key to log in with: none in the agent, none in {_folders(route)}. {hint}")
        return KeyRefused(f"{route}: takes none of the keys ({shown}). {hint}")
    if isinstance(error, (KeyRefused, Unreachable, UserError)):
        return None
    if isinstance(error, LOST):
        said = error.strerror if isinstance(error, OSError) else None  # paramiko numbers none of its own
        said = (link.said() if link is not None else "") or said
        return Unreachable(f"{route}: cannot be reached ({said or str(error) or type(error).__name__})")
    return None


def _folders(route: SshRoute) -> str:
    return ", ".join(dict.fromkeys(str(path.parent) for path in route.key_files)) or "ssh_config"
