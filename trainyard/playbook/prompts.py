"""Ask a person for the variables of ``vars_prompt``, before anything begins, each once."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Mapping, Sequence

from trainyard.errors import UserError
from trainyard.playbook.model import Play, VarsPrompt

Read = Callable[[str, bool], str]
"""Shows a text and returns the line that was typed; with true nobody sees what is typed."""


def ask(plays: Sequence[Play], extra: Mapping[str, object], read: Read | None = None) -> dict[str, str]:
    """Return the answers by the variables' names; what the command line says is not asked for.

    Raises UserError where there is no terminal to ask at, and no default.
    """
    answers: dict[str, str] = {}
    for play in plays:
        for prompt in play.prompts:
            if prompt.name not in extra and prompt.name not in answers:
                default = None if prompt.default is None else str(prompt.default.render({**play.vars, **extra, **answers}))
                answers[prompt.name] = _answer(prompt, default, read or _typed)
    return answers


def _answer(prompt: VarsPrompt, default: str | None, read: Read) -> str:
    if read is _typed and not sys.stdin.isatty():
        if default is not None:
            return default
        raise UserError(
            f"'{prompt.name}' is asked for, and there is no terminal", where=prompt.where, hint=f"Say it: -e {prompt.name}=VALUE."
        )
    shown = prompt.text if default is None or prompt.private else f"{prompt.text} [{default}]"
    while True:
        try:
            answer = read(f"{shown}: ", prompt.private) or default or ""
            if not prompt.confirm or answer == (read(f"confirm {shown}: ", prompt.private) or default or ""):
                return answer
        except EOFError:
            raise UserError(f"'{prompt.name}' was not answered", where=prompt.where, hint=f"Say it: -e {prompt.name}=VALUE.") from None
        shown = f"{prompt.text} (the two differ, once more)"


def _typed(text: str, private: bool) -> str:
    return getpass.getpass(text) if private else input(text)
