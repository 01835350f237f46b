"""What is asked of Modal as a program for `modal run`: constants that a person may edit, and the lines that use them. Needs no SDK."""

from __future__ import annotations

from trainyard.clouds.modal.request import SandboxRequest
from trainyard.clouds.rendering import PROGRAM

APP = "trainyard"
"""The App that holds all our sandboxes; a name is unique in it."""
_LINES = '''
# What Trainyard asks of Modal. `invoke train --from THIS_FILE`, on the stack that it was rendered of, fills in what only a run knows,
# ${...}, and keeps the run's promises. Run alone (`modal run THIS_FILE`), the program takes it from variables of these names and says
# which are missing.
import os
import re

import modal

app = modal.App(APP)


def known(value):
    """Return a value with the variables in it."""
    if isinstance(value, dict):
        return {name: known(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [known(one) for one in value]
    return re.sub(r"[$][{](TRAINYARD_[A-Z0-9_]+)[}]", lambda found: needed(found[1]), value) if isinstance(value, str) else value


def needed(name):
    if name not in os.environ:
        raise SystemExit(f"{name} is not set: only a run of Trainyard knows it. To train: invoke train --from {__file__} --stack modal")
    return os.environ[name]


@app.local_entrypoint()
def main():
    image = modal.Image.from_registry(known(IMAGE), secret=modal.Secret.from_dict(known(LOGIN)) if LOGIN else None)
    sandbox = modal.Sandbox.create(
        *known(COMMAND),
        app=modal.App.lookup(APP, create_if_missing=True),
        name=known(NAME),
        tags=known(TAGS),
        image=image,
        env=known(ENV),
        secrets=[modal.Secret.from_dict(known(SECRET_ENV))] if SECRET_ENV else [],
        timeout=int(known(TIMEOUT)),
        gpu=f"{GPU}:{GPU_COUNT}",
        cpu=tuple(CPU),
        memory=MEMORY,
    )
    print(sandbox.object_id)
'''


def app_of(asked: SandboxRequest) -> dict[str, object]:
    """Return the fields of the program, and its lines."""
    gpu, _, count = asked.gpu.rpartition(":")
    return {
        "IMAGE": asked.image, "GPU": gpu, "GPU_COUNT": int(count), "CPU": list(asked.cpu), "MEMORY": asked.memory, "TIMEOUT": asked.timeout,
        "ENV": dict(asked.env), "SECRET_ENV": dict(asked.secret_env), "LOGIN": dict(asked.login) if asked.login else None,
        "NAME": asked.name, "TAGS": dict(asked.tags), "COMMAND": list(asked.command), "APP": APP, PROGRAM: _LINES,
    }  # fmt: skip
