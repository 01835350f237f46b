"""Who starts runs: what stands first in each run's name and in each key of its results."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping

from trainyard.config import ACCOUNT, git, slug
from trainyard.errors import UserError
from trainyard.reading import read
from trainyard.settings.table import SETTINGS

_HINT = "Say who you are: TRAINYARD_USER=name, or trainyard:user in the stack's settings."


def user_name(env: Mapping[str, str], setting: str | None = None) -> str:
    """Return who starts runs: a server's account, else the setting, TRAINYARD_USER, the login, for root the local part of git's user.email.

    Raises UserError for a name that was chosen and that a key cannot hold, and for a login without letter or digit.
    """
    name = env.get(ACCOUNT) or setting or env.get("TRAINYARD_USER")
    try:
        if name:
            return slug(str(read(SETTINGS["user"].shape, name, "TRAINYARD_USER")))
        name = _login()
        if name == "root":
            name = git("config", "user.email").partition("@")[0] or name
        return slug(name)
    except UserError as error:
        raise UserError(error.message, hint=_HINT) from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container runs as a number that has no name
        return f"uid{os.getuid()}"
