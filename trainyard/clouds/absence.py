"""The one proof that pods are gone. Nobody else says "ended", "gone" or "$0".

A cloud that answers may still lie: an error after the deed or before it, a 204 that does nothing, a 404 for a pod
that runs, a list that is empty or misses one. So a pod counts as ended only when all of it agrees: the cloud took the
request to end it, denies it by its id, and lists neither it nor any other that belongs, as often and as far apart as
this cloud needs. Whatever speaks against it starts the count again; what cannot be read is unknown, never absent.
Where a pod that has finished costs nothing, that word by its id counts like a denial, and no request need be taken.

Knows nothing of leases, intents and engines: callers say which ids they know, what belongs, and from when on an
empty listing may be trusted.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from trainyard.clock import format_time
from trainyard.clouds.listing import UNREADABLE, listing_pause
from trainyard.clouds.protocol import Capabilities, Cloud, PodInfo
from trainyard.errors import CloudError, CloudRefused, StillThere
from trainyard.retries import EFFECT

LEAVE = 300.0
"""Seconds that a pod may take to go before it is told as still there."""


@dataclass(frozen=True, slots=True)
class KnownPod:
    """A pod that the caller knows of, with what it costs an hour and when its lease ends, where that is known."""

    id: str
    price_per_hour: float | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndedPod:
    """A pod whose end is proved.

    ``at``: when it was last seen alive, was first seen finished, or the cloud took the request to end it (epoch seconds).
    """

    id: str
    at: float
    here: bool
    """It was alive when it was looked for."""
    price_per_hour: float | None = None
    lived: float | None = None
    """Seconds from its creation to the end of its command, where it had finished by itself and the cloud tells them."""


@dataclass(frozen=True, slots=True)
class PodLeft:
    """A pod that is still there, or of which nobody knows; an empty id: any that belongs, because the list cannot be read."""

    id: str
    price_per_hour: float | None
    end: datetime | None
    why: str

    def __str__(self) -> str:
        price = "price unknown" if self.price_per_hour is None else f"${self.price_per_hour:.2f}/h"
        end = f", its lease ends {format_time(self.end)}" if self.end else ""
        return f"pod {self.id} ({price}{end}): {self.why}" if self.id else self.why


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of pods that were to end."""

    ended: tuple[EndedPod, ...] = ()
    there: tuple[PodLeft, ...] = ()
    unknown: tuple[PodLeft, ...] = ()
    remarks: tuple[str, ...] = ()
    """Errors that were met on the way."""

    @property
    def proved(self) -> bool:
        """True when nothing is left and nothing is unknown."""
        return not self.there and not self.unknown

    def ended_at(self, pod_id: str) -> float | None:
        """Return when a pod ended, None when that is not proved."""
        return next((gone.at for gone in self.ended if gone.id == pod_id), None)

    def __str__(self) -> str:
        lines = [f"still there: {left}" for left in self.there] + [f"not known to be gone: {left}" for left in self.unknown]
        lines += [f"on the way: {text}" for text in self.remarks if lines and not any(text in line for line in lines)]
        return "\n".join(lines) or "nothing is left"

    def require(self, hint: str) -> None:
        """Raise StillThere, with pods, prices and what to do, unless absence is proved."""
        if not self.proved:
            raise StillThere(str(self), hint=hint)


def unasked(known: Iterable[KnownPod], why: str) -> Proof:
    """Return what is known where the cloud cannot even be asked (no key, no settings): nothing."""
    return Proof(unknown=tuple(PodLeft(pod.id, pod.price_per_hour, pod.end, why) for pod in known) or (PodLeft("", None, None, why),))


def prove(
    cloud: Cloud,
    known: Iterable[KnownPod],
    belongs: Callable[[PodInfo], bool] | None = None,
    *,
    trusted_from: float = 0.0,
    patience: float = LEAVE,
    time: Callable[[], float] = clock.time,
    sleep: Callable[[float], None] = clock.sleep,
    allowed: Callable[[str], None] = lambda doing: None,
) -> Proof:
    """End the known pods and every pod that belongs, and return what the cloud proves; never raises for what it says.

    ``trusted_from``: moment before which an empty listing proves nothing (a create may still be under way).
    ``allowed`` may raise to forbid one more request that ends something.
    """
    search = _Search(cloud, belongs, trusted_from, time, allowed, {pod.id: _Track(pod.price_per_hour, pod.end) for pod in known})
    apart, until, pauses = listing_pause(cloud.capabilities), time() + patience, EFFECT.pauses()
    search.look()  # before anything is asked to end: who was alive, and at what price
    while True:
        search.ask_to_end()
        search.look()
        now = time()
        if search.proved() or search.hopeless() or (now >= max(until, trusted_from + apart) and not search.clear):
            return search.proof()
        if not search.clear:
            sleep(next(pauses))
        elif now < trusted_from:
            until = max(until, trusted_from + patience)
            sleep(min(2.0, trusted_from - now))
        else:
            sleep(apart)


