"""Trainyard: train on rented GPUs the way good engineers run infrastructure.

The Python API is here by name: ``trainyard.train(...)``, ``.resume()``, ``.rerun()``, ``.submit()``, ``.follow()``,
``.runs()``, ``.show()``, ``.download()``, ``.cancel()``, what they return and what they raise. A name is loaded when it is first used.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trainyard import errors as errors
    from trainyard.api.calls import cancel as cancel
    from trainyard.api.calls import download as download
    from trainyard.api.calls import follow as follow
    from trainyard.api.calls import rerun as rerun
    from trainyard.api.calls import resume as resume
    from trainyard.api.calls import runs as runs
    from trainyard.api.calls import show as show
    from trainyard.api.calls import submit as submit
    from trainyard.api.calls import train as train
    from trainyard.api.follower import RunFailed as RunFailed
    from trainyard.api.follower import RunFollower as RunFollower
    from trainyard.api.listener import TrainingEvent as TrainingEvent
    from trainyard.errors import TrainyardError as TrainyardError
    from trainyard.ledger.queue import QueueEntry as QueueEntry
    from trainyard.runs.events import LogEvent as LogEvent
    from trainyard.runs.events import MessageEvent as MessageEvent
    from trainyard.runs.events import ProgressEvent as ProgressEvent
    from trainyard.runs.events import StateEvent as StateEvent
    from trainyard.runs.records.summary import RunSummary as RunSummary
    from trainyard.runs.verbs.listing import ListedRun as ListedRun
    from trainyard.runs.verbs.show import RunPage as RunPage
    from trainyard.storage.download import Downloaded as Downloaded

_HOMES = {
    "api.calls": ("cancel", "download", "follow", "rerun", "resume", "runs", "show", "submit", "train"),
    "api.follower": ("RunFailed", "RunFollower"),
    "api.listener": ("TrainingEvent",),
    "errors": ("TrainyardError",),
    "ledger.queue": ("QueueEntry",),
    "runs.events": ("LogEvent", "MessageEvent", "ProgressEvent", "StateEvent"),
    "runs.records.summary": ("RunSummary",),
    "runs.verbs.listing": ("ListedRun",),
    "runs.verbs.show": ("RunPage",),
    "storage.download": ("Downloaded",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    import importlib

    if name in ("errors", "runs"):  # the package `runs` stands here as soon as anything of it is loaded: so it always does, and is called
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
