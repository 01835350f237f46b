"""Tell those whom a stack's ``notify`` names, from wherever a run or the account is looked after.

Announcing writes one small file and starts a process that sends: no run waits for a mail server, and none fails for it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from trainyard.config import secret
from trainyard.errors import TrainyardError, in_short
from trainyard.phrasing import as_typed
from trainyard.processes import start_apart
from trainyard.runs.context import CommandContext
from trainyard.runs.notices.addresses import names_of
from trainyard.runs.notices.notice import Notice
from trainyard.runs.notices.outbox import Outbox
from trainyard.runs.notices.sender import send
from trainyard.runs.notices.webhook import KEY
from trainyard.secret import Secret, hide

_YOUNG = 60.0
"""Seconds in which a notice's first sender is still at work."""


def announce(context: CommandContext, notice: Notice) -> None:
    """Send a notice soon to those whom its stack's settings name; trouble with it is said and changes nothing else."""
    try:
        names = names_of(context.places.root, [notice.stack])
        if names:
            outbox_of(context).put(_clean(notice), names)
            _start_sender(context)
    except (OSError, TrainyardError) as error:
        why = in_short(error)
        context.ui.warn(f"nobody is told '{notice.title}': {why}")


def try_again(context: CommandContext, now: float) -> None:
    """At the end of a verb: say once what could not be sent, and let it be tried again."""
    outbox = outbox_of(context)
    if outbox.is_empty():
        return
    waiting = outbox.waiting()
    for queued in waiting:
        if queued.problems and outbox.first_told(queued):
            why = "; ".join(f"{name}: {problem}" for name, problem in queued.problems.items())
            context.ui.warn(f"the notice '{queued.notice.title}' could not be sent ({why}); it is tried again at the end of each command")
    if any(queued.tries or now - queued.notice.time > _YOUNG for queued in waiting):
        _start_sender(context)


def try_out(context: CommandContext, stack: str) -> dict[str, str | None]:
    """Send a notice to each address of a stack now; return by name why it could not be sent, None where it was."""
    notice = Notice(kind="test", title="Trainyard: a test", text=f"Notices of stack '{stack}' arrive here.", stack=stack)
    names = names_of(context.places.root, [stack])
    addresses = _addresses(context, names)
    key = secret(context.env, KEY)
    return {name: send(addresses[name], notice, key) if name in addresses else f"{name} is not set" for name in names}


def outbox_of(context: CommandContext) -> Outbox:
    """Return what waits to be sent from here."""
    return Outbox(context.places.notices)


def _clean(notice: Notice) -> Notice:
    """Return a notice without any secret, its commands as this person types them."""
    return replace(notice, title=hide(notice.title), text=hide(as_typed(notice.text)))


def _addresses(context: CommandContext, names: Sequence[str]) -> dict[str, Secret]:
    each = {name: secret(context.env, name) for name in names}
    return {name: address for name, address in each.items() if address is not None}


def _start_sender(context: CommandContext) -> None:
    """Start the process that sends, which nobody waits for: it outlives this one, and no zombie of it is left."""
    names = [name for queued in outbox_of(context).waiting() for name in queued.pending]
    key = secret(context.env, KEY)
    addressed = {
        "addresses": {name: address.reveal() for name, address in _addresses(context, names).items()},
        "key": key.reveal() if key else None,
    }
    words = [sys.executable, "-m", __package__, str(context.places.notices)]
    with contextlib.suppress(BrokenPipeError), start_apart(words, cwd=context.places.root) as handed:
        handed.write(json.dumps(addressed).encode())
