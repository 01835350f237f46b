"""What a delivery after the run needs of this machine, asked before anything is rented."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from trainyard.config import resolve_secret
from trainyard.errors import UserError
from trainyard.runs.records.delivery import DeliveryTarget, target_of
from trainyard.secret import Secret

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def planned(env: Mapping[str, str], asked: str | None, setting: str | None, root: Path, base: Path | None = None) -> str | None:
    """Return where a run's result goes after it (a folder's path made absolute), None for nowhere.

    ``asked`` wins over the setting, and its paths begin at ``base`` (the working directory). Raises UserError for what is
    no place, or cannot be reached from here.
    """
    said, at = (asked, base or Path.cwd()) if asked else (setting, root)
    if not said:
        return None
    target = target_of(said, at)
    need_means(env, target)
    return str(target)


def need_means(env: Mapping[str, str], target: DeliveryTarget) -> None:
    """Raise UserError when this machine lacks what a delivery needs."""
    if target.kind != "hub":
        return
    if find_spec("huggingface_hub") is None:
        hint = "In a checkout: ./bootstrap. Elsewhere: pipx install --force 'trainyard[hub]', or the same with pip or uv."
        raise UserError("a delivery to the Hub needs the package huggingface_hub, which this Python does not have", hint=hint)
    hub_token(env)


def hub_token(env: Mapping[str, str]) -> Secret:
    """Return the token of the Hub; raises UserError when none is set."""
    name = next((name for name in _TOKENS if env.get(name)), None)
    if name is None:
        raise UserError("a delivery to the Hub needs HF_TOKEN", hint="Put HF_TOKEN=... into .env beside Pulumi.yaml; it goes to no pod.")
    return resolve_secret(env[name], env, name)
