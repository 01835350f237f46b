"""The first word of a person's command: a program that is not there is told before anything is rented or built."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Sequence

from trainyard.errors import UserError
from trainyard.nearest import nearest

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where every pod looks, too; not every person does."""
_COMMON = ("python", "python3", "bash", "torchrun", "accelerate", "deepspeed")
"""What most commands begin with; every image and every project's packages may have others."""


def check_program(words: Sequence[str], path: str, *, certain: bool) -> None:
    """Raise UserError for a command whose program is not on ``path``, where nothing else can bring it (``certain``) or it looks mistyped.

    Paths are not judged here, nor what stands behind ``env``: a person who writes that means it.
    """
    assignments = list(itertools.takewhile(_ASSIGNMENT.match, words))
    program = next(iter(words[len(assignments) :]), "")
    own_path = any(one.startswith("PATH=") for one in assignments)
    # Where there is only a python3, the pod is given a python.
    if not program or "/" in program or own_path or program == "python" or shutil.which(program, path=f"{path}:{_SYSTEM}"):
        return
    meant = [name for name in nearest(program, _COMMON, 1, 0.8) if name[0] == program[0] and program not in _COMMON]
    if not certain and not meant:
        return
    suggestion = f" (did you mean '{meant[0]}'?)" if meant else ""
    raise UserError(
        f"the command runs {program}, which is not on PATH{suggestion}",
        hint=f"Nothing was rented. Where the pod has it all the same: env {program} ...",
    )
