"""A verb that goes on for ever as a unit of systemd's."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard.envfile import read_env_file
from trainyard.settings.variables import SETTABLE, groups


def unit_of(
    root: Path, env: Mapping[str, str], name: str, description: str, words: Sequence[str], service: Sequence[str] = ()
) -> str:  # fmt: skip
    """Return a systemd unit that runs a verb in a checkout; ``{}`` in its description is the checkout, ``service`` more of how it runs.

    It names the variables of ``env`` that it will not have, as only this shell has them: never their values.
    """
    here = {name for group in groups(*SETTABLE, "token") for name in group.names() if env.get(name)}
    missing = sorted(here - {*read_env_file(root / ".env")})
    lost = f"# Set in your shell, not in .env, so unknown to this unit: {', '.join(missing)}\n" if missing else ""
    line = " ".join(_quoted(word) for word in (sys.executable, "-m", "trainyard", *words))
    more = "".join(f"{each}\n" for each in service)
    return f"""# ~/.config/systemd/user/trainyard-{name}.service
# systemctl --user daemon-reload && systemctl --user enable --now trainyard-{name}; loginctl enable-linger
{lost}[Unit]
Description=Trainyard: {_specifiers(description.format(root))}
Wants=network-online.target
After=network-online.target

[Service]
WorkingDirectory={_specifiers(str(root))}
ExecStart={line}
Restart=always
RestartSec=30
# Pods of the stack local are processes of this machine: they outlive it as rented ones do.
KillMode=process
{more}
[Install]
WantedBy=default.target
"""


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word of ExecStart as systemd reads it back."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if set(plain) & set(" \t'\"\\;") else plain