@dataclass(slots=True)
class _Streak:
    """Looks in turn that have shown nothing."""

    looks: int = 0
    since: float = 0.0

    def note(self, empty: bool, now: float) -> None:
        if not empty:
            self.looks = 0
        else:
            self.since = now if not self.looks else self.since
            self.looks += 1

    def enough(self, capabilities: Capabilities, now: float) -> bool:
        needed = capabilities.listings
        return self.looks >= needed and now - self.since >= 0.9 * (needed - 1) * listing_pause(capabilities)


@dataclass(slots=True)
class _Track:
    """What is known of one pod."""

    price: float | None
    end: datetime | None
    asked: float | None = None
    """When the cloud last took the request to end it."""
    alive: float | None = None
    finished: float | None = None
    """When it was first seen finished, where that costs nothing."""
    lived: float | None = None
    status: str = ""
    """The cloud's word at the last look, empty when it was denied, or has finished and costs nothing."""
    refusal: CloudError | None = None
    """Why the last request to end it failed."""
    unreadable: str = ""
    """Why the last look told nothing."""
    known: bool = True
    """The caller named it; any other is ended only for what the list says of it."""
    streak: _Streak = field(default_factory=_Streak)

    @property
    def settled(self) -> bool:
        """Nothing is left to ask for: the request to end it was taken, or it has finished by itself."""
        return self.asked is not None or self.finished is not None

    def note(self, pod: PodInfo | None, over: bool, listed: bool, now: float) -> None:
        """Take what the cloud says of the pod by its id."""
        if over:
            self.status = "the list still shows it" if listed else ""
        if pod is not None and over:
            self.finished, self.lived = self.finished or now, pod.lived
        elif pod is not None:
            self.finished = None
            self.alive = now if pod.status != "terminating" else self.alive

    def as_ended(self, pod_id: str) -> EndedPod:
        """Return the pod as ended."""
        at = max(self.asked or 0.0, self.alive or 0.0) if self.finished is None else self.finished
        return EndedPod(pod_id, at, self.alive is not None, self.price, None if self.finished is None else self.lived)


