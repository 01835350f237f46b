"""The login of a registry with private images, for clouds that take it in the create request: ``-u NAME -p TOKEN HOST``.

It is what `docker login` takes, too. The token should be able to pull and nothing else: whoever can look into the cloud's account
may read it. It is a setting (`registry`), and belongs there encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.errors import UserError
from trainyard.secret import Secret
from trainyard.settings.setting import REGISTRY_LOGIN


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Who pulls, with what, from where."""

    user: str
    token: Secret
    host: str


def registry_login(setting: str, cloud: str) -> RegistryLogin:
    """Return what the setting `registry` says; raises UserError, which shows nothing of it, for what is no login."""
    match = REGISTRY_LOGIN.fullmatch(setting.strip())
    if match is None:
        hint = "As in '-u NAME -p TOKEN ghcr.io', with a token that can only pull; say it as 'secure:'."
        raise UserError(f"'registry' is no login of a registry as {cloud} takes it", hint=hint)
    return RegistryLogin(match[1], Secret(match[2]), match[3])
