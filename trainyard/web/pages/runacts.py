"""What may be done to a run: which of it fits its state, and what each does and costs, said before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainyard.ledger.accounts import Proven, Scope
from trainyard.runs.verbs.listing import ListedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class AskField:
    """One thing that a person may say with it."""

    name: str
    words: str
    help: str = ""
    kind: str = "text"
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAction:
    """One thing that a page's button asks for. ``path``: that of the REST API, where it has one."""

    path: str
    words: str
    question: str
    tells: tuple[str, ...]
    scope: Scope = "run"
    fields: tuple[AskField, ...] = ()
    ends: bool = False
    icon: str = ""


_HOURS = AskField(name="hours", words="Lease, hours", help="Empty: as before. Training is saved and stopped then.", kind="number")
_BUDGET = AskField(
    name="budget", words="Budget, dollars", help="Empty: as before. It is saved and stopped when that is used up.", kind="number"
)
_AGAIN = "The price is that of the offers at that moment; spending limits are held before anything is rented."

_ATTACH = PageAction(
    path="attach", words="Follow it", question="Follow this run from this server?", icon="eye",
    tells=(
        "A process of this server reads its figures and its log from now on, and finishes its story.",
        "Its pod is paid for either way: this costs nothing more.",
    ),
)  # fmt: skip
_EXTEND = PageAction(
    path="extend", words="More time", question="Give its lease more time?", icon="clock",
    fields=(AskField(name="time", words="How much longer", hint="2h"),),
    tells=(
        "Its pod is paid for as long as the training runs: at most so much longer.",
        "Limits and budget are asked first; a cloud that cannot move a lease refuses.",
    ),
)  # fmt: skip
_CANCEL = PageAction(
    path="cancel", words="Cancel", question="End this run?", ends=True, icon="cross",
    fields=(AskField(name="now", words="Do not save: end its pod at once", kind="checkbox"),),
    tells=(
        "Its training saves and stops; what it left is brought to the bucket.",
        "Then its pod is ended and proven gone: nothing of it costs money any more.",
    ),
)  # fmt: skip
_RESUME = PageAction(
    path="resume", words="Resume", question="Go on from the newest checkpoint?", fields=(_HOURS, _BUDGET), icon="turn",
    tells=("A new attempt begins on a new pod, from the newest checkpoint in the bucket.", _AGAIN),
)  # fmt: skip
_RERUN = PageAction(
    path="rerun", words="Run again", question="Run the same again?", icon="plus",
    fields=(AskField(name="name", words="Name", help="Empty: the time."), _HOURS, _BUDGET),
    tells=("A new run with this one's recipe, values, data and code, as they were.", _AGAIN),
)  # fmt: skip
_DOWNLOAD = PageAction(
    path="download", words="Fetch its result", question="Fetch the result to this server?", icon="down",
    tells=(
        "Every file is fetched from the bucket to the server's disk and proven by its sha256; then it can be downloaded from here.",
        "A bucket may bill what leaves it.",
    ),
)  # fmt: skip
_REMOVE = PageAction(
    path="remove", words="Forget", question="Forget this run?", ends=True,
    tells=("Its record and log on this server are removed. What it has cost still counts, and its result stays in the bucket.",),
)  # fmt: skip
ACTIONS: Sequence[tuple[PageAction, Callable[[ListedRun, bool], bool]]] = (
    (_ATTACH, lambda run, followed: run.here and not run.over and not followed and run.state != "prepared"),
    (_EXTEND, lambda run, _: run.here and not run.over and run.started is not None),
    (_CANCEL, lambda run, _: not run.over),
    (_RESUME, lambda run, _: run.over and run.newest and not run.state.startswith(("succeeded", "unreadable"))),
    (_DOWNLOAD, lambda run, _: run.over and bool(run.s3_url) and not run.result_deleted),
    (_RERUN, lambda run, _: run.over and not run.state.startswith("unreadable")),
    (_REMOVE, lambda run, _: run.over and not run.owed),
)
"""With each, whether it fits a run that is ``followed`` by a process or not."""


def acts_of(run: ListedRun, who: Proven, *, followed: bool) -> list[PageAction]:
    """Return what somebody may do to a run as it stands."""
    return [action for action, fits in ACTIONS if action.scope in who.scopes and fits(run, followed)]
