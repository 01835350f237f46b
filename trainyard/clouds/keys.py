"""The keys of a cloud's account, as its row names them."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.config import secret
from trainyard.errors import UserError
from trainyard.secret import Secret
from trainyard.settings.clouds import entries


def account_keys(name: str, env: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the keys that open a cloud's account, in its row's order; raises UserError for those that are not set, by name."""
    cloud = entries()[name]
    values = [_first_set(env, (name, *(cloud.key_aliases if name == cloud.keys[0] else ()))) for name in cloud.keys]
    missing = [name for name, value in zip(cloud.keys, values, strict=True) if value is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"{', '.join(missing)} {verb} not set", hint=f"Make a key in {cloud.key_page} and put it into .env.")
    return tuple(value for value in values if value is not None)


def _first_set(env: Mapping[str, str], names: tuple[str, ...]) -> Secret | None:
    return next((value for name in names if (value := secret(env, name)) is not None), None)