@dataclass(slots=True)
class _Search:
    cloud: Cloud
    belongs: Callable[[PodInfo], bool] | None
    """None: nothing but the pods that are known."""
    trusted_from: float
    time: Callable[[], float]
    allowed: Callable[[str], None]
    tracks: dict[str, _Track]
    streak: _Streak = field(default_factory=_Streak)
    """Of listings without any pod that belongs."""
    list_problem: CloudError | None = None
    blind_since: float | None = None
    remarks: dict[str, None] = field(default_factory=dict)
    clear: bool = False
    """The last look has shown nothing, and nothing spoke against it."""

    def ask_to_end(self) -> None:
        """Send DELETE for each pod whose end was not taken yet, and again, now and then, for what is alive all the same."""
        again = min(15.0, max(1.0, self.cloud.capabilities.settle / 4))
        for pod_id, track in self.tracks.items():
            if track.asked is not None and not (track.status and self.time() - track.asked >= again):
                continue
            self.allowed(f"ending {pod_id}")
            try:
                self.cloud.terminate(pod_id)
                track.asked, track.refusal = self.time(), None
            except CloudError as error:
                # One stubborn pod must not keep the others alive.
                track.refusal = error
                self.remarks[error.message] = None

    def look(self) -> None:
        """Ask for the list, then for each pod by its id: a list may lag, or miss one."""
        if self._all_alive():
            return
        listed: set[str] = set()
        try:
            pods = self.cloud.list()
            self.list_problem = None
        except CloudError as error:
            pods, self.list_problem = [], error
            self.remarks[error.message] = None
        for pod in pods:
            if pod.id in self.tracks or self._belongs(pod):
                listed.add(pod.id)
                self._see(self.tracks.setdefault(pod.id, _Track(None, None, known=False)), pod)
        now = self.time()
        trusted = now >= self.trusted_from
        foreign = [pod_id for pod_id, track in self.tracks.items() if not self._ask(pod_id, track, pod_id in listed)]
        for pod_id in foreign:
            # The list mixes pods up: what by its id is somebody else's is not ended, and such a list proves nothing.
            del self.tracks[pod_id]
            self.remarks[f"{self.cloud.name} lists pod {pod_id} with marks that it has not by its id"] = None
        for track in self.tracks.values():
            empty = not (track.status or track.unreadable or self.list_problem) and track.settled
            track.streak.note(empty and trusted, now)
        agree = not any(track.status or track.unreadable or not track.settled for track in self.tracks.values())
        self.clear = agree and not self.list_problem and not foreign
        self.streak.note(self.clear and trusted, now)
        # What the cloud refuses to end, too, is told as such when the others are done: it must not cut their proof short.
        unread = [track for track in self.tracks.values() if track.unreadable and not isinstance(track.refusal, CloudRefused)]
        blind = self.list_problem is not None or bool(unread)
        self.blind_since = None if not blind else now if self.blind_since is None else self.blind_since

    def _all_alive(self) -> bool:
        """Ask for each pod by its id and tell whether all are there: then a list could add nothing, where no other can belong.

        No look without a list counts for any proof.
        """
        if self.belongs is not None or not self.tracks:
            return False
        for pod_id, track in self.tracks.items():
            self._ask(pod_id, track, listed=False)
            if not track.status or track.unreadable:
                return False  # from the first that is denied or unreadable on, the whole look is taken
        for track in self.tracks.values():
            track.streak.note(False, self.time())
        self.streak.note(False, self.time())
        self.list_problem, self.blind_since, self.clear = None, None, False
        return True

    def _belongs(self, pod: PodInfo) -> bool:
        return self.belongs is not None and self.belongs(pod)

    def _ask(self, pod_id: str, track: _Track, listed: bool) -> bool:
        """Ask for one pod by its id; return False for one that, by its id, does not belong."""
        track.unreadable = ""
        try:
            info = self.cloud.get(pod_id)
        except CloudError as error:
            track.unreadable, track.status = error.message, track.status if listed else ""
            self.remarks[error.message] = None
            return True
        if info is not None and not track.known and not self._belongs(info):
            return False
        if info is not None:
            self._see(track, info)
        track.note(info, self.cloud.capabilities.over(info), listed, self.time())
        return True

    def _see(self, track: _Track, pod: PodInfo) -> None:
        track.price = pod.price_per_hour if pod.price_per_hour is not None else track.price
        track.end = pod.end or track.end
        track.status = "terminating" if pod.status == "terminating" else pod.raw_status or pod.status

    def proved(self) -> bool:
        """Tell whether everything agrees, often enough."""
        now, needs = self.time(), self.cloud.capabilities
        return self.streak.enough(needs, now) and all(track.streak.enough(needs, now) for track in self.tracks.values())

    def hopeless(self) -> bool:
        """Tell whether asking on will not help: the cloud's definite no, or nothing that can be read."""
        if isinstance(self.list_problem, CloudRefused):
            return True
        if self.blind_since is not None and self.time() - self.blind_since >= UNREADABLE:
            return True
        stuck = [t for t in self.tracks.values() if t.status or not t.settled]
        others = [t for t in self.tracks.values() if t not in stuck]
        settled = all(track.streak.enough(self.cloud.capabilities, self.time()) for track in others)
        return bool(stuck) and settled and all(isinstance(track.refusal, CloudRefused) for track in stuck)

    def proof(self) -> Proof:
        """Return the last word on each pod."""
        now, needs, proved = self.time(), self.cloud.capabilities, self.proved()
        ended: list[EndedPod] = []
        there: list[PodLeft] = []
        unknown: list[PodLeft] = []
        for pod_id, track in self.tracks.items():
            if proved or track.streak.enough(needs, now):
                ended.append(track.as_ended(pod_id))
                continue
            left = PodLeft(pod_id, track.price, track.end, self._why(track))
            (there if track.status else unknown).append(left)
        if self.list_problem is not None:
            unknown.append(PodLeft("", None, None, f"the list of {self.cloud.name} cannot be read: {self.list_problem.message}"))
        elif not proved and not there and not unknown:
            unknown.append(PodLeft("", None, None, f"{self.cloud.name} has not said often enough that nothing is left"))
        return Proof(tuple(ended), tuple(there), tuple(unknown), tuple(self.remarks))

    def _why(self, track: _Track) -> str:
        if track.refusal is not None:
            if track.unreadable and not track.status:
                return f"whether it is there is not told, and ending it failed: {track.refusal.message}"
            return f"{track.status or 'denied'}, but ending it failed: {track.refusal.message}"
        if track.status:
            return f"{track.status}, though {self.cloud.name} has taken the request to end it"
        return track.unreadable or f"{self.cloud.name} has not said often enough that it is gone"
