"""What may go wrong on a result's way, each at a drawn moment: request number so-and-so of those that an honest commit makes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.storage.lying_proxy import Act, Fault

Level = Literal["commit", "run"]
FOR_EVER = 10**6


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble; times are those of the controller's clock."""

    kills: tuple[Literal["controller", "uploader", "watchdog"], ...] = ()
    act: Act | None = None
    """What the store does from the moment on, ``times`` times, or for ``seconds``."""
    operation: str = "any"
    status: int = 503
    code: str = "SlowDown"
    signed: bool = False
    times: tuple[int, int] = (1, 1)
    seconds: float = 0.0
    cut: float | None = None
    """The SSH link is cut, and cannot be made again for so long."""
    full: Literal["", "pod", "home"] = ""
    vanish: bool = False
    """An object is gone from the store when it was asked for by HEAD."""
    push: bool = False
    """The store refuses until the result is at home; the trouble comes while it is pushed from there."""
    unmount: bool = False
    """The bucket that is mounted on the pod is no more: from the moment on there is only an empty folder."""
    forge: Literal["", "marker", "tar", "both", "success"] = ""
    """Somebody with rights to the bucket writes there what a pod that commits alone leaves; or another run its own result."""
    lasting: bool = False
    """It stays until the command has ended."""


def _for_ever(act: Act, **more: object) -> Trouble:
    return Trouble(act=act, times=(FOR_EVER, FOR_EVER), lasting=True, **more)  # type: ignore[arg-type]


TROUBLES: dict[str, tuple[Trouble, int]] = {
    "none": (Trouble(), 1),
    "kill controller": (Trouble(kills=("controller",)), 8),
    "kill uploader": (Trouble(kills=("uploader",)), 5),
    "kill both": (Trouble(kills=("controller", "uploader")), 4),
    "kill watchdog": (Trouble(kills=("watchdog",)), 0),
    "kill recover": (Trouble(kills=("controller",), push=True), 4),
    "link cut": (Trouble(cut=0.0), 4),
    "link away 60 s": (Trouble(cut=60.0), 4),
    "link away for good": (Trouble(cut=float(FOR_EVER), lasting=True), 2),
    "pod disk full": (Trouble(full="pod"), 2),
    "home disk full": (_for_ever("fail", status=403, code="AccessDenied", full="home"), 3),
    "503 burst": (Trouble(act="fail", times=(1, 40)), 4),
    "500 burst": (Trouble(act="fail", times=(1, 40), status=500, code="InternalError"), 2),
    "507 no room": (_for_ever("fail", operation="Complete", status=507, code="InsufficientStorage"), 2),
    "500 after Complete": (Trouble(act="betray", operation="Complete", times=(1, 3), status=500, code="InternalError"), 3),
    "500 after a part": (Trouble(act="betray", operation="UploadPart", times=(1, 3), status=500, code="InternalError"), 2),
    "500 after a put": (Trouble(act="betray", operation="Put", times=(1, 5), status=500, code="InternalError"), 3),
    "lost answers": (Trouble(act="lose", times=(1, 6)), 4),
    "dropped requests": (Trouble(act="drop", times=(1, 10)), 3),
    "truncated answers": (Trouble(act="cut", times=(1, 6)), 4),
    "corrupted on the way up": (Trouble(act="corrupt", times=(1, 4)), 4),
    "corrupted on the way down": (Trouble(act="garble", operation="Get", times=(1, 3)), 3),
    "corrupted answers": (Trouble(act="garble", times=(1, 3)), 3),
    "corrupted for good": (_for_ever("corrupt", operation="UploadPart"), 1),
    "expired URLs": (Trouble(act="fail", signed=True, times=(1, 12), status=403, code="AccessDenied"), 3),
    "rights revoked": (_for_ever("fail", status=403, code="AccessDenied"), 4),
    "key revoked": (_for_ever("fail", status=403, code="InvalidAccessKeyId"), 2),
    "clock skewed": (_for_ever("fail", status=403, code="RequestTimeTooSkewed"), 3),
    "outage 30 s": (Trouble(act="fail", times=(FOR_EVER, FOR_EVER), seconds=30.0), 4),
    "outage 10 min": (Trouble(act="fail", times=(FOR_EVER, FOR_EVER), seconds=600.0), 4),
    "silence 10 min": (Trouble(act="drop", times=(FOR_EVER, FOR_EVER), seconds=600.0), 3),
    "outage for good": (_for_ever("fail"), 4),
    "a Complete that holds nothing": (Trouble(act="swallow", operation="Complete", times=(1, 2)), 3),
    "every Complete holds nothing": (_for_ever("swallow", operation="Complete"), 2),
    "a put that holds nothing": (Trouble(act="swallow", operation="Put", times=(1, 4)), 3),
    "a listing that repeats itself": (_for_ever("repeat", operation="List"), 2),
    "an object vanishes after HEAD": (Trouble(vanish=True), 4),
    "the volume is unmounted": (Trouble(unmount=True), 6),
    "another run's success": (Trouble(forge="success"), 4),
    "a forged marker": (Trouble(forge="marker"), 4),
    "a forged tar": (Trouble(forge="tar"), 3),
    "a forged marker with its tar": (Trouble(forge="both"), 4),
}
"""Each trouble, and how often it is drawn; a watchdog there is only in whole runs."""


def fault_of(trouble: Trouble, after: int, chance: random.Random, over: Callable[[], bool]) -> Fault | None:
    """Return what the store does; None when this is no trouble of the store's."""
    if trouble.act is None:
        return None
    return Fault(
        trouble.operation, trouble.act, times=chance.randint(*trouble.times), after=after, status=trouble.status, code=trouble.code,
        signed=trouble.signed, over=over,
    )  # fmt: skip
