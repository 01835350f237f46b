"""What keeps notices from being sent, as far as it can be told before one is: said while somebody still looks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard.config import secret
from trainyard.errors import UserError
from trainyard.runs.notices.addresses import names_of
from trainyard.runs.notices.webhook import KEY, SCHEMES


def lacks(root: Path, env: Mapping[str, str], stack: str) -> Iterator[str]:
    """Yield what is missing for the addresses that a stack's ``notify`` names; raises UserError for a setting that is wrong."""
    for name in names_of(root, [stack]):
        try:
            address = secret(env, name)
        except UserError as error:
            yield error.message
            continue
        if address is None:
            yield f"{name} is not set"
        elif not address.reveal().startswith(SCHEMES):
            if importlib.util.find_spec("apprise") is None:
                yield f"{name} needs Apprise: pip install 'trainyard[notices]'"
        elif not env.get(KEY):
            yield f"{KEY} is not set, which signs what {name} gets"
