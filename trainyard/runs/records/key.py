"""The private SSH key of a run's pod."""

from __future__ import annotations

from pathlib import Path

from trainyard.errors import EngineError, UserError
from trainyard.files import is_gone, write_atomic
from trainyard.remote.keys import is_private_key
from trainyard.runs.context import CommandContext
from trainyard.runs.records.environment import EnvironmentOutputs
from trainyard.runs.records.record import RunRecord
from trainyard.stacks import facade
from trainyard.stacks.model import Stack


def key_file(context: CommandContext, record: RunRecord) -> Path:
    """Return where the key lies, or should."""
    return Path(record.pod.ssh_key_file or context.places.ssh / record.environment / "id_ed25519")


def private_key(context: CommandContext, record: RunRecord) -> Path:
    """Return the file of the key; our own is written again from the environment's state when it is lost or damaged.

    Raises EngineError when neither holds it.
    """
    path = key_file(context, record)
    if _is_whole(path) or (path.is_file() and context.places.ssh not in path.parents):
        return path  # what is wrong with a person's own key, whoever connects with it says
    # The state is all that is asked for: the settings of the environment may be broken or gone by now.
    config = record.id.folder(context.places.runs) / "config.yaml"
    pem = facade.outputs(Stack(record.environment, context.places, context.env, config)).get("ssh_private_key")
    if not pem:
        raise EngineError(
            f"the private key {path} is {'gone' if is_gone(path) else 'damaged'} and the state of '{record.environment}' does not hold it",
            hint="Put a copy of it there: without it nobody reaches the pod.",
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, str(pem), durable=False, mode=0o600)
    return path


def make_whole(context: CommandContext, outputs: EnvironmentOutputs) -> None:
    """See to it, before anything is rented, that an environment's key lies where its outputs say; raises UserError."""
    path, pem = Path(outputs.ssh_key_file), outputs.ssh_private_key
    if _is_whole(path):
        return
    if not pem or context.places.ssh not in path.parents:
        what = "gone" if is_gone(path) else "no private key, or damaged"
        raise UserError(f"the SSH key {path} is {what}; nothing was rented", hint="Put a copy of it there.")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, pem, durable=False, mode=0o600)


def _is_whole(path: Path) -> bool:
    try:
        return is_private_key(path.read_bytes())
    except OSError:
        return False
