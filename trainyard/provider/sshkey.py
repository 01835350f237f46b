"""SshKey: a stack's login key, and the seed of its pods' host keys.

Both live in the stack's state, encrypted. The key's file under ``.trainyard/ssh/<stack>/`` is a copy that may
be lost: the next up or refresh writes it again.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.files import write_atomic
from trainyard.provider import model
from trainyard.provider.call import Call, key_folder
from trainyard.provider.handler import ReadResult, ResourceDiff, ResourceHandler
from trainyard.provider.model import prop
from trainyard.provider.values import Properties, unseal
from trainyard.remote.keys import new_ssh_key, own_public_key

_FILE = "id_ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKeyInputs:
    """Inputs of an SSH key."""

    own_key_file: str | None = prop(
        "The user's own private key file; its .pub lies beside it. None: a key is made.", None, replaces=True, plain=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKeyOutputs:
    """Outputs of an SSH key."""

    public_key: str = prop("Public key line.")
    private_key: str | None = prop("Private key (OpenSSH PEM); None for the user's own key, which is never copied.", None, secret=True)
    key_file: str = prop("Path of the private key on the machine that last ran up.")
    host_key_seed: str = prop("Seed that host keys are derived from, with the pod's name.", secret=True)


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Make the pair (or take the user's), the seed, and the file."""
    typed = model.parse(SshKeyInputs, inputs)
    seed = secrets.token_hex(32)
    if typed.own_key_file:
        path = Path(typed.own_key_file).expanduser()
        public = own_public_key(path, "own_key_file (of a stack's settings: trainyard:ssh_key_file)")
        return _id(call), {"public_key": public, "private_key": None, "key_file": str(path), "host_key_seed": seed}
    private, public = new_ssh_key(f"trainyard {call.stack}")
    path = _write(call, private)
    return _id(call), {"public_key": public, "private_key": private, "key_file": str(path), "host_key_seed": seed}


def diff(call: Call, outputs: Properties, olds: Properties, news: Properties, plain: ResourceDiff) -> ResourceDiff:
    """A lost or foreign file is a change: Update writes it again."""
    if plain.changes or unseal(outputs.get("private_key")) is None:
        return plain
    return plain if _file_is_right(call, outputs) else ResourceDiff({"key_file": "update"})


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Return what is in state, and write the file again when it is lost."""
    if not id:
        return ReadResult("", {}, inputs)
    if not outputs:
        raise UserError("an SshKey cannot be imported; give the file of your own key as 'own_key_file'")
    return ReadResult(id, _restored(call, outputs), inputs)


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Write the file again."""
    return outputs if call.preview else _restored(call, outputs)


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Remove our copy of a key that we made; the user's own key is left alone."""
    if unseal(outputs.get("private_key")) is None:
        return
    folder = key_folder(call.world.places, call.stack)
    (folder / _FILE).unlink(missing_ok=True)
    with suppress(OSError):  # something else may lie there (known_hosts); it is not ours to remove
        folder.rmdir()


def _restored(call: Call, outputs: Properties) -> Properties:
    private = unseal(outputs.get("private_key"))
    if not isinstance(private, str):
        return outputs
    path = key_folder(call.world.places, call.stack) / _FILE
    if not _file_is_right(call, outputs):
        path = _write(call, private)
        call.world.info(f"wrote {path} again from the stack's state")
    return {**outputs, "key_file": str(path)}


def _file_is_right(call: Call, outputs: Properties) -> bool:
    path = key_folder(call.world.places, call.stack) / _FILE
    try:
        return str(path) == outputs.get("key_file") and path.read_text(encoding="utf-8") == unseal(outputs.get("private_key"))
    except FileNotFoundError:
        return False


def _write(call: Call, private: str) -> Path:
    folder = key_folder(call.world.places, call.stack)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / _FILE
    write_atomic(path, private, durable=False, mode=0o600)  # the state has it, too
    return path


def _id(call: Call) -> str:
    return f"{call.stack}/{call.name}"


SSH_KEY = ResourceHandler(
    token="trainyard:index:SshKey",
    doc="The login key of a stack and the seed of its pods' host keys; kept in state, encrypted.",
    inputs=SshKeyInputs,
    outputs=SshKeyOutputs,
    create=create,
    read=read,
    update=update,
    delete=delete,
    diff=diff,
)
