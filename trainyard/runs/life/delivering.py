"""Start the delivery of a result when its run is over: the same `invoke deliver`, in a process of its own that outlives the terminal.

Nothing is billed by then, and nothing of the run changes whatever becomes of it.
"""

from __future__ import annotations

import subprocess
import sys

from trainyard.config import PROJECT
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.delivery import log_of, now_state, read_state, target_of, write_state
from trainyard.runs.records.record import RunFolder, RunRecord


def begin(context: CommandContext, record: RunRecord, folder: RunFolder) -> bool:
    """Start the delivery that the run was told of, once, and tell whether it was started.

    What keeps it from being started is told with the command that does it.
    """
    if record.deliver is None or record.result is None or read_state(folder) is not None:
        return False
    name = f"{record.id}/{record.attempt}"
    try:
        target = target_of(record.deliver, context.places.root)
        if target.kind == "hub" and not record.training_success:
            context.ui.say(f"deliver    not to {target}: the training was no success")
            return False
        write_state(folder, now_state(target, "begun"))
        with log_of(folder).open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", PROJECT, "deliver", name], cwd=context.places.root, env=context.env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
    except (OSError, UserError) as error:
        context.ui.warn(f"the delivery to {record.deliver} was not started: {error}\nDo it with: invoke deliver {name}")
        return False
    context.ui.say(f"deliver    to {target}, in the background; its log: {log_of(folder)}")
    return True
