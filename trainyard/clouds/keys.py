"""The keys of a cloud's account, as its row names them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from trainyard.config import secret
from trainyard.errors import CloudRefused, UserError
from trainyard.secret import Secret
from trainyard.settings.clouds import entries

MISSING = "missing"
"""Fact of an error: the names of keys that are not set."""


def account_keys(name: str, env: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the keys that open a cloud's account, in its row's order; raises UserError for those that are not set, by name."""
    cloud = entries()[name]
    values = [_first_set(env, (name, *(cloud.key_aliases if name == cloud.keys[0] else ()))) for name in cloud.keys]
    missing = [name for name, value in zip(cloud.keys, values, strict=True) if value is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        hint = f"Make a key in {cloud.key_page}, then: invoke setup --stack {name}"
        raise UserError(f"{', '.join(missing)} {verb} not set", hint=hint, facts={MISSING: missing})
    return tuple(value for value in values if value is not None)


def refuse_key_in(body: object, key: Secret) -> None:
    """Raise CloudRefused where a create request holds the account's key: on no road does it get onto a pod."""
    if key.reveal() in json.dumps(body):
        raise CloudRefused("the create request holds the account's own key, which never goes to a pod; nothing was sent")


def _first_set(env: Mapping[str, str], names: tuple[str, ...]) -> Secret | None:
    return next((value for name in names if (value := secret(env, name)) is not None), None)
