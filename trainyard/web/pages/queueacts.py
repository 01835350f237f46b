"""What may be done to a queued run."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.ledger.accounts import Proven
from trainyard.runs.queue.order import QueuePlace
from trainyard.web.pages.runacts import AskField, PageAction

QUEUE_ACTIONS: Sequence[PageAction] = (
    PageAction(
        path="approve", words="Approve", question="Let this run begin?", scope="approve", icon="check",
        tells=("It begins when it is its turn, and may cost what its estimate says.", "Who approved is written down."),
    ),
    PageAction(
        path="reject", words="Reject", question="Take this run out of the queue?", scope="approve", ends=True, icon="cross",
        tells=("It does not run. Who rejected it is written down.",),
    ),
    PageAction(
        path="release", words="Release", question="Let this run begin when it is its turn?",
        tells=("What held it back does so no more.",),
    ),
    PageAction(
        path="hold", words="Hold", question="Keep this run from beginning?", icon="pause",
        tells=("It keeps its place, and begins when it is released.",),
    ),
    PageAction(
        path="prefer", words="Priority", question="Give this run another priority?", tells=("An hour of waiting is worth one step.",),
        fields=(AskField(name="priority", words="Priority, from -10 to 10", kind="number", hint="0"),),
    ),
    PageAction(
        path="cancel", words="Cancel", question="Take this run out, or end it?", ends=True, icon="cross",
        tells=("What waits is taken out of the queue; what is at work saves, and its pod is ended.",),
    ),
)  # fmt: skip
_FITTING = {"approval": ("approve", "reject"), "held": ("release", "cancel"), "at work": ("cancel",), "broken": ("cancel",)}
_WAITING = ("hold", "prefer", "cancel")


def queue_acts_of(place: QueuePlace, who: Proven) -> list[PageAction]:
    """Return what somebody may do to an entry as it stands."""
    fitting = _FITTING.get(place.state, _WAITING)
    return [action for action in QUEUE_ACTIONS if action.path in fitting and action.scope in who.scopes]
