"""How a pod of some cloud proves that it can end itself, and ends: data that its create request writes into its environment.

The watchdog knows no cloud. It reads a list of ways, the narrowest first, tries their proofs when it starts and their ends at the
lease's end. ``{NAME}`` in a URL, a body or a command stands for a variable of the pod; a pod that lacks it lacks the way. What
is written down are names of variables, never a key.

    PodEnding(
        name="Vast", own_id="CONTAINER_ID", key="CONTAINER_API_KEY",
        prove=("GET", "https://console.vast.ai/api/v0/instances/{CONTAINER_ID}/"), proof_at=("instances", "id"),
        end=("DELETE", "https://console.vast.ai/api/v0/instances/{CONTAINER_ID}/"),
    )

A cloud whose pods have no key of their own says ``ending_env(())``: the watchdog then stops the job at ``stop``, and
somebody else ends the pod.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BEARER = "Authorization: Bearer {}"
PodCall = tuple[str, str] | tuple[str, str, Mapping[str, object]] | tuple[str, ...]
"""``(method, URL)``, ``(method, URL, body)``, or ``("run", program, words...)`` for a tool that the cloud puts into its pods."""
_PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnding:
    """One way in which a pod ends itself."""

    name: str
    """As status and log call it."""
    own_id: str
    """Variable that holds the pod's id, as the cloud has set it."""
    prove: PodCall
    """Reads this very pod, and changes nothing."""
    end: PodCall
    key: str = ""
    """Variable that holds the pod's own key: never an account's."""
    header: str = BEARER
    """How the key is sent."""
    proof_at: tuple[str, ...] = ()
    """Where in the answer to ``prove`` the pod's id must stand; empty: any answer will do."""
    lease_at: tuple[str, ...] = ()
    """Where in it the label stands that says stop and end, and that the cloud changes while the pod runs; empty: nowhere."""


def ending_env(endings: Sequence[PodEnding]) -> dict[str, str]:
    """Return the variables that tell a pod how it ends itself, for its create request: for Python, for plain sh, the names of its keys."""
    env = {"TRAINYARD_ENDINGS": json.dumps([_as_data(ending) for ending in endings], separators=(",", ":"))}
    keys = dict.fromkeys(ending.key for ending in endings if ending.key)
    commands = [command for ending in endings if (command := _in_sh(ending))]
    if keys:
        env["TRAINYARD_POD_KEYS"] = " ".join(keys)
    if commands:
        env["TRAINYARD_END_COMMAND"] = "; ".join(commands)
    return env


def _as_data(ending: PodEnding) -> dict[str, object]:
    header = "" if ending.header == BEARER else ending.header
    data = {
        "id": ending.own_id, "key": ending.key, "header": header, "name": ending.name,
        "prove": list(ending.prove), "at": list(ending.proof_at), "lease": list(ending.lease_at), "end": list(ending.end),
    }  # fmt: skip
    return {name: value for name, value in data.items() if value}


def _in_sh(ending: PodEnding) -> str:
    """Return a line of sh that ends the pod where there is no Python; the key never stands in a command line, where ps would show it."""
    method, *words = ending.end
    if method == "run":
        return " ".join(map(_word, map(str, words)))
    if len(words) > 1:
        return ""  # a body: Python alone sends it
    header = ending.header.replace("{}", "%s")
    return f'printf \'header = "{header}"\\n\' "${ending.key}" | curl -fsS -K - -X {method} {_word(str(words[0]))}'


def _word(text: str) -> str:
    """Return a word of sh with the pod's variables in their places."""
    pieces = _PLACEHOLDER.split(text)
    return "".join(f'"${piece}"' if index % 2 else shlex.quote(piece) if piece else "" for index, piece in enumerate(pieces))
