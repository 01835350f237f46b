"""Send what waits: by Apprise to mail, chats and the like, by a signed request to a webhook."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

from trainyard.clock import REAL, Clock
from trainyard.retries import Backoff
from trainyard.runs.notices import webhook
from trainyard.runs.notices.notice import Notice
from trainyard.runs.notices.outbox import Outbox, QueuedNotice
from trainyard.runs.notices.problem import SendProblem
from trainyard.secret import Secret

_TRIES = 3
_PAUSES = Backoff(1.0, 10.0, factor=4.0)
_DAYS = 3
"""A notice that nobody could be given for so long says nothing any more."""
_BAD = ("failure", "leak")
_WORRYING = ("budget",)


def send_waiting(outbox: Outbox, addresses: Mapping[str, Secret], key: Secret | None, *, clock: Clock = REAL) -> None:
    """Send all that waits, once each, also what comes in meanwhile; what cannot be sent goes on waiting, and is dropped after 3 days.

    ``addresses`` are those that are known, by the name of their variable; ``key`` signs requests to webhooks.
    """
    seen: set[str] = set()
    with outbox.sending():
        while fresh := [queued for queued in outbox.waiting() if queued.notice.id not in seen]:
            for queued in fresh:
                seen.add(queued.notice.id)
                _send_to_all(outbox, queued, addresses, key, clock)


def send(address: Secret, notice: Notice, key: Secret | None, *, clock: Clock = REAL) -> str | None:
    """Send a notice to one address, trying again with growing pauses; return why it could not be sent."""
    for attempt in range(1, _TRIES + 1):
        problem = _send_once(address.reveal(), notice, key, clock.now())
        if problem is None:
            return None
        if not problem.again or attempt == _TRIES:
            return problem.why
        clock.pause(_PAUSES.pause(attempt))
    raise AssertionError("unreachable")


def _send_to_all(outbox: Outbox, queued: QueuedNotice, addresses: Mapping[str, Secret], key: Secret | None, clock: Clock) -> None:
    for name in list(queued.pending):
        address = addresses.get(name)
        why = f"{name} is not set" if address is None else send(address, queued.notice, key, clock=clock)
        if why is None:
            queued.pending.remove(name)
            queued.problems.pop(name, None)
        else:
            queued.problems[name] = why
        outbox.save(queued)  # at once: whoever is killed here tells nobody twice
    queued.tries += 1
    if clock.now() - queued.notice.time > _DAYS * 86400:
        queued.pending.clear()
    outbox.save(queued)


def _send_once(url: str, notice: Notice, key: Secret | None, now: float) -> SendProblem | None:
    if url.startswith(webhook.SCHEMES):
        return webhook.post(url, notice, key, now)
    return _by_apprise(url, notice)


def _by_apprise(url: str, notice: Notice) -> SendProblem | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what Python has deprecated
        try:
            import apprise
        except ImportError:
            return SendProblem("it needs Apprise: pip install 'trainyard[notices]'", again=False)
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its words hold parts of addresses
        sender = apprise.Apprise()
        if not sender.add(url):
            return SendProblem("its value is no address that Apprise knows", again=False)
        kind = "failure" if notice.kind in _BAD else "warning" if notice.kind in _WORRYING else "info"
        sent = sender.notify(body=notice.text, title=notice.title, notify_type=kind, body_format="text", interpret_escapes=False)
    return None if sent else SendProblem("Apprise could not send it")
