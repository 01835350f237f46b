"""What leaves this machine with a run: the user's own files, and the variables that the settings name for the job.

Files are listed with their sizes, data are looked through for keys, and then a person is asked, as the settings say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.protocol import Cloud
from trainyard.config import secret
from trainyard.errors import RefusedError, UserError
from trainyard.pod.files import printable
from trainyard.recipes.code import Code
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import Data
from trainyard.recipes.secretfiles import SecretPlace, secret_in, secrets_among
from trainyard.recipes.summaries import Values
from trainyard.recipes.variables import FILES
from trainyard.runs.ui import Listener
from trainyard.secret import Secret
from trainyard.settings.table import StackSettings
from trainyard.sizes import human_size

_LOOKED = 128_000_000
"""Bytes of a run's data that are looked through for keys: 4 s at most."""
_GROUPS, _PLACES, _NAME = 8, 8, 48


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """One file: its name among its kind, its bytes, and where it lies (None: nobody looks into it any more)."""

    name: str
    bytes: int
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The files of one kind (``data``, ``code``, a recipe's variable) that leave this machine with a run."""

    what: str
    files: tuple[OutgoingFile, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    def describe(self) -> str:
        """Return how much it is, in few words."""
        return f"{self.what} ({_count(self.files)}, {human_size(self.bytes)})"

    def lines(self) -> Iterator[str]:
        """Yield the list that a person reads: grouped by folder, biggest first, each line within 80 columns."""
        if len(self.files) == 1:
            yield f"leaves     {self.what}: {_short(self.files[0].name)}, {human_size(self.bytes)}"
            return
        yield f"leaves     {self.what}: {_count(self.files)}, {human_size(self.bytes)}"
        groups = sorted(_grouped(self.files), key=lambda group: (-group[1], group[0]))
        shown = groups if len(groups) <= _GROUPS else groups[: _GROUPS - 1]
        for name, size, count in shown:
            yield f"           {human_size(size):>9}  {_short(name)}" + (f" ({count:,} files)" if name.endswith("/") else "")
        if rest := groups[len(shown) :]:
            yield f"           {human_size(sum(size for _, size, _ in rest)):>9}  {sum(count for *_, count in rest):,} more files"


def outgoing(asked: str | None, data: Data, recipe: Recipe, values: Values, code: Code | None = None) -> tuple[Outgoing, ...]:
    """Return the user's own files that a run sends; what a recipe ships (nothing was asked for) is none."""
    kinds = []
    if asked is not None and data.kind in ("file", "folder"):
        here = None if data.stored else Path
        kinds.append(Outgoing("data", tuple(OutgoingFile(f.dest, f.bytes, here(f.src) if here else None) for f in data.files)))
    for variable in recipe.variables:
        if variable.kind in FILES and (value := values.get(variable.name)):
            path = Path(str(value))
            kinds.append(Outgoing(variable.name, (OutgoingFile(path.name, path.stat().st_size if path.is_file() else 0, path),)))
    if code is not None:  # every file of it was looked into, and what holds a key stays
        kinds.append(Outgoing("code", tuple(OutgoingFile(file.name, file.size) for file in code.files)))
    return tuple(kinds)


def ask(
    ui: Listener, stack: str, cloud: Cloud, consent: str, going: Sequence[Outgoing], *, yes: bool, by_bucket: bool = False,
    among: Sequence[str] = (),
) -> None:  # fmt: skip
    """List what leaves this machine, and let it leave only as the settings say; raises RefusedError before anything is rented.

    ``by_bucket``: the files lie in the stack's bucket, too, if it has one, for who goes on with the run. ``among``: the stacks of which
    one is chosen later.
    """
    if cloud.name == "local" or cloud.simulated:
        return  # its pods are on this machine
    if consent == "never":
        raise RefusedError(
            f"upload_consent is 'never', and the pods of stack '{stack}' are on other machines; nothing was sent",
            hint="Train on this machine (--stack local), or change trainyard:upload_consent in the stack's settings.",
        )
    if not going:
        return
    for line in (line for kind in going for line in kind.lines()):
        ui.say(line)
    suspects = _tell_of_keys(ui, going)
    if consent == "always" or yes:
        return
    what = " and ".join(kind.describe() for kind in going)
    where = f"{cloud.name} and the bucket of stack '{stack}'" if by_bucket else cloud.name
    where = f"the stack that is cheapest when it begins (of {', '.join(among)}) and its bucket" if among else where
    if not ui.agreed(f"Send {what}{', with what looks like keys in it,' if suspects else ''} to {where}? [y/N] "):
        raise RefusedError(
            f"nobody has agreed that {what} may be sent to {cloud.name}; nothing was sent, nothing was rented",
            hint="Say --yes, or set 'trainyard:upload_consent: always' in the stack's settings.",
        )


def _tell_of_keys(ui: Listener, going: Iterable[Outgoing]) -> int:
    """Warn of what looks like keys of services in files that go as they are, by file and line; return how many places there are."""
    places: list[tuple[str, SecretPlace]] = []
    left, whole, looked = _LOOKED, 0, 0
    for file in (file for kind in going for file in kind.files if file.source is not None):
        whole += file.bytes
        try:
            seen, size = secrets_among(file.source, left) if left > 0 and file.source else ([], 0)
        except OSError:
            continue  # whoever sends it says what is wrong with it
        left, looked = left - size, looked + size
        places += [(printable(file.name), place) for place in seen]
    for name, place in places[:_PLACES]:
        ui.warn(f"{name}:{place.line} holds {place.kind}")
    if len(places) > _PLACES:
        ui.warn(f"{len(places) - _PLACES:,} more places look like keys")
    if looked < whole:
        ui.say(f"           looked through for keys: {human_size(looked)} (not packed files, nor beyond 128 MB)")
    return len(places)


def _grouped(files: Sequence[OutgoingFile]) -> list[tuple[str, int, int]]:
    """Return (name, bytes, files) of each folder at the top, and of each file beside them."""
    groups: dict[str, tuple[int, int]] = {}
    for file in files:
        top, slash, _ = file.name.partition("/")
        size, count = groups.get(top + slash, (0, 0))
        groups[top + slash] = (size + file.bytes, count + 1)
    return [(name, size, count) for name, (size, count) in groups.items()]


def _count(files: Sequence[OutgoingFile]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files):,} files"


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= _NAME else f"{shown[: _NAME // 2 - 2]}...{shown[1 - _NAME // 2 :]}"


def pod_secrets(settings: StackSettings, env: Mapping[str, str]) -> list[str]:
    """Return the variables that the job gets; raises UserError for one that is not set. What may not be sent no settings name."""
    names = list(dict.fromkeys(settings.pod_secrets))
    secret_values(names, env)
    return names


def keys_in(values: Values) -> list[str]:
    """Return what is to be said of keys in a run's own values, by name and kind, never with the key: the record keeps values."""
    texts = ((name, json.dumps(value, default=str)) for name, value in values.items())
    return [
        f"{name} holds {sign[0]}: it stays in the run's record, its bundle and the bucket (a variable that pod_secrets names does not)"
        for name, text in texts
        if (sign := secret_in(text.encode()))
    ]


def secret_values(names: Sequence[str], env: Mapping[str, str]) -> dict[str, Secret]:
    """Return the values for the job's environment, references followed; raises UserError, by name, for one that is not set."""
    values = {}
    for name in names:
        value = secret(env, name)
        if value is None:
            raise UserError(f"pod_secrets: {name} is not set", hint="Put it into .env or export it; or take it out of the settings.")
        values[name] = value
    return values
